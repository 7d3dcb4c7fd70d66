# SPDX-License-Identifier: GPL-3.0-or-later
"""When scheduled backups are created, how they are verified and rotated, and which problems are reported."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace

import pytest

DAY = 86400.0
NOW = 1_800_000_000.0
STARTED = NOW - 7200
# What replaces the commands of the store: "backup" prints its arguments, "check" prints its environment and reads the archive.
STORE = """#!/bin/sh
echo "$@" >>"$TEST_CALLS"
case $1 in
backup) [ ! -e "$TEST_CALLS.backup-fails" ] || { echo progress >&2; echo "could not copy the database." >&2; exit 1; }
    echo archive ;;
check) env >"$TEST_CALLS.environment"; cp /proc/$$/status "$TEST_CALLS.status"
    read -r content; [ "$content" = archive ] || exit 2
    if [ -e "$TEST_CALLS.check-fails-once" ]; then rm "$TEST_CALLS.check-fails-once"; echo "a file is missing" >&2; exit 1; fi
    [ ! -e "$TEST_CALLS.check-fails" ] || exit 3 ;;
esac
"""


@pytest.fixture
def scheduled(maintenance, monkeypatch, tmp_path):
    """The module ``backups``, with daily backups of which two are kept, and functions that tests need."""
    backups = maintenance.backups
    store = tmp_path / "store"
    store.write_text(STORE)
    monkeypatch.setattr(backups, "STORE", ["/bin/sh", str(store)])
    monkeypatch.setattr(backups, "ATTEMPT_PAUSE", 0)
    monkeypatch.setenv("TEST_CALLS", str(tmp_path / "calls"))
    for name, value in (("EVERY", "1d"), ("NAME", "devpi"), ("KEEP", "2"), ("MIRRORED_FILES", "")):
        monkeypatch.setenv(f"DEVPI_MIRROR_BACKUP_{name}", value)
    folder = maintenance.config.BACKUPS
    return SimpleNamespace(
        module=backups,
        folder=folder,
        names=lambda: sorted(path.name for path in folder.iterdir()),
        fail=lambda what: (tmp_path / f"calls.{what}").touch(),
        recover=lambda what: (tmp_path / f"calls.{what}").unlink(),
        calls=lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else [],
        environment=lambda: (tmp_path / "calls.environment").read_text().splitlines(),
        due=lambda: float(backups.DUE.read_text()),
        problems=lambda now: backups.find_problems(now, STARTED),
    )


def test_the_first_backup_is_created_at_once_and_verified(scheduled, maintenance):
    scheduled.module.run(NOW)
    (name,) = scheduled.names()
    assert name == "devpi-20270115T080000Z.tar"
    assert (scheduled.folder / name).read_text() == "archive\n"
    assert scheduled.calls() == ["backup", "check"]
    recorded = json.loads((maintenance.config.DATA / "last-backup.json").read_text())
    assert (recorded["file"], recorded["scheduled"]) == (name, True)
    assert (scheduled.due(), scheduled.problems(NOW)) == (NOW + DAY, [])
    assert not scheduled.module.CHECK.exists()
    assert not scheduled.module.CHECK_RUN.exists()


def test_a_backup_has_mirrored_files_if_requested(scheduled, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_BACKUP_MIRRORED_FILES", "1")
    scheduled.module.run(NOW)
    assert scheduled.calls() == ["backup --mirrored-files", "check"]


def test_the_check_has_none_of_the_settings_and_credentials_of_the_mirror(scheduled, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_CREDENTIALS", "secret")
    monkeypatch.setenv("DEVPISERVER_THREADS", "100")
    scheduled.module.run(NOW)
    found = dict(line.split("=", 1) for line in scheduled.environment() if line.startswith(("DEVPI", "TMPDIR")))
    check = scheduled.module.CHECK
    assert found == {
        "DEVPI_MIRROR_DATA": str(check),
        "DEVPI_MIRROR_RUN": str(scheduled.module.CHECK_RUN),
        "DEVPISERVER_THREADS": "4",
        "TMPDIR": str(check / "tmp"),
    }


def test_the_schedule_survives_restarts(scheduled):
    scheduled.module.run(NOW)
    scheduled.module.DUE.unlink()
    scheduled.module.run(NOW + DAY - 1)
    assert (len(scheduled.names()), scheduled.due()) == (1, NOW + DAY)
    scheduled.module.run(NOW + DAY)
    assert (len(scheduled.names()), scheduled.due()) == (2, NOW + 2 * DAY)


def test_a_backup_is_due_after_the_clock_was_set_back(scheduled):
    scheduled.module.run(NOW)
    scheduled.module.run(NOW - 100 * DAY)
    assert (len(scheduled.names()), scheduled.due()) == (2, NOW - 99 * DAY)


def test_without_a_schedule_nothing_is_created_or_reported(scheduled, monkeypatch):
    scheduled.fail("backup-fails")
    scheduled.module.run(NOW)
    monkeypatch.setenv("DEVPI_MIRROR_BACKUP_EVERY", "")
    assert scheduled.problems(NOW + 100 * DAY) == []
    scheduled.module.run(NOW + 100 * DAY)
    assert scheduled.names() == []


def test_a_damaged_schedule_is_replaced(scheduled):
    scheduled.module.SCHEDULE.write_text("[")
    scheduled.module.run(NOW)
    assert json.loads(scheduled.module.SCHEDULE.read_text())["last"] == NOW


def test_only_the_oldest_backups_of_this_mirror_are_removed(scheduled):
    others = ["devpi-2-20200101T000000Z.tar", "devpi-20200101T000000Z.tar.gz", "notes", "other-20200101T000000Z.tar"]
    for name in [*others, "devpi-20200101T000000Z.tar", "devpi-20200102T000000Z.tar"]:
        (scheduled.folder / name).touch()
    scheduled.module.run(NOW)
    assert scheduled.names() == sorted([*others, "devpi-20200102T000000Z.tar", "devpi-20270115T080000Z.tar"])


def test_what_an_interrupted_backup_has_left_is_removed(scheduled):
    for name in (".devpi-20200101T000000Z.tar", ".devpi-2-20200101T000000Z.tar"):
        (scheduled.folder / name).touch()
    for folder in (scheduled.module.CHECK, scheduled.module.CHECK_RUN):
        (folder / "server").mkdir(parents=True)
    scheduled.module.run(NOW)
    assert scheduled.names() == [".devpi-2-20200101T000000Z.tar", "devpi-20270115T080000Z.tar"]
    assert not scheduled.module.CHECK.exists()


def test_a_check_that_fails_is_repeated_once(scheduled):
    scheduled.fail("check-fails-once")
    scheduled.module.run(NOW)
    assert scheduled.calls() == ["backup", "check"] * 2
    assert (len(scheduled.names()), scheduled.problems(NOW)) == (1, [])


@pytest.mark.parametrize(
    ("failure", "cause"),
    [("backup-fails", "could not copy the database. Existing"), ("check-fails", "it ended with status 3. Existing")],
)
def test_a_failed_backup_is_a_problem_until_one_succeeds(scheduled, capsys, failure, cause):
    scheduled.module.run(NOW)
    scheduled.fail(failure)
    later = NOW + 2 * DAY
    scheduled.module.run(later)
    assert scheduled.names() == ["devpi-20270115T080000Z.tar"]
    (problem,) = scheduled.problems(later)
    assert problem.startswith(f"The last scheduled backup failed: {cause}")
    assert "Could not create the scheduled backup" in capsys.readouterr().err
    assert scheduled.due() == later + scheduled.module.RETRY
    scheduled.recover(failure)
    scheduled.module.run(later + scheduled.module.RETRY)
    assert (len(scheduled.names()), scheduled.problems(later + scheduled.module.RETRY)) == (2, [])


def test_problems_are_part_of_the_status(scheduled, maintenance):
    scheduled.fail("backup-fails")
    scheduled.module.run(NOW)
    (problem,) = maintenance.status.find_problems(maintenance.state.read_state())
    assert problem.startswith("The last scheduled backup failed")


def test_an_overdue_backup_is_a_problem_once_the_mirror_has_run_for_an_hour(scheduled):
    assert scheduled.problems(STARTED + 2 * DAY) == []
    (problem,) = scheduled.problems(STARTED + 2 * DAY + 1)
    assert "overdue (the last one: never)" in problem
    scheduled.module.run(NOW)
    assert scheduled.problems(NOW + 2 * DAY) == []
    (problem,) = scheduled.problems(NOW + 2 * DAY + 1)
    assert "overdue (the last one: 2027-01-15 08:00:00 UTC)" in problem
    # The host was off.
    restarted = NOW + 9 * DAY
    assert scheduled.module.find_problems(restarted + 3600, restarted) == []
    assert len(scheduled.module.find_problems(restarted + 3601, restarted)) == 1


@pytest.mark.parametrize("disk", ["DATA", "BACKUPS"])
def test_without_room_no_backup_is_created(scheduled, maintenance, store_file, monkeypatch, disk):
    store_file(b"private", "alice/private")
    full = str(getattr(maintenance.config, disk))
    monkeypatch.setattr(
        scheduled.module.os,
        "statvfs",
        lambda path: SimpleNamespace(f_bavail=128 if str(path) == full else 10**6, f_frsize=10**6),
    )
    scheduled.module.run(NOW)
    assert (scheduled.calls(), scheduled.names()) == ([], [])
    (problem,) = scheduled.problems(NOW)
    assert "has 128 MB free, and a backup needs 128 MB. Free some space" in problem


def test_a_backup_needs_room_for_what_it_contains(scheduled, store_file, monkeypatch):
    store_file(b"public")
    store_file(b"private", "alice/private")
    assert scheduled.module.backup_size() == len(b"private")
    monkeypatch.setenv("DEVPI_MIRROR_BACKUP_MIRRORED_FILES", "1")
    assert scheduled.module.backup_size() == len(b"public") + len(b"private")


def test_a_backup_waits_for_devpi(scheduled, devpi_unavailable):
    with devpi_unavailable():
        scheduled.module.run(NOW)
    assert (scheduled.calls(), scheduled.problems(NOW)) == ([], [])
    assert scheduled.due() == NOW + scheduled.module.UNAVAILABLE_RETRY


@pytest.mark.parametrize(
    ("error", "advice"), [(PermissionError, "Run devpi.mirror.site"), (OSError, "failed: message")]
)
def test_a_folder_that_cannot_be_written_to_is_a_problem(scheduled, monkeypatch, error, advice):
    def fail(_now):
        raise error("message")

    monkeypatch.setattr(scheduled.module, "back_up", fail)
    scheduled.module.run(NOW)
    (problem,) = scheduled.problems(NOW)
    assert advice in problem


def test_only_one_backup_runs_at_a_time(scheduled):
    with scheduled.module.locked(scheduled.module.LOCK):
        scheduled.module.run(NOW)
    assert (scheduled.calls(), scheduled.module.DUE.exists()) == ([], False)


def test_the_devpi_server_of_the_check_can_be_stopped(scheduled, maintenance, monkeypatch, tmp_path):
    monkeypatch.setattr(maintenance.main.sys, "argv", ["maintenance", "backup"])
    monkeypatch.setattr(maintenance.main.os, "nice", lambda _increment: 0)
    monkeypatch.setattr(maintenance.main.os, "umask", lambda _mask: 0)
    # As in a background process of a shell.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        maintenance.main.main()
    finally:
        signal.signal(signal.SIGINT, previous)
    (line,) = (line for line in (tmp_path / "calls.status").read_text().splitlines() if line.startswith("SigIgn"))
    assert not int(line.split()[1], 16) & 1 << (signal.SIGINT - 1)
    assert len(scheduled.names()) == 1


def test_archives_are_private(scheduled, maintenance, monkeypatch):
    masks = []
    monkeypatch.setattr(maintenance.main.sys, "argv", ["maintenance", "backup"])
    monkeypatch.setattr(maintenance.main.os, "nice", lambda _increment: 0)
    monkeypatch.setattr(maintenance.main.os, "umask", masks.append)
    monkeypatch.setattr(maintenance.main.time, "time", lambda: NOW)
    maintenance.main.main()
    assert (masks, len(scheduled.names())) == ([0o077], 1)


def test_a_compaction_waits_while_a_backup_copies_the_data(maintenance, monkeypatch):
    compacted = []
    monkeypatch.setattr(maintenance.compaction, "is_due", lambda _state: True)
    monkeypatch.setattr(maintenance.compaction, "compact", lambda _state: compacted.append(1))
    with maintenance.main.locked(maintenance.config.DATA_LOCK):
        maintenance.main.run(everything=True)
    assert compacted == []
    assert maintenance.state.read_state()["failed_steps"] == {}
    maintenance.main.run(everything=True)
    assert compacted == [1]
