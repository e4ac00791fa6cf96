"""Which sockets systemd has to make again, and in which order that is done."""

import time

import pytest

from _modules import chatmail_socket


class Systemd:
    """Stands in for systemctl: units with their state, and since when, in seconds after the boot."""

    def __init__(self):
        self.sockets = {}
        self.loaded = []
        self.asked = []

    def __call__(self, command, *arguments):
        if command == "show":
            return "\n\n".join(self._shown(unit) for unit in arguments if unit.endswith(".socket")) + "\n"
        if command == "list-units":
            return "".join(f"{unit} loaded active running What it is\n" for unit in self.loaded)
        self.asked.append(" ".join((command, *arguments)))
        return ""

    def _shown(self, unit):
        state, since = self.sockets.get(unit, ("inactive", 0))
        return f"ActiveState={state}\nInactiveExitTimestampMonotonic={int(since * 1e6)}"


@pytest.fixture(autouse=True)
def systemd(monkeypatch, tmp_path):
    systemd = Systemd()
    monkeypatch.setattr(chatmail_socket, "_systemctl", systemd)
    monkeypatch.setattr(chatmail_socket, "UNIT_FILES", tmp_path)
    return systemd


def test_sockets_that_are_not_active_are_named_with_their_state(systemd):
    systemd.sockets = {"b.socket": ("failed", 0), "c.socket": ("active", time.monotonic())}
    assert chatmail_socket.outdated(["a", "b", "c"]) == {"a": "inactive", "b": "failed"}


def test_a_socket_that_is_older_than_its_unit_is_outdated(systemd, tmp_path):
    systemd.sockets["a.socket"] = ("active", time.monotonic() - 10)
    (tmp_path / "a.socket").touch()
    assert chatmail_socket.outdated(["a"]) == {"a": "as before its unit changed"}
    systemd.sockets["a.socket"] = ("active", time.monotonic() + 10)
    assert chatmail_socket.outdated(["a"]) == {}


def test_all_services_stop_before_the_first_socket_is_made(systemd):
    systemd.loaded = ["a.service", "b.service", "b.socket", "c.service"]
    chatmail_socket.listen(["a", "b"])
    assert systemd.asked == ["stop b.socket a.service b.service", "daemon-reload", "start a.socket b.socket"]


def test_on_a_new_host_nothing_is_stopped(systemd):
    chatmail_socket.listen(["a"])
    assert systemd.asked == ["daemon-reload", "start a.socket"]
