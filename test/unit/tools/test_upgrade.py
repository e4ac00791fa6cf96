"""What an upgrade may change, what makes a relay worse than it was, and when it goes back."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from tools import upgrade
from tools.apply_result import HostResult, parse_return
from tools.host import StepFailed
from tools.upgrade import paths, units, worse


def finding(check: str, level: str, kind: str = "failed", unit: str = "") -> dict:
    return {"check": check, "level": level, "kind": kind, "what": "", "do": "", **({"unit": unit} if unit else {})}


POSTFIX = finding("services", "error", unit="postfix.service")
DOVECOT = finding("services", "error", unit="dovecot.service")
COTURN = finding("services", "warning", unit="coturn.service")
LOAD = finding("memory", "warning", "load-high")
PROBE = finding("probe", "error", "probe-failed")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([], [], []),
        ([POSTFIX], [], []),
        ([POSTFIX], [POSTFIX], []),
        ([POSTFIX], [DOVECOT], [DOVECOT]),
        ([], [COTURN, LOAD], [COTURN]),
        ([LOAD], [LOAD, PROBE], [PROBE]),
        ([PROBE], [PROBE, PROBE], [PROBE]),
    ],
)
def test_a_relay_is_worse_by_what_is_new(before, after, found):
    assert worse(before, after) == found


def test_what_states_may_change_is_known_by_their_names():
    names = [
        "file_|-postfix-main-cf_|-/etc/postfix/main.cf_|-managed",
        "file_|-chatmaild-source_|-/usr/local/lib/chatmaild/chatmaild_|-recurse",
        "file_|-system-mailboxes_|-/home/vmail/mail_|-directory",
        "chatmail_dkim_|-opendkim-key_|-/etc/dkimkeys_|-key_present",
        "chatmail_website_|-website-built_|-/var/www/chatmail_|-built",
        "chatmail_service_|-postfix-service_|-postfix_|-running",
        "chatmail_service_|-backup-timers_|-chatmail-backup.timer_|-dead",
    ]
    states = parse_return("relay", {"return": {name: {"result": None} for name in names}}, 0).states
    assert paths(states) == ["/etc/postfix/main.cf", "/usr/local/lib/chatmaild/chatmaild", "/var/www/chatmail"]
    assert units(states) == ["chatmail-backup.timer", "postfix"]


MAIN_CF = "file_|-postfix-main-cf_|-/etc/postfix/main.cf_|-managed"
WOULD, DID, FAILED, SAME = (
    parse_return("relay", {"return": {MAIN_CF: {"result": result, "changes": changes}}}, 0)
    for result, changes in ((None, {"diff": "+"}), (True, {"diff": "+"}), (False, {}), (True, {}))
)


class Relay:
    """A relay, the statuses that it gives one after the other, and what was asked of it."""

    def __init__(self, *statuses: Sequence[dict] | Exception, unfinished: bool = False):
        self.statuses = list(statuses)
        self.asked: list[str] = []
        self.kept = [{"since": 0, "version": "0.1.0", "finished": False, "files": None}] if unfinished else []
        self.before = {"since": 0, "version": "0.1.0", "findings": []}

    def call(self, function: str, *_, **__) -> object:
        word = function.partition(".")[2]
        self.asked.append(word)
        if word == "status":
            found = self.statuses.pop(0)
            if isinstance(found, Exception):
                raise found
            return {"findings": found}
        return {"listed": self.kept, "undo": self.before | {"paths": [], "packages": [], "left": []}}.get(
            word, self.before
        )


@pytest.fixture
def run(monkeypatch):
    """Run an upgrade of a relay for which applies have these results."""

    def run(relay: Relay, *results: HostResult) -> bool:
        left = list(results)
        monkeypatch.setattr(upgrade, "SETTLE_S", 0)
        monkeypatch.setattr(upgrade, "client", lambda *_: None)
        monkeypatch.setattr(upgrade, "Host", lambda *_: type("Host", (), {"name": "relay", "run": lambda *_: ""})())
        monkeypatch.setattr(upgrade, "applied", lambda *_, **__: left.pop(0))
        one = upgrade.Upgrade(Path("etc"), "relay", Console())
        monkeypatch.setattr(one, "_call", relay.call)
        return one.run()

    return run


def test_where_nothing_would_change_nothing_is_kept(run):
    relay = Relay()
    assert run(relay, SAME)
    assert relay.asked == ["listed"]


def test_an_upgrade_with_which_the_relay_is_as_well_is_kept(run):
    relay = Relay([LOAD], [LOAD])
    assert run(relay, WOULD, DID)
    assert relay.asked == ["listed", "status", "begin", "status", "finish"]


def test_a_relay_that_needs_a_moment_is_asked_again(run):
    assert run(Relay([], [PROBE], []), WOULD, DID)


@pytest.mark.parametrize(
    ("applied", "statuses"),
    [
        (FAILED, []),
        (DID, [[PROBE], [PROBE]]),
        (DID, [StepFailed("ssh ended")]),
    ],
    ids=["the apply fails", "the relay is worse", "nobody can tell"],
)
def test_what_was_before_comes_back_where(run, applied, statuses):
    relay = Relay([], *statuses, [])
    assert not run(relay, WOULD, applied)
    assert relay.asked[-2:] == ["undo", "status"]


def test_one_that_cannot_begin_changes_nothing(run):
    relay = Relay()
    with pytest.raises(StepFailed, match="Nothing was changed"):
        run(relay, FAILED)
    assert relay.asked == ["listed"]


def test_after_a_killed_one_it_goes_on_though_nothing_is_left_to_change(run):
    relay = Relay([PROBE], [], unfinished=True)
    assert run(relay, SAME, SAME)
    assert relay.asked[-1] == "finish"


def test_a_killed_one_that_cannot_be_completed_goes_back(run):
    relay = Relay([], unfinished=True)
    assert not run(relay, FAILED)
    assert relay.asked == ["listed", "undo", "status"]


def test_a_host_does_not_command_the_terminal(run, capsys):
    relay = Relay([], unfinished=True)
    relay.before["version"] = "\x1b[2J"
    assert not run(relay, FAILED)
    said = capsys.readouterr().out
    assert "[2J" in said
    assert "\x1b" not in said
