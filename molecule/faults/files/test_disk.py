# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror with a full disk, and one with a limited cache and database."""

from __future__ import annotations

import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import count

from harness import JSON, PUBLIC, Mirror, on_host, set_upstream_mode, until

MEGABYTE = 1_000_000
# disk.yml gives it a small disk.
mirror = Mirror("small", 3142)
# Names of projects that neither this nor an earlier run has cached.
unseen = (f"new{number}" for number in count(int(time.time())))


def get(name: str) -> int:
    """Download a project's file, and return the status of the response. A file that is received must have its hash."""
    (file,) = mirror.files(name).values()
    answer = mirror.ask(file["path"])
    if answer.status == 200:
        assert hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]
    return answer.status


def test_full_disk() -> None:
    set_upstream_mode("normal")
    assert get("alpha") == 200
    assert mirror.page("bulk1001").status == 200
    assert len(mirror.page("many").body) > 200_000
    free = mirror.state()["disk"]["free"]
    on_host(f"fallocate -l {free - 75 * MEGABYTE} /srv/room/filling")
    # A file of 20 MB does not fit: 64 of the 75 MB must stay free.
    (file,) = mirror.files("bulk1001").values()
    answer = mirror.ask(file["path"])
    assert answer.status == 507
    assert "bulk1001-1.0-py3-none-any.whl" in answer.text
    assert "DEGRADED: The disk is full" in until_logged("DEGRADED")
    assert [text for text in mirror.state()["problems"] if text.startswith("The disk is full")]
    # Another program uses up the remaining space, and then the mirror is restarted.
    fill_disk()
    until(lambda: mirror.run("ls /tmp/no-room 2>/dev/null || true"), "the mirror does not detect the full disk")
    check_cached_responses()
    on_host("systemctl restart small")
    # devpi itself may fail to start now, so nginx can only serve the cached form of the page.
    until(lambda: mirror.is_serving(f"{PUBLIC}alpha/", Accept=JSON), "nothing is served from a full disk")
    check_cached_responses()
    on_host("rm /srv/room/filling /srv/room/rest; touch -d '1 hour ago' /srv/room/server/+files/root/left-over-tmp")
    until(lambda: mirror.is_serving("/+api"), "devpi does not recover")
    until(lambda: get("bulk1001") == 200, "new files are not cached, although there is space")
    until_logged("RECOVERED")
    until(
        lambda: "left-over" not in mirror.run("find /data/server -name '*-tmp'"),
        "an abandoned file is not removed",
        120,
    )


def fill_disk() -> None:
    on_host("dd if=/dev/zero bs=4k >>/srv/room/rest 2>/dev/null || true")


def is_outdated(name: str) -> bool:
    return mirror.page(name).is_outdated


def check_cached_responses() -> None:
    """Check that pages that are no longer fresh, one of them larger than nginx's buffers, and a file are served."""
    for name in ("alpha", "many"):
        until(partial(is_outdated, name), f"the page of {name} does not expire")
    for _attempt in range(3):
        # A restart, and expired pages that nginx evicts, free enough space for the page of a new project.
        fill_disk()
        assert get("alpha") == 200
        assert mirror.page("many").status == 200
        assert mirror.ask(f"{PUBLIC}{next(unseen)}/").status in (200, 503, 507)


def until_logged(text: str) -> str:
    until(lambda: text in mirror.log(), f"the log lacks {text}", 90)
    return mirror.log()


def use(name: str) -> None:
    """Download a project's file, and wait until the mirror has recorded that, which it does for several files at once."""
    assert get(name) == 200
    downloaded = mirror.run("date +%s.%N").strip()
    # Nothing else changes the access time after the download.
    until(
        lambda: mirror.run(f"find /data/server/+files -name '{name}-*' -newerat '@{downloaded}'"),
        f"the use of {name} is not recorded",
    )


def test_bounded_cache() -> None:
    """A cache of 70 MB holds three files of 20 MB: the fourth evicts the least recently used one."""
    set_upstream_mode("normal")
    for name in ("bulk2001", "bulk2002", "bulk2003", "bulk2001", "bulk2004"):
        use(name)
    until(lambda: mirror.state()["cache"]["bytes"] <= 70 * 1024**2, "the cache exceeds its limit", 90)
    cached = mirror.run("find /data/server/+files -name 'bulk*'")
    assert "bulk2001" in cached
    assert "bulk2002" not in cached
    assert "bulk2004" in cached
    # An evicted file is downloaded again when a client requests it.
    assert get("bulk2002") == 200


def list_cache() -> str:
    return mirror.run("cd /data/server/+files && find . -type f -exec sha256sum {} + | sort")


def test_compact() -> None:
    """Compaction removes the earlier states of an index from the database, and nothing else changes."""
    set_upstream_mode("normal")
    assert mirror.state()["limits"]["database"] == 1024**4
    carol = mirror.create_user("carol")
    carol.upload("ours", "1.0")
    own_page = "/carol/private/+simple/ours/"
    root = mirror.log_in_root()
    for _change in range(20):
        description = f"description={secrets.token_hex(50_000)}"
        mirror.call("PATCH", "/carol/private", [description], root.auth)
    assert get("bulk2004") == 200
    before, cached, page_before = mirror.state(), list_cache(), mirror.ask(own_page, Accept=JSON).text
    with ThreadPoolExecutor() as pool:
        maintenance = pool.submit(mirror.maintain, DATABASE_MAX_SIZE="1m")
        while not maintenance.done():
            assert get("bulk2004") == 200
            wait([maintenance], timeout=0.2)
    assert "Compacted devpi's database" in maintenance.result()
    after = mirror.state()
    assert after["database_bytes"] < before["database_bytes"] / 2
    assert (after["problems"], after["cache"]) == ([], before["cache"])
    assert list_cache() == cached
    assert mirror.ask(own_page, Accept=JSON).text == page_before
    carol.upload("ours", "2.0")
    assert get("new2001") == 200
    # The database has not grown since.
    assert "Compacted" not in mirror.maintain(DATABASE_MAX_SIZE="1m")
