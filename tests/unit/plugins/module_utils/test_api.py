# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi

NO_LOGIN = {"result": {"authstatus": ["noauth", "", []]}}
LOGIN = {"result": {"authstatus": ["ok", "ada", []]}}


class FakeClient:
    """Returns the responses for a method and a path: the status, the document, and whether devpi sends it."""

    def __init__(self, version, responses=None):
        self.version = version
        self.responses = {("GET", "/+api"): (200, LOGIN, True), **(responses or {})}
        self.deadlines = []

    def with_deadline(self, seconds):
        self.deadlines.append(seconds)
        return self

    def send_json(self, method, path, body=None):
        status, document, is_devpi = self.responses[method, path]
        headers = {"x-devpi-server-version": self.version} if is_devpi else {"server": "nginx"}
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        return _devpi.Response(status, headers, text)


def api_of(version, responses=None):
    return _api.Api(FakeClient(version, responses), 10, username="ada")


STAGE_6 = {
    "type": "stage",
    "volatile": True,
    "bases": ["root/pypi"],
    "mirror_whitelist": ["*"],
    "mirror_whitelist_inheritance": "union",
}
STAGE_7 = {
    "type": "local",
    "volatile": True,
    "bases": ["root/pypi"],
    "project_inheritance_rules": ["allow all"],
    "trust_inheritance_rules_from": "type:not remote",
}
MIRROR_6 = {
    "type": "mirror",
    "title": "PyPI",
    "mirror_url": "https://example.com/simple/",
    "mirror_web_url_fmt": "https://example.com/{name}",
    "mirror_cache_expiry": 60,
    "mirror_no_project_list": True,
    "mirror_use_external_urls": False,
}
MIRROR_7 = {
    "type": "remote",
    "title": "PyPI",
    "remote_url": "https://example.com/simple/",
    "remote_web_url_fmt": "https://example.com/{name}",
    "remote_refresh_delay": 60,
    "remote_no_project_list": True,
    "remote_use_external_urls": False,
}


@pytest.mark.parametrize(("old", "new"), [(STAGE_6, STAGE_7), (MIRROR_6, MIRROR_7)])
def test_names_and_values_of_devpi_7(old, new):
    assert api_of("7.0.0b4").to_server(old) == new
    assert api_of("7.0.0b4").from_server(new) == old
    assert api_of("6.20.3").to_server(old) == old
    assert api_of("6.20.3").from_server(old) == old


def test_every_setting_has_the_same_name_or_another_one_in_devpi_7():
    for name, new in _api.KEYS_IN_7.items():
        value = _api.VALUES_IN_7.get(name, [("x", "x")])[0]
        if new is not None:
            assert api_of("7.0.0").to_server({name: value[0]}) == {new: value[1]}
            assert api_of("7.0.0").from_server({new: value[1]}) == {name: value[0]}


def test_default_that_devpi_7_does_not_return():
    assert api_of("7.0.0").from_server({"type": "local"})["mirror_whitelist_inheritance"] == "intersection"
    assert api_of("7.0.0").from_server({"type": "remote"}) == {"type": "mirror"}


def test_rules_of_devpi_7_that_devpi_6_lacks_are_returned():
    assert api_of("7.0.0").from_server({"project_inheritance_rules": ["new"]}) == {"mirror_whitelist": ["new"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [("mirror_whitelist", ["pip"]), ("mirror_ignore_serial_header", True), ("mirror_provides_core_metadata", True)],
)
def test_setting_that_devpi_7_lacks(name, value):
    with pytest.raises(_api.RefusedError, match=name):
        api_of("7.0.0").to_server({name: value})
    assert api_of("6.20.3").to_server({name: value}) == {name: value}


@pytest.mark.parametrize(("version", "major"), [("6.20.3", 6), ("7.0.0b4", 7), ("10.1", 10)])
def test_major_version(version, major):
    api = api_of(version)
    assert (api.major, api.major) == (major, major)
    assert api._client.deadlines == [10]


@pytest.mark.parametrize(("status", "document"), [(200, {}), (404, b"<h1>Not found</h1>")])
def test_other_service(status, document):
    api = api_of("6.20.3", {("GET", "/+api"): (status, document, False), ("GET", "/ada"): (status, document, False)})
    for request in (lambda: api.major, lambda: api.find("/ada"), api.check_login):
        with pytest.raises(_devpi.ProbeError, match="nginx responds") as failure:
            request()
        assert failure.value.kind == _devpi.OTHER_SERVICE


@pytest.mark.parametrize("status", [403, 500, 502])
def test_failed_login(status):
    with pytest.raises(_api.ApiError) as failure:
        api_of("6.20.3", {("GET", "/+api"): (status, b"Internal Server Error", False)}).check_login()
    assert failure.value.status == status


def test_proxy_that_requires_a_login():
    with pytest.raises(_devpi.ProbeError) as failure:
        api_of("6.20.3", {("GET", "/ada"): (401, {}, False)}).find("/ada")
    assert failure.value.kind == _devpi.UNAUTHORIZED


def test_find():
    responses = {
        ("GET", "/ada"): (200, {"result": {"email": "x"}}, True),
        ("GET", "/bob"): (404, {"message": "no user"}, True),
        ("GET", "/eve"): (500, b"Internal Server Error", False),
    }
    api = api_of("6.20.3", responses)
    assert api.find("/ada") == {"email": "x"}
    assert api.find("/bob") is None
    with pytest.raises(_api.ApiError, match="no details") as failure:
        api.find("/eve")
    assert failure.value.status == 500


@pytest.mark.parametrize(
    ("refusal", "cause", "remedy"),
    [
        (
            (403, {"message": "Access was denied to this resource.\n\n\nUnauthorized"}, True),
            "the user ada has no permission (Access was denied to this resource. Unauthorized).",
            "Set url_username and url_password",
        ),
        ((400, {"message": "base index 'x/y' does not exist"}, True), "status 400: base index 'x/y'", "Correct"),
        ((409, {"message": "exists"}, True), "status 409: exists.", "run the task again"),
        ((413, b"<h1>Too large</h1>", False), "status 413: no details.", "Check the log of the server"),
        ((500, b"Internal Server Error", False), "status 500: no details.", "Check the log of the server"),
    ],
)
def test_cause_of_a_refused_change(refusal, cause, remedy):
    api = api_of("6.20.3", {("PATCH", "/acme/dev"): refusal})
    with pytest.raises(_api.RefusedError) as failure:
        api.change("change the index acme/dev", "PATCH", "/acme/dev", {})
    assert failure.value.cause.startswith("Could not change the index acme/dev: ")
    assert cause in failure.value.cause
    assert remedy in failure.value.remedy
    assert not failure.value.is_changed


def test_reason_of_the_image():
    headers = {"x-devpi-server-version": "6.20.3", "content-type": "text/plain; charset=UTF-8"}
    response = _devpi.Response(503, headers, b"The upstream\nhttps://ada:secret@example.com/ is unreachable")
    with pytest.raises(_api.ApiError, match=r"^The upstream https://\*\*\*@example.com/ is unreachable$"):
        _api._result(response)


def test_check_login():
    api_of("6.20.3").check_login()
    # Not all servers report the state of the login.
    api_of("6.20.3", {("GET", "/+api"): (200, {"result": {}}, True)}).check_login()
    api_of("6.20.3", {("GET", "/+api"): (200, [], True)}).check_login()
    with pytest.raises(_api.RefusedError, match="Could not log in to devpi as ada: url_password is wrong"):
        api_of("6.20.3", {("GET", "/+api"): (200, NO_LOGIN, True)}).check_login()


@pytest.mark.parametrize("name", ["ada", "release-bot", "a.b@c_d", "\u00e9va", "1"])
def test_valid_names(name):
    assert _api.check_user(name) == name
    assert _api.check_index(f"{name}/dev") == f"{name}/dev"
    assert _api.check_index(f"/acme/{name}/") == f"acme/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a b", "a/b", "a+b", "a:b", "a%2fb", "a?b", "a#b", "a\\b", "a\n", "a[", "~a"]
)
def test_invalid_names(name):
    with pytest.raises(_api.RefusedError, match=r"name .* is not a valid name of a user"):
        _api.check_user(name)
    for index in (f"{name or '..'}/dev", f"acme/{name}"):
        with pytest.raises(_api.RefusedError, match=r"bases .* is not a valid name of an index"):
            _api.check_index(index, "bases")
    with pytest.raises(_api.RefusedError):
        _api.check_index("acme")


def test_paths():
    assert _api.quoted("\u00e9@x") == "%C3%A9%40x"
    assert _api.index_path("\u00e9va/dev") == "/%C3%A9va/dev"


def test_readable_results_have_no_secrets():
    settings = {"type": "stage", "mirror_url": "https://ada:secret@example.com/simple/"}
    assert _api.described(settings) == {"type": "private", "mirror_url": "https://***@example.com/simple/"}
    assert _api.described({"type": "constrained"})["type"] == "constrained"
    user = {"email": "x", "title": "", "custom_data": {}, "description": None, "pwhash": "secret", "created": "today"}
    assert _api.readable_user(user) == {"email": "x"}


def test_a_change_requires_a_login():
    params = {"url": "http://localhost", "url_username": None, "url_password": None, "request_timeout": 1}
    params.update(ca_path=None, validate_certs=True)
    with pytest.raises(_api.RefusedError, match="url_username is empty"):
        _api.api_from(params, is_changing=True)
    _api.api_from(params)
