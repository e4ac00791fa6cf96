"""Under salt-ssh the host is told the controller's time, and its findings become an exit code and a readable text."""

import time

import pytest

from _wrapper import chatmail_relay
from chatmail_outside import added


@pytest.fixture
def configure_loader_modules():
    return {chatmail_relay: {"__context__": {}, "__salt__": {}, "__opts__": {}}}


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("warning", 1), ("error", 2)])
def test_a_status_names_its_exit_code_and_outputter(level, code):
    asked = []

    def examine(clock, probe):
        asked.append((clock, probe))
        return {"level": level, "outside": {}}

    chatmail_relay.__salt__["chatmail_relay.examine"] = examine
    before = time.time()
    assert chatmail_relay.status(probe=False) == {
        "local": {"return": {"level": level}, "retcode": code, "out": "chatmail"}
    }
    assert chatmail_relay.__context__["retcode"] == code
    assert before <= asked[0][0] <= time.time()
    assert asked[0][1] is False


SEEN = [{"address": "192.0.2.1", "port": "443/tcp", "state": "closed", "why": "no answer"}]


def test_a_relay_is_looked_at_from_here(monkeypatch):
    facts = {"name": "a.test", "addresses": ["192.0.2.1"], "ports": ["443/tcp"], "certificate": None}
    found = {"level": "ok", "checks": [], "findings": [], "seconds": 1, "outside": facts}
    chatmail_relay.__salt__["chatmail_relay.examine"] = lambda clock, probe: found
    utils = {"chatmail_outside.look": lambda asked: SEEN * (asked == facts), "chatmail_outside.added": added}
    monkeypatch.setattr(chatmail_relay.salt.loader, "utils", lambda opts, whitelist: utils)
    status = chatmail_relay.status()["local"]
    assert (status["return"]["level"], status["retcode"]) == ("error", 2)
    assert "outside" not in status["return"]
