"""All relays in one table: the worst first, and who cannot be asked before all."""

import io

import pytest
from rich.console import Console

from tools import fleet
from tools.errors import ApplyError


def status(level: str, *what: str) -> dict:
    return {"level": level, "findings": [{"what": text} for text in what]}


@pytest.fixture
def asked(monkeypatch):
    """Let salt-ssh say something of each relay's status, and of its grain."""

    def ask(said: dict, grains: dict | ApplyError) -> None:
        def answers(*_, **__):
            if isinstance(grains, ApplyError):
                raise grains
            return grains, 0

        monkeypatch.setattr(fleet, "statuses", lambda *_: said)
        monkeypatch.setattr(fleet, "answers", answers)

    return ask


def shown(relays, version="0.2.0") -> list[str]:
    output = io.StringIO()
    Console(file=output, width=120).print(fleet.table(relays, version))
    return [" ".join(line.split()) for line in output.getvalue().splitlines()]


def test_the_worst_comes_first(asked, tmp_path):
    said = {
        "well": status("ok"),
        "noted": status("note", "upgrades are pending"),
        "warned": status("warning", "the disk is 91 % full"),
        "wrong": status("error", "dovecot.service is down"),
        "worse": status("error", "postfix is down", "port 25 is closed"),
        "away": {"stderr": "ssh: connect to host a\n port 22: Connection refused"},
    }
    asked(said, {name: {"version": "0.2.0", "applied": "2026-11-27T10:00:00Z"} for name in said} | {"away": "nothing"})
    relays = fleet.look(tmp_path, "*")
    assert [relay.name for relay in relays] == ["away", "worse", "wrong", "warned", "noted", "well"]
    assert shown(relays)[1:] == [
        "away away ssh: connect to host a port 22: Connection refused",
        "worse error 0.2.0 2026-11-27 postfix is down (and 1 more)",
        "wrong error 0.2.0 2026-11-27 dovecot.service is down",
        "warned warning 0.2.0 2026-11-27 the disk is 91 % full",
        "noted note 0.2.0 2026-11-27 upgrades are pending",
        "well ok 0.2.0 2026-11-27",
    ]


@pytest.mark.parametrize(
    ("levels", "code"),
    [(["ok", "note"], 0), (["ok", "warning"], 1), (["error", "ok"], 2), (["warning", "nonsense"], 2)],
)
def test_the_exit_code_is_that_of_the_worst(asked, capsys, levels, code):
    asked({str(number): status(level) for number, level in enumerate(levels)}, {})
    assert fleet.main(["*"]) == code
    assert ("What to do" in capsys.readouterr().out) is (code > 0)


def test_who_has_another_version_is_behind(asked, capsys):
    asked({"a": status("ok"), "b": status("ok")}, {"a": {"version": "0.0.1"}, "b": {"version": "0.0.2"}})
    assert fleet.main(["*"]) == 0
    assert "2 of 2 have not the version of this checkout" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("said", [{"level": "ok", "findings": 5}, {"level": [], "findings": []}, {"findings": [{}]}])
def test_an_answer_that_is_no_status_is_told_as_one_that_did_not_come(said):
    assert fleet.relay_of("a", said, None).level == "away"


def test_without_an_answer_about_versions_the_rest_is_told(asked, tmp_path):
    asked({"a": status("ok")}, ApplyError("one hangs"))
    assert fleet.look(tmp_path, "*") == [fleet.Relay("a", "ok", ())]


def test_what_a_relay_says_does_not_command_the_terminal(asked, tmp_path):
    escape = "\x1b]0;owned\x07"
    asked({"a": status("error", escape), "b": escape}, {"a": {"version": escape}})
    text = "".join("".join((*relay.findings, relay.version)) for relay in fleet.look(tmp_path, "*"))
    assert "owned" in text
    assert "\x1b" not in text
