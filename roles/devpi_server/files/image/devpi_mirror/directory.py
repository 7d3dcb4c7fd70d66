# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify passwords with an LDAP server, through devpi-ldap.

devpi-ldap's own hook is not used: an unreachable server blocks its thread for ever, it verifies no certificate by default, and
devpi calls it for a login while it holds its write lock.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ldap3  # type: ignore[import-untyped]
from devpi_ldap.main import LDAP  # type: ignore[import-not-found, import-untyped, unused-ignore]
from ldap3.core.exceptions import (  # type: ignore[import-untyped]
    LDAPException,
    LDAPPasswordIsMandatoryError,
    LDAPSASLPrepError,
)
from ldap3.utils.conv import escape_filter_chars  # type: ignore[import-untyped]
from pyramid.httpexceptions import HTTPServiceUnavailable  # type: ignore[import-untyped]

from .certificates import verifying_context

# LDAP ignores the case of names, so a user could otherwise have several, each with its own limit of wrong passwords. In ACLs,
# the names of groups begin with a colon.
NAME = re.compile(r"[a-z0-9_][a-z0-9._@-]*")
# Requests that wait for the LDAP server at a time. The other threads serve packages.
CONNECTIONS = 10
# Seconds without requests to the LDAP server after it was unreachable.
PAUSE = 10.0
MESSAGE = "The LDAP server can't verify passwords now. The mirror's log has the reason."
# The results of a wrong name or password, or of a locked account: constraintViolation, noSuchObject, invalidDNSyntax,
# inappropriateAuthentication, invalidCredentials, insufficientAccessRights, unwillingToPerform.
REFUSALS = (19, 32, 34, 48, 49, 50, 53)


class DirectoryError(Exception):
    """The LDAP server can't verify a password now. The message gives the reason, for the log alone."""


class UnreachableError(DirectoryError):
    """The LDAP server does not respond, or is not the one that its certificate has to prove."""


class VerifiedTls(ldap3.Tls):  # type: ignore[misc]
    """TLS in which OpenSSL verifies the certificate and the host name. ldap3 can omit both."""

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ARG002
        context = verifying_context(self.ca_certs_file)
        connection.socket = context.wrap_socket(connection.socket, server_hostname=connection.server.host)


class Directory(LDAP):  # type: ignore[misc]
    """An LDAP server, described by a JSON file: ``devpi-ldap`` has the options of devpi-ldap."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(path)
        options = json.loads(path.read_text())
        self.clock = clock
        self.timeout = int(options["timeout"])
        self.has_start_tls = bool(options["start_tls"])
        # Without a file, the CA bundle of SSL_CERT_FILE applies.
        self.tls = VerifiedTls(ca_certs_file=options["ca_file"], validate=ssl.CERT_REQUIRED)
        self.slots = threading.BoundedSemaphore(CONNECTIONS)
        self.lock = threading.Lock()
        # Until when no request is sent.
        self.until = 0.0
        self.local = threading.local()

    def verify(self, name: str, password: str) -> dict[str, Any] | None:
        """Return the ``status`` and the ``groups`` of a user, or None for a wrong name or password.

        Raises HTTPServiceUnavailable.
        """
        if not NAME.fullmatch(name):
            return None
        with self.request():
            result: dict[str, Any] = self.validate(name, password)
        return result if result["status"] == "ok" else None

    def current_groups(self, name: str, groups: list[str]) -> list[str] | None:
        """Return the groups of a user who had ``groups`` at a login, or None if the user was removed.

        Raises HTTPServiceUnavailable. Without the user's password, this is not known with ``user_template``, nor the groups
        without an account for searches.
        """
        if "user_search" not in self:
            return groups
        with self.request():
            dn = self._userdn(name)
            if not dn:
                return None
            search = self.get("group_search", {})
            return self._search(None, search, username=name, userdn=dn) if "userdn" in search else groups

    @contextmanager
    def request(self) -> Iterator[None]:
        """Send requests to the server in this context.

        Raises HTTPServiceUnavailable, at once for a while after the server was unreachable.
        """
        is_free = self.slots.acquire(timeout=self.timeout)
        self.local.connections = []
        try:
            if not is_free:
                raise DirectoryError("too many logins wait for the server")
            self.require_reachable()
            yield
        except (DirectoryError, LDAPException) as exc:
            self.record(exc)
            raise HTTPServiceUnavailable(MESSAGE, headers=[("Retry-After", str(int(PAUSE)))]) from exc
        finally:
            for connection in self.local.connections:
                with suppress(LDAPException):
                    connection.unbind()
            if is_free:
                self.slots.release()

    def require_reachable(self) -> None:
        """Raise UnreachableError for a while after the server was unreachable."""
        with self.lock:
            if self.clock() < self.until:
                raise UnreachableError

    def record(self, exc: Exception) -> None:
        """Report an error, and send no requests for a while to a server that is unreachable."""
        with self.lock:
            now = self.clock()
            if now < self.until:
                return
            if isinstance(exc, UnreachableError):
                self.until = now + PAUSE
        print(f"The LDAP server {self['url']} can't verify passwords: {reason(exc)}", flush=True)

    # What devpi-ldap calls.

    def server_pool(self) -> Any:
        """Return the server. A pool would wait for an unreachable server for ever."""
        return ldap3.Server(
            self["url"],
            tls=self.tls,
            get_info=ldap3.NONE,
            connect_timeout=self.timeout,
            allowed_referral_hosts=[],
        )

    def connection(self, server: Any, userdn: str | None = None, password: str | None = None) -> Any:
        found = ldap3.Connection(
            server,
            user=userdn,
            password=password,
            read_only=True,
            # A referral would send the password to another server.
            auto_referrals=False,
            receive_timeout=self.timeout,
        )
        self.local.connections.append(found)
        return found

    def _open_and_bind(self, conn: Any) -> bool:
        try:
            conn.open(read_server_info=False)
            if self.has_start_tls and not conn.start_tls(read_server_info=False):
                raise UnreachableError("it does not support StartTLS")
            is_bound = conn.bind(read_server_info=False)
        except (LDAPPasswordIsMandatoryError, LDAPSASLPrepError):
            # No server accepts this password.
            return False
        except LDAPException as exc:
            raise UnreachableError(str(exc)) from exc
        if not is_bound and conn.result["result"] not in REFUSALS:
            raise UnreachableError(f"it refuses logins: {conn.result['description']}")
        return bool(is_bound)

    def _search(self, conn: Any, config: dict[str, Any], **names: str) -> list[str]:
        """Return the found values. devpi-ldap would return none if the search fails, which is not the user's fault."""
        # Replaces the password in its argument.
        search = self._build_search_conn(conn, dict(config))
        if search is None:
            raise DirectoryError(f"it refuses the password of {config.get('userdn') or 'anonymous users'}")
        escaped = {key: escape_filter_chars(value) for key, value in names.items()}
        attribute = config["attribute_name"]
        try:
            search.search(
                config["base"],
                config["filter"].format(**escaped),
                search_scope=self._search_scope(config),
                # No attributes, only the DN.
                attributes=["1.1" if attribute == "dn" else attribute],
            )
        except LDAPException as exc:
            raise UnreachableError(str(exc)) from exc
        if search.result["result"] != 0:
            raise DirectoryError(f"search in {config['base']}: {search.result['description']}")
        entries = [entry for entry in search.response if entry["type"] == "searchResEntry"]
        if attribute == "dn":
            return [entry["dn"] for entry in entries]
        return [text for entry in entries for text in texts(entry["attributes"].get(attribute, []))]


def texts(values: Any) -> list[str]:
    return [str(value) for value in (values if isinstance(values, list) else [values])]


def reason(exc: Exception) -> str:
    """Return the text of an exception. ldap3 nests texts in printed tuples."""
    return re.sub(r"""^(\(['"])+|(['"],\))+$""", "", str(exc))
