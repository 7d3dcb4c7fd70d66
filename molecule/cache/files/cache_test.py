"""What stands in front of devpi, seen from a client of the mirror, with an upstream that does what it is told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator, NamedTuple
from urllib.parse import urljoin

import pytest

UPSTREAM = os.environ["UPSTREAM"]
MIRROR = os.environ["MIRROR"]
ON_HOST = ["docker", "exec", os.environ["HOST"]]
PUBLIC = "/root/pypi/+simple/"
JSON = "application/vnd.pypi.simple.v1+json"
LIMIT = 30.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return body.decode()


def ask(path: str, method: str = "GET", body: bytes | None = None, server: str = MIRROR, **headers: str) -> Answer:
    """Send one request with the path as it is, and return the answer."""
    connection = http.client.HTTPConnection(server, timeout=60)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def page(name: str, **headers: str) -> Answer:
    return ask(f"{PUBLIC}{name}/", Accept=JSON, **headers)


def files(name: str) -> dict[str, dict[str, Any]]:
    """Return the files that a project's page lists, with absolute paths, by name."""
    listed = json.loads(page(name).text)["files"]
    return {file["filename"]: dict(file, path=urljoin(f"{PUBLIC}{name}/", file["url"])) for file in listed}


def tell_upstream(what: str) -> None:
    ask(f"/{what}", "POST", server=UPSTREAM)


def seen_upstream() -> list[str]:
    seen: list[str] = json.loads(ask("/+seen", server=UPSTREAM).body)
    return seen


def inside(command: str) -> str:
    """Run a command in the mirror's container."""
    done = subprocess.run(
        [*ON_HOST, "docker", "exec", "devpi", "sh", "-c", command], check=True, capture_output=True, text=True
    )
    return done.stdout


def until(true: Any, why: str) -> None:
    """Wait until ``true()`` is, for LIMIT seconds at most."""
    deadline = time.monotonic() + LIMIT
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(why)
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def upstream() -> Iterator[None]:
    """Have the upstream well before and after."""
    tell_upstream("+mode/well")
    yield
    tell_upstream("+mode/well")


class TestPages:
    @pytest.mark.parametrize("encoding", ["gzip", "identity"])
    @pytest.mark.parametrize(("accept", "start"), [(JSON, "{"), ("text/html", "<!DOCTYPE html>")])
    def test_both_forms_are_kept_apart_and_compressed(self, accept: str, start: str, encoding: str) -> None:
        answers = [ask(f"{PUBLIC}alpha/", Accept=accept, Accept_Encoding=encoding) for _attempt in range(2)]
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[1].text.startswith(start)
        assert "alpha-1.0-py3-none-any.whl" in answers[1].text
        assert answers[1].headers["content-type"].startswith(accept)
        assert answers[1].headers["x-cached"] in ("HIT", "STALE")

    def test_who_has_a_page_is_told_that_it_is_the_same(self) -> None:
        tag = page("alpha").headers["etag"]
        assert page("alpha", If_None_Match=tag).status == 304
        assert page("alpha", If_None_Match='"another"').status == 200
        other = ask(f"{PUBLIC}alpha/", Accept="text/html")
        assert other.headers["etag"] != tag

    def test_its_links_lead_to_the_files_of_devpi(self) -> None:
        for answer in (page("alpha"), ask(f"{PUBLIC}alpha/", Accept="text/html")):
            (link,) = re.findall(r'"(\.\./[^"#]+)', answer.text)
            path = urljoin(f"{PUBLIC}alpha/", link)
            assert "+" not in path
            own = path.replace("/-f/", "/+f/")
            assert ask(path).body == ask(own).body
            assert ask(path).headers["x-cached"] == "HIT"

    def test_head_has_no_body(self) -> None:
        answer = ask(f"{PUBLIC}alpha/", "HEAD", Accept=JSON)
        assert (answer.status, answer.body) == (200, b"")

    def test_nothing_of_a_client_gets_into_a_page_for_everybody(self) -> None:
        tell_upstream("+release/poisoned/1.0")
        evil = {
            "Host": "evil.example",
            "X_Outside_Url": "http://evil.example",
            "X_Devpi_Absolute_Urls": "1",
            "Cookie": "a=b",
        }
        first = page("poisoned", Authorization="Basic YTpi", X_Forwarded_Host="evil.example", **evil)
        assert first.status == 200
        for answer in (first, page("poisoned")):
            assert "evil.example" not in answer.text

    def test_a_new_release_comes_by_itself_and_at_once_if_asked(self) -> None:
        assert page("renewed").status == 404
        tell_upstream("+release/renewed/1.0")
        until(lambda: page("renewed").status == 200, "a new project does not appear")
        tell_upstream("+release/renewed/2.0")
        until(lambda: "renewed-2.0-py3-none-any.whl" in files("renewed"), "a new release does not appear")
        time.sleep(3)  # Until what devpi itself remembers of the page has grown old too.
        tell_upstream("+release/renewed/3.0")
        assert "renewed-3.0" in page("renewed", Cache_Control="no-cache").text


class TestUpstream:
    def kept(self, name: str) -> None:
        """Have a page and its file in the mirror, and let the page grow old."""
        for file in files(name).values():
            assert ask(file["path"]).status == 200
        time.sleep(6)  # The freshness that the host's mirror is given, and what is hot.

    def test_while_it_hangs_nobody_waits_for_what_is_kept(self) -> None:
        self.kept("alpha")
        tell_upstream("+mode/hang")
        connection = http.client.HTTPConnection(MIRROR, timeout=5)
        # Several on one connection, as pip asks: the refresh of the first must not hold up the next.
        for name in ("alpha", "beta", "alpha", "beta"):
            connection.request("GET", f"{PUBLIC}{name}/", headers={"Accept": JSON})
            response = connection.getresponse()
            assert response.status == 200
            response.read()
        connection.close()

    def test_while_it_fails_what_is_kept_is_served(self) -> None:
        self.kept("alpha")
        tell_upstream("+mode/failing")
        for _attempt in range(3):
            assert page("alpha").status == 200

    def test_a_file_that_nobody_has_is_a_clear_error(self) -> None:
        tell_upstream("+release/absent/1.0")
        (file,) = files("absent").values()
        for mode in ("failing", "hang"):
            tell_upstream(f"+mode/{mode}")
            answer = ask(file["path"])
            assert answer.status in (502, 503, 504), mode
        tell_upstream("+mode/well")
        assert hashlib.sha256(ask(file["path"]).body).hexdigest() == file["hashes"]["sha256"]

    def test_a_page_that_nobody_has_is_a_clear_error(self) -> None:
        tell_upstream("+mode/failing")
        assert page("nowhere").status == 502

    def test_after_a_restart_all_is_as_warm_as_before(self) -> None:
        self.kept("alpha")
        tell_upstream("+mode/hang")
        subprocess.run([*ON_HOST, "systemctl", "restart", "devpi"], check=True)
        until(lambda: reachable(PUBLIC + "alpha/"), "nothing answers after a restart")
        assert page("alpha").headers["x-cached"] in ("HIT", "STALE")
        for file in files("alpha").values():
            assert ask(file["path"]).status == 200
        until(lambda: reachable("/+api"), "devpi does not answer after a restart")


def reachable(path: str) -> bool:
    try:
        return ask(path).status == 200
    except OSError:
        return False


class TestFiles:
    def test_ranges_tags_and_heads_are_right(self) -> None:
        (file,) = files("alpha").values()
        whole = ask(file["path"])
        assert hashlib.sha256(whole.body).hexdigest() == file["hashes"]["sha256"]
        again = ask(file["path"])
        assert (again.headers["x-cached"], again.headers["accept-ranges"]) == ("HIT", "bytes")
        part = ask(file["path"], Range="bytes=-10")
        assert (part.status, part.body) == (206, whole.body[-10:])
        assert ask(file["path"], If_None_Match=again.headers["etag"]).status == 304
        head = ask(file["path"], "HEAD")
        assert (head.status, head.body, int(head.headers["content-length"])) == (200, b"", len(whole.body))

    @pytest.mark.parametrize(
        ("name", "summary", "asked"),
        [
            ("apart", "apart", []),
            # What comes before its end is not fetched.
            ("large", "", [" bytes=-65536"]),
            ("whole", "", [" bytes=-65536"]),
        ],
    )
    def test_core_metadata_is_there_and_kept(self, name: str, summary: str, asked: list[str]) -> None:
        (file,) = files(name).values()
        assert file["core-metadata"]
        seen = len(seen_upstream())
        for encoding in ("gzip", "identity"):
            answer = ask(file["path"] + ".metadata", Authorization="Basic YTpi", Accept_Encoding=encoding)
            assert answer.status == 200
            assert f"Name: {name}\n" in answer.text
            assert ("Summary: apart" in answer.text) == bool(summary)
        assert answer.headers["x-cached"] == "HIT"
        path = f"/files/{name}/1.0/py3-none-any/{name}-1.0-py3-none-any.whl"
        assert seen_upstream()[seen:] == [f"{path}.metadata", *(path + part for part in asked)]

    def test_a_crowd_makes_one_download(self) -> None:
        (file,) = files("large").values()
        with ThreadPoolExecutor(50) as pool:
            digests = set(pool.map(lambda _client: hashlib.sha256(ask(file["path"]).body).hexdigest(), range(50)))
        assert digests == {file["hashes"]["sha256"]}
        assert len([path for path in seen_upstream() if path.endswith("/large-1.0-py3-none-any.whl")]) == 1

    def test_what_was_fetched_ahead_needs_no_upstream(self) -> None:
        tell_upstream("+mode/failing")
        for name in ("alpha", "beta", "gamma", "delta"):
            (file,) = files(name).values()
            assert ask(file["path"]).headers["x-cached"] == "HIT", name

    def test_it_was_fetched_for_the_pythons_and_platforms_asked(self) -> None:
        tell_upstream("+mode/failing")
        there = {name for name, file in files("epsilon").items() if ask(file["path"]).status == 200}
        pythons, platforms = ("cp39", "cp313"), ("manylinux_2_28_x86_64", "macosx_11_0_arm64")
        assert there == {
            f"epsilon-1.0-{python}-{python}-{platform}.whl" for python in pythons for platform in platforms
        }


class TestPrivate:
    """A private index is never kept, whatever a path looks like."""

    @classmethod
    def setup_class(cls) -> None:
        password = inside("cat /data/root-password")
        cls.auth = cls.log_in("root", password)
        cls.call("PUT", "/alice", {"password": "secret-of-alice"}, cls.auth)
        cls.call("PUT", "/alice/private", {"bases": ["root/pypi"], "volatile": True}, cls.auth)
        cls.alice = cls.log_in("alice", "secret-of-alice")
        cls.upload()

    @classmethod
    def call(cls, method: str, path: str, body: Any, auth: str = "") -> Any:
        headers = {
            "Accept": "application/json",
            "Content_Type": "application/json",
            **({"X_Devpi_Auth": auth} if auth else {}),
        }
        answer = ask(path, method, json.dumps(body).encode(), **headers)
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.text[:300]}")
        return json.loads(answer.body or b"{}").get("result")

    @classmethod
    def log_in(cls, user: str, password: str) -> str:
        token = cls.call("POST", "/+login", {"user": user, "password": password})["password"]
        return base64.b64encode(f"{user}:{token}".encode()).decode()

    @classmethod
    def upload(cls) -> None:
        """Put a private release of a name into the private index that is public too."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("alpha-9.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: alpha\nVersion: 9.0\n")
        fields = {":action": "file_upload", "name": "alpha", "version": "9.0", "filetype": "bdist_wheel"}
        parts = [
            f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in fields.items()
        ]
        name = "alpha-9.0-py3-none-any.whl"
        parts.append(f'--B\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n\r\n'.encode())
        body = b"".join([*parts, stream.getvalue(), b"\r\n--B--\r\n"])
        answer = ask(
            "/alice/private/", "POST", body, X_Devpi_Auth=cls.alice, Content_Type="multipart/form-data; boundary=B"
        )
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.text[:300]}")

    def private_page(self, path: str = "/alice/private/+simple/alpha/") -> Answer:
        return ask(path, Accept=JSON)

    def test_its_pages_and_files_come_from_devpi_and_go_with_it(self) -> None:
        answer = self.private_page()
        assert "alpha-9.0" in answer.text
        assert "x-cached" not in answer.headers
        listed = {file["filename"]: file["url"] for file in json.loads(answer.text)["files"]}
        file = urljoin("/alice/private/+simple/alpha/", listed["alpha-9.0-py3-none-any.whl"])
        assert "x-cached" not in ask(file).headers
        assert ask("/alice/private/alpha/9.0", "DELETE", X_Devpi_Auth=self.alice).status == 200
        try:
            assert "alpha-9.0" not in self.private_page().text
            assert ask(file).status in (404, 410)
        finally:
            self.upload()

    @pytest.mark.parametrize(
        "path",
        [
            "/alice/private/+simple/alpha/../../../../root/pypi/+simple/alpha/",
            "/root/pypi/+simple/../../../alice/private/+simple/alpha/",
            "/root/pypi/+simple/%2e%2e/%2e%2e/%2e%2e/alice/private/+simple/alpha/",
            "/root/pypi/+simple/..%2f..%2f..%2falice/private/+simple/alpha/",
            "/root/pypi/%2bsimple/alpha/",
            "//alice/private/+simple/alpha/",
            "/root/pypi//+simple//alpha/",
            "/root/pypi/+simple/alpha/?next=/alice/private/+simple/alpha/",
        ],
    )
    def test_no_path_leads_a_private_page_into_the_public_one(self, path: str) -> None:
        page("alpha")
        answer = self.private_page(path)
        if answer.headers.get("x-cached"):
            assert "alpha-9.0" not in answer.text
        assert "alpha-9.0" not in page("alpha").text

    @pytest.mark.parametrize(
        "path",
        [
            "/root/pypi/+f/../../../../secret",
            "/root/pypi/+f/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret",
            "/root/pypi/+f/..%2f..%2f..%2f..%2fsecret",
            "/root/pypi/+f/aa/../../../../../root-password",
            "/root/pypi/-f/../../../../secret",
            "/root/pypi/-f/..%2f..%2f..%2f..%2fsecret",
        ],
    )
    def test_no_path_leads_out_of_the_public_files(self, path: str) -> None:
        assert ask(path).status in (400, 403, 404)
