# SPDX-License-Identifier: GPL-3.0-or-later
"""How the image's parsing.py, listing.py, rendering.py and pages.py convert an upstream's pages."""

from __future__ import annotations

import json
import re
import tracemalloc
from urllib.parse import urljoin

import pytest
from attrs import evolve
from devpi_mirror import compat, pages, parsing, rendering
from devpi_mirror.digests import ALGORITHMS
from devpi_mirror.listing import LISTED, Listing, localize

URL = "https://upstream.example/simple/alpha/"
SHA256 = "0123456789abcdef" * 4
MD5 = "f" * 32
WHEEL = {
    "filename": "alpha-1.0-py3-none-any.whl",
    "url": "../../files/alpha-1.0-py3-none-any.whl",
    "hashes": {"sha256": SHA256, "md5": MD5},
    "requires-python": ">=3.8",
    "size": 1234,
    "upload-time": "2026-01-01T00:00:00.000000Z",
    "yanked": "broken <build>",
    "core-metadata": {"sha256": MD5},
    "provenance": "https://upstream.example/provenance",
    "of-the-future": {"a": [1]},
}
PAGE = {
    "meta": {"api-version": "1.4", "_last-serial": 7},
    "name": "alpha",
    "versions": ["1.0"],
    "project-status": {"status": "archived", "reason": "no time"},
    "files": [WHEEL],
    "of-the-future": True,
}


def parse(page: object, content_type: str = pages.JSON) -> pages.Page:
    return parsing.parse(json.dumps(page).encode(), content_type, URL)


def page_of(*files: dict) -> dict:
    return {"meta": {"api-version": "1.0"}, "name": "alpha", "files": list(files)}


@pytest.mark.parametrize(
    "content_type",
    [
        pages.JSON,
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "application/vnd.pypi.simple.latest+json",
    ],
)
def test_all_fields_of_json_are_preserved(content_type):
    page = parse(PAGE, content_type)
    assert page == {**PAGE, "files": [{**WHEEL, "url": "https://upstream.example/files/alpha-1.0-py3-none-any.whl"}]}
    listing = localize(page, "root/pypi")
    shown = json.loads(rendering.render_json(page))
    link = shown["files"][0].pop("url")
    assert link == "../../../../root/pypi/-f/012/3456789abcdef/alpha-1.0-py3-none-any.whl"
    assert shown == {**PAGE, "files": [{key: value for key, value in WHEEL.items() if key != "url"}]}
    path = "+f/012/3456789abcdef/alpha-1.0-py3-none-any.whl"
    assert pages.linked_path(link, "root/pypi") == path
    found = Listing(listing).find(path)
    assert found == {key: found[key] for key in LISTED if key in WHEEL}
    assert found["url"] == "https://upstream.example/files/alpha-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("content", "content_type", "reason"),
    [
        (b"", pages.JSON, "is not JSON"),
        (b"\xff", pages.JSON, "is not JSON"),
        (b"[" * 100_000, pages.JSON, "is not JSON"),
        (b"[]", pages.JSON, "not a simple page"),
        (b"{}", pages.JSON, "not a simple page"),
        (b'{"files": {}}', pages.JSON, "not a simple page"),
        (b'{"files": [1]}', pages.JSON, "no name or no URL"),
        (b'{"files": [{"filename": "a.whl"}]}', pages.JSON, "no name or no URL"),
        (b'{"files": [], "meta": {"api-version": "2.0"}}', pages.JSON, "version 2.0"),
        (b'<meta name="pypi:repository-version" content="2.0"><a href="a-1.zip">a</a>', "text/html", "version 2.0"),
        (b"", "text/html", "without links to files"),
        (b"<h1>Log in</h1><p>Links for a", "text/html", "without links to files"),
        (b"<h1>Log in</h1><a href='/login'>here</a>", "text/html", "without links to files"),
        (b"<a href='a-1.zip'>\xff</a>", "text/html", "can't be decoded"),
        (b"<a href='a-1.zip'></a>", "text/html; charset=nothing", "can't be decoded"),
        (b"<a href='a-1.zip'></a>", "text/html; charset=undefined", "can't be decoded"),
        (b"<a href='a-1.zip'></a>", "text/html; charset=punycode", "charset is punycode"),
        (b"<a href='a-1.zip'></a>", "text/html; charset=IDNA", "charset is idna"),
        (b"<a href='a-1.zip'>\\u1</a>", "text/html; charset=raw_unicode_escape", "can't be decoded"),
        (b"<a href='a-1.zip'></a>", "text/html; charset*=utf-8''%00", "can't be decoded"),
        (b"<a href='a-1.zip'></a><![foo[", "text/html", "can't be parsed"),
        (b"<a href='a-1.zip'></a>&#" + b"1" * 5000 + b";", "text/html", "can't be parsed"),
        (b"hello", "text/plain", "content type text/plain"),
        (b"{}", "image/png", "content type image/png"),
        (b'{"files": [' + b"{}," * 1_100_000 + b"{}]}", pages.JSON, "too many values"),
        (b"<a>" * 400_000, "text/html", "too many values"),
        ((b"<a href=b.zip" + b" c" * 30_000 + b">") * 30, "text/html", "too many values"),
        (b"<a" + b" x" * 40_000 + b">", "text/html", "too large"),
        (b"<a" + (b" x='<'" + b" x" * 20_000) * 4 + b">", "text/html", "too large"),
    ],
)
def test_a_response_that_is_no_page_is_an_error(content, content_type, reason):
    with pytest.raises(pages.PageError, match=reason):
        parsing.parse(content, content_type, URL)


@pytest.mark.parametrize("content", [b"<" * 400_000, b"<ab" * 400_000])
def test_html_that_is_no_page_takes_little_memory(content):
    tracemalloc.start()
    try:
        with pytest.raises(pages.PageError, match=r"too (large|many)"):
            parsing.parse(content, "text/html", URL)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content)
    finally:
        tracemalloc.stop()


def test_html_in_several_pieces_has_the_same_links(monkeypatch):
    page = parsing.parse(HTML, "text/html", URL)
    monkeypatch.setattr(parsing, "PIECE", 400)
    assert parsing.parse(HTML, "text/html", URL) == page
    assert len(HTML) > 2 * parsing.PIECE


def test_a_page_without_files_is_no_error():
    assert parsing.parse(b'<meta name="pypi:repository-version" content="1.1">', "text/html", URL)["files"] == []
    assert parse(page_of())["files"] == []


@pytest.mark.parametrize("title", ["<title>Links for alpha</title>", "<body><h1>\n links for Alpha</h1>"])
def test_a_page_without_files_has_the_title_of_one(title):
    assert parsing.parse(title.encode(), "text/html", URL)["files"] == []


@pytest.mark.parametrize("names", [("core", "dist-info"), ("dist-info", "core")])
def test_the_hash_of_core_metadata_is_preserved(names):
    first, second = names
    link = f'<a href="a-1-py3-none-any.whl" data-{first}-metadata="sha256={SHA256}" data-{second}-metadata="true">a</a>'
    swapped = (
        f'<a href="a-1-py3-none-any.whl" data-{second}-metadata="true" data-{first}-metadata="sha256={SHA256}">a</a>'
    )
    for content in (link, swapped):
        (file,) = parsing.parse(content.encode(), "text/html", URL)["files"]
        assert file["core-metadata"] == {"sha256": SHA256}


HTML = f"""<!DOCTYPE html><html><head>
<meta name="pypi:repository-version" content="1.4">
<meta name="pypi:project-status" content="quarantined">
<meta name="pypi:project-status-reason" content="malware">
<meta name="pypi:tracks" content="https://a.example/simple/alpha/">
<meta name="pypi:alternate-locations" content="https://b.example/simple/alpha/">
</head><body><a href="../">all projects</a> <a href="mailto:a@example.com">author</a>
<a href="/f/alpha-1.0-py3-none-any.whl#sha256={SHA256}" data-requires-python="&gt;=3.8" data-yanked="broken &lt;build&gt;"
   data-dist-info-metadata="sha256={MD5}" data-gpg-sig="false"
   data-provenance="https://upstream.example/p" data-of-the-future="x">w</a>
<A HREF='alpha-2.0.tar.gz#md5={MD5}' data-yanked data-core-metadata="true">s</A>
<a href="https://other.example/alpha%202.tar.xz#egg=alpha">no hash</a>
</body></html>""".encode()


def test_html_has_the_fields_of_json():
    page = parsing.parse(HTML, "text/html; charset=utf-8", URL)
    assert page == {
        "meta": {"api-version": "1.4", "tracks": ["https://a.example/simple/alpha/"]},
        "project-status": {"status": "quarantined", "reason": "malware"},
        "alternate-locations": ["https://b.example/simple/alpha/"],
        "files": [
            {
                "filename": "alpha-1.0-py3-none-any.whl",
                "url": "https://upstream.example/f/alpha-1.0-py3-none-any.whl",
                "hashes": {"sha256": SHA256},
                "requires-python": ">=3.8",
                "yanked": "broken <build>",
                "core-metadata": {"sha256": MD5},
                "gpg-sig": False,
                "provenance": "https://upstream.example/p",
                "of-the-future": "x",
            },
            {
                "filename": "alpha-2.0.tar.gz",
                "url": "https://upstream.example/simple/alpha/alpha-2.0.tar.gz",
                "hashes": {"md5": MD5},
                "yanked": True,
                "core-metadata": True,
            },
            {"filename": "alpha 2.tar.xz", "url": "https://other.example/alpha%202.tar.xz", "hashes": {}},
        ],
    }  # fmt: skip


def test_html_is_rendered_from_the_same_data():
    page = parsing.parse(HTML, "text/html", URL)
    again = parsing.parse(rendering.render_html(page, "alpha"), "text/html", URL)
    assert again == page


@pytest.mark.parametrize(
    ("fragment", "hashes"),
    [
        (f"egg=alpha-1.0&sha256={SHA256}", {"sha256": SHA256}),
        (f"sha256={SHA256.upper()}&egg=alpha-1.0", {"sha256": SHA256}),
        (f"egg=alpha-1.0&md5={MD5}&subdirectory=a", {"md5": MD5}),
        (f"egg={SHA256}&md5={MD5}&sha256={SHA256}", {"md5": MD5}),
        (f"egg={SHA256}", {}),
        (f"notsha256={SHA256}", {}),
        (f"sha256={SHA256}-", {}),
        *((f"{name}={'0' * 16}", {name: "0" * 16}) for name in ALGORITHMS),
    ],
)
def test_a_hash_can_be_any_part_of_a_fragment(fragment, hashes):
    page = parsing.parse(f'<a href="alpha-1.zip#{fragment}">a</a>'.encode(), "text/html", URL)
    assert page["files"] == [{"filename": "alpha-1.zip", "url": f"{URL}alpha-1.zip", "hashes": hashes}]


@pytest.mark.parametrize("extension", [*parsing.EXTENSIONS, ".tar.Z", ".ZIP"])
def test_links_to_files_of_all_types_are_parsed(extension):
    page = parsing.parse(f'<a href="alpha-1.0{extension}">x</a>'.encode(), "text/html", URL)
    assert [file["filename"] for file in page["files"]] == [f"alpha-1.0{extension}"]


NESTED = json.loads("[" * 300 + "]" * 300)


@pytest.mark.parametrize("field", ["hashes", "of-the-future"])
def test_a_page_that_can_not_be_written_is_an_error(field):
    page = parse(page_of({"filename": "alpha-1.zip", "url": "x", field: NESTED}))
    with pytest.raises(pages.PageError, match="Recursion limit"):
        rendering.render_json({"listing": localize(page, "root/pypi").decode(), **page})


def test_html_that_is_no_utf_8_is_an_error():
    content = b"<a href='\\ud800-1.zip'></a><a href='\\ud800/alpha-1.zip'></a>"
    page = parsing.parse(content, "text/html; charset=raw_unicode_escape", URL)
    assert [file["filename"] for file in page["files"]] == ["alpha-1.zip"]
    with pytest.raises(pages.PageError):
        localize(page, "root/pypi")


@pytest.mark.parametrize("link", ["//[", "http://[", "https://]/alpha-1.zip", "http://\u2100.example/alpha-1.zip"])
def test_a_link_that_is_no_url_is_left_out(link):
    page = parse(page_of({"filename": "alpha-1.zip", "url": link}, {"filename": "alpha-2.zip", "url": "x"}))
    assert [file["filename"] for file in page["files"]] == ["alpha-2.zip"]
    assert localize(page, "root/pypi")
    html = f'<a href="{link}">1</a><a href="alpha-2.zip">2</a>'.encode()
    assert [file["filename"] for file in parsing.parse(html, "text/html", URL)["files"]] == ["alpha-2.zip"]


@pytest.mark.parametrize(
    "link", ["https://f.example/a.whl", "//f.example/a.whl", "/a.whl", "a.whl", "http://f.example/é.whl"]
)
def test_a_file_has_a_url_without_a_fragment(link):
    page = parse(page_of({"filename": "a.whl", "url": f"{link}#sha256={SHA256}#x"}))
    assert page["files"][0]["url"] == urljoin(URL, link)


def test_an_invalid_base_url_is_ignored():
    page = parsing.parse(b'<base href="http://["><a href="alpha-1.zip">a</a>', "text/html", URL)
    assert page["files"][0]["url"] == f"{URL}alpha-1.zip"


def test_links_are_relative_to_the_base_element():
    page = parsing.parse(b'<base href="https://c.example/x/"><a href="alpha-1.zip">a</a>', "text/html", URL)
    assert page["files"][0]["url"] == "https://c.example/x/alpha-1.zip"


@pytest.mark.parametrize("filename", ["../alpha-1.0.zip", "a/alpha.zip", "..", ".", "", "a\\b.zip", "a\n.zip"])
def test_a_file_name_that_leads_out_of_its_folder_is_left_out(filename):
    assert parse(page_of({"filename": filename, "url": "x"}))["files"] == []


@pytest.mark.parametrize("character", "\0\t\n\r\x1f\x7f\x80\x85\x9f\u2028\u2029")
def test_a_file_name_that_breaks_a_line_or_a_header_is_left_out(character):
    assert parse(page_of({"filename": f"a{character}.zip", "url": "x"}))["files"] == []


@pytest.mark.parametrize("surrogate", [0xD800, 0xDFFF])
def test_a_file_name_that_is_not_utf_8_is_left_out(surrogate):
    assert not parsing.is_safe(f"a{chr(surrogate)}.zip")


# Spaces, a soft hyphen, a zero-width joiner, a private and an unassigned character, and one beyond 16 bits.
@pytest.mark.parametrize("character", " \xa0\u2009\u3000\xad\u200d\ue000\u0378é\U0001f40d")
def test_a_file_name_can_have_any_other_character(character):
    file = {"filename": f"alpha-1{character}.zip", "url": "x", "hashes": {"sha256": SHA256}}
    page = parse(page_of(file))
    listing = localize(page, "root/pypi")
    (listed,) = page["files"]
    assert (listed["filename"], listed["url"].isascii()) == (file["filename"], True)
    found = Listing(listing).find(pages.linked_path(listed["url"], "root/pypi"))
    assert found["filename"] == file["filename"]
    assert json.loads(rendering.render_json(page))["files"][0]["filename"] == file["filename"]


@pytest.mark.parametrize(
    ("stem", "is_listed"), [("a" * 251, True), ("a" * 252, False), ("é" * 125, True), ("é" * 126, False)]
)
def test_a_file_name_that_is_too_long_for_a_disk_is_left_out(stem, is_listed):
    assert bool(parse(page_of({"filename": f"{stem}.zip", "url": "x"}))["files"]) == is_listed


@pytest.mark.parametrize(
    ("hashes", "url", "path"),
    [
        ({"sha256": SHA256, "md5": MD5}, "", "+f/012/3456789abcdef/alpha-1.zip"),
        ({"sha256": SHA256.upper()}, "", "+f/012/3456789abcdef/alpha-1.zip"),
        ({"md5": MD5}, "", "+f/fff/fffffffffffff/alpha-1.zip"),
        ({"sha512": SHA256 * 2}, "", "+f/012/3456789abcdef/alpha-1.zip"),
        ({}, "", "+e/https_upstream.example_simple_alpha/alpha-1.zip"),
        ({}, "http://h:81/a/b~c/alpha-1.zip?q=1", "+e/http_h_81_a_b_c/alpha-1.zip"),
        ({"sha256": "../../etc"}, "", "+e/https_upstream.example_simple_alpha/alpha-1.zip"),
        ({"sha256": 5}, "", "+e/https_upstream.example_simple_alpha/alpha-1.zip"),
        ({"sha256": MD5}, "", "+e/https_upstream.example_simple_alpha/alpha-1.zip"),
        ({"future": "0123456789ABCDEF"}, "", "+f/012/3456789abcdef/alpha-1.zip"),
        ({"future": "0123456789abcde"}, "", "+e/https_upstream.example_simple_alpha/alpha-1.zip"),
        (None, "", "+e/https_upstream.example_simple_alpha/alpha-1.zip"),
    ],
)
def test_a_file_has_the_path_that_devpi_gives_it(hashes, url, path):
    page = parse(page_of({"filename": "alpha-1.zip", "url": url or "alpha-1.zip", "hashes": hashes}))
    assert pages.path_of(page["files"][0]) == path


@pytest.mark.parametrize("hashes", [{}, {"sha256": SHA256}])
@pytest.mark.parametrize("userinfo", ["user:s3cret@", "s3cret@", "user:s3cret@s3cret@"])
def test_credentials_of_a_link_are_not_sent_to_clients(userinfo, hashes):
    url = f"http://{userinfo}h.example:81/a/alpha-1.zip"
    page = parse(page_of({"filename": "alpha-1.zip", "url": url, "hashes": hashes}))
    listing = localize(page, "root/pypi")
    (link,) = (file["url"] for file in page["files"])
    path = pages.linked_path(link, "root/pypi")
    assert path == ("+f/012/3456789abcdef/alpha-1.zip" if hashes else "+e/http_h.example_81_a/alpha-1.zip")
    # They are still sent to the upstream.
    assert Listing(listing).find(path)["url"] == url
    for content in (rendering.render_json(page), rendering.render_html(page, "alpha")):
        assert b"s3cret" not in content


def devpi_path(url: str, name: str, digest: str) -> str:
    """Return the path that devpi gives to a file with a hash, which can be empty."""
    if compat.MAJOR < 7:
        from devpi_common.url import URL
        from devpi_server.filestore import key_from_link

        located = key_from_link(LocatedKeys(), URL(f"{url}#{name}={digest}" if digest else url), "root", "pypi")
    else:
        from devpi_server.filestore import Digests
        from devpi_server.model.simpleapi import SimpleInfo

        info = evolve(SimpleInfo.from_url(url), hashes=Digests({name: digest} if digest else {}))
        located = info.make_key(LocatedKeys(), None)
    if digest:
        return "+f/{hashdir_a}/{hashdir_b}/{filename}".format(**located)
    return "+e/{dirname}/{basename}".format(**located)


class LocatedKeys:
    """A schema of devpi's database whose keys are the parts of their path."""

    def __getattr__(self, _name):
        return self

    def __call__(self, **parts):
        return parts

    locate = __call__


@pytest.mark.parametrize(("name", "digest"), [("sha256", SHA256), ("md5", MD5), ("", "")])
def test_paths_are_those_of_devpi(name, digest):
    """So that caches and lock files of earlier releases stay valid."""
    url = "https://h.example/a/b~c/alpha-1.zip"
    file = {"filename": "alpha-1.zip", "url": url, "hashes": {name: digest} if digest else {}}
    assert pages.path_of(file) == devpi_path(url, name, digest)


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_of_files_with_the_same_path_the_first_is_found(monkeypatch, batch):
    monkeypatch.setattr("devpi_mirror.listing.BATCH", batch)
    file = {"filename": "alpha-1.zip", "hashes": {"sha256": SHA256}}
    page = parse(page_of(*({**file, "url": f"/{number}/alpha-1.zip"} for number in range(3))))
    path = pages.path_of(page["files"][0])
    found = Listing(localize(page, "root/pypi")).find(path)
    assert found["url"] == "https://upstream.example/0/alpha-1.zip"


def test_links_are_valid_urls():
    files = [
        {"filename": name, "url": "x", "hashes": {"sha256": SHA256}}
        for name in ("a b-1.zip", "a-1+cu118.zip", "é#?-1.zip")
    ]
    page = parse(page_of(*files))
    listing = localize(page, "root/pypi")
    links = [file["url"] for file in page["files"]]
    assert [link.rpartition("/")[2] for link in links] == ["a%20b-1.zip", "a-1+cu118.zip", "%C3%A9%23%3F-1.zip"]
    for name, link in zip((file["filename"] for file in files), links, strict=True):
        assert Listing(listing).find(pages.linked_path(link, "root/pypi"))["filename"] == name
    for index in ("root/pypi", "alice/private"):
        assert urljoin(f"http://mirror/{index}/+simple/alpha/", links[0]).startswith("http://mirror/root/pypi/-f/012/")


@pytest.mark.parametrize(
    ("file", "promised"),
    [
        ({"filename": "a-1-py3-none-any.whl"}, True),
        ({"filename": "a-1-py3-none-any.whl", "core-metadata": False}, True),
        ({"filename": "a-1-py3-none-any.whl", "core-metadata": {"sha256": SHA256}}, {"sha256": SHA256}),
        ({"filename": "a-1-py3-none-any.whl", "dist-info-metadata": {"sha256": SHA256}}, None),
        ({"filename": "a-1.tar.gz"}, None),
    ],
)
def test_core_metadata_is_promised_for_wheels(file, promised):
    page = parse(page_of({"url": "x", **file}))
    localize(page, "root/pypi")
    assert page["files"][0].get("core-metadata") == promised


def test_fields_of_several_pages_are_merged():
    file = {"filename": "alpha-1.zip", "url": "first"}
    first = {
        "meta": {"api-version": "1.4", "tracks": ["a"]},
        "name": "alpha",
        "versions": ["2.0", "1.0"],
        "alternate-locations": ["b"],
        "files": [file],
    }
    last = {
        "meta": {"api-version": "1.1"},
        "name": "Alpha",
        "versions": ["1.0", "3.0"],
        "of-the-future": True,
        "files": [{**file, "url": "last"}, {**file, "filename": "alpha-3.zip"}],
    }
    assert pages.merged([pages.empty("alpha"), first, last]) == {
        "meta": {"api-version": "1.1", "tracks": ["a"]},
        "name": "Alpha",
        "versions": ["2.0", "1.0", "3.0"],
        "alternate-locations": ["b"],
        "of-the-future": True,
        "files": [file, {**file, "filename": "alpha-3.zip"}],
    }
    assert pages.merged([first, pages.empty("alpha")])["versions"] == ["2.0", "1.0"]
    assert "versions" not in pages.merged([pages.empty("alpha")])


@pytest.mark.parametrize(
    ("statuses", "kept"),
    [
        (["quarantined", "active"], 0),
        (["active", "quarantined"], 1),
        (["quarantined", "archived", None], 0),
        (["deprecated", "active"], 0),
        (["deprecated", "archived"], 1),
        (["archived", "of-the-future"], 0),
        (["active", None], 0),
    ],
)
def test_a_merged_page_has_the_strictest_status(statuses, kept):
    found = [
        {**pages.empty("alpha"), **({"project-status": {"status": status, "reason": str(number)}} if status else {})}
        for number, status in enumerate(statuses)
    ]
    assert pages.merged(found)["project-status"] == {"status": statuses[kept], "reason": str(kept)}


@pytest.mark.parametrize("value", [None, 1, "text", [], {}, {"status": []}, [1, {}]])
def test_merged_fields_can_have_any_type(value):
    page = {**page_of(), "meta": value, "versions": value, "project-status": value}
    for found in ([page, parse(PAGE)], [parse(PAGE), page], [page, page]):
        assert rendering.render_html(pages.merged(found), "alpha")
    assert pages.merged([page, parse(PAGE)])["project-status"] == PAGE["project-status"]


def test_a_page_is_escaped():
    hostile = {"filename": '"><script>-1.zip', "url": "x", "requires-python": '"><script>', "x": "'\"<"}
    keys = dict.fromkeys(('x"><script>', "x onclick", "x=y", "é", ""), "text") | {"y><script>": True}
    page = parse(page_of({**hostile, **keys}))
    localize(page, "root/pypi")
    html = rendering.render_html(page, "<script>")
    assert b"<script" not in html
    assert sorted(re.findall(rb" (data-[^ ]*)=", html)) == [b"data-requires-python", b"data-x"]


@pytest.mark.parametrize(
    ("attribute", "fields"),
    [
        ('data-size="12"', {"size": 12}),
        ('data-size="1.5"', {}),
        ('data-size="-1"', {}),
        ('data-size=""', {}),
        (f'data-size="{"9" * 5000}"', {}),
        ('data-size="&#x661;"', {}),
        ('data-filename="../b.zip" data-url="file:///etc/passwd" data-hashes="x"', {}),
    ],
)
def test_attributes_do_not_replace_the_fields_of_the_link(attribute, fields):
    page = parsing.parse(f'<a href="alpha-1.zip" {attribute}>a</a>'.encode(), "text/html", URL)
    assert page["files"] == [{"filename": "alpha-1.zip", "url": f"{URL}alpha-1.zip", "hashes": {}, **fields}]
