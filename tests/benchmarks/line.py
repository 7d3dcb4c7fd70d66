"""A line with latency and a limit, between clients and a server: line.py PORT HOST:PORT MILLISECONDS BYTES_PER_SECOND

A round trip takes MILLISECONDS, and so does the making of a connection. What the server sends arrives at BYTES_PER_SECOND, all
connections taken together.
"""

from __future__ import annotations

import asyncio
import sys

CHUNK = 1 << 14


class Line:
    def __init__(self, host: str, port: int, round_trip: float, rate: float) -> None:
        self.server = (host, port)
        self.round_trip = round_trip
        self.rate = rate
        self.free_at = 0.0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
        """Bring everything from reader to writer, later and not faster than it may be."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def send() -> None:
            while True:
                due, data = await under_way.get()
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
            await under_way.put((sent + self.round_trip / 2, data))
            if not data:
                break
        await sending

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.round_trip)
        up, down = await asyncio.open_connection(*self.server)
        done = await asyncio.gather(
            self.carry(reader, down, 0), self.carry(up, writer, self.rate), return_exceptions=True
        )
        for failure in done:
            if isinstance(failure, Exception) and not isinstance(failure, ConnectionError):
                raise failure


async def main() -> None:
    port, server, milliseconds, rate = sys.argv[1:]
    host, server_port = server.rsplit(":", 1)
    line = Line(host, int(server_port), float(milliseconds) / 1000, float(rate))
    async with await asyncio.start_server(line.connect, "0.0.0.0", int(port)) as serving:
        await serving.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
