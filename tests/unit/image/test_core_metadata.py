# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the image's core_metadata.py takes the metadata of a wheel from."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile

import pytest
from devpi_mirror import archives, core_metadata
from devpi_mirror.core_metadata import get_core_metadata, is_of_wheel
from devpi_mirror.downloads import DiskFullError
from devpi_mirror.upstream import Upstream, UpstreamError
from fake_upstream import serving
from zips import CORRUPT, OWN, metadata_of, zip_of

FILENAME = "alpha-1.0-py3-none-any.whl"
METADATA = metadata_of("alpha", "1.0")


def wheel(names: list[str], padding: int = 0) -> bytes:
    """Return a wheel whose files contain their own names, with incompressible bytes at its end."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, METADATA if name == OWN else name)
        archive.writestr("padding", bytes(padding))
    return stream.getvalue()


class Files:
    """Responds to requests for files by path, and for parts of files if ``ranges`` is true."""

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True, absent: int = 404, compressed: bool = False):
        self.files = files
        self.ranges = ranges
        self.absent = absent
        self.compressed = compressed

    def __call__(self, handler):
        content = self.files.get(handler.path)
        asked = handler.headers.get("Range", "").removeprefix("bytes=")
        if content is None:
            handler.send(self.absent)
        elif asked and self.ranges:
            first, _minus, last = asked.partition("-")
            start = int(first) if first else max(len(content) - int(last), 0)
            end = int(last) + 1 if first else len(content)
            handler.send(206, content[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(content)}")
        elif self.compressed:
            handler.send(200, gzip.compress(content), Content_Encoding="gzip")
        else:
            handler.send(200, content)


@pytest.fixture
def stored(tmp_path_factory):
    """Where the wheel is once it is cached."""
    return tmp_path_factory.mktemp("files") / FILENAME


@pytest.fixture
def read(tmp_path, stored):
    """Return a function that reads metadata from an upstream, and returns the metadata and the requests."""

    def read_from(answer, **fields):
        with serving(answer) as server:
            upstream = Upstream(server.url)
            file = {"filename": FILENAME, "url": f"{server.url}{FILENAME}", **fields}
            try:
                content = get_core_metadata(upstream, file, stored, tmp_path)
            finally:
                upstream.close()
            return content, [(path, headers.get("Range")) for _method, path, headers in server.requests]

    yield read_from
    assert list(tmp_path.iterdir()) == []


PATH = f"/simple/{FILENAME}"
LISTED = {"sha256": hashlib.sha256(METADATA).hexdigest()}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"core-metadata": LISTED},
        {"core-metadata": {"sha256": LISTED["sha256"].upper()}},
        {"core-metadata": True},
        {"dist-info-metadata": LISTED},
    ],
)
def test_metadata_that_the_page_lists_is_requested(read, fields, compressed):
    answer = Files({PATH + ".metadata": METADATA}, compressed=compressed)
    assert read(answer, **fields) == (METADATA, [(PATH + ".metadata", None)])


def test_metadata_with_another_hash_is_an_error(read):
    with pytest.raises(UpstreamError, match="another sha256"):
        read(Files({PATH + ".metadata": METADATA + b"\n"}), **{"core-metadata": LISTED})


@pytest.mark.parametrize("absent", [403, 404])
def test_metadata_that_is_listed_and_missing_is_read_from_the_wheel(read, absent):
    content, requests = read(Files({PATH: wheel([OWN])}, absent=absent), **{"core-metadata": True})
    assert content == METADATA
    assert [path for path, _part in requests] == [PATH + ".metadata", PATH]


@pytest.mark.parametrize("field", ["core-metadata", "dist-info-metadata"])
@pytest.mark.parametrize("is_stored", [False, True])
def test_metadata_of_a_wheel_with_another_hash_is_an_error(read, stored, field, is_stored):
    content = wheel([OWN])
    if is_stored:
        stored.write_bytes(content)
    with pytest.raises(UpstreamError, match="another sha256"):
        read(Files({PATH: content}), **{field: {"sha256": "0" * 64}})


def test_metadata_of_a_wheel_with_the_listed_hash_is_returned(read):
    assert read(Files({PATH: wheel([OWN])}), **{"core-metadata": LISTED})[0] == METADATA


@pytest.mark.parametrize(
    ("names", "padding", "parts"),
    [
        ([OWN, "alpha.py"], 0, 1),
        (["alpha/_vendor/other-3.0.dist-info/METADATA", OWN], 0, 1),
        # The metadata is further from the end than the first part reaches.
        ([OWN], 300_000, 2),
    ],
)
def test_only_the_end_of_a_wheel_is_requested(read, names, padding, parts):
    content, requests = read(Files({PATH: wheel(names, padding)}))
    assert content == METADATA
    assert requests[0] == (PATH, "bytes=-65536")
    assert len(requests) == parts


def test_an_upstream_that_ignores_ranges_sends_the_whole_wheel(read):
    assert read(Files({PATH: wheel([OWN], 300_000)}, ranges=False))[0] == METADATA


def test_a_wheel_without_room_on_the_disk_is_refused(read, monkeypatch):
    monkeypatch.setattr(core_metadata, "free_bytes", lambda _folder: core_metadata.config.RESERVE)
    with pytest.raises(DiskFullError):
        read(Files({PATH: wheel([OWN])}, ranges=False))


@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("content", CORRUPT)
def test_a_wheel_that_can_not_be_read_is_an_error(read, content, ranges):
    with pytest.raises(UpstreamError):
        read(Files({PATH: content}, ranges=ranges))


def test_metadata_that_expands_to_too_much_is_an_error(read):
    with pytest.raises(UpstreamError, match="more than 16000000 bytes"):
        read(Files({PATH: zip_of(bytes(100_000_000))}))


@pytest.mark.parametrize("is_stored", [False, True])
def test_wheels_with_a_large_directory_are_read_one_at_a_time(read, stored, monkeypatch, is_stored):
    monkeypatch.setattr(archives, "LARGE_WAIT", 0.01)
    content = wheel([OWN, *(f"alpha/{number}" for number in range(10_000))])
    if is_stored:
        stored.write_bytes(content)
    files = Files({} if is_stored else {PATH: content})
    with archives.LimitedZipFile(io.BytesIO(content)):
        if is_stored:
            assert core_metadata.read_stored(stored) is None
        else:
            with pytest.raises(UpstreamError, match="other archives") as caught:
                read(files)
            assert caught.value.status == 503
    assert read(files)[0] == METADATA


def test_a_wheel_without_metadata_is_an_error(read):
    with pytest.raises(UpstreamError, match="has no metadata") as caught:
        read(Files({PATH: wheel(["alpha.py"])}))
    assert caught.value.status == 404


@pytest.mark.parametrize("content", [metadata_of("beta", "1.0"), metadata_of("alpha", "2.0"), b"", b"\xff"])
def test_metadata_of_another_package_is_replaced_by_that_of_the_wheel(read, content):
    files = Files({PATH + ".metadata": content, PATH: wheel([OWN])})
    assert read(files, **{"core-metadata": True})[0] == METADATA


@pytest.mark.parametrize("is_listed", [True, False])
def test_metadata_that_differs_from_the_file_name_is_sent(read, is_listed):
    """An installer then takes another release, as it does without the mirror."""
    other = metadata_of("alpha", "1.0.post1")
    files = Files({PATH + ".metadata": other, PATH: zip_of(other, OWN)})
    fields = {"core-metadata": {"sha256": hashlib.sha256(other).hexdigest()}} if is_listed else {}
    assert read(files, **fields)[0] == other


@pytest.mark.parametrize(
    ("name", "version", "filename"),
    [
        ("Alpha.beta", "1.0", "alpha_beta-1.0-py3-none-any.whl"),
        ("alpha-beta", "1.0", "Alpha.Beta-1.0.0-py3-none-any.whl"),
        ("alpha", "1.0+local.1", "alpha-1.0+local_1-py3-none-any.whl"),
        ("alpha", "1.0-1", "alpha-1.0_1-py3-none-any.whl"),
    ],
)
def test_names_and_versions_are_compared_normalized(name, version, filename):
    assert is_of_wheel(metadata_of(name, version), filename)


@pytest.mark.parametrize("part", [b"x", bytes(70_000)])
def test_another_part_than_was_requested_is_an_error(read, part):
    content = wheel([OWN], 300_000)

    def answer(handler):
        if handler.headers["Range"].startswith("bytes=-"):
            handler.send(206, content[-65536:], Content_Range=f"bytes 0-1/{len(content)}")
        else:
            handler.send(206, part)

    with pytest.raises(UpstreamError):
        read(answer)


@pytest.mark.parametrize("size", ["", "x", "1", "9" * 5000])
def test_a_wheel_whose_size_is_not_known_is_an_error(read, size):
    content = wheel([OWN], 300_000)[-65536:]
    with pytest.raises(UpstreamError, match="does not send the size"):
        read(lambda handler: handler.send(206, content, Content_Range=f"bytes 0-1/{size}"))


@pytest.mark.parametrize("fields", [{"core-metadata": LISTED}, {"core-metadata": True}, {}])
def test_metadata_of_a_cached_wheel_needs_no_upstream(read, stored, fields):
    stored.write_bytes(wheel([OWN]))
    assert read(Files({}), **fields) == (METADATA, [])


@pytest.mark.parametrize("content", [b"no archive", wheel([]), wheel([OWN]).replace(b"alpha", b"omega")])
def test_metadata_of_a_damaged_wheel_is_requested_from_the_upstream(read, stored, content):
    stored.write_bytes(content)
    found, requests = read(Files({PATH + ".metadata": METADATA}), **{"core-metadata": LISTED})
    assert found == METADATA
    assert requests == [(PATH + ".metadata", None)]
