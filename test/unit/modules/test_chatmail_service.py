"""What systemctl says of units, by the names that were asked for."""

import subprocess

from _modules import chatmail_service


def test_units_without_a_file_have_no_state_of_it(monkeypatch):
    monkeypatch.setattr(
        chatmail_service, "run", lambda argv: subprocess.CompletedProcess(argv, 0, "a.service enabled enabled\n", "")
    )
    states = {
        "a.service": {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "disabled"},
        "b.service": {"LoadState": "not-found", "ActiveState": "inactive"},
    }
    monkeypatch.setattr(chatmail_service, "unit_states", lambda units: states)
    assert chatmail_service.found(["a.service", "b.service"]) == {
        "a.service": {"load": "loaded", "active": "active", "file": "enabled"},
        "b.service": {"load": "not-found", "active": "inactive", "file": ""},
    }


def test_a_systemd_that_says_nothing_knows_no_units(monkeypatch):
    monkeypatch.setattr(chatmail_service, "run", lambda argv: subprocess.CompletedProcess(argv, 124, "", ""))
    monkeypatch.setattr(chatmail_service, "unit_states", lambda units: {"": {}})
    assert chatmail_service.found(["a.service"]) == {}
