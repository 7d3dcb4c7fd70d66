# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _api
from ansible_collections.devpi.mirror.plugins.modules import devpi_index, devpi_index_info, devpi_user_info

ROOT = {"url_username": "root", "url_password": "secret-of-root"}
MIRROR = {"type": "mirror", "mirror_url": "https://example.com/simple/"}
POLICIES = {
    "min_release_age": "7d",
    "min_release_age_exceptions": ["urllib3==2.5.1"],
    "block": ["evil-*", "litellm==1.82.7"],
    "allow": ["*"],
    "hide_yanked": True,
}
CHECK = ("GET", "/acme/pypi/+policy/pip")
DEFAULTS = {
    6: {
        "type": "stage",
        "volatile": True,
        "acl_upload": ["acme"],
        "acl_toxresult_upload": [":ANONYMOUS:"],
        "bases": [],
        "mirror_whitelist": [],
        "mirror_whitelist_inheritance": "intersection",
    },
    7: {
        "type": "local",
        "volatile": True,
        "acl_upload": ["acme"],
        "acl_toxresult_upload": [":ANONYMOUS:"],
        "bases": [],
        "project_inheritance_rules": ["block type:remote if local_exists"],
    },
}


@pytest.fixture
def acme(server):
    """The server with the user acme and the indexes acme/dev (private), acme/pypi (mirror) and acme/old (inherits from dev)."""
    major = int(server.version[0])
    mirror = {"type": "mirror", "mirror_url": "https://example.com/simple/"}
    if major == 7:
        mirror = {"type": "remote", "remote_url": "https://example.com/simple/"}
    server.users["acme"] = {
        "indexes": {
            "dev": dict(DEFAULTS[major]),
            "old": {**DEFAULTS[major], "bases": ["acme/dev"]},
            "pypi": {**mirror, "volatile": False},
        }
    }
    return server


def run(run_module, name, check_mode=False, **options):
    return run_module(devpi_index, {**ROOT, "name": name, **options}, check_mode, diff=True)


def policy(*rules):
    """Return the response to a request for the policy of a project, with these rules that hide files."""
    hidden = [{"filename": "pip-26.0.tar.gz", "rule": rule, "available_at": None} for rule in rules]
    return 200, {"type": "policy", "result": {"project": "pip", "listed": 3, "hidden": hidden}}


def failure(run_module, name, **options):
    ended = run(run_module, name, **options)
    assert ended.failed
    assert "Nothing was changed." in ended.result["msg"]
    return ended.result["msg"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("acme/new", {}),
        ("acme/new", {"bases": ["acme/dev", "acme/pypi"], "volatile": False, "mirror_whitelist": ["*"]}),
        ("acme/new", MIRROR),
        ("acme/dev", {"acl_upload": [], "title": "x", "mirror_whitelist_inheritance": "union"}),
        ("acme/dev", {"state": "absent"}),
        ("acme/pypi", {"mirror_cache_expiry": 5, "mirror_no_project_list": True}),
        ("acme/pypi", {"state": "absent", "force": True}),
        ("acme/pypi", POLICIES),
        ("acme/pypi", {"block": ["evil-*"], "title": "x"}),
    ],
)
def test_check_mode_predicts_the_change_and_a_second_run_changes_nothing(run_module, acme, name, options):
    acme.refusals[CHECK] = policy()
    predicted = run(run_module, name, check_mode=True, **options)
    assert acme.changes == []
    changed = run(run_module, name, **options)
    assert not changed.failed
    # A new index has the defaults of the real server, which the fake one lacks.
    if name != "acme/new":
        assert predicted.result == changed.result
    assert changed.result["changed"]
    assert predicted.result["changed"]
    assert acme.changes
    acme.requests.clear()
    again = run(run_module, name, **options)
    assert not again.result["changed"]
    assert again.result["diff"]["before"] == again.result["diff"]["after"]
    assert acme.changes == []


def test_predicted_defaults_are_those_of_devpi(run_module, acme):
    predicted = run(run_module, "acme/new", check_mode=True).result["settings"]
    acme.refusals["PUT", "/acme/new"] = (200, {"result": DEFAULTS[int(acme.version[0])]})
    assert run(run_module, "acme/new").result["settings"] == predicted


def test_a_change_sends_what_differs_and_the_settings_of_plugins(run_module, acme):
    acme.users["acme"]["indexes"]["dev"]["constraints"] = "pip<20"
    ended = run(run_module, "acme/dev", title="x", volatile=True, acl_upload=["acme"])
    assert acme.changes == [("PATCH", "/acme/dev", {"title": "x", "constraints": "pip<20"})]
    assert ended.result["settings"]["constraints"] == "pip<20"
    assert "constraints" not in ended.result["diff"]["after"]


@pytest.mark.parametrize(
    ("name", "current", "wanted", "is_equal"),
    [
        ("acl_upload", ["a", "b"], ["b", "a"], True),
        ("acl_upload", ["a"], [], False),
        ("mirror_whitelist", None, [], True),
        ("bases", ["a/b", "a/c"], ["a/c", "a/b"], False),
        ("bases", ["a/b"], ["a/b"], True),
        ("title", None, "", True),
        ("title", "x", "", False),
        ("mirror_no_project_list", None, False, True),
        ("mirror_no_project_list", None, True, False),
        ("mirror_cache_expiry", None, 0, False),
        ("mirror_cache_expiry", 5, 5, True),
        ("custom_data", None, {}, True),
        ("custom_data", {"a": 1}, {}, False),
        ("custom_data", {"a": [1]}, {"a": [1]}, True),
        ("volatile", True, False, False),
        ("block", ["a", "b==1"], ["b==1", "a"], True),
        ("allow", None, [], True),
        ("min_release_age", "", "", True),
        ("min_release_age", "7d", "", False),
        ("hide_yanked", None, False, True),
    ],
)
def test_is_equal(name, current, wanted, is_equal):
    assert devpi_index.is_equal(name, current, wanted) is is_equal


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("acl_upload", [":anonymous:", " ada ", "ada"], [":ANONYMOUS:", "ada"]),
        ("acl_toxresult_upload", [":Authenticated:"], [":AUTHENTICATED:"]),
        ("mirror_whitelist", ["Foo_Bar", "foo.bar", "*"], ["foo-bar", "*"]),
        ("bases", ["/root/pypi/", "root/pypi"], ["root/pypi"]),
        ("bases", [], []),
    ],
)
def test_lists_are_those_that_devpi_stores(name, value, stored):
    assert devpi_index.list_of(name, value) == stored


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("acme", {}, "is not a valid name"),
        ("acme/a b", {}, "is not a valid name"),
        ("acme/dev?x", {"state": "absent"}, "is not a valid name"),
        ("eve/dev", {}, "the user eve does not exist"),
        ("acme/new", {"type": "mirror"}, "without mirror_url"),
        ("acme/dev", {"type": "mirror", "mirror_url": "https://x.example/"}, "is a private index"),
        ("acme/pypi", {"type": "private"}, "is a mirror index"),
        ("acme/pypi", {"bases": []}, "A mirror index has no setting bases"),
        ("acme/pypi", {"acl_upload": ["ada"]}, "A mirror index has no setting acl_upload"),
        ("acme/dev", {"mirror_url": "https://x.example/"}, "A private index has no setting mirror_url"),
        ("acme/pypi", {"mirror_url": "example.com/simple"}, "not a valid URL"),
        ("acme/pypi", {"mirror_url": "https://[x/"}, "not a valid URL"),
        ("acme/pypi", {"mirror_url": "HTTP://x.example/"}, "not a valid URL"),
        ("acme/pypi", {"mirror_cache_expiry": -1}, "below zero"),
        ("acme/dev", {"bases": ["eve/dev"]}, "eve/dev, which does not exist"),
        ("acme/dev", {"bases": ["pypi"]}, "bases: 'pypi' is not a valid name"),
        ("acme/dev", {"bases": ["acme/dev"]}, "inherit from itself"),
        ("acme/dev", {"bases": ["acme/pypi", "acme/old"]}, "inherit from itself"),
        ("acme/dev", {"acl_upload": [""]}, "an empty value"),
        ("acme/dev", {"acl_upload": ["root", "eve"]}, "acl_upload contains eve, and this user does not exist"),
        ("acme/new", {"acl_toxresult_upload": ["eve"]}, "acl_toxresult_upload contains eve"),
        ("acme/dev", {"block": ["evil"]}, "A private index has no setting block"),
        ("acme/pypi", {"min_release_age": "7"}, "min_release_age is '7'"),
        ("acme/pypi", {"min_release_age": "99999999999999d"}, "more than 100 years"),
        ("acme/pypi", {"min_release_age": "36525.1d"}, "more than 100 years"),
        ("acme/pypi", {"block": ["evil*", "torch 2"]}, "block contains 'torch 2'"),
        ("acme/pypi", {"allow": "torch>=2,<3"}, "allow contains '<3'"),
        ("acme/pypi", {"upload_time_project": "a b"}, "upload_time_project: 'a b'"),
        ("acme/pypi", {"mirror_url": "https://ada:5/secret@x.example/"}, "contains credentials"),
        ("acme/pypi", {"state": "absent"}, "is a mirror index"),
    ],
)
def test_refused_before_a_change(run_module, acme, name, options, reason):
    assert reason in failure(run_module, name, **options)
    assert acme.changes == []


@pytest.mark.parametrize(
    "text",
    [
        "torch",
        "evil-*",
        "*",
        "*-nightly",
        "litellm==1.82.7",
        "torch>=2,<3",
        "a.b_c ~= 1.4.2, != 1.5.*",
        "x==1!2.0rc1.post2.dev3+cu118",
        "x>=1.0-1",
        "x==v1",
        "x===weird",
        "X < 2a1",
    ],
)
def test_valid_requirements(text):
    assert devpi_index.list_of("block", [f" {text} "]) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "<3",
        "torch 2",
        "torch=2",
        "torch[cuda]",
        "-x",
        "x-",
        "x==",
        "x==1,",
        "x~=1",
        "x>=1.*",
        "x>1+local",
        "x; y",
        "x @ http://y",
        "x==1 2",
        "x\n==1a\n0",
        "\u017fix",
        "x==1.0prev\u0130ew1",
    ],
)
def test_invalid_requirements(text):
    with pytest.raises(_api.RefusedError, match="not a requirement") as refused:
        devpi_index.list_of("block", ["ok", text])
    assert "block: ['litellm==1.82.7', 'evil-*', 'torch>=2,<3']" in refused.value.remedy


@pytest.mark.parametrize("text", ["", "7d", "1.5h", "30m", "90s"])
def test_valid_ages(text):
    settings = dict.fromkeys(devpi_index.SETTINGS)
    assert devpi_index.wanted_settings({**settings, "min_release_age": f" {text}"}) == {"min_release_age": text}


@pytest.mark.parametrize("text", ["7", "7 d", "7w", "d", "-7d", "7D", "0x7d"])
def test_invalid_ages(text):
    settings = dict.fromkeys(devpi_index.SETTINGS)
    with pytest.raises(_api.RefusedError, match="as in 7d"):
        devpi_index.wanted_settings({**settings, "min_release_age": text})


def test_a_change_keeps_the_package_policies(run_module, acme):
    acme.users["acme"]["indexes"]["pypi"].update(POLICIES, min_release_age_exceptions=[])
    run(run_module, "acme/pypi", title="x", block=list(reversed(POLICIES["block"])))
    (change,) = acme.changes
    assert change == ("PATCH", "/acme/pypi", {**POLICIES, "min_release_age_exceptions": [], "title": "x"})


def test_diff_has_no_empty_policies(run_module, acme):
    acme.users["acme"]["indexes"]["pypi"].update(min_release_age="", block=["a"], allow=[], hide_yanked=False)
    diff = run(run_module, "acme/pypi", block=[], hide_yanked=True).result["diff"]
    assert (diff["before"]["block"], diff["after"]["hide_yanked"]) == (["a"], True)
    assert {"min_release_age", "allow", "hide_yanked"} & set(diff["before"]) == set()
    assert "block" not in diff["after"]


@pytest.mark.parametrize(("name", "method"), [("acme/pypi", "PATCH"), ("acme/new", "PUT")])
def test_server_without_package_policies(run_module, acme, name, method):
    text = "indexconfig got unexpected keyword arguments: block=['evil']"
    acme.refusals[method, f"/{name}"] = (400, {"message": text})
    options = {} if name == "acme/pypi" else MIRROR
    message = failure(run_module, name, block=["evil"], **options)
    assert "does not support block, for which it needs the image of this collection" in message
    acme.plugins = {}
    assert run(run_module, name, check_mode=True, block=["evil"], **options).result["msg"] == message
    assert run(run_module, name, check_mode=True, block=[], **options).result["changed"] is (name == "acme/new")
    acme.refusals["GET", "/+status"] = (403, {})
    assert run(run_module, name, check_mode=True, block=["evil"], **options).result["changed"]
    acme.refusals[method, f"/{name}"] = (400, {"message": "other"})
    assert "status 400: other" in failure(run_module, name, block=["evil"], **options)


def test_empty_policies_are_not_sent_to_a_new_index(run_module, acme):
    assert run(run_module, "acme/new", block=[], min_release_age="", hide_yanked=False, **MIRROR).result["changed"]
    assert {"block", "min_release_age", "hide_yanked"} & set(acme.changes[0][2]) == set()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (
            policy("block: x", "min_release_age: 7d, no upload time"),
            "lists no upload times, which min_release_age needs",
        ),
        ((404, {"message": "no project"}), "has no project pip"),
        ((503, {"message": "unreachable"}), "Could not check whether the upstream of"),
    ],
)
def test_missing_upload_times_restore_the_index(run_module, acme, response, reason):
    name = "mirror_url" if acme.version[0] == "6" else "remote_url"
    pypi = acme.users["acme"]["indexes"]["pypi"]
    pypi.update(min_release_age="3d", block=["evil"], title="x")
    before = dict(pypi)
    acme.refusals[CHECK] = response
    changes = {"min_release_age": "7d", "mirror_url": "https://x.example/", "mirror_cache_expiry": 5, "title": "y"}
    assert reason in failure(run_module, "acme/pypi", **changes)
    assert acme.changes[0][2][name] == "https://x.example/"
    assert acme.users["acme"]["indexes"]["pypi"] == before
    # devpi adds the settings of plugins, with their defaults.
    del pypi["min_release_age"]
    acme.users["acme"]["indexes"]["pypi"] = pypi
    assert reason in failure(run_module, "acme/pypi", min_release_age="7d")
    assert acme.users["acme"]["indexes"]["pypi"]["min_release_age"] == ""


@pytest.mark.parametrize("volatile", [True, False])
def test_missing_upload_times_remove_a_new_index(run_module, acme, volatile):
    acme.refusals["GET", "/acme/new/+policy/foo-bar"] = policy("min_release_age: 7d, no upload time")
    options = {**MIRROR, "volatile": volatile, "min_release_age": "7d", "upload_time_project": "Foo_Bar"}
    assert "for files of foo-bar" in failure(run_module, "acme/new", **options)
    assert "new" not in acme.users["acme"]["indexes"]
    assert run(run_module, "acme/new", check_mode=True, **options).result["changed"]


def test_settings_that_can_not_be_restored(run_module, acme, monkeypatch):
    monkeypatch.setattr(
        devpi_index.Index, "restore", lambda index, *_args: index.api.change("restore", "PATCH", "/x", {})
    )
    acme.refusals["PATCH", "/x"] = (500, {})
    ended = run(run_module, "acme/pypi", min_release_age="7d")
    assert ended.failed
    assert "could not be restored: Could not restore" in ended.result["msg"]
    assert "Nothing was changed." not in ended.result["msg"]


@pytest.mark.parametrize(
    ("current", "options", "is_checked"),
    [
        ("7d", {"title": "x"}, False),
        ("7d", {"min_release_age": "7d"}, False),
        ("7d", {"min_release_age": ""}, False),
        ("", {"mirror_url": "https://x.example/"}, False),
        ("7d", {"mirror_url": "https://x.example/"}, True),
        ("7d", {"min_release_age": "3d"}, True),
    ],
)
def test_when_upload_times_are_checked(run_module, acme, current, options, is_checked):
    acme.users["acme"]["indexes"]["pypi"]["min_release_age"] = current
    acme.refusals[CHECK] = policy("min_release_age: 3d")
    assert not run(run_module, "acme/pypi", **options).failed
    assert ((*CHECK, None) in acme.requests) is is_checked


def test_users_and_bases_can_be_missing_in_check_mode(run_module, acme):
    ended = run(run_module, "eve/dev", check_mode=True, bases=["eve/base"], acl_upload=["eve"])
    assert ended.result["settings"]["bases"] == ["eve/base"]


def test_groups_and_unchanged_users_are_not_checked(run_module, acme):
    acme.users["acme"]["indexes"]["dev"]["acl_upload"] = ["removed"]
    options = {"acl_upload": ["removed"], "acl_toxresult_upload": [":ldap-group", ":AUTHENTICATED:"]}
    assert run(run_module, "acme/dev", **options).result["changed"]


def test_users_of_an_ldap_server_are_not_checked(run_module, acme):
    assert run(run_module, "acme/dev", acl_read=["eve"], external_users=True).result["changed"]


def test_a_missing_base_does_not_prevent_other_changes(run_module, acme):
    acme.users["acme"]["indexes"]["dev"]["bases"] = ["acme/removed"]
    assert run(run_module, "acme/dev", title="x").result["changed"]
    assert acme.changes == [("PATCH", "/acme/dev", {"title": "x"})]


def test_non_volatile_index_with_packages(run_module, acme):
    acme.users["acme"]["indexes"]["dev"]["volatile"] = False
    acme.projects["/acme/dev"] = ["hello"]
    assert "not volatile and has packages" in failure(run_module, "acme/dev", state="absent")
    assert acme.changes == []
    assert run(run_module, "acme/dev", state="absent", force=True).result["changed"]
    assert [change[0] for change in acme.changes] == ["PATCH", "DELETE"]


def test_non_volatile_index_without_packages(run_module, acme):
    acme.users["acme"]["indexes"]["dev"]["volatile"] = False
    assert run(run_module, "acme/dev", state="absent").result["changed"]


def test_failed_removal_makes_the_index_non_volatile_again(run_module, acme):
    acme.refusals["DELETE", "/acme/pypi"] = (500, {})
    assert "Could not remove the index acme/pypi" in failure(run_module, "acme/pypi", state="absent", force=True)
    assert acme.users["acme"]["indexes"]["pypi"]["volatile"] is False


def test_setting_that_devpi_ignores(run_module, acme):
    acme.refusals["PATCH", "/acme/dev"] = (200, {"result": DEFAULTS[int(acme.version[0])]})
    ended = run(run_module, "acme/dev", title="x")
    assert ended.failed
    assert "did not store title" in ended.result["msg"]


def test_credentials_in_a_url_are_not_in_the_output(run_module, acme):
    secret = "https://ada:s3cr3t@example.com/simple/"
    message = failure(run_module, "acme/new", type="mirror", mirror_url=secret)
    assert "contains credentials" in message
    assert "s3cr3t" not in message
    name = "mirror_url" if acme.version[0] == "6" else "remote_url"
    acme.users["acme"]["indexes"]["pypi"][name] = secret
    for ended in (
        run(run_module, "acme/pypi", title="x"),
        run(run_module, "acme/pypi", mirror_url="https://example.com/simple/"),
        run_module(devpi_index_info, {}),
    ):
        assert not ended.failed
        assert "s3cr3t" not in json.dumps(ended.result)


def test_invocation_masks_credentials_in_a_url(run_module, acme, monkeypatch):
    values = set()
    monkeypatch.setattr(devpi_index, "run", lambda module: values.update(module.no_log_values) or {})
    run(run_module, "acme/new", type="mirror", mirror_url="https://ada:s3cr3t@example.com/simple/")
    assert {"ada:s3cr3t", "secret-of-root"} <= values


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        ({"url_username": "root", "url_password": "wrong"}, "url_password is wrong"),
        ({"url_username": "acme", "url_password": "own"}, "the user acme has no permission"),
        ({"url_username": None, "url_password": None}, "url_username is empty"),
    ],
)
def test_login(run_module, acme, login, reason):
    acme.passwords["acme"] = "own"
    assert reason in failure(run_module, "acme/dev", title="x", **login)
    assert "title" not in acme.users["acme"]["indexes"]["dev"]


def test_token_that_can_not_log_in(run_module, acme):
    acme.can_log_in = False
    assert run(run_module, "acme/dev", title="x").result["changed"]
    assert "url_password is wrong" in failure(run_module, "acme/dev", title="y", url_password="wrong")


def test_failed_login(run_module, acme):
    acme.refusals["POST", "/+login"] = (500, {})
    ended = run(run_module, "acme/dev", title="x")
    assert (ended.failed, ended.result["status"]) == (True, 500)
    assert acme.changes == []


def test_info(run_module, acme):
    acme.projects["/acme/dev"] = ["b", "a"]
    found = run_module(devpi_index_info, {}).result["indexes"]
    assert sorted(found) == ["acme/dev", "acme/old", "acme/pypi"]
    assert found["acme/pypi"] == {**MIRROR, "volatile": False}
    assert found["acme/dev"]["type"] == "private"
    one = run_module(devpi_index_info, {"name": "acme/dev", "projects": True}).result["indexes"]
    assert one["acme/dev"]["projects"] == ["a", "b"]
    assert run_module(devpi_index_info, {"name": "acme/none"}).result["indexes"] == {}
    assert "projects requires name" in run_module(devpi_index_info, {"projects": True}).result["msg"]
    assert "is not a valid name" in run_module(devpi_index_info, {"name": "acme"}).result["msg"]


@pytest.mark.parametrize(
    "result", [{"type": "mirror", "volatile": False, "custom_data": {}}, {"username": "acme", "indexes": {}}, None]
)
def test_the_url_of_a_user_or_an_index_is_not_that_of_the_server(run_module, acme, result):
    acme.refusals["GET", "/"] = (200, {"result": result})
    acme.refusals["POST", "/+login"] = (404, {"message": "The stage root/+login could not be found."})
    runs = [run_module(devpi_index_info, {}), run_module(devpi_user_info, {}), run(run_module, "acme/dev", title="x")]
    for ended in runs:
        assert ended.failed
        assert "url is not that of a devpi server" in ended.result["msg"]
        assert "Set url to that of the server" in ended.result["msg"]


@pytest.fixture(params=["PATCH", "DELETE"])
def removed_at(request, acme, monkeypatch):
    """The method of the request before which another client removes the index acme/dev. devpi refuses it with 403."""
    answer = acme.answer

    def race(client, method, path, body):
        if (method, path) == (request.param, "/acme/dev"):
            acme.users["acme"]["indexes"].pop("dev", None)
        is_refused = method in ("PATCH", "DELETE") and "dev" not in acme.users["acme"]["indexes"]
        return (403, {"message": "Access was denied"}) if is_refused else answer(client, method, path, body)

    monkeypatch.setattr(acme, "answer", race)
    return request.param


@pytest.mark.parametrize("volatile", [True, False])
def test_removal_while_another_client_removes_the_index(run_module, acme, removed_at, volatile):
    acme.users["acme"]["indexes"]["dev"]["volatile"] = volatile
    ended = run(run_module, "acme/dev", state="absent", force=True)
    assert (ended.failed, ended.result["changed"]) == (False, True)
    assert "dev" not in acme.users["acme"]["indexes"]


@pytest.mark.parametrize("removed_at", ["PATCH"], indirect=True)
def test_change_while_another_client_removes_the_index(run_module, acme, removed_at):
    message = failure(run_module, "acme/dev", title="x")
    assert "Could not change the index acme/dev: another client has removed it." in message
    assert "Run the task again." in message


def test_a_new_index_without_permission_is_not_a_removed_one(run_module, acme):
    acme.refusals["PUT", "/acme/new"] = (403, {"message": "Access was denied"})
    assert "the user root has no permission" in failure(run_module, "acme/new")
