"""Under salt-ssh the host is told the controller's time, and its findings become an exit code and a readable text."""

import time

import pytest

from _wrapper import chatmail_relay


@pytest.fixture
def configure_loader_modules():
    return {chatmail_relay: {"__context__": {}, "__salt__": {}}}


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("warning", 1), ("error", 2)])
def test_a_status_names_its_exit_code_and_outputter(level, code):
    asked = []

    def examine(clock, probe):
        asked.append((clock, probe))
        return {"level": level}

    chatmail_relay.__salt__["chatmail_relay.examine"] = examine
    before = time.time()
    assert chatmail_relay.status(probe=False) == {
        "local": {"return": {"level": level}, "retcode": code, "out": "chatmail"}
    }
    assert chatmail_relay.__context__["retcode"] == code
    assert before <= asked[0][0] <= time.time()
    assert asked[0][1] is False
