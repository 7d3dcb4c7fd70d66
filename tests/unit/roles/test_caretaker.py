"""What the image's caretaker.py does with the files of a store."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

GIGABYTE = 1024**3
HOUR = 3600


@pytest.fixture
def caretaker(load, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    module = load("caretaker")
    for folder in ("server/+files", "nginx/tmp", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
    pid = tmp_path / "nginx.pid"
    pid.write_text("1")
    monkeypatch.setattr(module, "NGINX_PID", pid)
    monkeypatch.setattr(module, "STARTED", tmp_path / "started")
    monkeypatch.setattr(module, "mirror_indexes", lambda: {"root/pypi"})
    monkeypatch.setattr(module.os, "kill", lambda pid, number: None)
    return module


def keep(caretaker, content: bytes, index: str = "root/pypi", kind: str = "sha256", name: str = "a.whl") -> str:
    """Have a file in the store, and return its path there."""
    digest = hashlib.new(kind, content).hexdigest()
    path = f"{index}/+f/{digest[:3]}/{digest[3:16]}/{name}"
    (caretaker.FILES / path).parent.mkdir(parents=True)
    (caretaker.FILES / path).write_bytes(content)
    return path


def unavailable(caretaker):
    """Return a function that finds devpi unavailable."""

    def fail():
        raise caretaker.Unavailable("Connection refused")

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
def test_amounts(caretaker, text, units, value):
    assert caretaker.amount(text, getattr(caretaker, units)) == value


@pytest.mark.parametrize("text", ["much", "7g", "-1", "1 d 2"])
def test_no_amounts(caretaker, text):
    with pytest.raises(ValueError, match="is no amount"):
        caretaker.amount(text, caretaker.UNITS)


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
def test_what_nobody_has_used_for_longest_goes_first(caretaker, size, age, gone):
    used = {"new": 2, "oldest": 11, "newest": 1, "old": 6}
    files = [caretaker.Stored(name, 100, 1e6 - hours * HOUR) for name, hours in used.items()]
    assert [file.path for file in caretaker.surplus(files, size, age, 1e6)] == gone


def test_only_files_of_mirrors_go(caretaker, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    paths = [keep(caretaker, b"public"), keep(caretaker, b"private", "alice/private")]
    for path in paths:
        os.utime(caretaker.FILES / path, (1, 1))
    caretaker.prune()
    assert [(caretaker.FILES / path).exists() for path in paths] == [False, True]


def test_uses_are_counted_and_noted(caretaker):
    path = keep(caretaker, b"content")
    os.utime(caretaker.FILES / path, (1, 1))
    caretaker.USES.write_text(
        f"HIT /{path}\nSTALE /root/pypi/+simple/a/\nEXPIRED /root/pypi/+simple/b/\nMISS /nowhere\n\n"
    )
    state = caretaker.read_state()
    assert caretaker.note_uses(state, caretaker.take_uses()) == [path]
    assert state["requests"] == {"hit": 1, "stale": 1, "miss": 2}
    status = (caretaker.FILES / path).stat()
    assert status.st_atime > status.st_mtime == 1
    assert caretaker.take_uses() == []


@pytest.mark.parametrize("kind", ["sha256", "md5", "sha512"])
def test_a_file_is_whole_if_it_has_the_hash_of_its_path(caretaker, kind):
    path = keep(caretaker, b"content", kind=kind)
    assert caretaker.is_whole(path)
    (caretaker.FILES / path).write_bytes(b"c0ntent")
    assert not caretaker.is_whole(path)
    (caretaker.FILES / path).unlink()
    assert caretaker.is_whole(path)


def test_a_damaged_file_is_put_aside_and_fetched_again(caretaker, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(caretaker, "send", lambda method, path, limit: asked.append(path))
    public, private = keep(caretaker, b"public"), keep(caretaker, b"private", "alice/private")
    for path in (public, private):
        (caretaker.FILES / path).write_bytes(b"damaged")
    state = caretaker.read_state()
    caretaker.check_used(state, [public, private])
    assert asked == ["/" + public]
    assert not (caretaker.FILES / public).exists()
    assert (caretaker.FILES / private).read_bytes() == b"damaged"
    assert [path.read_bytes() for path in caretaker.DAMAGED.iterdir()] == [b"damaged"]
    (trouble,) = caretaker.troubles(state)
    assert trouble == f"{private} is damaged, and no mirror has it: restore a backup (devpi.mirror.restore)."
    caretaker.tell(state)
    caretaker.tell(state)
    assert capsys.readouterr().out.count("DEGRADED") == 1
    (caretaker.FILES / private).write_bytes(b"private")
    caretaker.tell(state)
    assert capsys.readouterr().out == "All is well again\n"


def test_a_file_that_can_not_be_read_is_damaged(caretaker):
    path = keep(caretaker, b"content")
    (caretaker.FILES / path).unlink()
    (caretaker.FILES / path).mkdir()
    assert not caretaker.is_whole(path)


def test_damaged_files_are_quarantined_when_devpi_is_available_again(caretaker, monkeypatch):
    path = keep(caretaker, b"public")
    (caretaker.FILES / path).write_bytes(b"damaged")
    caretaker.USES.write_text(f"HIT /{path}\n")
    monkeypatch.setattr(caretaker, "send", lambda *_arguments, **_options: None)
    with monkeypatch.context() as patched:
        patched.setattr(caretaker, "mirror_indexes", unavailable(caretaker))
        caretaker.see_to(everything=False)
        assert (caretaker.FILES / path).exists()
    caretaker.see_to(everything=False)
    assert not (caretaker.FILES / path).exists()
    assert caretaker.read_state()["unchecked"] == []


def test_a_damaged_file_that_was_evicted_meanwhile_does_not_stop_the_check_of_others(caretaker, monkeypatch):
    monkeypatch.setattr(caretaker, "send", lambda *_arguments, **_options: None)
    evicted, damaged = keep(caretaker, b"evicted"), keep(caretaker, b"damaged")
    (caretaker.FILES / evicted).unlink()
    caretaker.put_aside(caretaker.read_state(), [evicted, damaged], {"root/pypi"})
    assert not (caretaker.FILES / damaged).exists()


def test_a_scrub_is_due_until_devpi_is_available(caretaker, monkeypatch):
    monkeypatch.setattr(caretaker, "FSCK", ["/bin/echo", "Finished with a total of 0 files"])
    caretaker.request_scrub()
    with monkeypatch.context() as patched:
        patched.setattr(caretaker, "mirror_indexes", unavailable(caretaker))
        caretaker.see_to(everything=True)
    assert caretaker.is_scrub_due(caretaker.read_state())
    caretaker.see_to(everything=True)
    assert not caretaker.is_scrub_due(caretaker.read_state())


def test_left_overs_go_when_nobody_writes_them_any_more(caretaker):
    path = caretaker.FILES / keep(caretaker, b"content")
    coming, left = path.with_name("coming-0123-tmp"), path.with_name("left-0123-tmp")
    for one in (coming, left, caretaker.DATA / "tmp" / "left"):
        one.write_bytes(b"part")
    for one in (path, left, caretaker.DATA / "tmp" / "left"):
        os.utime(one, (1, 1))
    caretaker.remove_abandoned()
    assert (path.exists(), coming.exists(), left.exists()) == (True, True, False)
    assert list((caretaker.DATA / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "there", "placed"), [(b"private", False, True), (b"half", False, False), (b"private", True, False)]
)
@pytest.mark.parametrize("suffix", ["-tmp", "-0123456789abcdef-tmp"])
def test_what_devpi_has_written_whole_is_put_in_its_place(caretaker, content, there, placed, suffix):
    place = caretaker.FILES / keep(caretaker, b"private", "alice/private")
    left = place.with_name(place.name + suffix)
    left.write_bytes(content)
    os.utime(left, (1, 1))
    if not there:
        place.unlink()
    caretaker.remove_abandoned()
    assert not left.exists()
    assert place.exists() == (there or placed)
    if place.exists():
        assert place.read_bytes() == b"private"


def test_what_fsck_says(caretaker, monkeypatch):
    public = keep(caretaker, b"public")
    (caretaker.FILES / public).write_bytes(b"damaged")
    lost = "alice/private/+f/abc/def0123456789/b.whl"
    said = f"""2026-11-25 10:00:00,000 ERROR [CMD] {public} - a.whl: sha256 mismatch, expected 1, got 2
2026-11-25 10:00:00,000 WARNI [CMD] Missing file root/pypi/+f/000/0000000000000/c.whl
2026-11-25 10:00:00,000 ERROR [CMD] Missing file {lost}
2026-11-25 10:00:00,000 INFO  [CMD] Finished with a total of 3 files."""
    monkeypatch.setattr(caretaker, "FSCK", ["/bin/echo"])
    monkeypatch.setattr(
        caretaker.subprocess,
        "run",
        lambda command, **options: caretaker.subprocess.CompletedProcess(command, 1, said, ""),
    )
    monkeypatch.setattr(caretaker, "send", lambda method, path, limit: None)
    state = caretaker.read_state()
    caretaker.scrub(state)
    assert {name: state["scrub"][name] for name in ("files", "damaged", "lost", "error")} == {
        "files": 3, "damaged": 1, "lost": [lost], "error": "",
    }  # fmt: skip
    assert caretaker.troubles(state) == [
        f"{lost} has gone, and no mirror has it: restore a backup (devpi.mirror.restore)."
    ]


@pytest.mark.parametrize("every", ["", "7d"])
def test_a_requested_scrub_is_due_once(caretaker, monkeypatch, every):
    monkeypatch.setenv("DEVPI_MIRROR_SCRUB_EVERY", every)
    monkeypatch.setattr(caretaker, "FSCK", ["/bin/echo", "ERROR Missing file alice/private/+f/abc/def0123456789/b.whl"])
    state = caretaker.read_state()
    assert not caretaker.is_scrub_due(state)
    caretaker.request_scrub()
    assert caretaker.is_scrub_due(state)
    caretaker.scrub(state)
    assert not caretaker.is_scrub_due(state)
    assert "b.whl has gone" in caretaker.troubles(state)[0]


def test_a_scrub_that_can_not_be_requested_keeps_nothing_from_starting(caretaker, monkeypatch, tmp_path):
    monkeypatch.setattr(caretaker, "SCRUB_REQUESTED", tmp_path / "absent" / "scrub-requested")
    caretaker.request_scrub()


def test_the_state_outlives_a_start_but_for_what_is_counted_since(caretaker):
    caretaker.STARTED.touch()
    state = caretaker.read_state()
    state["requests"]["hit"] = 7
    state["scrub"] = {"at": 1, "files": 2, "damaged": 0, "lost": [], "error": ""}
    caretaker.write_state(state)
    assert caretaker.read_state()["requests"]["hit"] == 7
    os.utime(caretaker.STARTED, (5, 5))
    again = caretaker.read_state()
    assert (again["requests"]["hit"], again["scrub"]["at"]) == (0, 1)
    assert json.loads(caretaker.STATE.read_text())["started"] != again["started"]


def test_a_state_that_can_not_be_used_begins_anew(caretaker):
    for text in ("[]", "x", "null"):
        caretaker.STATE.write_text(text)
        assert caretaker.read_state()["troubles"] == []


def test_settings_that_were_not_applied_are_a_trouble(caretaker):
    for report in ("The settings of root/pypi were not applied.", ""):
        caretaker.SETTINGS_FAILED.write_text(report)
        (trouble,) = caretaker.troubles(caretaker.read_state())
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
def test_when_the_store_is_made_small(caretaker, monkeypatch, bound, size, last, due):
    monkeypatch.setenv("DEVPI_MIRROR_DATABASE_MAX_SIZE", bound)
    (caretaker.STORE / ".sqlite").write_bytes(bytes(size - 10))
    (caretaker.STORE / ".sqlite-wal").write_bytes(bytes(10))
    compacted = last and {**last, "at": caretaker.time.time() + last["at"]}
    assert caretaker.is_too_large({"compacted": compacted}) == due


@pytest.mark.parametrize(
    ("command", "told"), [(["true"], []), (["sh", "-c", "echo no >&2; exit 1"], ["can't be made smaller: no"])]
)
def test_a_store_that_can_not_be_made_small_is_a_trouble(caretaker, monkeypatch, command, told):
    monkeypatch.setattr(caretaker, "COMPACT", command)
    state = caretaker.read_state()
    caretaker.compact(state)
    assert [text.partition("database ")[2] for text in caretaker.troubles(state)] == told


def test_a_step_that_fails_is_reported_and_the_others_run(caretaker, monkeypatch, capsys):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    path = keep(caretaker, b"content")
    os.utime(caretaker.FILES / path, (1, 1))

    def fail(*_arguments):
        raise KeyError("result")

    with monkeypatch.context() as patched:
        patched.setattr(caretaker, "check_used", fail)
        caretaker.see_to(everything=True)
    assert not (caretaker.FILES / path).exists()
    (trouble,) = caretaker.read_state()["troubles"]
    assert "'check used files' failed: KeyError: 'result'" in trouble
    assert f"DEGRADED: {trouble}" in capsys.readouterr().out
    caretaker.see_to(everything=True)
    assert caretaker.read_state()["troubles"] == []


def test_a_devpi_that_does_not_answer_is_no_failed_step(caretaker, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    monkeypatch.setattr(caretaker, "mirror_indexes", unavailable(caretaker))
    caretaker.see_to(everything=True)
    assert caretaker.read_state()["troubles"] == []
