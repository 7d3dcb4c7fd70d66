"""A mirror whose disk is full, and one that may keep so much and no more."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

from conversation import JSON, Person, ask, files, inside, mirror_state, on_host, page, reachable, tell_upstream, until

MEGABYTE = 1_000_000


def get(name: str) -> int:
    """Fetch a project's file, and return the status of the answer. What arrives has its hash."""
    (file,) = files(name).values()
    answer = ask(file["path"])
    if answer.status == 200:
        assert hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]
    return answer.status


def test_full_disk() -> None:
    tell_upstream("+mode/well")
    assert get("alpha") == 200
    assert page("bulk1001").status == 200
    assert len(page("many").body) > 200_000
    free = mirror_state("small")["disk"]["free"]
    on_host(f"fallocate -l {free - 90 * MEGABYTE} /srv/room/filling")
    # 20 MB fit into 90, but not three times with what must stay free.
    (file,) = files("bulk1001").values()
    answer = ask(file["path"])
    assert answer.status == 507
    assert "no room for bulk1001-1.0-py3-none-any.whl" in answer.text
    assert "DEGRADED: The disk is full" in until_logged("DEGRADED")
    assert [text for text in mirror_state("small")["troubles"] if text.startswith("The disk is full")]
    # Somebody else takes all that is left, and the machine is started again.
    on_host("dd if=/dev/zero of=/srv/room/rest bs=1M 2>/dev/null || true")
    time.sleep(6)  # Until that is seen.
    serves_what_it_has()
    on_host("systemctl restart small")
    until(lambda: reachable("/root/pypi/+simple/alpha/"), "nothing is served from a full disk")
    serves_what_it_has()
    on_host("rm /srv/room/filling /srv/room/rest; touch -d '1 hour ago' /srv/room/server/+files/root/left-over-tmp")
    until(lambda: reachable("/+api"), "devpi does not come back")
    until(lambda: get("bulk1001") == 200, "nothing new is kept, though there is room")
    until_logged("All is well again")
    until(lambda: "left-over" not in inside("find /data/server -name '*-tmp'", "small"), "a left-over stays", 120)


def serves_what_it_has() -> None:
    """Also what is no longer fresh, and larger than what nginx has in memory."""
    time.sleep(3)
    for _attempt in range(3):
        assert get("alpha") == 200
        assert page("many").status == 200
        assert ask("/root/pypi/+simple/new1001/").status in (500, 502, 503, 507)


def until_logged(text: str) -> str:
    until(lambda: text in on_host("docker logs small 2>&1"), f"the log does not tell {text}", 90)
    return on_host("docker logs small 2>&1")


def use(name: str) -> None:
    """Fetch a project's file, and wait until the caretaker has noted that: what is used between two of its looks is as old."""
    assert get(name) == 200
    time.sleep(2)  # Until nginx has written its log.
    until(lambda: inside("test -s /data/nginx/uses.log || echo read", "small"), "nobody reads what was used")
    time.sleep(1)


def test_bounded_cache() -> None:
    """70 MB have room for three files of 20 MB: the fourth makes the one go that nobody has used for longest."""
    for name in ("bulk2001", "bulk2002", "bulk2003", "bulk2001", "bulk2004"):
        use(name)
    until(lambda: mirror_state("small")["cache"]["bytes"] <= 70 * 1024**2, "it keeps more than it may", 90)
    there = inside("find /data/server/+files -name 'bulk*'", "small")
    assert "bulk2001" in there
    assert "bulk2002" not in there
    assert "bulk2004" in there
    # What went comes back when it is asked for.
    assert get("bulk2002") == 200


def whole_cache() -> str:
    return inside("cd /data/server/+files && find . -type f -exec sha256sum {} + | sort", "small")


def test_compact() -> None:
    """A database that has every state of a page is made of the last one, and all else is as it was."""
    person = Person.with_private_index("carol", "small")
    person.upload("ours", "1.0")
    own_page = "/carol/private/+simple/ours/"
    for number in range(5):
        tell_upstream(f"+release/many/2.{number}")
        until(
            lambda number=number: f"many-2.{number}-" in page("many", Cache_Control="no-cache").text,
            "a new release does not appear",
        )
    before, cached, page_before = mirror_state("small"), whole_cache(), ask(own_page, Accept=JSON).text
    with ThreadPoolExecutor() as pool:
        said = pool.submit(inside, "/opt/devpi/bin/python /opt/devpi/etc/caretaker.py all", "small")
        while not said.done():
            assert get("bulk2004") == 200
            time.sleep(0.2)
    assert "devpi's database took" in said.result()
    after = mirror_state("small")
    assert after["store_bytes"] < before["store_bytes"] / 2
    assert (after["troubles"], after["cache"]) == ([], before["cache"])
    assert whole_cache() == cached
    assert ask(own_page, Accept=JSON).text == page_before
    person.upload("ours", "2.0")
    until(lambda: "many-2.4-" in page("many", Cache_Control="no-cache").text, "a page is not what it was")
    assert get("new2001") == 200
    # It has not grown since.
    assert "took" not in inside("/opt/devpi/bin/python /opt/devpi/etc/caretaker.py all", "small")
