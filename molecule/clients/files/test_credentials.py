# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials of an index in ~/.netrc. credentials.yml configures them, and removes them before the second class."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from harness import on_host
from user_commands import BIN, PYTHON, attempt_as, exists, read_file, read_lines, run_as

VARIABLES = yaml.safe_load((Path(__file__).parents[1] / "vars" / "main.yml").read_text())
INDEX, PASSWORD = VARIABLES["index_with_password"], VARIABLES["index_password"]
ENTRY = f"machine localhost login reader password {PASSWORD}"
# The file of the user "netrc".
ORIGINAL = """# mine
machine localhost # old
  login ada password hers
machine example.com login ada password hers
macdef init
cd /pub

default login anonymous password x
"""
DOWNLOAD = (
    f"rm -rf ~/.local/six; {PYTHON} -m pip --disable-pip-version-check download --no-input --no-cache-dir --no-deps "
    "--dest ~/.local/six six"
)
INSTALL = (
    f"rm -rf ~/.local/six; {BIN}/uv -q venv ~/.local/six && cd ~/.local/six && {BIN}/uv pip install --no-cache six"
)


class TestConfigured:
    @pytest.mark.parametrize("command", [DOWNLOAD, INSTALL], ids=["pip", "uv"])
    def test_nothing_is_installed_without_the_password(self, command: str) -> None:
        assert attempt_as("dev", f"export NETRC=/dev/null; {command}").returncode != 0

    def test_old_and_new_versions_of_pip_download(self) -> None:
        print(
            run_as("dev", f"sh -e /var/tmp/pip_versions.sh {INDEX} /usr/bin/python3 /opt/pythons/3.8*/bin/python3", 3)
        )

    @pytest.mark.parametrize("user", ["dev", "netrc", "netrc_link", "nfs", "directory"])
    @pytest.mark.parametrize("command", [DOWNLOAD, INSTALL], ids=["pip", "uv"])
    def test_each_user_installs(self, user: str, command: str) -> None:
        run_as(user, command)
        run_as(user, "rm -rf ~/.local/six")

    def test_other_entries_are_preserved(self) -> None:
        assert read_file("/home/netrc/.netrc") == ORIGINAL.replace(
            "machine localhost # old\n  login ada password hers\n", f"{ENTRY}\n"
        )

    def test_a_linked_file_remains_a_link(self) -> None:
        on_host("test -L /home/netrc_link/.netrc")
        assert read_lines("/home/netrc_link/dotfiles/netrc") == ["# mine", "", ENTRY, ""]

    @pytest.mark.parametrize("user", ["dev", "netrc", "netrc_link"])
    def test_only_the_user_can_read_the_files(self, user: str) -> None:
        found = on_host(f"find -L /home/{user} -maxdepth 1 -name '.netrc*' -printf '%U %m\\n'").splitlines()
        assert set(found) == {on_host(f"id -u {user}").strip() + " 600"}

    def test_no_other_file_and_no_log_has_the_password(self) -> None:
        folders = "/etc /home /root /run /tmp /var/log /var/tmp"
        found = on_host(f"grep -rlsF --devices=skip -- {shlex.quote(PASSWORD)} {folders} || true").splitlines()
        names = {path.rpartition("/")[2] for path in found}
        # The record, in JSON, has it with escapes.
        assert names == {".netrc", "netrc"}
        assert on_host(f"journalctl --no-pager | grep -cF -- {shlex.quote(PASSWORD)} || true").strip() == "0"

    def test_pip_conf_has_no_credentials(self) -> None:
        assert f"index-url = {INDEX}" in read_lines("/home/dev/.config/pip/pip.conf")


class TestRemoved:
    def test_the_files_are_restored(self) -> None:
        assert read_file("/home/netrc/.netrc") == ORIGINAL
        assert read_file("/home/netrc_link/dotfiles/netrc") == "# mine"
        assert on_host("stat -c %a /home/netrc_link/dotfiles/netrc").strip() == "644"

    @pytest.mark.parametrize("name", [".netrc", ".netrc.devpi-mirror.json", ".netrc.before-devpi-mirror"])
    def test_a_created_file_is_removed(self, name: str) -> None:
        assert not exists(f"/home/dev/{name}")
