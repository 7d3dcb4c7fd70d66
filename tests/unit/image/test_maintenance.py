"""What the image's maintenance.py does with the data directory."""

from __future__ import annotations

import hashlib
import json
import os
import time

import pytest

GIGABYTE = 1024**3
HOUR = 3600


@pytest.fixture
def maintenance(load, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    module = load("maintenance")
    for folder in ("server/+files", "nginx/tmp", "tmp", "pages"):
        (tmp_path / folder).mkdir(parents=True)
    pid = tmp_path / "nginx.pid"
    pid.write_text("1")
    monkeypatch.setattr(module, "NGINX_PID", pid)
    monkeypatch.setattr(module, "STARTED", tmp_path / "started")
    monkeypatch.setattr(module, "mirror_indexes", lambda: {"root/pypi"})
    monkeypatch.setattr(module.os, "kill", lambda pid, number: None)
    return module


def store_file(maintenance, content: bytes, index: str = "root/pypi", kind: str = "sha256", name: str = "a.whl") -> str:
    """Store a file, and return its path below the files of devpi."""
    digest = hashlib.new(kind, content).hexdigest()
    path = f"{index}/+f/{digest[:3]}/{digest[3:16]}/{name}"
    (maintenance.FILES / path).parent.mkdir(parents=True)
    (maintenance.FILES / path).write_bytes(content)
    return path


def unavailable(maintenance):
    """Return a function that finds devpi unavailable."""

    def fail():
        raise maintenance.Unavailable("Connection refused")

    return fail


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("", "SIZES", 0),
        ("20g", "SIZES", 20 * GIGABYTE),
        ("1.5M", "SIZES", 1.5 * 1024**2),
        ("90d", "UNITS", 90 * 86400),
        ("7", "UNITS", 7),
    ],
)
def test_amounts(maintenance, text, units, value):
    assert maintenance.amount(text, getattr(maintenance, units)) == value


@pytest.mark.parametrize("text", ["much", "7g", "-1", "1 d 2"])
def test_no_amounts(maintenance, text):
    with pytest.raises(ValueError, match="is no amount"):
        maintenance.amount(text, maintenance.UNITS)


@pytest.mark.parametrize(
    ("size", "age", "gone"),
    [
        (0, 0, []),
        (0, 5 * HOUR, ["oldest", "old"]),
        (400, 0, []),
        # A tenth is made free besides.
        (399, 0, ["oldest"]),
        (300, 0, ["oldest", "old"]),
        (1000, HOUR // 2, ["oldest", "old", "new", "newest"]),
        (90, 10 * HOUR, ["oldest", "old", "new", "newest"]),
    ],
)
def test_what_nobody_has_used_for_longest_goes_first(maintenance, size, age, gone):
    used = {"new": 2, "oldest": 11, "newest": 1, "old": 6}
    files = [maintenance.Stored(name, 100, 1e6 - hours * HOUR) for name, hours in used.items()]
    assert [file.path for file in maintenance.surplus(files, size, age, 1e6)] == gone


def test_only_files_of_mirrors_go(maintenance, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    paths = [store_file(maintenance, b"public"), store_file(maintenance, b"private", "alice/private")]
    for path in paths:
        os.utime(maintenance.FILES / path, (1, 1))
    maintenance.prune()
    assert [(maintenance.FILES / path).exists() for path in paths] == [False, True]


def test_uses_are_counted_and_noted(maintenance):
    path = store_file(maintenance, b"content")
    os.utime(maintenance.FILES / path, (1, 1))
    maintenance.USES.write_text(
        f"HIT /{path}\nSTALE /root/pypi/+simple/a/\nEXPIRED /root/pypi/+simple/b/\nMISS /nowhere\n\n"
    )
    state = maintenance.read_state()
    assert maintenance.note_uses(state, maintenance.take_uses()) == [path]
    assert state["requests"] == {"hit": 1, "stale": 1, "miss": 2}
    status = (maintenance.FILES / path).stat()
    assert status.st_atime > status.st_mtime == 1
    assert maintenance.take_uses() == []


@pytest.mark.parametrize("kind", ["sha256", "md5", "sha512"])
def test_a_file_is_whole_if_it_has_the_hash_of_its_path(maintenance, kind):
    path = store_file(maintenance, b"content", kind=kind)
    assert maintenance.is_whole(path)
    (maintenance.FILES / path).write_bytes(b"c0ntent")
    assert not maintenance.is_whole(path)
    (maintenance.FILES / path).unlink()
    assert maintenance.is_whole(path)


def test_a_damaged_file_is_put_aside_and_fetched_again(maintenance, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(maintenance, "send", lambda method, path, limit: asked.append(path))
    public, private = store_file(maintenance, b"public"), store_file(maintenance, b"private", "alice/private")
    for path in (public, private):
        (maintenance.FILES / path).write_bytes(b"damaged")
    state = maintenance.read_state()
    maintenance.check_used(state, [public, private])
    assert asked == ["/" + public]
    assert not (maintenance.FILES / public).exists()
    assert (maintenance.FILES / private).read_bytes() == b"damaged"
    assert [path.read_bytes() for path in maintenance.DAMAGED.iterdir()] == [b"damaged"]
    (trouble,) = maintenance.troubles(state)
    assert trouble == f"{private} is damaged, and no mirror has it: restore a backup (devpi.mirror.restore)."
    maintenance.tell(state)
    maintenance.tell(state)
    assert capsys.readouterr().out.count("DEGRADED") == 1
    (maintenance.FILES / private).write_bytes(b"private")
    maintenance.tell(state)
    assert capsys.readouterr().out == "All is well again\n"


def test_a_file_that_can_not_be_read_is_damaged(maintenance):
    path = store_file(maintenance, b"content")
    (maintenance.FILES / path).unlink()
    (maintenance.FILES / path).mkdir()
    assert not maintenance.is_whole(path)


def test_damaged_files_are_quarantined_when_devpi_is_available_again(maintenance, monkeypatch):
    path = store_file(maintenance, b"public")
    (maintenance.FILES / path).write_bytes(b"damaged")
    maintenance.USES.write_text(f"HIT /{path}\n")
    monkeypatch.setattr(maintenance, "send", lambda *_arguments, **_options: None)
    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "mirror_indexes", unavailable(maintenance))
        maintenance.see_to(everything=False)
        assert (maintenance.FILES / path).exists()
    maintenance.see_to(everything=False)
    assert not (maintenance.FILES / path).exists()
    assert maintenance.read_state()["unchecked"] == []


def test_a_damaged_file_that_was_evicted_meanwhile_does_not_stop_the_check_of_others(maintenance, monkeypatch):
    monkeypatch.setattr(maintenance, "send", lambda *_arguments, **_options: None)
    evicted, damaged = store_file(maintenance, b"evicted"), store_file(maintenance, b"damaged")
    (maintenance.FILES / evicted).unlink()
    maintenance.put_aside(maintenance.read_state(), [evicted, damaged], {"root/pypi"})
    assert not (maintenance.FILES / damaged).exists()


def test_a_scrub_is_due_until_devpi_is_available(maintenance, monkeypatch):
    monkeypatch.setattr(maintenance, "FSCK", ["/bin/echo", "Finished with a total of 0 files"])
    maintenance.request_scrub()
    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "mirror_indexes", unavailable(maintenance))
        maintenance.see_to(everything=True)
    assert maintenance.is_scrub_due(maintenance.read_state())
    maintenance.see_to(everything=True)
    assert not maintenance.is_scrub_due(maintenance.read_state())


def test_left_overs_go_when_nobody_writes_them_any_more(maintenance):
    path = maintenance.FILES / store_file(maintenance, b"content")
    coming, left = path.with_name("coming-0123-tmp"), path.with_name("left-0123-tmp")
    for one in (coming, left, maintenance.DATA / "tmp" / "left"):
        one.write_bytes(b"part")
    for one in (path, left, maintenance.DATA / "tmp" / "left"):
        os.utime(one, (1, 1))
    stalled = maintenance.DATA / "tmp" / "stalled.part"
    stalled.write_bytes(b"part")
    os.utime(stalled, (time.time() - 300,) * 2)
    maintenance.remove_abandoned()
    assert (path.exists(), coming.exists(), left.exists()) == (True, True, False)
    assert list((maintenance.DATA / "tmp").iterdir()) == [stalled]


@pytest.mark.parametrize(
    ("content", "there", "placed"), [(b"private", False, True), (b"half", False, False), (b"private", True, False)]
)
@pytest.mark.parametrize("suffix", ["-tmp", "-0123456789abcdef-tmp"])
def test_what_devpi_has_written_whole_is_put_in_its_place(maintenance, content, there, placed, suffix):
    place = maintenance.FILES / store_file(maintenance, b"private", "alice/private")
    left = place.with_name(place.name + suffix)
    left.write_bytes(content)
    os.utime(left, (1, 1))
    if not there:
        place.unlink()
    maintenance.remove_abandoned()
    assert not left.exists()
    assert place.exists() == (there or placed)
    if place.exists():
        assert place.read_bytes() == b"private"


def test_what_fsck_says(maintenance, monkeypatch):
    public = store_file(maintenance, b"public")
    (maintenance.FILES / public).write_bytes(b"damaged")
    lost = "alice/private/+f/abc/def0123456789/b.whl"
    said = f"""2026-11-25 10:00:00,000 ERROR [CMD] {public} - a.whl: sha256 mismatch, expected 1, got 2
2026-11-25 10:00:00,000 WARNI [CMD] Missing file root/pypi/+f/000/0000000000000/c.whl
2026-11-25 10:00:00,000 ERROR [CMD] Missing file {lost}
2026-11-25 10:00:00,000 INFO  [CMD] Finished with a total of 3 files."""
    monkeypatch.setattr(maintenance, "FSCK", ["/bin/echo"])
    monkeypatch.setattr(
        maintenance.subprocess,
        "run",
        lambda command, **options: maintenance.subprocess.CompletedProcess(command, 1, said, ""),
    )
    monkeypatch.setattr(maintenance, "send", lambda method, path, limit: None)
    state = maintenance.read_state()
    maintenance.scrub(state)
    assert {name: state["scrub"][name] for name in ("files", "damaged", "lost", "error")} == {
        "files": 3, "damaged": 1, "lost": [lost], "error": "",
    }  # fmt: skip
    assert maintenance.troubles(state) == [
        f"{lost} has gone, and no mirror has it: restore a backup (devpi.mirror.restore)."
    ]


@pytest.mark.parametrize("every", ["", "7d"])
def test_a_requested_scrub_is_due_once(maintenance, monkeypatch, every):
    monkeypatch.setenv("DEVPI_MIRROR_SCRUB_EVERY", every)
    monkeypatch.setattr(
        maintenance, "FSCK", ["/bin/echo", "ERROR Missing file alice/private/+f/abc/def0123456789/b.whl"]
    )
    state = maintenance.read_state()
    assert not maintenance.is_scrub_due(state)
    maintenance.request_scrub()
    assert maintenance.is_scrub_due(state)
    maintenance.scrub(state)
    assert not maintenance.is_scrub_due(state)
    assert "b.whl has gone" in maintenance.troubles(state)[0]


def test_a_scrub_that_can_not_be_requested_keeps_nothing_from_starting(maintenance, monkeypatch, tmp_path):
    monkeypatch.setattr(maintenance, "SCRUB_REQUESTED", tmp_path / "absent" / "scrub-requested")
    maintenance.request_scrub()


def test_the_state_outlives_a_start_but_for_what_is_counted_since(maintenance):
    maintenance.STARTED.touch()
    state = maintenance.read_state()
    state["requests"]["hit"] = 7
    state["scrub"] = {"at": 1, "files": 2, "damaged": 0, "lost": [], "error": ""}
    maintenance.write_state(state)
    assert maintenance.read_state()["requests"]["hit"] == 7
    os.utime(maintenance.STARTED, (5, 5))
    again = maintenance.read_state()
    assert (again["requests"]["hit"], again["scrub"]["at"]) == (0, 1)
    assert json.loads(maintenance.STATE.read_text())["started"] != again["started"]


def test_a_state_that_can_not_be_used_begins_anew(maintenance):
    for text in ("[]", "x", "null"):
        maintenance.STATE.write_text(text)
        assert maintenance.read_state()["troubles"] == []


def test_settings_that_were_not_applied_are_a_trouble(maintenance):
    for report in ("The settings of root/pypi were not applied.", ""):
        maintenance.SETTINGS_FAILED.write_text(report)
        (trouble,) = maintenance.troubles(maintenance.read_state())
        assert "were not applied." in trouble


@pytest.mark.parametrize(
    ("bound", "size", "last", "due"),
    [
        ("", 100, None, False),
        ("50b", 100, None, True),
        ("200b", 100, None, False),
        ("50b", 100, {"at": -86401, "bytes": 60}, True),
        # It was tried lately, and it has not become small.
        ("50b", 100, {"at": -86300, "bytes": 60}, False),
        ("50b", 100, {"at": -86401, "bytes": 90}, False),
    ],
)
def test_when_the_store_is_made_small(maintenance, monkeypatch, bound, size, last, due):
    monkeypatch.setenv("DEVPI_MIRROR_DATABASE_MAX_SIZE", bound)
    (maintenance.STORE / ".sqlite").write_bytes(bytes(size - 10))
    (maintenance.STORE / ".sqlite-wal").write_bytes(bytes(10))
    compacted = last and {**last, "at": maintenance.time.time() + last["at"]}
    assert maintenance.is_too_large({"compacted": compacted}) == due


@pytest.mark.parametrize(
    ("command", "told"), [(["true"], []), (["sh", "-c", "echo no >&2; exit 1"], ["can't be made smaller: no"])]
)
def test_a_store_that_can_not_be_made_small_is_a_trouble(maintenance, monkeypatch, command, told):
    monkeypatch.setattr(maintenance, "COMPACT", command)
    state = maintenance.read_state()
    maintenance.compact(state)
    assert [text.partition("database ")[2] for text in maintenance.troubles(state)] == told


def test_a_step_that_fails_is_reported_and_the_others_run(maintenance, monkeypatch, capsys):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    path = store_file(maintenance, b"content")
    os.utime(maintenance.FILES / path, (1, 1))

    def fail(*_arguments):
        raise KeyError("result")

    with monkeypatch.context() as patched:
        patched.setattr(maintenance, "check_used", fail)
        maintenance.see_to(everything=True)
    assert not (maintenance.FILES / path).exists()
    (trouble,) = maintenance.read_state()["troubles"]
    assert "'check used files' failed: KeyError: 'result'" in trouble
    assert f"DEGRADED: {trouble}" in capsys.readouterr().out
    maintenance.see_to(everything=True)
    assert maintenance.read_state()["troubles"] == []


def test_a_devpi_that_does_not_answer_is_no_failed_step(maintenance, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    monkeypatch.setattr(maintenance, "mirror_indexes", unavailable(maintenance))
    maintenance.see_to(everything=True)
    assert maintenance.read_state()["troubles"] == []


def add_page(maintenance, name: str, size: int, requested: float) -> None:
    path = maintenance.PAGES / "root" / "pypi" / "0123" / f"{name}.page"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (requested, requested))


def list_pages(maintenance) -> list[str]:
    return sorted(path.stem for path in maintenance.PAGES.rglob("*.page"))


def test_pages_that_were_not_requested_for_long_are_removed(maintenance):
    now = maintenance.time.time()
    add_page(maintenance, "new", 10, now - maintenance.PAGES_AGE + HOUR)
    add_page(maintenance, "old", 10, now - maintenance.PAGES_AGE - HOUR)
    (maintenance.PAGES / "root" / "pypi" / "0123" / "removed.json").write_text("[]")
    maintenance.see_to(everything=False)
    assert list_pages(maintenance) == ["new", "old"]
    maintenance.see_to(everything=True)
    assert list_pages(maintenance) == ["new"]
    assert (maintenance.PAGES / "root" / "pypi" / "0123" / "removed.json").exists()
    assert maintenance.read_state()["failed_steps"] == {}


def test_pages_have_a_limited_size(maintenance, monkeypatch):
    monkeypatch.setattr(maintenance, "PAGES_SIZE", 100)
    now = maintenance.time.time()
    for hours, name in enumerate(("newest", "new", "old", "oldest")):
        add_page(maintenance, name, 30, now - hours * HOUR)
    maintenance.prune_pages()
    assert list_pages(maintenance) == ["new", "newest", "old"]


def test_no_pages_are_needed(maintenance):
    maintenance.PAGES.rmdir()
    maintenance.prune_pages()
    assert maintenance.removed_projects() == []


def test_projects_that_an_upstream_has_removed_are_listed_for_a_day(maintenance):
    now = maintenance.time.time()
    for index, content in (
        ("root/pypi", [["six", now - HOUR], ["old", now - 25 * HOUR]]),
        ("alice/mirror", [["numpy", now]]),
        ("alice/damaged", {"six": 1}),
    ):
        folder = maintenance.PAGES / index / "0123"
        folder.mkdir(parents=True)
        (folder / "removed.json").write_text(json.dumps(content))
    (folder.parent / "4567").mkdir()
    (folder.parent / "4567" / "removed.json").write_text("[")
    assert maintenance.removed_projects() == [
        {"index": "alice/mirror", "project": "numpy", "at": now},
        {"index": "root/pypi", "project": "six", "at": now - HOUR},
    ]


def test_mirrored_files_are_checked_without_the_database(maintenance, monkeypatch):
    monkeypatch.setattr(maintenance, "FSCK", ["/bin/echo", "Finished with a total of 0 files"])
    requested = []
    monkeypatch.setattr(maintenance, "send", lambda method, path, limit: requested.append(path))
    whole, damaged = store_file(maintenance, b"whole"), store_file(maintenance, b"damaged", kind="md5")
    private = store_file(maintenance, b"private", "alice/private")
    for path in (damaged, private):
        (maintenance.FILES / path).write_bytes(b"other")
    state = maintenance.read_state()
    maintenance.scrub(state)
    assert [(maintenance.FILES / path).exists() for path in (whole, damaged, private)] == [True, False, True]
    # devpi-fsck checks files of other indexes, and it found none.
    assert (state["scrub"]["files"], state["scrub"]["damaged"], state["scrub"]["error"]) == (2, 1, "")
    assert requested == ["/" + damaged]
