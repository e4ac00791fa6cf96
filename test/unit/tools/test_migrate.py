"""What a move does next follows from what is noted on the hosts, and it refuses hosts that do not fit."""

import pytest

from tools.host import StepFailed
from tools.migrate.move import Move
from tools.migrate.notes import Notes

RELAY = {"mail_domain": "chat.example.org", "ipv4_relay": "", "mailboxes_dir": "/home/vmail/mail/chat.example.org"}
OLD, TAKING, COMPLETE = "a" * 32, {"from": "a" * 32, "complete": False}, {"from": "a" * 32, "complete": True}


class FakeHost:
    def __init__(self, name: str, mailboxes: int = 0):
        self.name, self.mailboxes = name, mailboxes

    def lines(self, script: str, *arguments: str) -> list[str]:
        return [str(self.mailboxes), "0", "0"]


def move(*, mailboxes: int = 0, relay: dict[str, str] = RELAY) -> Move:
    """A move without ssh."""
    made = Move.__new__(Move)
    made.old, made.new = FakeHost("old"), FakeHost("new", mailboxes)
    made.__dict__["relay"] = relay
    return made


def notes(machine: str = "b" * 32, moved: str = "", migration: dict | None = None) -> Notes:
    return Notes(machine, moved, migration or {})


def titles(old: Notes, new: Notes) -> list[str]:
    return [what for what, _ in move().steps(old, new)]


SWITCH = ["close the old host", "copy what has changed, and the queue"]
END = ["start the new host", "forward from the old host", "apply to the new host, with its DNS records"]


def test_a_first_run_does_all():
    assert titles(notes(OLD), notes())[0] == "look at both hosts"
    assert titles(notes(OLD), notes())[4:] == SWITCH + END


def test_once_the_old_host_closes_only_the_rest_is_copied():
    assert titles(notes(OLD, moved="new"), notes(migration=TAKING)) == SWITCH + END


def test_once_the_new_host_may_have_mail_of_its_own_nothing_is_copied():
    assert titles(notes(OLD, moved="new"), notes(migration=COMPLETE)) == END


def test_an_interrupted_first_copy_is_begun_again():
    move(mailboxes=3).check(notes(OLD), notes(migration=TAKING))
    assert titles(notes(OLD), notes(migration=TAKING)) == titles(notes(OLD), notes())


@pytest.mark.parametrize(
    ("old", "new", "given", "message"),
    [
        (notes(OLD), notes(OLD), {}, "are one host"),
        (notes(OLD), notes(moved="third"), {}, "has itself moved to third"),
        (notes(OLD), notes(), {"relay": RELAY | {"ipv4_relay": "192.0.2.7"}}, "cannot be had elsewhere"),
        (notes(OLD), notes(migration=COMPLETE), {}, "of a move before"),
        (notes("c" * 32), notes(migration=TAKING), {}, "takes the mail of another host"),
        (notes(OLD, moved="third"), notes(), {}, "on its way to third, not to new"),
        (notes(OLD), notes(), {"mailboxes": 3}, "which the move would delete"),
    ],
)
def test_hosts_that_do_not_fit_are_refused_before_anything_is_touched(old, new, given, message):
    with pytest.raises(StepFailed, match=message):
        move(**given).check(old, new)
