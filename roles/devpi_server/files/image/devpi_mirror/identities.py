# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out which user sends a request, with limits for the memory and the number of password comparisons."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from devpi_server.view_auth import CredentialsIdentity, RootFactory
from pyramid.httpexceptions import (  # type: ignore[import-untyped]
    HTTPServiceUnavailable,
    HTTPTooManyRequests,
)
from pyramid.interfaces import ISecurityPolicy  # type: ignore[import-untyped]

from .attempts import Attempts
from .config import LDAP_FILE

if TYPE_CHECKING:
    from .directory import Directory

# Passwords that are verified at a time, each of which takes 64 MB of memory.
PASSWORDS = 2
# Seconds for which a verified password is not verified again, and the number of these passwords.
VERIFIED_PERIOD = 60.0
VERIFIED = 1000
# Where a request has the identity that was found.
FOUND = "devpi_mirror.identity"
# Where a request has the reason why its credentials are ignored.
IGNORED = "devpi_mirror.ignored"
# Where a request has the LDAP server's answers, by name and password.
ANSWERS = "devpi_mirror.ldap"
# Where a replica sends the address of the client whose login it forwards, signed with a key of the servers.
CLIENT = "X-Devpi-Mirror-Client"


@dataclass(frozen=True)
class Target:
    """What a request is about, for tokens that are valid for some indexes or projects only. None: not known, so not checked."""

    username: str | None = None
    index: str | None = None
    project: str | None = None


def has_credentials(request: Any) -> bool:
    return "Authorization" in request.headers or "X-Devpi-Auth" in request.headers


def is_login(request: Any) -> bool:
    return bool(request.method == "POST" and request.path_info.rstrip("/") == "/+login")


def is_password(identity: Any) -> bool:
    """Return whether an identity is that of a password or of a login, valid or not. Others are tokens with restrictions."""
    return identity is None or isinstance(identity, CredentialsIdentity)


class Identities:
    """The users of requests."""

    def __init__(self, registry: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry
        self.clock = clock
        self.comparisons = threading.BoundedSemaphore(PASSWORDS)
        self.attempts = Attempts(clock=clock)
        self.key = secrets.token_bytes(32)
        self.lock = threading.Lock()
        self.verified: dict[bytes, tuple[float, CredentialsIdentity]] = {}
        # Importing it takes 6 MB of memory.
        self.directory: Directory | None = (
            import_module(f"{__package__}.directory").Directory(LDAP_FILE) if LDAP_FILE.exists() else None
        )

    @property
    def policy(self) -> Any:
        return self.registry.getUtility(ISecurityPolicy)

    def find(self, request: Any, target: Target) -> Any:
        """Return the identity of the user who sends a request, None without valid credentials. Requires a transaction.

        Raises HTTPForbidden for a token that is not valid, HTTPTooManyRequests after too many wrong passwords, and
        HTTPServiceUnavailable if the LDAP server can't verify the password.
        """
        if not has_credentials(request):
            return None
        # The tweens of this package ask one after another.
        if FOUND in request.environ:
            return request.environ[FOUND]
        if IGNORED in request.environ:
            raise request.environ[IGNORED]
        policy = self.policy
        credentials, _plugins = policy._get_credentials(request)
        name, password = credentials or ("", "")
        known = self._known(name, password)
        if known is not None:
            policy.identity_cache.set(request, known)
            return known
        client = (address_of(request), name)
        self.require_attempt(client)
        request.context = target
        try:
            with self._comparison(name):
                identity = request.identity
        finally:
            del request.context
        if not is_password(identity):
            # Pyramid has not found the route yet. The view checks the token again, with all that it knows of the request.
            policy.identity_cache.clear(request)
            return identity
        if identity is not None and ANSWERS not in request.environ and self.uses_directory(name):
            # It is the token of a login.
            identity = self._current(identity)
            policy.identity_cache.set(request, identity)
        request.environ[FOUND] = identity
        if identity is None:
            self.attempts.add(client)
        else:
            self.attempts.forget(client)
            self._remember(name, password, identity)
        return identity

    def permits(self, request: Any, identity: Any, stage: Any, permission: str) -> bool:
        """Return whether a user whom ``find`` has returned has a permission for an index."""
        policy = self.policy
        policy.identity_cache.set(request, identity)
        try:
            context = RootFactory(request, stage)  # type: ignore[no-untyped-call]
            return bool(policy.permits(request, context, permission))
        finally:
            if not is_password(identity):
                policy.identity_cache.clear(request)

    def require_attempt(self, client: tuple[str, str]) -> None:
        """Raise HTTPTooManyRequests if a client has sent too many wrong passwords."""
        wait = self.attempts.wait(client)
        if wait:
            raise HTTPTooManyRequests(
                f"Too many wrong passwords of the user {client[1]}. Try again in {wait:.0f} seconds.",
                headers=[("Retry-After", str(int(wait) + 1))],
            )

    def ignore_credentials(self, request: Any, reason: Exception) -> None:
        """Treat a request as one without credentials. ``find`` then raises ``reason``."""
        request.environ[IGNORED] = reason
        self.policy.identity_cache.set(request, None)

    def log_in(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the response to a login, which is an error after too many wrong passwords."""
        name, password = credentials_in(request)
        address = self._client_address(request)
        client = (address, name)
        if address and self.registry["xom"].is_replica():
            # Otherwise, wrong passwords of one client would make the primary refuse the user to all clients of this replica.
            request.headers[CLIENT] = f"{address} {self._signature(address)}"
        try:
            self.require_attempt(client)
            # Before devpi handles the login, for which it holds its write lock.
            with self.registry["xom"].keyfs.read_transaction():
                self.ask_directory(request, name, password)
                comparison = self._comparison(name)
        except (HTTPServiceUnavailable, HTTPTooManyRequests) as exc:
            return exc
        with comparison:
            response = handler(request)
        if response.status_code == 401:
            self.attempts.add(client)
        elif response.status_code == 200:
            self.attempts.forget(client)
        return response

    def uses_directory(self, name: str) -> bool:
        """Return whether the LDAP server verifies the password of a user: it has none in devpi. Requires a transaction."""
        return self.directory is not None and name != "root" and not self._stored_hash(name)

    def ask_directory(self, request: Any, name: str, password: str) -> dict[str, Any] | None:
        """Return what devpi requires of a user whose password the LDAP server has verified, else None. Requires a transaction.

        Raises HTTPServiceUnavailable if the LDAP server can't verify it.
        """
        if self.directory is None or not isinstance(password, str) or not self.uses_directory(name):
            return None
        answers = request.environ.setdefault(ANSWERS, {})
        if (name, password) not in answers:
            answers[name, password] = self.directory.verify(name, password)
        found = answers[name, password]
        # devpi changes it.
        return None if found is None else dict(found)

    def _current(self, identity: CredentialsIdentity) -> CredentialsIdentity | None:
        """Return the identity of a user with its current groups, None if the LDAP server no longer has the user."""
        if self.directory is None:
            return identity
        groups = self.directory.current_groups(identity.username, identity.groups)
        return None if groups is None else CredentialsIdentity(identity.username, groups)

    def _client_address(self, request: Any) -> str:
        """Return the address of the client who logs in, also if a replica forwards the login."""
        address, _space, signature = str(request.headers.get(CLIENT, "")).partition(" ")
        if signature and hmac.compare_digest(signature.encode(), self._signature(address).encode()):
            return address
        return address_of(request)

    def _signature(self, address: str) -> str:
        secret = self.registry["xom"].config.basesecret
        return hmac.digest(secret, f"client {address}".encode(), "sha256").hex()

    def _comparison(self, name: str) -> Any:
        """Return the context in which a password is compared. The LDAP server's takes no memory. Requires a transaction."""
        return nullcontext() if self.uses_directory(name) else self.comparisons

    def _stored_hash(self, name: str) -> str | None:
        user = self.registry["xom"].model.get_user(name)
        return None if user is None else user.get(credentials=True).get("pwhash")

    def _digest(self, name: str, password: str) -> bytes:
        # A changed or removed password is another key.
        return hashlib.blake2b(json.dumps([name, password, self._stored_hash(name)]).encode(), key=self.key).digest()

    def _known(self, name: str, password: str) -> CredentialsIdentity | None:
        with self.lock:
            if not self.verified:
                return None
        digest = self._digest(name, password)
        with self.lock:
            end, identity = self.verified.get(digest, (0.0, None))
            return identity if self.clock() < end else None

    def _remember(self, name: str, password: str, identity: CredentialsIdentity) -> None:
        digest = self._digest(name, password)
        with self.lock:
            self.verified.pop(digest, None)
            self.verified[digest] = (self.clock() + VERIFIED_PERIOD, identity)
            if len(self.verified) > VERIFIED:
                del self.verified[next(iter(self.verified))]


def address_of(request: Any) -> str:
    """Return the address of the client, which nginx adds to the request."""
    return str(request.headers.get("X-Real-IP", ""))


def credentials_in(request: Any) -> tuple[str, str]:
    """Return the name and the password of a login, empty if it is malformed."""
    try:
        body = json.loads(request.body)
        return str(body["user"]), str(body["password"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return "", ""


def identities_of(registry: Any) -> Identities:
    """Return the identities of a server."""
    found = registry.get("devpi_mirror_identities")
    if found is None:
        found = registry["devpi_mirror_identities"] = Identities(registry)
    return found  # type: ignore[no-any-return]
