# SPDX-License-Identifier: GPL-3.0-or-later
"""Which responses nginx caches in front of devpi, as seen by clients."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

import pytest
from harness import (
    JSON,
    PUBLIC,
    RECOVERY_LIMIT,
    Answer,
    Mirror,
    User,
    connect,
    on_host,
    publish_upstream,
    set_upstream_mode,
    until,
    upstream_requests,
)

mirror = Mirror()


def wheel_at_upstream(name: str) -> str:
    """Return the path of the wheel of a project with one release at the upstream."""
    return f"/files/{name}/1.0/py3-none-any/{name}-1.0-py3-none-any.whl"


class TestPages:
    @pytest.mark.parametrize("encoding", ["gzip", "identity"])
    @pytest.mark.parametrize(("accept", "start"), [(JSON, "{"), ("text/html", "<!DOCTYPE html>")])
    def test_both_forms_are_cached_separately_and_compressed(self, accept: str, start: str, encoding: str) -> None:
        answers = [mirror.ask(f"{PUBLIC}alpha/", Accept=accept, Accept_Encoding=encoding) for _attempt in range(2)]
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[1].text.startswith(start)
        assert "alpha-1.0-py3-none-any.whl" in answers[1].text
        assert answers[1].headers["content-type"].startswith(accept)
        assert answers[1].is_cached

    def test_an_unchanged_page_is_not_sent_again(self) -> None:
        answer = mirror.page("alpha")
        assert "etag" in answer.headers, answer
        tag = answer.headers["etag"]
        assert mirror.page("alpha", If_None_Match=tag).status == 304
        assert mirror.page("alpha", If_None_Match='"another"').status == 200
        other = mirror.ask(f"{PUBLIC}alpha/", Accept="text/html")
        assert other.headers["etag"] != tag

    def test_links_lead_to_the_files_of_devpi(self) -> None:
        for answer in (mirror.page("alpha"), mirror.ask(f"{PUBLIC}alpha/", Accept="text/html")):
            (link,) = re.findall(r'"(\.\./[^"#]+)', answer.text)
            path = urljoin(f"{PUBLIC}alpha/", link)
            assert "+" not in path
            own = path.replace("/-f/", "/+f/")
            assert mirror.ask(path).body == mirror.ask(own).body
            assert mirror.ask(path).headers["x-cached"] == "HIT"

    def test_head_has_no_body(self) -> None:
        answer = mirror.ask(f"{PUBLIC}alpha/", "HEAD", Accept=JSON)
        assert (answer.status, answer.body) == (200, b"")

    def test_no_header_of_a_client_affects_a_shared_page(self) -> None:
        publish_upstream("poisoned", "1.0")
        evil = {
            "X_Outside_Url": "http://evil.example",
            "X_Devpi_Absolute_Urls": "1",
            "Cookie": "a=b",
        }
        first = mirror.page("poisoned", Authorization="Basic YTpi", X_Forwarded_Host="evil.example", **evil)
        assert first.status == 200
        for answer in (first, mirror.page("poisoned")):
            assert "evil.example" not in answer.text

    def test_a_new_release_appears_by_itself_and_without_delay_if_requested(self) -> None:
        name = f"renewed{int(time.time())}"
        assert mirror.page(name).status == 404
        publish_upstream(name, "1.0")
        until(lambda: mirror.page(name).status == 200, "a new project does not appear")
        publish_upstream(name, "2.0")
        until(lambda: f"{name}-2.0-py3-none-any.whl" in mirror.files(name), "a new release does not appear")
        publish_upstream(name, "3.0")

        answer = mirror.page(name, Cache_Control="no-cache")
        assert answer.headers["x-cached"] == "BYPASS"
        assert f"{name}-3.0" in answer.text


def cache_with_file(name: str) -> None:
    """Make the mirror cache a page, which the upstream has just confirmed, and its files."""
    assert mirror.page(name, Cache_Control="no-cache").status == 200
    for file in mirror.files(name).values():
        assert mirror.ask(file["path"]).status == 200


def let_page_expire(name: str) -> None:
    """Wait until the mirror serves a page that is no longer fresh. The upstream must fail, or the page is refreshed."""

    def is_outdated() -> bool:
        answer = mirror.page(name)
        assert answer.status == 200
        return answer.is_outdated

    until(is_outdated, f"the page of {name} does not expire")


class TestUpstream:
    def test_while_it_hangs_no_client_waits_for_cached_pages(self) -> None:
        for name in ("alpha", "beta"):
            cache_with_file(name)
        set_upstream_mode("hang")
        connection = connect(mirror.port, limit=5)
        outdated = set()

        def request_all() -> bool:
            # On one connection, as pip does: refreshing the first page must not delay the second one.
            for name in ("alpha", "beta"):
                connection.request("GET", f"{PUBLIC}{name}/", headers={"Accept": JSON})
                response = connection.getresponse()
                assert response.status == 200
                response.read()
                if response.getheader("X-Cached") in ("STALE", "UPDATING"):
                    outdated.add(name)
            return len(outdated) == 2

        until(request_all, "the pages do not expire")
        # The refreshes hang now.
        request_all()
        connection.close()

    def test_while_it_fails_cached_pages_are_served(self) -> None:
        cache_with_file("alpha")
        set_upstream_mode("failing")
        before = upstream_requests().count("/simple/alpha/")

        def refresh_failed() -> bool:
            # The next refresh begins after one that an earlier test began has ended.
            assert mirror.page("alpha").status == 200
            return upstream_requests().count("/simple/alpha/") > before

        until(refresh_failed, "the page is not refreshed", RECOVERY_LIMIT)
        let_page_expire("alpha")

    def test_a_file_that_is_not_cached_is_a_clear_error(self) -> None:
        name = f"absent{int(time.time())}"
        publish_upstream(name, "1.0")
        (file,) = mirror.files(name).values()
        for mode in ("failing", "hang"):
            set_upstream_mode(mode)
            answer = mirror.ask(file["path"])
            assert answer.status in (502, 503, 504), mode
        set_upstream_mode("normal")
        assert hashlib.sha256(mirror.ask(file["path"]).body).hexdigest() == file["hashes"]["sha256"]

    def test_a_page_that_is_not_cached_is_a_clear_error(self) -> None:
        set_upstream_mode("failing")
        answer = mirror.page("nowhere")
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        assert "the upstream responded with status 503" in answer.text

    def test_after_a_restart_everything_is_still_cached(self) -> None:
        cache_with_file("alpha")
        set_upstream_mode("hang")
        let_page_expire("alpha")
        mirror.run("mkdir /data/nginx/old && touch /data/nginx/old/response")
        on_host("systemctl restart devpi")
        until(lambda: mirror.is_serving(f"{PUBLIC}alpha/", Accept=JSON), "nginx does not answer after a restart")
        assert "old" not in mirror.run("ls /data/nginx").split(), "responses of an earlier release are still there"
        answer = mirror.page("alpha")
        assert answer.is_cached
        for file in mirror.files("alpha").values():
            assert mirror.ask(file["path"]).status == 200
        until(lambda: mirror.is_serving("/+api"), "devpi does not answer after a restart")


def count_misses() -> int:
    """Return the number of cache misses, after all requests have been counted."""
    # Each of nginx's workers writes its part of the log within a second, which is not visible from outside.
    time.sleep(2)
    until(lambda: not mirror.run("cat /data/nginx/uses.log"), "the requests are not counted")
    until(lambda: not on_host("pgrep -f '[d]evpi_mirror.maintenance' || true"), "the counters are not written")
    return int(mirror.state()["requests"]["miss"])


class TestFiles:
    def test_ranges_etags_and_head_requests_are_correct(self) -> None:
        (file,) = mirror.files("alpha").values()
        whole = mirror.ask(file["path"])
        assert hashlib.sha256(whole.body).hexdigest() == file["hashes"]["sha256"]
        again = mirror.ask(file["path"])
        assert (again.headers["x-cached"], again.headers["accept-ranges"]) == ("HIT", "bytes")
        part = mirror.ask(file["path"], Range="bytes=-10")
        assert (part.status, part.body) == (206, whole.body[-10:])
        assert mirror.ask(file["path"], If_None_Match=again.headers["etag"]).status == 304
        head = mirror.ask(file["path"], "HEAD")
        assert (head.status, head.body, int(head.headers["content-length"])) == (200, b"", len(whole.body))

    @pytest.mark.parametrize(
        ("name", "summary", "expected"),
        [
            ("apart", "apart", [".metadata"]),
            # Only the end of the wheel is downloaded.
            ("large", "", [" bytes=-65536"]),
            ("whole", "", [" bytes=-65536"]),
        ],
    )
    def test_core_metadata_is_provided_and_cached(self, name: str, summary: str, expected: list[str]) -> None:
        (file,) = mirror.files(name).values()
        assert file["core-metadata"]
        seen = len(upstream_requests())
        for encoding in ("gzip", "identity"):
            answer = mirror.ask(file["path"] + ".metadata", Authorization="Basic YTpi", Accept_Encoding=encoding)
            assert answer.status == 200
            assert f"Name: {name}\n" in answer.text
            assert ("Summary: apart" in answer.text) == bool(summary)
        # nginx can complete a cached response after the client has received it.
        metadata = file["path"] + ".metadata"
        until(lambda: mirror.ask(metadata).headers["x-cached"] == "HIT", "core metadata is not cached")
        path = wheel_at_upstream(name)
        # Pages of earlier tests may be revalidated at the same time.
        downloads = [item for item in upstream_requests()[seen:] if item.startswith("/files/")]
        assert downloads == [path + part for part in expected]

    def test_no_header_of_a_client_affects_a_shared_file(self) -> None:
        headers = {"Accept": "application/json", "X_Outside_Url": "http://evil.example", "Range": "bytes=0-9"}
        (file,) = mirror.files("new931").values()
        for suffix in (".metadata", ""):
            first, second = (
                mirror.ask(file["path"] + suffix, "GET", None, 60, **headers),
                mirror.ask(file["path"] + suffix),
            )
            assert first.body in (second.body, second.body[:10])
        assert hashlib.sha256(second.body).hexdigest() == file["hashes"]["sha256"]

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_shared_responses_can_only_be_read(self, method: str) -> None:
        (file,) = mirror.files("alpha").values()
        seen = len(upstream_requests())
        pages = [
            f"{PUBLIC}alpha/",
            f"{PUBLIC}new932/",
            f"{PUBLIC}new932",
            f"{PUBLIC}new932/refresh",
            f"{PUBLIC}new~932/",
        ]
        pages += [page.replace("/root/pypi/", "/alice/private/") for page in pages]
        for path in (*pages, file["path"], file["path"] + ".metadata"):
            assert mirror.ask(path, method, b"{}").status == 405, path
        assert not [path for path in upstream_requests()[seen:] if "new932" in path]

    @pytest.mark.parametrize(("agent", "number"), [("pip/26.0", 901), ("uv/0.13.9", 911)])
    def test_the_next_requests_of_an_installer_are_prefetched(self, agent: str, number: int) -> None:
        # Nothing is prefetched for other clients.
        for name, user_agent in ((f"new{number + 2}", "curl/8.0"), (f"new{number}", agent)):
            (file,) = mirror.files(name).values()
            assert mirror.ask(file["path"] + ".metadata", User_Agent=user_agent).status == 200
        ours, other = (wheel_at_upstream(name) for name in (f"new{number}", f"new{number + 2}"))
        until(lambda: {f"/simple/new{number + 1}/", ours} <= set(upstream_requests()), "nothing is prefetched")
        assert not {f"/simple/new{number + 3}/", other} & set(upstream_requests())
        until(lambda: mirror.ask(file["path"]).headers["x-cached"] == "HIT", "prefetched files are not cached")
        assert upstream_requests().count(ours) == 1
        # The core metadata of the next project, which the upstream has only in the wheel.
        required = f"new{number + 1}"
        part = f"{wheel_at_upstream(required)} bytes=-65536"
        until(lambda: part in upstream_requests(), "core metadata is not prefetched")
        (file,) = mirror.files(required).values()
        assert f"Name: {required}\n" in mirror.ask(file["path"] + ".metadata").text
        assert upstream_requests().count(part) == 1

    def test_prefetched_files_do_not_count_as_requested(self) -> None:
        before = count_misses()
        (file,) = mirror.files("new921").values()
        assert mirror.ask(file["path"] + ".metadata", User_Agent="pip/26.0").status == 200
        prefetched = {"/simple/new922/", wheel_at_upstream("new921")}
        until(lambda: prefetched <= set(upstream_requests()), "nothing is prefetched")
        # The page and the metadata.
        assert count_misses() == before + 2

    def test_many_clients_cause_one_download(self) -> None:
        (file,) = mirror.files("large").values()
        with ThreadPoolExecutor(50) as pool:
            digests = set(
                pool.map(lambda _client: hashlib.sha256(mirror.ask(file["path"]).body).hexdigest(), range(50))
            )
        assert digests == {file["hashes"]["sha256"]}
        assert len([path for path in upstream_requests() if path.endswith("/large-1.0-py3-none-any.whl")]) == 1

    def test_clients_get_the_first_bytes_while_the_upstream_sends_them(self) -> None:
        name = "bulk950"
        (file,) = mirror.files(name).values()
        set_upstream_mode("slow")
        responses = []
        for wanted in ("", "", "bytes=500-", "bytes=0-999"):
            connection = connect(mirror.port, limit=30)
            connection.request("GET", file["path"], headers={"Range": wanted} if wanted else {})
            responses.append(connection.getresponse())
        starts = [response.read(100) for response in responses]
        # The upstream has sent a few kilobytes of 20 MB.
        assert [response.status for response in responses] == [200, 200, 206, 206]
        set_upstream_mode("normal")
        bodies = [start + response.read() for start, response in zip(starts, responses)]
        assert hashlib.sha256(bodies[0]).hexdigest() == file["hashes"]["sha256"]
        assert [len(bodies[1]), bodies[2], bodies[3]] == [len(bodies[0]), bodies[0][500:], bodies[0][:1000]]
        assert upstream_requests().count(wheel_at_upstream(name)) == 1

    def test_a_head_request_downloads_nothing(self) -> None:
        (file,) = mirror.files("bulk951").values()
        head = mirror.ask(file["path"], "HEAD")
        assert (head.status, head.body, int(head.headers["content-length"])) == (200, b"", file["size"])
        assert wheel_at_upstream("bulk951") not in upstream_requests()

    @pytest.mark.parametrize("mode", ["wrong", "truncated", "broken"])
    def test_a_response_with_other_content_than_the_page_lists_does_not_complete(self, mode: str) -> None:
        (file,) = mirror.files(f"bulk96{len(mode)}").values()
        set_upstream_mode(mode)
        connection = connect(mirror.port, limit=60)
        connection.request("GET", file["path"])
        response = connection.getresponse()
        # The response has begun before the upstream disconnects.
        assert (response.status, int(response.headers["Content-Length"])) == (200, file["size"])
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        set_upstream_mode("normal")
        assert hashlib.sha256(mirror.ask(file["path"]).body).hexdigest() == file["hashes"]["sha256"]

    def test_prewarmed_files_need_no_upstream(self) -> None:
        set_upstream_mode("failing")
        for name in ("alpha", "beta", "gamma", "delta"):
            (file,) = mirror.files(name).values()
            assert mirror.ask(file["path"]).headers["x-cached"] == "HIT", name

    def test_prewarming_covers_the_configured_pythons_and_platforms(self) -> None:
        set_upstream_mode("failing")
        cached = {name for name, file in mirror.files("epsilon").items() if mirror.ask(file["path"]).status == 200}
        pythons, platforms = ("cp39", "cp313"), ("manylinux_2_28_x86_64", "macosx_11_0_arm64")
        assert cached == {
            f"epsilon-1.0-{python}-{python}-{platform}.whl" for python in pythons for platform in platforms
        }


class TestPrivate:
    """A private index is never cached, for any form of a path."""

    alice: User

    @classmethod
    def setup_class(cls) -> None:
        cls.alice = mirror.create_user("alice")
        cls.alice.upload("alpha", "9.0")

    def private_page(self, path: str = "/alice/private/+simple/alpha/") -> Answer:
        return mirror.ask(path, Accept=JSON)

    def test_its_pages_and_files_come_from_devpi_and_are_removed_with_it(self) -> None:
        answer = self.private_page()
        assert "alpha-9.0" in answer.text
        # Without the files of the public project with the same name.
        assert "alpha-1.0" not in answer.text
        assert "x-cached" not in answer.headers
        listed = {file["filename"]: file["url"] for file in json.loads(answer.text)["files"]}
        file = urljoin("/alice/private/+simple/alpha/", listed["alpha-9.0-py3-none-any.whl"])
        assert "x-cached" not in mirror.ask(file).headers
        self.alice.delete("alpha", "9.0")
        try:
            assert "alpha-9.0" not in self.private_page().text
            assert mirror.ask(file).status in (404, 410)
        finally:
            self.alice.upload("alpha", "9.0")

    def test_an_inherited_page_is_the_public_one_until_the_index_has_the_project(self) -> None:
        public = mirror.page("delta")
        assert mirror.page("delta").is_cached
        inherited = self.private_page("/alice/private/+simple/delta/")
        assert inherited.is_cached
        assert json.loads(inherited.text) == json.loads(public.text)
        assert mirror.ask("/alice/private/+simple/Delta/").headers["location"] == "/alice/private/+simple/delta/"
        assert self.private_page("/+shared/delta/").status == 404
        self.alice.upload("delta", "9.0")
        try:
            own = self.private_page("/alice/private/+simple/delta/")
            assert [file["filename"] for file in json.loads(own.text)["files"]] == ["delta-9.0-py3-none-any.whl"]
            assert "x-cached" not in own.headers
        finally:
            self.alice.delete("delta", "9.0")

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
        mirror.page("alpha")
        answer = self.private_page(path)
        if answer.headers.get("x-cached"):
            assert "alpha-9.0" not in answer.text
        assert "alpha-9.0" not in mirror.page("alpha").text

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
        assert mirror.ask(path).status in (400, 403, 404)
