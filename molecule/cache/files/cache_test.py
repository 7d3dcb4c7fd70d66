"""What stands in front of devpi, seen from a client of the mirror, with an upstream that does what it is told."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator
from urllib.parse import urljoin

import pytest
from conversation import (
    JSON,
    MIRROR,
    ON_HOST,
    PUBLIC,
    Answer,
    Person,
    ask,
    files,
    mirror_state,
    page,
    reachable,
    seen_upstream,
    tell_upstream,
    until,
)


@pytest.fixture(autouse=True)
def upstream() -> Iterator[None]:
    """Have the upstream well before and after."""
    tell_upstream("+mode/well")
    yield
    tell_upstream("+mode/well")


def wheel_at_upstream(name: str) -> str:
    """Return the path that the wheel of a project with one release has there."""
    return f"/files/{name}/1.0/py3-none-any/{name}-1.0-py3-none-any.whl"


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
        answer = page("alpha")
        assert "etag" in answer.headers, answer
        tag = answer.headers["etag"]
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
        path = wheel_at_upstream(name)
        assert seen_upstream()[seen:] == [f"{path}.metadata", *(path + part for part in asked)]

    @pytest.mark.parametrize(("agent", "number"), [("pip/26.0", 901), ("uv/0.13.9", 911)])
    def test_what_an_installer_asks_for_next_is_fetched_ahead(self, agent: str, number: int) -> None:
        # Others may only look.
        for name, asking in ((f"new{number + 2}", "curl/8.0"), (f"new{number}", agent)):
            (file,) = files(name).values()
            assert ask(file["path"] + ".metadata", User_Agent=asking).status == 200
        ours, other = (wheel_at_upstream(name) for name in (f"new{number}", f"new{number + 2}"))
        until(lambda: {f"/simple/new{number + 1}/", ours} <= set(seen_upstream()), "nothing is fetched ahead")
        assert not {f"/simple/new{number + 3}/", other} & set(seen_upstream())
        until(lambda: ask(file["path"]).headers["x-cached"] == "HIT", "what was fetched ahead is not kept")
        assert seen_upstream().count(ours) == 1

    def test_what_is_fetched_ahead_counts_as_asked_for_by_nobody(self) -> None:
        def missed() -> int:
            time.sleep(7)  # Until what nginx writes down every second is counted, which is every five.
            return int(mirror_state()["requests"]["miss"])

        before = missed()
        (file,) = files("new921").values()
        assert ask(file["path"] + ".metadata", User_Agent="pip/26.0").status == 200
        until(
            lambda: {"/simple/new922/", wheel_at_upstream("new921")} <= set(seen_upstream()), "nothing is fetched ahead"
        )
        # The page and the metadata.
        assert missed() == before + 2

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
        cls.alice = Person.with_private_index("alice")
        cls.alice.upload("alpha", "9.0")

    def private_page(self, path: str = "/alice/private/+simple/alpha/") -> Answer:
        return ask(path, Accept=JSON)

    def test_its_pages_and_files_come_from_devpi_and_go_with_it(self) -> None:
        answer = self.private_page()
        assert "alpha-9.0" in answer.text
        assert "x-cached" not in answer.headers
        listed = {file["filename"]: file["url"] for file in json.loads(answer.text)["files"]}
        file = urljoin("/alice/private/+simple/alpha/", listed["alpha-9.0-py3-none-any.whl"])
        assert "x-cached" not in ask(file).headers
        assert ask("/alice/private/alpha/9.0", "DELETE", X_Devpi_Auth=self.alice.auth).status == 200
        try:
            assert "alpha-9.0" not in self.private_page().text
            assert ask(file).status in (404, 410)
        finally:
            self.alice.upload("alpha", "9.0")

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
