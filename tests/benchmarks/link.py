# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulate a network link between clients and a server: link.py PORT HOST:PORT MILLISECONDS BYTES_PER_SECOND

A round trip takes MILLISECONDS, and so does opening a connection. All connections together receive BYTES_PER_SECOND.
"""

from __future__ import annotations

import asyncio
import sys

CHUNK = 1 << 14


class Link:
    def __init__(self, host: str, port: int, round_trip: float, rate: float) -> None:
        self.server = (host, port)
        self.round_trip = round_trip
        self.rate = rate
        self.free_at = 0.0

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
        """Forward all data from reader to writer, with the latency and the rate of the link."""
        clock = asyncio.get_running_loop().time
        in_transit: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def send() -> None:
            while True:
                due, data = await in_transit.get()
                if not data:
                    break
                await asyncio.sleep(due - clock())
                writer.write(data)
                await writer.drain()
            writer.close()

        sending = asyncio.create_task(send())
        while True:
            data = await reader.read(CHUNK)
            sent = clock()
            if rate:
                sent = self.free_at = max(self.free_at, sent) + len(data) / rate
            await in_transit.put((sent + self.round_trip / 2, data))
            if not data:
                break
        await sending

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.round_trip)
        up, down = await asyncio.open_connection(*self.server)
        done = await asyncio.gather(
            self.forward(reader, down, 0), self.forward(up, writer, self.rate), return_exceptions=True
        )
        for failure in done:
            if isinstance(failure, Exception) and not isinstance(failure, ConnectionError):
                raise failure


async def main() -> None:
    port, server, milliseconds, rate = sys.argv[1:]
    host, server_port = server.rsplit(":", 1)
    link = Link(host, int(server_port), float(milliseconds) / 1000, float(rate))
    async with await asyncio.start_server(link.connect, "0.0.0.0", int(port)) as serving:
        await serving.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
