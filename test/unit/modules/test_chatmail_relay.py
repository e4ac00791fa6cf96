"""The status of a relay: its exit code, and what it says of a host that is none."""

import json

import pytest

from _modules import chatmail_relay
from chatmail_checks import Check, Finding
from test.support.relays import SETTINGS


@pytest.fixture
def configure_loader_modules():
    return {chatmail_relay: {"__opts__": {"id": "relay"}, "__salt__": {}, "__context__": {}}}


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("warning", 1), ("error", 2)])
def test_the_exit_code_goes_by_the_worst(tmp_path, monkeypatch, level, code):
    (tmp_path / "relay.json").write_text(json.dumps({"settings": SETTINGS, "ports": {}}))
    monkeypatch.setattr(chatmail_relay, "RELAY", tmp_path / "relay.json")
    facts = {"chatmail_cert.facts": lambda cert: {"sha256": "ab"}}
    monkeypatch.setattr(chatmail_relay, "addresses_of", lambda name: ["192.0.2.1"])
    monkeypatch.setattr(chatmail_relay, "__salt__", facts)
    findings = [Finding(level, "bad", "bad", "fix it")] if level != "ok" else []
    check = Check("disk", lambda relay: relay.target, lambda target, _relay: (target, findings))
    monkeypatch.setattr(chatmail_relay, "CHECKS", [check])
    found = chatmail_relay.status()
    assert (found["level"], chatmail_relay.__context__["retcode"]) == (level, code)
    assert found["checks"][0]["says"] == "relay"
    assert found["firewall"] == {"tcp": ["25", "80", "143", "443", "465", "587", "993"], "udp": ["3478", "49152-65535"]}


def test_a_host_without_settings_is_no_relay(tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_relay, "RELAY", tmp_path / "relay.json")
    found = chatmail_relay.status()
    assert (found["level"], len(found["findings"])) == ("error", 1)
    assert found["findings"][0]["do"] == "salt-ssh relay state.apply chatmail"
    assert chatmail_relay.__context__["retcode"] == 2
