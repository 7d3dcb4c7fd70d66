"""What the image's server.py changes in devpi-server, against the devpi-server that the image has."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest

# ansible-test makes environments of its own, which have no devpi-server.
keyfs = pytest.importorskip("devpi_server.keyfs")
model = pytest.importorskip("devpi_server.model")

FILE = Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "server.py"


@pytest.fixture
def server():
    spec = importlib.util.spec_from_file_location("server", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("config", "told"), [({"type": "mirror"}, False), ({"type": "stage"}, True), (None, True)])
def test_plugins_are_told_of_files_but_those_of_mirrors(server, monkeypatch, config, told):
    seen = []
    monkeypatch.setattr(server, "tell_of_file", lambda subscribers, event: seen.append(event))
    notifier = SimpleNamespace(
        get_ixconfig=lambda place, serial: config if (place.user, serial) == ("root", 7) else 1 / 0
    )
    subscribers = SimpleNamespace(xom=SimpleNamespace(keyfs=SimpleNamespace(notifier=notifier)))
    event = SimpleNamespace(typedkey=SimpleNamespace(params={"user": "root", "index": "pypi"}), at_serial=7)
    server.on_changed_file_entry(subscribers, event)
    assert seen == ([event] if told else [])


def test_devpi_still_has_what_is_changed():
    assert list(inspect.signature(model.EventSubscribers.on_changed_file_entry).parameters) == ["self", "ev"]
    assert list(inspect.signature(keyfs.TxNotificationThread.get_ixconfig).parameters) == [
        "self",
        "entry",
        "event_serial",
    ]
    # One look for all links of a page: its answers are remembered.
    assert "_get_ixconfig_cache" in inspect.getsource(keyfs.TxNotificationThread.get_ixconfig)
