# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests the image's access.py refuses, and how many passwords it has devpi compare at a time."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from devpi_mirror import access, identities
from devpi_server.view_auth import CredentialsIdentity
from pyramid.httpexceptions import HTTPForbidden

TEST_RESULT = "/alice/private/+f/012/3456789abcdef/a.whl"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS", raising=False)


class Handled(str):
    """devpi's response."""

    status_code = 200


HANDLED = Handled("handled")


class FakeRequest:
    """A request of ``user``, whose password is compared when Pyramid returns the identity."""

    def __init__(self, method, path, user=None, size=0, compare=lambda: None, **headers):
        self.method = method
        self.path_info = path
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.content_length = size
        self.body = b"{}"
        self.environ = {}
        self.user = user
        self.compare = compare

    @property
    def identity(self):
        self.compare()
        return self.user if self.user is None else CredentialsIdentity(self.user, [])


@pytest.fixture
def devpi():
    """devpi: ``send`` sends a request to it. ``transactions`` counts the open ones, ``handle`` is how it responds."""
    state = SimpleNamespace(transactions=Counter(), handle=lambda _request: HANDLED, cleared=[])

    @contextmanager
    def read_transaction():
        state.transactions["open"] += 1
        yield
        state.transactions["open"] -= 1

    keyfs = SimpleNamespace(read_transaction=read_transaction)
    policy = SimpleNamespace(
        identity_cache=SimpleNamespace(clear=state.cleared.append),
        _get_credentials=lambda request: ((request.user or "mallory", str(id(request))), []),
    )

    class Registry(dict):
        def getUtility(self, _interface):  # noqa: N802
            return policy

    model = SimpleNamespace(get_user=lambda _name: None)
    registry = Registry(xom=SimpleNamespace(keyfs=keyfs, model=model))

    def handle(request):
        return state.handle(request)

    state.send = access.tween_factory(handle, registry)
    return state


@pytest.mark.parametrize(
    ("path", "anonymous", "is_needed"),
    [
        ("/+login", "", False),
        ("/alice", "", False),
        ("/alice/private", "", True),
        ("/root/pypi/", "", True),
        (TEST_RESULT, "", True),
        (TEST_RESULT, "1", False),
        ("/root/pypi/+e/http_a/a.zip", "1", True),
    ],
)
def test_changes_of_an_index_need_a_user(devpi, monkeypatch, path, anonymous, is_needed):
    monkeypatch.setenv("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS", anonymous)
    for method, is_change in (("GET", False), ("HEAD", False), ("POST", True)):
        response = devpi.send(FakeRequest(method, path))
        if is_needed and is_change:
            assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="pypi"')
        else:
            assert response == "handled"


@pytest.mark.parametrize("headers", [{"Authorization": "Basic x"}, {"X_Devpi_Auth": "x"}])
def test_wrong_credentials_are_no_user(devpi, headers):
    def compare():
        assert devpi.transactions["open"] == 1

    assert devpi.send(FakeRequest("PUT", "/alice/private", "alice", compare=compare, **headers)) == "handled"
    response = devpi.send(FakeRequest("PUT", "/alice/private", None, compare=compare, **headers))
    assert response.status_code == 401
    assert devpi.transactions["open"] == 0


def test_a_token_is_verified_again_when_its_index_and_project_are_known(devpi):
    class TokenRequest(FakeRequest):
        identity = SimpleNamespace(username="alice")

    request = TokenRequest("POST", "/alice/private/", Authorization="Basic x")
    assert devpi.send(request) == "handled"
    assert devpi.cleared == [request]
    assert devpi.send(FakeRequest("POST", "/alice/private/", "alice", Authorization="Basic x")) == "handled"
    assert devpi.cleared == [request]


def test_an_invalid_token_is_forbidden(devpi):
    def compare():
        raise HTTPForbidden("The token id x doesn't exist")

    request = FakeRequest("GET", "/root/pypi/+simple/alpha/", compare=compare, Authorization="Basic x")
    assert devpi.send(request).status_code == 403


def test_a_request_without_credentials_has_no_user(devpi):
    # devpi opens a transaction of its own.
    assert devpi.send(FakeRequest("GET", "/root/pypi/+simple/alpha/")) == "handled"
    assert devpi.send(FakeRequest("PUT", "/alice/private", "alice")).status_code == 401
    assert not devpi.transactions


@pytest.mark.parametrize(
    ("method", "path", "user", "size", "status"),
    [
        ("POST", "/+login", None, access.BODY_LIMIT, 200),
        ("POST", "/+login", None, access.BODY_LIMIT + 1, 413),
        ("PATCH", "/alice", None, access.BODY_LIMIT + 1, 413),
        ("PATCH", "/alice", "alice", access.BODY_LIMIT + 1, 413),
        ("GET", "/alice", None, access.BODY_LIMIT + 1, 200),
        ("POST", "/alice/private/", "alice", 10**9, 200),
        ("POST", "/alice/private/", None, 10**9, 401),
        ("POST", "/alice/+login", "alice", None, 200),
    ],
)
def test_a_request_that_needs_no_user_has_a_size_limit(devpi, method, path, user, size, status):
    headers = {"Authorization": "Basic x"} if user else {}
    response = devpi.send(FakeRequest(method, path, user, size, **headers))
    assert response.status_code == status


def test_a_test_result_can_be_large(devpi, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS", "1")
    assert devpi.send(FakeRequest("POST", TEST_RESULT, size=10**6)) == "handled"


class Comparisons:
    """Passwords that are compared: each comparison waits until as many as are allowed run, and counts them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = self.done = 0
        self.full = threading.Barrier(identities.PASSWORDS)

    def compare(self) -> None:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.full.wait(30)
        with self.lock:
            self.running -= 1
            self.done += 1


@pytest.mark.parametrize("path", ["/root/pypi/+simple/alpha/", "/alice/private/"])
def test_the_number_of_simultaneous_password_checks_is_limited(devpi, path):
    comparisons = Comparisons()
    requests = [
        FakeRequest("GET", path, "alice", compare=comparisons.compare, Authorization="Basic x")
        for _client in range(5 * identities.PASSWORDS)
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        assert list(pool.map(devpi.send, requests)) == ["handled"] * len(requests)
    assert (comparisons.most, comparisons.done) == (identities.PASSWORDS, len(requests))


@pytest.mark.parametrize("path", ["/+login", "/+login/"])
def test_the_number_of_simultaneous_logins_is_limited(devpi, path):
    comparisons = Comparisons()
    devpi.handle = lambda _request: comparisons.compare() or HANDLED
    requests = [FakeRequest("POST", path) for _client in range(5 * identities.PASSWORDS)]
    with ThreadPoolExecutor(len(requests)) as pool:
        assert list(pool.map(devpi.send, requests)) == ["handled"] * len(requests)
    assert (comparisons.most, comparisons.done) == (identities.PASSWORDS, len(requests))


def test_other_requests_do_not_wait_for_logins(devpi):
    is_released = threading.Event()
    arrived = threading.Semaphore(0)

    def log_in(_request):
        arrived.release()
        assert is_released.wait(30)
        return HANDLED

    devpi.handle = log_in
    with ThreadPoolExecutor(identities.PASSWORDS) as pool:
        log_ins = [pool.submit(devpi.send, FakeRequest("POST", "/+login")) for _client in range(identities.PASSWORDS)]
        for _client in log_ins:
            assert arrived.acquire(timeout=30)
        devpi.handle = lambda _request: HANDLED
        assert devpi.send(FakeRequest("GET", "/root/pypi/+simple/alpha/")) == "handled"
        is_released.set()
        assert [log_in.result(30) for log_in in log_ins] == [HANDLED] * identities.PASSWORDS
