# SPDX-License-Identifier: GPL-3.0-or-later
"""How the maintenance finds damaged files, quarantines them and downloads them again."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("kind", ["sha256", "md5", "sha512"])
def test_a_file_is_intact_if_it_has_the_hash_in_its_path(maintenance, files, store_file, kind):
    path = store_file(b"content", kind=kind)
    assert maintenance.data_directory.is_intact(path)
    (files / path).write_bytes(b"c0ntent")
    assert not maintenance.data_directory.is_intact(path)
    (files / path).unlink()
    assert maintenance.data_directory.is_intact(path)


def test_an_unreadable_file_is_damaged(maintenance, files, store_file):
    path = store_file(b"content")
    (files / path).unlink()
    (files / path).mkdir()
    assert not maintenance.data_directory.is_intact(path)


def test_damaged_mirrored_files_are_quarantined_and_downloaded_again(maintenance, files, store_file, capsys):
    public, private = store_file(b"public"), store_file(b"private", "alice/private")
    for path in (public, private):
        (files / path).write_bytes(b"damaged")
    state = maintenance.state.read_state()
    maintenance.integrity.check_used(state, [public, private])
    assert maintenance.requested == ["/" + public]
    assert not (files / public).exists()
    assert (files / private).read_bytes() == b"damaged"
    assert [path.read_bytes() for path in maintenance.integrity.QUARANTINE.iterdir()] == [b"damaged"]
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == ["DAMAGED"] * 2
    (problem,) = maintenance.status.find_problems(state)
    assert problem.startswith(f"{private} is damaged and can't be downloaded again")


def test_damaged_files_are_quarantined_when_devpi_is_available_again(maintenance, files, store_file, devpi_unavailable):
    path = store_file(b"public")
    (files / path).write_bytes(b"damaged")
    maintenance.usage.REQUEST_LOG.write_text(f"HIT /{path}\n")
    with devpi_unavailable():
        maintenance.main.run(everything=False)
        assert (files / path).exists()
    maintenance.main.run(everything=False)
    assert not (files / path).exists()
    assert maintenance.state.read_state()["unchecked"] == []


def test_a_damaged_file_that_was_evicted_meanwhile_does_not_stop_the_others(maintenance, files, store_file):
    evicted, damaged = store_file(b"evicted"), store_file(b"damaged")
    (files / evicted).unlink()
    maintenance.integrity.quarantine(maintenance.state.read_state(), [evicted, damaged], {"root/pypi"})
    assert not (files / damaged).exists()


def test_only_the_last_damaged_files_are_kept(maintenance, store_file):
    paths = [store_file(bytes([number])) for number in range(7)]
    maintenance.integrity.quarantine(maintenance.state.read_state(), paths, {"root/pypi"})
    assert len(list(maintenance.integrity.QUARANTINE.iterdir())) == maintenance.integrity.MAX_QUARANTINED


def test_a_scrub_is_due_until_devpi_is_available(maintenance, fsck, devpi_unavailable):
    integrity, state = maintenance.integrity, maintenance.state
    fsck("Finished with a total of 0 files")
    maintenance.config.SCRUB_REQUESTED.touch()
    with devpi_unavailable():
        maintenance.main.run(everything=True)
    assert integrity.is_scrub_due(state.read_state())
    maintenance.main.run(everything=True)
    assert not integrity.is_scrub_due(state.read_state())


@pytest.mark.parametrize("every", ["", "7d"])
def test_a_requested_scrub_is_due_once(maintenance, monkeypatch, fsck, every):
    monkeypatch.setenv("DEVPI_MIRROR_SCRUB_EVERY", every)
    fsck("ERROR Missing file alice/private/+f/abc/def0123456789/b.whl")
    state = maintenance.state.read_state()
    assert not maintenance.integrity.is_scrub_due(state)
    maintenance.config.SCRUB_REQUESTED.touch()
    assert maintenance.integrity.is_scrub_due(state)
    maintenance.integrity.scrub(state)
    assert not maintenance.integrity.is_scrub_due(state)
    assert "b.whl is missing" in maintenance.status.find_problems(state)[0]


def test_a_scrub_parses_the_output_of_devpi_fsck(maintenance, files, store_file, fsck):
    public = store_file(b"public")
    (files / public).write_bytes(b"damaged")
    lost = "alice/private/+f/abc/def0123456789/b.whl"
    fsck(
        f"""2026-11-25 10:00:00,000 ERROR [CMD] {public} - a.whl: sha256 mismatch, expected 1, got 2
2026-11-25 10:00:00,000 WARNI [CMD] Missing file root/pypi/+f/000/0000000000000/c.whl
2026-11-25 10:00:00,000 ERROR [CMD] Missing file {lost}
2026-11-25 10:00:00,000 INFO  [CMD] Finished with a total of 3 files."""
    )
    state = maintenance.state.read_state()
    maintenance.integrity.scrub(state)
    assert {name: state["scrub"][name] for name in ("files", "damaged", "lost", "error")} == {
        "files": 3, "damaged": 1, "lost": [lost], "error": "",
    }  # fmt: skip
    (problem,) = maintenance.status.find_problems(state)
    assert problem.startswith(f"{lost} is missing and can't be downloaded again")


def test_mirrored_files_are_checked_without_the_database(maintenance, files, store_file, fsck):
    fsck("Finished with a total of 0 files")
    intact, damaged = store_file(b"intact"), store_file(b"damaged", kind="md5")
    private = store_file(b"private", "alice/private")
    for path in (damaged, private):
        (files / path).write_bytes(b"other")
    state = maintenance.state.read_state()
    maintenance.integrity.scrub(state)
    assert [(files / path).exists() for path in (intact, damaged, private)] == [True, False, True]
    # devpi-fsck checks files of other indexes, and it found none.
    assert (state["scrub"]["files"], state["scrub"]["damaged"], state["scrub"]["error"]) == (2, 1, "")
    assert maintenance.requested == ["/" + damaged]
