# SPDX-License-Identifier: GPL-3.0-or-later
"""Changed settings replace the previous ones. changed_settings.yml applies those of each class before its tests."""

from __future__ import annotations

import pytest
from harness import on_host
from user_commands import BIN, INDEX, PYTHON, exists, read_file, read_lines, run_as

PROJECT = '[project]\nname = "x"\nversion = "0"\nrequires-python = ">=3.8"\ndependencies = ["colorama"]\n'


class TestUvDefaultIndex:
    def test_a_lock_file_names_the_mirror(self) -> None:
        folder = "~/.local/locks"
        write = f"rm -rf {folder}; mkdir -p {folder}; cd {folder} && printf %s '{PROJECT}' >pyproject.toml"
        run_as("dev", f"{write} && {BIN}/uv lock", attempts=3)
        assert "127.0.0.1:3141" in read_file("/home/dev/.local/locks/uv.lock")

    def test_the_default_index_of_a_user_is_replaced(self) -> None:
        assert read_lines("/home/tooled/.config/uv/uv.toml").count("[[index]]") == 1

    @pytest.mark.parametrize("path", ["/home/dev/.config/pip", "/etc/profile.d/devpi-mirror-pipenv.sh"])
    def test_files_of_removed_tools_are_removed(self, path: str) -> None:
        assert not exists(path)

    def test_edited_files_of_removed_tools_are_restored(self) -> None:
        lines = read_lines("/home/linked/dotfiles/pip.conf")
        assert "timeout = 9" in lines
        assert not [line for line in lines if "index-url" in line]


class TestGlobalScope:
    @pytest.mark.parametrize("user", ["ada", "dev", "directory", "nfs"])
    def test_pip_uses_the_mirror_without_a_file_of_the_user(self, user: str) -> None:
        assert INDEX in run_as(user, f"{PYTHON} -m pip config list")
        # As the user, because root can't read the home of "nfs".
        assert run_as(user, "cd; ls -d .config/pip .config/uv .config/pdm 2>/dev/null || true") == ""

    def test_pdm_uses_the_mirror(self) -> None:
        assert run_as("dev", f"{BIN}/pdm config pypi.url").strip() == INDEX

    def test_poetry_uses_the_mirror(self) -> None:
        assert run_as("dev", "echo $POETRY_PYPI_MIRROR_URL").strip() == INDEX

    def test_uv_uses_the_mirror(self) -> None:
        create = f"rm -rf ~/.local/global && {BIN}/uv venv -q ~/.local/global && cd ~/.local/global"
        output = run_as("dev", f"{create} && {BIN}/uv pip install -v --no-cache tomli 2>&1", attempts=3)
        assert "127.0.0.1:3141" in output

    @pytest.mark.parametrize(
        ("path", "mode"),
        [("/etc/pip.conf", 644), ("/etc/uv", 755), ("/etc/uv/uv.toml", 644), ("/etc/xdg/pdm/config.toml", 644)],
    )
    def test_global_files_belong_to_root_and_are_readable(self, path: str, mode: int) -> None:
        assert on_host(f"stat -c '%a %U' {path}").strip() == f"{mode} root"


class TestUsedLegacyFile:
    def test_other_files_are_removed(self) -> None:
        for path in ("/home/dev/.config/pip", "/etc/pip.conf", "/etc/uv"):
            assert not exists(path), path

    def test_pip_uses_the_mirror(self) -> None:
        assert exists("/home/dev/.pip/pip.conf")
        assert run_as("dev", f"{PYTHON} -m pip config get global.index-url").strip() == INDEX


class TestSingleUser:
    def test_the_selected_user_uses_the_mirror(self) -> None:
        assert run_as("dev", f"{PYTHON} -m pip config get global.index-url").strip() == INDEX

    @pytest.mark.parametrize("user", ["root", "ada", "listed", "directory", "nfs"])
    def test_files_of_other_users_are_removed(self, user: str) -> None:
        # As the user, because root can't read the home of "nfs".
        assert run_as(user, "cd; ls -d .pip .config/pip 2>/dev/null || true") == ""

    def test_a_file_of_another_user_is_restored(self) -> None:
        original = "[global]\nindex-url = https://example.com/simple\ntimeout = 9\n"
        assert read_file("/home/legacy/.pip/pip.conf") == original


class TestMigratedLegacyFile:
    def test_legacy_files_are_removed(self) -> None:
        for path in ("/home/legacy/.pip/pip.conf", "/home/dev/.pip"):
            assert not exists(path), path

    def test_settings_are_migrated(self) -> None:
        lines = read_lines("/home/legacy/.config/pip/pip.conf")
        assert "timeout = 9" in lines
        assert f"index-url = {INDEX}" in lines


class TestChangedConfigHome:
    def test_files_in_the_previous_directory_are_removed(self) -> None:
        assert exists("/home/xdg/.other/pip/pip.conf")
        assert not exists("/home/xdg/.settings")
