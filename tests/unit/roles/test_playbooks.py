# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles in third-party playbooks, and the report of the playbook doctor."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

HERE = Path(__file__).parent
ROLES = HERE.parents[2] / "roles"
# Stand for sudo. The first user may not use it, the other two become users with these UIDs, after a lecture.
SUDO = {
    "no-sudo": "#!/bin/sh\necho 'ada is not in the sudoers file.' >&2\nexit 1\n",
    "other-user": "1000",
    "root": "0",
}
SWITCH_USER = """#!/bin/sh
while [ "$1" != /bin/sh ]; do shift; done
echo lecture
PATH={folder}:$PATH exec "$@"
"""


def run(playbook: Path | str, inventory: Path, *options: str) -> dict[str, Any]:
    """Run a playbook, and return the JSON that describes the run."""
    program = Path(sys.executable).with_name("ansible-playbook")
    env = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_BECOME_ALLOW_SAME_USER": "1"}
    # It would print between the JSON.
    env.pop("ANSIBLE_CALLBACKS_ENABLED", None)
    command = [str(program), "--inventory", str(inventory), *options, str(playbook)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "{" in done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return result


def last_errors(report: dict[str, Any]) -> dict[str, str]:
    """Return the message of the last task that failed, by host."""
    return {
        host: re.sub(r"\s+", " ", str(result.get("msg")))
        for play in report["plays"]
        for task in play["tasks"]
        for host, result in task["hosts"].items()
        if result.get("failed")
    }


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def inventory(tmp_path):
    """Return an inventory with a host for each kind of sudo, and one that is unreachable."""
    hosts: dict[str, dict[str, Any]] = {}
    for name, text in SUDO.items():
        if text.isdigit():
            folder = write_program(tmp_path / name / "id", f"#!/bin/sh\necho {text}\n").parent
            text = SWITCH_USER.format(folder=folder)
        program = write_program(tmp_path / f"sudo-{name}", text)
        hosts[name] = {"ansible_connection": "local", "ansible_become_exe": str(program)}
    ssh = write_program(tmp_path / "ssh", "#!/bin/sh\nexit 255\n")
    hosts["unreachable"] = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}
    variables = {
        "ansible_become_method": "sudo",
        "ansible_python_interpreter": sys.executable,
        # With --start-at-task, Ansible gathers facts in all plays, which takes long and which no test needs.
        "ansible_facts_modules": [],
    }
    return write_json(tmp_path / "inventory.json", {"all": {"hosts": hosts, "vars": variables}})


@pytest.mark.parametrize("role", ["devpi_server", "docker_engine", "pip_client"])
def test_tasks_without_root_privileges_fail_with_the_reason(inventory, tmp_path, role):
    include = {"ansible.builtin.include_role": {"name": f"devpi.mirror.{role}", "tasks_from": "check"}}
    play = {"hosts": "all", "gather_facts": False, "ignore_unreachable": True, "tasks": [include]}
    report = run(write_json(tmp_path / "play.json", [play]), inventory)
    errors = last_errors(report)
    assert sorted(errors) == ["no-sudo", "other-user", "unreachable"]
    assert "needs root privileges" in errors["no-sudo"]
    assert "ada is not in the sudoers file" in errors["no-sudo"]
    assert errors["other-user"].endswith(" 1000")
    assert "This host is unreachable" in errors["unreachable"]


@pytest.mark.parametrize(("settings", "expected"), [({}, ["root"]), ({"pip_client_wait": False}, [])])
def test_a_play_that_starts_at_the_clients_waits_for_the_mirror(inventory, tmp_path, settings, expected):
    play = {"hosts": "root", "gather_facts": False, "roles": [{"role": "devpi.mirror.workstation"}]}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        variables = {
            "devpi_mirror_port": unused.getsockname()[1],
            "pip_client_wait_timeout": 0,
            "pip_client_find_users": False,
            "pip_client_users": [],
        }
        # Not extra variables, which take precedence over those of the role.
        play["vars"] = settings
        options = ["--start-at-task", "Configure the clients", "--extra-vars", json.dumps(variables)]
        report = run(write_json(tmp_path / "play.json", [play]), inventory, *options)
    assert [host for host, error in last_errors(report).items() if "no client was reconfigured" in error] == expected
    assert report["stats"]["root"]["changed"] == 0


class Devpi(BaseHTTPRequestHandler):
    """Responds as devpi does about the server and an index."""

    def do_GET(self) -> None:
        body = json.dumps({"result": {"simpleindex": "https://127.0.0.1/root/pypi/+simple/"}}).encode()
        self.send_response(200)
        self.send_header("X-Devpi-Server-Version", "6.20.3")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def company(tmp_path):
    """A server with TLS, and the file with its certificate authority, which the host does not trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Devpi) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, str(tmp_path / "company.pem")
        server.shutdown()
        thread.join()


def test_the_wait_for_an_index_trusts_the_authorities_of_pip(inventory, tmp_path, company):
    port, authority = company
    include = {"ansible.builtin.include_role": {"name": "devpi.mirror.pip_client", "tasks_from": "wait"}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [include]}
    content = json.loads(inventory.read_text())["all"]
    settings = {"unset": {}, "set": {"cert": authority}, "missing": {"cert": "/does/not/exist.pem"}}
    hosts = {
        name: {**content["hosts"]["root"], "pip_client_settings": {"global": options}}
        for name, options in settings.items()
    }
    clients = write_json(tmp_path / "clients.json", {"all": {"hosts": hosts, "vars": content["vars"]}})
    variables = {"pip_client_index_url": f"https://127.0.0.1:{port}/root/pypi/+simple/", "pip_client_wait_timeout": 5}
    report = run(write_json(tmp_path / "play.json", [play]), clients, "--extra-vars", json.dumps(variables))
    errors = last_errors(report)
    assert sorted(errors) == ["missing", "unset"]
    assert report["stats"]["set"]["ok"] > 0
    assert "certificate is not trusted" in errors["unset"]
    assert "could not read certificates from /does/not/exist.pem" in errors["missing"]


def test_paths_on_the_controller_can_begin_with_a_tilde(inventory, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for name, text in (("devpi.tar", ""), ("backup.tar", ""), ("requirements.txt", "numpy\n")):
        (home / name).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    role = ROLES / "devpi_server"
    variables = {
        "devpi_server_image_archive": "~/devpi.tar",
        "devpi_server_restore_file": "~/backup.tar",
        "devpi_server_restore_from": "controller",
        "devpi_server_prewarm": ["attrs", "-r ~/requirements.txt"],
    }
    conditions = [
        "__devpi_server_image_archive is file",
        "__devpi_server_restore_source is file",
        "__devpi_server_prewarm_files | reject('file') | length == 0",
        "__devpi_server_prewarm_lines == ['attrs', 'numpy']",
    ]
    play = {
        "hosts": "root",
        "gather_facts": False,
        "vars_files": [str(role / "defaults" / "main.yml"), *map(str, (role / "vars" / "main").glob("*.yml"))],
        "tasks": [{"ansible.builtin.assert": {"that": conditions}, "vars": variables}],
    }
    assert last_errors(run(write_json(tmp_path / "play.json", [play]), inventory)) == {}


def write_team(path: Path, inventory: Path, primaries: list[str]) -> Path:
    """Write an inventory with these primaries, and with this host as their only replica."""
    content = json.loads(inventory.read_text())["all"]
    groups = {
        "devpi_primary": {"hosts": {name: {} for name in primaries}},
        "devpi_replicas": {"hosts": {"root": content["hosts"]["root"]}},
    }
    return write_json(path, {"all": {"vars": content["vars"], "children": groups}})


@pytest.mark.parametrize("name", ["devpi.mirror.team", "devpi.mirror.promote"])
@pytest.mark.parametrize("primaries", [[], ["one", "two"]])
def test_an_inventory_without_exactly_one_primary_is_refused(inventory, tmp_path, name, primaries):
    team = write_team(tmp_path / "team.json", inventory, primaries)
    for playbook in (name, write_json(tmp_path / "play.json", [{"ansible.builtin.import_playbook": name}])):
        report = run(playbook, team, "--limit", "root")
        assert f"The group devpi_primary has {len(primaries)} hosts. Nothing was changed" in last_errors(report)["root"]


def test_the_playbook_team_deploys_replicas_of_the_primary(inventory, tmp_path):
    team = write_team(tmp_path / "team.json", inventory, ["one"])
    # The host names are checked last, so that nothing is deployed in any case.
    variables = {"devpi_server_init": "none", "devpi_server_allowed_hosts": ["*"]}
    imported = write_json(tmp_path / "play.json", [{"ansible.builtin.import_playbook": "devpi.mirror.team"}])
    for playbook in ("devpi.mirror.team", imported):
        report = run(playbook, team, "--limit", "root", "--extra-vars", json.dumps(variables))
        assert "devpi_server_role is 'replica', which needs" in last_errors(report)["root"]


@pytest.mark.parametrize("settings", [{}, {"devpi_server_role": "replica"}])
def test_the_playbook_site_makes_no_replica_a_standalone_server(inventory, tmp_path, settings):
    team = write_team(tmp_path / "team.json", inventory, ["one"])
    # The role refuses to change anything.
    variables = {"devpi_server_init": "none", "devpi_server_allowed_hosts": ["*"], **settings}
    report = run("devpi.mirror.site", team, "--limit", "root", "--extra-vars", json.dumps(variables))
    is_refused = "Nothing was changed. Run devpi.mirror.team" in last_errors(report)["root"]
    assert is_refused is not bool(settings)


# The first tasks that compare the states of servers.
CHECKS = {
    "team": "Check that the data of the primary is known",
    "promote": "Check that no other server is the primary",
}


def write_states(
    path: Path, inventory: Path, primary: dict[str, dict[str, Any]], replicas: dict[str, dict[str, Any]]
) -> Path:
    """Write an inventory with servers in these states. Roles refuse to change anything on them."""
    content = json.loads(inventory.read_text())["all"]
    groups = {
        group: {
            "hosts": {
                name: {**content["hosts"]["no-sudo"], "devpi_server_replication_state": state}
                for name, state in states.items()
            }
        }
        for group, states in (("devpi_primary", primary), ("devpi_replicas", replicas))
    }
    return write_json(path, {"all": {"vars": content["vars"], "children": groups}})


@pytest.mark.parametrize(("own", "is_refused"), [(None, True), ({"at": 6}, False)])
def test_a_former_primary_does_not_replace_the_promoted_one(inventory, tmp_path, own, is_refused):
    replicas = {"promoted": {"role": "primary", "promotion": {"at": 5.5}}, "unknown": {}}
    team = write_states(tmp_path / "team.json", inventory, {"former": {"role": "primary", "promotion": own}}, replicas)
    message = last_errors(run("devpi.mirror.promote", team, "--start-at-task", CHECKS["promote"]))["former"]
    expected = "promoted was promoted after former, and has newer data. Nothing was changed"
    assert (expected if is_refused else "needs root privileges") in message


@pytest.mark.parametrize(
    ("other", "is_refused"),
    [
        ({"primary_uuid": "of-primary", "serial": 6, "release": 6}, True),
        ({"primary_uuid": "of-primary", "serial": 5, "release": 6}, False),
        ({"primary_uuid": "of-other", "serial": 6, "release": 6}, False),
        # The upgraded primary has other serials.
        ({"primary_uuid": "of-upgraded", "serial": 4, "release": 7}, True),
        ({"primary_uuid": None, "serial": 0, "release": 7}, False),
        # The primary was restored.
        ({"primary_uuid": "of-primary", "serial": 6, "release": 6, "is_ahead": True}, False),
    ],
)
def test_a_replica_with_older_data_is_not_promoted(inventory, tmp_path, other, is_refused):
    own = {"role": "replica", "primary_uuid": "of-primary", "serial": 5, "release": 6, "is_ahead": False}
    replicas = {"other": {"role": "replica", "is_ahead": False, **other}, "unknown": {}}
    team = write_states(tmp_path / "team.json", inventory, {"chosen": own}, replicas)
    message = last_errors(run("devpi.mirror.promote", team, "--start-at-task", CHECKS["promote"]))["chosen"]
    expected = "other received more changes of the previous primary than chosen"
    assert (expected if is_refused else "needs root privileges") in message


REPLICAS = {
    "in-sync": {"role": "replica", "primary_uuid": "of-primary", "release": 6, "is_ahead": False},
    "ahead": {"role": "replica", "primary_uuid": "of-primary", "release": 6, "is_ahead": True},
    "without-changes": {"role": "replica", "primary_uuid": None, "release": 6, "is_ahead": False},
    "new": {"role": "none"},
    "unknown": {},
}
PRIMARY = {"role": "primary", "uuid": "of-primary", "primary_uuid": None, "release": 6, "is_ahead": False}


@pytest.mark.parametrize(
    ("primary", "refused", "reason"),
    [
        (PRIMARY, ["ahead"], "has changes that one does not have"),
        ({"role": "none"}, ["ahead", "in-sync"], "has replicated another primary than one, which has no data"),
        ({"role": "stopped"}, ["ahead", "in-sync"], "The data of one is unknown, as Docker is stopped there"),
        ({**PRIMARY, "uuid": "of-other"}, ["ahead", "in-sync"], "another primary than one, which has other data"),
        # The replicas get its new data.
        ({**PRIMARY, "uuid": "of-other", "release": 7}, [], ""),
    ],
)
def test_the_playbook_team_refuses_replicas_that_cannot_continue(inventory, tmp_path, primary, refused, reason):
    team = write_states(tmp_path / "team.json", inventory, {"one": primary}, REPLICAS)
    errors = last_errors(run("devpi.mirror.team", team, "--start-at-task", CHECKS["team"]))
    found = {host: error for host, error in errors.items() if host in REPLICAS and "needs root" not in error}
    assert sorted(found) == refused
    assert bool(refused) or "needs root privileges" in errors["one"]
    assert all(reason in error and "Nothing was changed. " in error for error in found.values())


@pytest.mark.parametrize(
    ("entry_point", "variable"),
    [("archive", "devpi_server_image_archive"), ("restore", "devpi_server_restore_file")],
)
def test_paths_on_the_host_that_begin_with_a_tilde_are_rejected(inventory, tmp_path, entry_point, variable):
    include = {"ansible.builtin.include_role": {"name": "devpi.mirror.devpi_server", "tasks_from": entry_point}}
    play = {"hosts": "root", "gather_facts": False, "vars": {variable: "~/file.tar"}, "tasks": [include]}
    report = run(write_json(tmp_path / "play.json", [play]), inventory)
    assert f"{variable} is '~/file.tar'" in last_errors(report)["root"]
    assert "Nothing was changed" in last_errors(report)["root"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Return the variables of the roles on a host that nothing is known about, and on one with several mirrors."""
    folder = tmp_path_factory.mktemp("variables")
    hosts: dict[str, Any] = {
        "unknown": {},
        "mirrors": {"__devpi_server_host": {"mirrors": [{"name": "b"}, {"name": "devpi"}], "init": "runit"}},
    }
    for host in hosts.values():
        host.update(ansible_connection="local", ansible_python_interpreter=sys.executable)
    inventory = write_json(folder / "inventory.json", {"all": {"hosts": hosts}})
    files = [path for role in ("docker_engine", "pip_client", "workstation") for path in (
        ROLES / role / "defaults" / "main.yml", ROLES / role / "vars" / "main.yml") if path.exists()]  # fmt: skip
    names = sorted({name for path in files for name in yaml.safe_load(path.read_text())})
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(path) for path in files],
        "tasks": [{"ansible.builtin.debug": {"msg": "{{ dict(names | zip(query('ansible.builtin.vars', *names))) }}"}}],
        "vars": {"names": names},
    }
    report = run(write_json(folder / "play.json", [play]), inventory)
    assert last_errors(report) == {}
    (task,) = report["plays"][0]["tasks"]
    return {host: result["msg"] for host, result in task["hosts"].items()}


def test_variables_of_a_role_can_be_printed_outside_of_it(evaluated):
    unknown = evaluated["unknown"]
    assert unknown["docker_engine_source"] == "distribution"
    assert unknown["__docker_engine_missing_packages"] == []
    assert unknown["__pip_client_contents"] == {}
    assert unknown["__workstation_needs_docker"] is True
    assert unknown["__workstation_mirrors"] == []


def test_other_mirrors_are_recognized(evaluated):
    assert evaluated["mirrors"]["__workstation_mirrors"] == ["b", "devpi"]
    assert evaluated["mirrors"]["__workstation_init"] == "runit"


def test_each_init_system_has_a_status_command():
    service = yaml.safe_load((ROLES / "devpi_server" / "vars" / "main" / "service.yml").read_text())
    workstation = yaml.safe_load((ROLES / "workstation" / "vars" / "main.yml").read_text())
    assert workstation["__workstation_status_commands"].keys() == service["__devpi_server_inits"].keys()


MIRROR = {
    "state": "degraded",
    "reasons": ["A file is damaged."],
    "up_since": "2026-11-02T08:00:12Z",
    "versions": {"devpi-web": "5.0", "devpi-server": "6.20.3"},
    "image": "devpi-mirror:0f3c",
    "image_created": "2026-09-01T00:00:00Z",
    "image_age_days": 62,
    "upstream": {"url": "https://packages.example.com/simple/", "reachable": False},
    "fallback": {"url": "https://example.org/simple/", "reachable": True, "in_use": True},
    "mirrors": [{"index": "root/other", "url": "https://packages.example.com/other/", "reachable": True}],
    "cache": {"files": 312, "bytes": 812_400_000},
    "limits": {"size": 20_000_000_000, "age": 0, "database": 1_000_000_000},
    "hit_rate": 0.926,
    "disk": {"free": 5_000_000_000, "total": 50_000_000_000},
    "database_bytes": 12_000_000,
    "last_scrub": {"at": "2026-11-01T03:00:00Z", "files": 312},
    "last_backup": None,
    "hidden": {
        "count": 1203,
        "files": [
            {"index": "root/pypi", "project": f"p{number:02}", "filename": "x", "rule": "block: p*", "available_at": None}
            for number in range(17)
        ] + [
            {"index": "acme/pypi", "project": "litellm", "filename": name, "rule": "min_release_age: 7d", "available_at": at}
            for name, at in {"b": "2026-12-02T00:00:00Z", "a": "2026-12-01T00:00:00Z"}.items()
        ] + [
            {"index": "acme/pypi", "project": "litellm", "filename": "c", "rule": "hide_yanked", "available_at": None},
            {"index": "acme/pypi", "project": "torch", "filename": "d", "rule": "hide_yanked", "available_at": None},
        ],
    },
}  # fmt: skip
USERS = [
    {
        "name": "ada",
        "index": "http://127.0.0.1:3141/root/pypi/+simple/",
        "source": "/home/ada/pip.conf",
        "problems": [],
    },
    {"name": "bob", "index": None, "source": "", "problems": ["pip uses its default index.", "Run the play."]},
]
THIRD_PARTY = {
    "state": "down",
    "reasons": [],
    "up_since": None,
    "versions": {},
    "image": None,
    "upstream": None,
    "cache": None,
}
REPORT = """\
State: degraded, up since 2026-11-02T08:00:12Z
Versions: devpi-server 6.20.3, devpi-web 5.0
Image: devpi-mirror:0f3c, 62 days old (2026-09-01T00:00:00Z)
Upstream: https://packages.example.com/simple/, unreachable
Fallback: https://example.org/simple/, reachable, in use
Upstream of root/other: https://packages.example.com/other/, reachable
Cache: 312 files, 812 MB of at most 20000 MB
Cache hit rate since the start: 93 %
Disk: 5000 MB free of 50000 MB
Database: 12 MB of at most 1000 MB
Last integrity check: 2026-11-01T03:00:00Z, 312 files
Last backup: never
Hidden by package policies: 1203 files
Hidden on acme/pypi: litellm, 1 file (hide_yanked)
Hidden on acme/pypi: litellm, 2 files (min_release_age: 7d, the first until 2026-12-01T00:00:00Z)
Hidden on acme/pypi: torch, 1 file (hide_yanked)
{BLOCKED}Hidden: 2 more groups of files, which the module devpi_info returns
pip of ada: http://127.0.0.1:3141/root/pypi/+simple/ (/home/ada/pip.conf)
pip of bob: pip's default index
PROBLEM: A file is damaged.
PROBLEM of bob: pip uses its default index. Run the play.
ADVICE: The image lacks the security updates of the last 62 days. Run devpi.mirror.site (or team) while the host is online.
""".replace("{BLOCKED}", "".join(f"Hidden on root/pypi: p{number:02}, 1 file (block: p*)\n" for number in range(15)))


@pytest.fixture
def doctor(tmp_path):
    """The tasks of the playbook doctor that print, by the last word of their names."""
    (tmp_path / "templates").symlink_to(ROLES.parent / "playbooks" / "templates")
    tasks = yaml.safe_load((ROLES.parent / "playbooks" / "doctor.yml").read_text())[0]["tasks"]
    return {task["name"].split()[-1]: task for task in tasks if "ansible.builtin.debug" in task}


TABLE = """\
HOST         ROLE        VERSION  SERIAL  LAG  STATE                  CERTIFICATE UNTIL  LAST BACKUP
mirror       standalone  6.20.3   0       -    1 problem              -                  2026-11-01T03:00:00Z
no-docker    -           -        -       -    no mirror              -                  -
primary      primary     6.20.3   9       -    healthy                2027-01-29         -
replica      replica     6.20.3   7       2    2 problems             -                  -
stopped      -           -        -       -    down, 1 problem        -                  -
unreachable  -           -        -       -    unreachable or failed  -                  -
"""


def test_the_table_of_the_doctor(inventory, tmp_path, doctor):
    running = {
        **MIRROR,
        "state": "ok",
        "reasons": [],
        "last_backup": None,
        "serial": 7,
        "versions": {"devpi-server": "6.20.3"},
    }
    unknown = {**THIRD_PARTY, "role": None, "serial": None, "reasons": ["It is stopped."]}
    mirrors = {
        "stopped": {**unknown, "image": "devpi-mirror:0f3c"},
        "replica": {
            **running,
            "state": "degraded",
            "role": "replica",
            "reasons": ["a", "b"],
            "replication": {"role": "replica", "lag": 2},
        },
        "primary": {
            **running,
            "role": "primary",
            "serial": 9,
            "certificate_expires": "2027-01-29T12:00:00Z",
            "replication": {"role": "primary", "replicas": []},
        },
        "no-docker": unknown,
        "mirror": {
            **running,
            "state": "degraded",
            "role": "standalone",
            "serial": 0,
            "reasons": ["a"],
            "replication": None,
            "certificate_expires": None,
            "last_backup": {"at": "2026-11-01T03:00:00Z"},
        },
    }
    hosts: dict[str, Any] = {name: {"devpi_server_info": mirror} for name, mirror in mirrors.items()}
    for host in hosts.values():
        host.update(ansible_connection="local", ansible_python_interpreter=sys.executable)
    # The first host, on which a task with run_once runs while it is reachable.
    unreachable = json.loads(inventory.read_text())["all"]["hosts"]["unreachable"]
    hosts = {"unreachable": unreachable, **hosts}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": None}, doctor["hosts"]]}
    playbook = write_json(tmp_path / "play.json", [play])
    report = run(playbook, write_json(tmp_path / "servers.json", {"all": {"hosts": hosts}}))
    (result,) = (result["msg"] for result in report["plays"][0]["tasks"][1]["hosts"].values() if "msg" in result)
    assert result == TABLE.splitlines()
    report = run(playbook, tmp_path / "servers.json", "--limit", "mirror")
    assert report["plays"][0]["tasks"][1]["hosts"]["mirror"]["skipped"]


def test_the_report_of_the_doctor(tmp_path, doctor):
    play = {"hosts": "all", "gather_facts": False, "tasks": [doctor["report"]]}
    hosts: dict[str, Any] = {
        "mirror": {"devpi_server_info": MIRROR, "pip_client_info": {"users": USERS}},
        "third-party": {"devpi_server_info": THIRD_PARTY, "pip_client_info": {"users": []}},
    }
    replicas = [{"address": "192.0.2.7", "serial": 7, "last_request": "2026-11-01T03:00:00Z"}]
    replica = {
        "primary_url": "https://pypi.example.com",
        "primary_serial": 9,
        "last_in_sync": "2026-11-01T03:00:00Z",
        "last_update": None,
        "clock_offset": -0.3,
    }
    for name, replication in (
        ("primary", {"role": "primary", "serial": 9, "replicas": replicas}),
        ("replica", {"role": "replica", "serial": 7, **replica}),
    ):
        hosts[name] = {**hosts["third-party"], "devpi_server_info": {**THIRD_PARTY, "replication": replication}}
    # The image of an earlier release does not record the kind of a backup.
    for name, kind in (("scheduled", {"scheduled": True}), ("manual", {})):
        last_backup = {"at": "2026-11-01T03:00:00Z", "file": "devpi.tar", **kind}
        hosts[name] = {**hosts["mirror"], "devpi_server_info": {**MIRROR, "last_backup": last_backup}}
    inventory = write_json(tmp_path / "inventory.json", {"all": {"hosts": hosts}})
    report = run(write_json(tmp_path / "play.json", [play]), inventory)
    (result,) = report["plays"][0]["tasks"]
    assert result["hosts"]["mirror"]["msg"] == REPORT.splitlines()
    assert result["hosts"]["replica"]["msg"] == [
        "State: down",
        "Replica of https://pypi.example.com: serial 7 of 9",
        "Last in sync: 2026-11-01T03:00:00Z, last update: never since the start",
        "Clock: 0.3 s behind that of the primary",
    ]
    assert result["hosts"]["primary"]["msg"] == [
        "State: down",
        "Primary with serial 9",
        "Replica 192.0.2.7: serial 7, last request 2026-11-01T03:00:00Z",
    ]
    assert "Last backup: 2026-11-01T03:00:00Z (scheduled)" in result["hosts"]["scheduled"]["msg"]
    assert "Last backup: 2026-11-01T03:00:00Z" in result["hosts"]["manual"]["msg"]
    assert result["hosts"]["third-party"]["msg"] == ["State: down"]
