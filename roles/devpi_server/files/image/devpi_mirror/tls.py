# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve over TLS: check a certificate with its key, and make nginx serve them: python -m devpi_mirror.tls check|reload|verify

The service's script on the host stores both in one file, which it replaces atomically.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import nginx
from .config import LISTEN_CONF, SOCKET_DIRECTORY, TLS_DIRECTORY, TLS_FILE, TLS_PORT

DAY = 86_400
# PEM is ASCII, and text beside it can have any encoding. This one decodes all bytes.
ENCODING = "latin-1"
# Seconds until nginx serves a new certificate, also while its container starts.
SERVE_TIMEOUT = 30.0
# Mozilla's intermediate configuration. Without tickets, no key that nginx holds for long can decrypt recorded connections.
LISTEN = f"""\
listen {TLS_PORT} ssl reuseport;
http2 on;
ssl_certificate {TLS_FILE};
ssl_certificate_key {TLS_FILE};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
ssl_prefer_server_ciphers off;
ssl_session_cache shared:tls:2m;
ssl_session_timeout 1d;
ssl_session_tickets off;
"""


class CertificateError(Exception):
    """A certificate can't be served. The message gives the reason, without a part of the key."""


class Validity(NamedTuple):
    """When a certificate begins and ends to be valid, in seconds."""

    start: float
    end: float

    def is_ending(self, now: float) -> bool:
        """Return whether a renewal is overdue: in the last 14 days, or in the last quarter if that is shorter."""
        return self.end - now < min(14 * DAY, (self.end - self.start) / 4)


def certificates(pem: str) -> list[str]:
    """Return the certificates of a PEM text. The first one is the server's."""
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)


def load(path: Path) -> None:
    """Read a certificate and its key from one file, as nginx does. Raises CertificateError."""
    try:
        # An encrypted key fails, as it would in nginx.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=lambda: b"")
    except ssl.SSLError as exc:
        reasons = {
            "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
            # The key is of another kind.
            "NO_CERTIFICATE_ASSIGNED": "the key does not belong to the certificate",
            "EE_KEY_TOO_SMALL": "the key is too short",
        }
        reason = reasons.get(exc.reason or "", "it is not a PEM certificate with its unencrypted key")
        raise CertificateError(reason) from exc
    except (OSError, ValueError) as exc:
        raise CertificateError(f"it can't be read: {getattr(exc, 'strerror', None) or exc}") from exc


def validity(pem: str) -> Validity:
    """Return the dates of the first certificate in a PEM text. Raises CertificateError."""
    command = ["openssl", "x509", "-noout", "-startdate", "-enddate"]
    done = subprocess.run(command, input="\n".join(certificates(pem)[:1]), capture_output=True, text=True, check=False)
    dates = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    try:
        return Validity(*(ssl.cert_time_to_seconds(dates[name]) for name in ("notBefore", "notAfter")))
    except (KeyError, ValueError) as exc:
        raise CertificateError("it has no valid dates") from exc


def day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def check(pem: str) -> None:
    """Check a certificate with its key. Raises CertificateError."""
    # Only its owner can read it. /tmp is in memory.
    with tempfile.NamedTemporaryFile("w", dir="/tmp", encoding=ENCODING) as stream:
        stream.write(pem)
        stream.flush()
        load(Path(stream.name))
    dates = validity(pem)
    if dates.end <= time.time():
        raise CertificateError(f"it has expired on {day(dates.end)}")
    if dates.start > time.time():
        raise CertificateError(f"it is not valid before {day(dates.start)}")


def host_id(own: int, table: str) -> int:
    """Return the ID on the host of an ID in the container, from the lines of ``/proc/self/uid_map`` or ``gid_map``."""
    for line in table.splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= own < inside + count:
            return outside + own - inside
    return own


def owner() -> str:
    """Return the UID and the GID of this process on the host, from which those in the container differ with user namespaces."""
    uid = host_id(os.getuid(), Path("/proc/self/uid_map").read_text())
    gid = host_id(os.getgid(), Path("/proc/self/gid_map").read_text())
    return f"{uid}:{gid}"


def expiry() -> float | None:
    """Return when the certificate expires, None if TLS is not configured or the certificate can't be used."""
    with suppress(CertificateError, OSError):
        return validity(TLS_FILE.read_text(ENCODING)).end
    return None


def problem() -> str:
    """Return the problem that an administrator has to solve, empty if there is none or TLS is not configured."""
    if not TLS_DIRECTORY.is_dir():
        return ""
    advice = "Renew it, then run the deploy hook on the host (docs/operations.md, Serve over TLS)."
    try:
        load(TLS_FILE)
        dates = validity(TLS_FILE.read_text(ENCODING))
    except CertificateError as exc:
        return f"The TLS certificate can't be used: {exc}. The mirror does not serve it after its next start. {advice}"
    now = time.time()
    if dates.end <= now:
        return f"The TLS certificate has expired on {day(dates.end)}. {advice}"
    if dates.is_ending(now):
        return f"The TLS certificate expires on {day(dates.end)}, in {int((dates.end - now) / DAY)} days. {advice}"
    return ""


def write_listeners() -> None:
    """Write the sockets of nginx besides its port. A certificate that can't be used must not prevent HTTP."""
    text = f"listen unix:{SOCKET_DIRECTORY}/http.sock;\n" if SOCKET_DIRECTORY.is_dir() else ""
    if TLS_DIRECTORY.is_dir():
        try:
            load(TLS_FILE)
            text += LISTEN
        except CertificateError as exc:
            print(
                f"The TLS certificate can't be used: {exc}. The mirror serves HTTP only.", file=sys.stderr, flush=True
            )
    fresh = LISTEN_CONF.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(LISTEN_CONF)


def served_certificate() -> bytes:
    """Return the certificate that nginx serves. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", TLS_PORT), timeout=5) as plain, context.wrap_socket(plain) as stream:
        return stream.getpeercert(binary_form=True) or b""


def verify() -> None:
    """Wait until nginx serves the stored certificate. Raises CertificateError."""
    expected = ssl.PEM_cert_to_DER_cert(certificates(TLS_FILE.read_text(ENCODING))[0])
    deadline = time.monotonic() + SERVE_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError):
            if served_certificate() == expected:
                return
        time.sleep(0.1)
    raise CertificateError("nginx does not serve it. The reason is in the mirror's log")


def main(command: str) -> int:
    os.umask(0o077)
    try:
        if command == "check":
            check(sys.stdin.buffer.read().decode(ENCODING))
            print(owner())
        else:
            load(TLS_FILE)
            if command == "reload":
                write_listeners()
                nginx.reload()
            verify()
    except CertificateError as exc:
        # On standard output, as docker writes warnings to standard error.
        print(exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
