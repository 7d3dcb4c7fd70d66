# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and change users and indexes of a devpi server through its HTTP API, of devpi 6 and 7.

Private to the collection. The modules use the names of devpi 6, which this file translates.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import time
from typing import Any, Callable, Iterable, Iterator, Mapping
from urllib.parse import quote

from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask

# The names of types of indexes in devpi 6, and in modules.
TYPES = {"stage": "private", "mirror": "mirror"}
USER_SETTINGS = ("email", "title", "description", "custom_data")
# The names in devpi 7 of types and keys of indexes. None: devpi 7 lacks it.
TYPES_IN_7 = {"stage": "local", "mirror": "remote"}
KEYS_IN_7: dict[str, str | None] = {
    "mirror_url": "remote_url",
    "mirror_web_url_fmt": "remote_web_url_fmt",
    "mirror_cache_expiry": "remote_refresh_delay",
    "mirror_no_project_list": "remote_no_project_list",
    "mirror_use_external_urls": "remote_use_external_urls",
    "mirror_ignore_serial_header": None,
    "mirror_provides_core_metadata": None,
    "mirror_whitelist": "project_inheritance_rules",
    "mirror_whitelist_inheritance": "trust_inheritance_rules_from",
}
# The values in devpi 7 of keys whose meaning it has renamed too. devpi 7 has whitelists of single projects elsewhere.
VALUES_IN_7: dict[str, list[tuple[Any, Any]]] = {
    "mirror_whitelist": [(["*"], ["allow all"]), ([], ["block type:remote if local_exists"])],
    "mirror_whitelist_inheritance": [("union", "type:not remote"), ("intersection", "none")],
}
# What to do if devpi refuses a change, by the status.
_REMEDIES = {
    400: "Correct this setting.",
    404: "Another client has removed it: run the task again.",
    409: "Another client has changed it: run the task again.",
}
_SERVER_URL = "Set url to that of the server, without the path of a user or an index, as in http://127.0.0.1:3141."
_OTHER_USER = "Set url_username and url_password to those of a user who may do this, such as root."


class ApiError(Exception):
    """devpi refused a request. ``status`` is the HTTP status, and the text what devpi reports."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class RefusedError(Exception):
    """The server can't be as wanted: ``cause`` says why, and ``remedy`` what to do. Both are complete sentences.

    ``is_changed`` is whether the module has changed something before.
    """

    def __init__(self, cause: str, remedy: str, is_changed: bool = False) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy
        self.is_changed = is_changed


@contextlib.contextmanager
def failing(module: Any) -> Iterator[None]:
    """Report an error of the block as that of the module."""
    try:
        yield
    except RefusedError as exc:
        module.fail_json(msg=str(exc) if exc.is_changed else f"{exc.cause} Nothing was changed. {exc.remedy}")
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    except ApiError as exc:
        module.fail_json(
            msg=f"devpi refused a request with status {exc.status}: {exc}. Check the log of the server.",
            status=exc.status,
        )
    except _devpi.ProbeError as exc:
        module.fail_json(msg=f"{module.params['url']}: {exc.detail}. {_devpi.remedy(exc.kind)}", kind=exc.kind)


@contextlib.contextmanager
def permitted(username: str | None, action: str, remedy: str) -> Iterator[None]:
    """Report a missing permission of a user who is logged in. Raises RefusedError."""
    try:
        yield
    except ApiError as exc:
        if exc.status not in (401, 403):
            raise
        raise RefusedError(f"Could not {action}: the user {username} has no permission ({exc}).", remedy) from exc


class Api:
    """The HTTP API of one server, for a user. Every request must be completed within ``limit`` seconds."""

    def __init__(
        self,
        client: _devpi.Client,
        limit: float,
        clock: Callable[[], float] = time.monotonic,
        username: str | None = None,
    ) -> None:
        self._client = client
        self._limit = limit
        self._clock = clock
        self._username = username
        self._major: int | None = None

    @property
    def major(self) -> int:
        """The major version of devpi-server. Raises ProbeError and ApiError."""
        if self._major is None:
            self.is_authenticated()
        return self._major or 0

    def is_authenticated(self) -> bool:
        """Return whether devpi accepts the credentials. Raises ProbeError and ApiError."""
        response = self._respond("GET", "/+api")
        try:
            result = _result(response)
        except ApiError as exc:
            # The response to an expired or deleted token of devpi-tokens.
            if response.is_devpi and exc.status in (401, 403):
                return False
            raise
        version = re.match("[0-9]+", response.headers.get("x-devpi-server-version", ""))
        if version is None:
            raise _not_devpi(response)
        self._major = int(version.group())
        status = result.get("authstatus") if isinstance(result, dict) else None
        # Every user may read indexes: devpi ignores a wrong password until a request changes something.
        return not (isinstance(status, list) and status[:1] == ["noauth"])

    def check_login(self) -> None:
        """Raise RefusedError if devpi does not accept the credentials."""
        if not self.is_authenticated():
            raise RefusedError(
                f"Could not log in to devpi as {self._username}: url_password is wrong, or this user does not exist.",
                _OTHER_USER,
            )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the result of a request, None if it has none. Raises ProbeError and ApiError."""
        return _result(self._respond(method, path, body))

    def change(self, action: str, method: str, path: str, body: Any = None) -> Any:
        """Return the result of a request that does what ``action`` describes. Raises RefusedError and ProbeError."""
        try:
            with permitted(self._username, action, _OTHER_USER):
                return self.call(method, path, body)
        except ApiError as exc:
            raise RefusedError(
                f"Could not {action}: devpi responds with status {exc.status}: {exc}.",
                _REMEDIES.get(exc.status, "Check the log of the server."),
            ) from exc

    def upload(self, path: str, chunks: Iterable[bytes], size: int, content_type: str) -> None:
        """Send a form of ``size`` bytes in chunks. Raises ProbeError and ApiError."""
        client = self._client.with_deadline(self._limit)
        _result(client.send_stream(path, chunks, size, content_type))

    def find(self, path: str) -> Any:
        """Return the result of a GET request, None if the object does not exist. Raises ProbeError and ApiError."""
        try:
            return self.call("GET", path)
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise

    def users(self) -> dict[str, dict[str, Any]]:
        """Return all users with their indexes, by name. Raises RefusedError, ProbeError and ApiError."""
        found = self.call("GET", "/")
        # Those of a user or an index have texts.
        if not isinstance(found, dict) or not all(isinstance(user, dict) for user in found.values()):
            raise RefusedError("url is not that of a devpi server: it returns no list of users.", _SERVER_URL)
        return found

    def with_limit(self, limit: float) -> Api:
        """Return a copy whose requests must be completed within ``limit`` seconds."""
        other = copy.copy(self)
        other._limit = limit
        return other

    def _respond(self, method: str, path: str, body: Any = None) -> _devpi.Response:
        return self._client.with_deadline(self._limit).send_json(method, path, body)

    def to_server(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of an index with the names and values of this server. Raises RefusedError."""
        return to_release(self.major, keys)

    def from_server(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of an index with the names and values of devpi 6."""
        if self.major < 7:
            return dict(keys)
        found = dict(_from_7(name, value) for name, value in keys.items())
        if found.get("type") == "stage":
            # devpi 7 does not return its default.
            found.setdefault("mirror_whitelist_inheritance", "intersection")
        return found


def api_from(params: Mapping[str, Any], is_changing: bool = False) -> Api:
    """Return the API for the connection options. Raises RefusedError, and ValueError with the name of an option."""
    if is_changing and not params["url_username"]:
        raise RefusedError("url_username is empty, but a change requires a login.", _OTHER_USER)
    return Api(_devpi.client_from(params), params["request_timeout"], username=params["url_username"])


def log_in(params: Mapping[str, Any]) -> Api:
    """Return the API for changes. Raises RefusedError if devpi does not accept the credentials, ProbeError and ApiError."""
    api = api_from(params, is_changing=True)
    try:
        login = api.call("POST", "/+login", {"user": params["url_username"], "password": params["url_password"]})
    except ApiError as exc:
        if exc.status == 404:
            raise RefusedError("url is not that of a devpi server: it has no login (status 404).", _SERVER_URL) from exc
        if exc.status != 401:
            raise
        # Tokens of devpi-tokens can't log in.
        api.check_login()
        return api
    # devpi hashes a password at each request, which takes half a second, but not the token of a login.
    return api_from({**params, "url_password": login["password"]}, is_changing=True)


def to_release(major: int, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an index with the names and values of a release of devpi-server. Raises RefusedError."""
    return dict(keys) if major < 7 else dict(_to_7(name, value) for name, value in keys.items())


def described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an index with the types that modules use, without credentials."""
    found = {**settings, "type": TYPES.get(settings["type"], settings["type"])}
    if isinstance(found.get("mirror_url"), str):
        found["mirror_url"] = mask(found["mirror_url"])
    return found


def readable_user(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a user that have a value. devpi removes those without."""
    return {name: user[name] for name in USER_SETTINGS if user.get(name)}


def check_user(name: str, option: str = "name") -> str:
    """Return the name of a user. Raises RefusedError, with the name of the option, if devpi rejects it."""
    if not _devpi.is_name(name):
        raise RefusedError(
            f"{option} {name!r} is not a valid name of a user.", "Use letters, digits and the characters -.@_"
        )
    return name


def check_index(name: str, option: str = "name") -> str:
    """Return the name of an index, ``user/index``. Raises RefusedError, with the name of the option, if devpi rejects it."""
    try:
        return _devpi.check_index(name)
    except ValueError as exc:
        raise RefusedError(
            f"{option} {name!r} is not a valid name of an index.",
            "Use the form user/index, with letters, digits and the characters -.@_ in both parts.",
        ) from exc


def check_ascii(name: str) -> None:
    """Raise RefusedError for a name of a user or an index that the image of this collection does not accept in paths."""
    if not name.isascii():
        raise RefusedError(
            f"name {name!r} has characters that are not ASCII.", "Use letters, digits and the characters -.@_"
        )


def quoted(name: str) -> str:
    """Return a name of a user for a path."""
    return quote(name, safe="")


def index_path(name: str) -> str:
    """Return the path of an index."""
    return "/" + quote(name)


def _not_devpi(response: _devpi.Response) -> _devpi.ProbeError:
    if response.status == 401:
        return _devpi.ProbeError(_devpi.UNAUTHORIZED, "it requires a login (status 401)")
    server = response.headers.get("server", "an unknown program")
    return _devpi.ProbeError(_devpi.OTHER_SERVICE, f"{server} responds (status {response.status}), not devpi")


def _result(response: _devpi.Response) -> Any:
    """Return the result of a response. Raises ProbeError and ApiError."""
    # A proxy in front of devpi can refuse a request, but only devpi knows whether an object exists.
    if not response.is_devpi and (response.status < 400 or response.status in (401, 404)):
        raise _not_devpi(response)
    document = _document(response)
    if response.status >= 400:
        # Refused uploads have a blank message and the reason as title.
        texts = [" ".join(str(document.get(name) or "").split()) for name in ("message", "title")]
        raise ApiError(response.status, texts[0] or texts[1] or _devpi.reason_of(response) or "no details")
    return document.get("result")


def _document(response: _devpi.Response) -> dict[str, Any]:
    try:
        document = json.loads(response.body.decode("utf-8")) if response.body else {}
    except (ValueError, RecursionError):
        document = {}
    return document if isinstance(document, dict) else {}


def _to_7(name: str, value: Any) -> tuple[str, Any]:
    if name == "type":
        return name, TYPES_IN_7[value]
    renamed = KEYS_IN_7.get(name, name)
    if renamed is None:
        raise RefusedError(f"devpi-server 7 has no setting {name}.", "Remove it.")
    for old, new in VALUES_IN_7.get(name, ()):
        if value == old:
            return renamed, new
    if name in VALUES_IN_7:
        valid = " or ".join(repr(old) for old, _new in VALUES_IN_7[name])
        raise RefusedError(f"devpi-server 7 does not support {name} {value!r}.", f"Use {valid}.")
    return renamed, value


def _from_7(name: str, value: Any) -> tuple[str, Any]:
    if name == "type":
        return name, {new: old for old, new in TYPES_IN_7.items()}.get(value, value)
    old_name = {new: old for old, new in KEYS_IN_7.items() if new}.get(name, name)
    for old, new in VALUES_IN_7.get(old_name, ()):
        if value == new:
            return old_name, old
    return old_name, value
