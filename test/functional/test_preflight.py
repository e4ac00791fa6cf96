"""The states that come before all others, run by Salt on this machine; in test mode where they would change it."""

import os
import socket

import pytest
import yaml

from test.salt.minion import CHECKOUT

SCHEMA = yaml.safe_load((CHECKOUT / "chatmail/defaults.yaml").read_text())


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("test", [False, True])
def test_valid_settings_pass_with_what_is_to_be_known_of_them(loaders, test):
    ret = loaders.states.chatmail_settings.valid(name="settings-valid", problems=[], notices=["a: is old."], test=test)
    assert ret.result is True
    assert ret.changes == {}
    assert ret.warnings == ["a: is old."]


@pytest.mark.parametrize("test", [False, True])
def test_wrong_settings_are_listed(loaders, test):
    problems = loaders.modules.chatmail_settings.problems(SCHEMA, {"max_mailbox_size": "much", "takeovr": True})
    ret = loaders.states.chatmail_settings.valid(name="settings-valid", problems=problems, test=test)
    assert ret.result is False
    for part in ("max_mailbox_size: found 'much'", "did you mean takeover?", "mail_domain: is missing"):
        assert part in ret.comment


@pytest.mark.parametrize("test", [False, True])
def test_a_taken_port_is_refused_before_the_host_is_adopted(loaders, server, test):
    ret = loaders.states.chatmail_preflight.passed(name="preflight", ports={f"{server}/tcp": ["postfix"]}, test=test)
    assert ret.result is False
    assert ret.changes == {}
    assert f"port {server}/tcp is needed by postfix" in ret.comment
    assert f"(process {os.getpid()}, " in ret.comment
