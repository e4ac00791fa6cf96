"""Addresses and invites are looked after by the relay's own programs, run as vmail."""

import json
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_account

INVITE = {"token": "abcdefgh0123", "uses_left": 3, "expires": 1_800_000_000}
LINK = "DCACCOUNT:https://chat.test/new?invite=abcdefgh0123"


class Host:
    """A relay whose programs answer what they are told to."""

    def __init__(self) -> None:
        self.answer = None
        self.error = ""
        self.commands = []
        self.connections = []

    def ask(self, program, *arguments, user, group):
        assert (user, group) == ("vmail", "vmail")
        self.commands.append([program, *arguments])
        if self.error:
            raise CommandExecutionError(self.error)
        return self.answer

    def run(self, command):
        if "who" in command:
            return subprocess.CompletedProcess(command, 0, "\n".join(["username\tpid", *self.connections]), "")
        assert command[:2] == ["doveadm", "kick"]
        self.commands.append(command)
        self.connections = self.connections[1:]
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def host(monkeypatch, tmp_path):
    relay = tmp_path / "relay.json"
    relay.write_text(json.dumps({"settings": {"mail_domain_bare": "chat.test"}}))
    host = Host()
    monkeypatch.setattr(chatmail_account, "ask", host.ask)
    monkeypatch.setattr(chatmail_account, "run", host.run)
    monkeypatch.setattr(chatmail_account, "RELAY", relay)
    return host


def test_an_invite_comes_with_its_link(host):
    host.answer = INVITE
    assert chatmail_account.invite(uses=3, days=2) == {**INVITE, "link": LINK}
    assert host.commands == [["invites", "make", "--uses=3", "--days=2"]]


def test_invites_are_listed(host):
    host.answer = [INVITE]
    assert chatmail_account.invites() == [{**INVITE, "link": LINK}]


def test_an_invite_is_withdrawn(host):
    host.answer = True
    assert chatmail_account.revoke_invite("abcdefgh0123") is True
    assert host.commands == [["invites", "revoke", "abcdefgh0123"]]


@pytest.mark.parametrize("token", ["abcdefgh0123", "--help", "../x", ""])
def test_an_invite_that_is_not_there_is_named(host, token):
    host.answer = False
    with pytest.raises(CommandExecutionError, match="there is no invite"):
        chatmail_account.revoke_invite(token)


def test_what_the_command_says_is_passed_on(host):
    host.error = "argument --uses: '0' is not allowed"
    with pytest.raises(CommandExecutionError, match="argument --uses: '0' is not allowed"):
        chatmail_account.invite(uses=0)


def test_where_there_is_no_relay_yet_it_says_so(host, monkeypatch):
    host.error = "/usr/bin/python3: No module named chatmaild"
    with pytest.raises(CommandExecutionError, match=r"No module named chatmaild This is no relay yet"):
        chatmail_account.list_()
    monkeypatch.setattr(chatmail_account, "ask", _nobody)
    with pytest.raises(CommandExecutionError, match=r"^there is no user vmail\. This is no relay yet"):
        chatmail_account.list_()


def _nobody(*_, **__):
    raise KeyError("getpwnam(): name not found: 'vmail'")


ALICE = {"address": "alice1234@chat.test", "size": 5, "last_login": 0, "banned": True}


def test_a_ban_ends_the_sessions_of_the_address(host):
    host.answer = ALICE
    host.connections = ["alice1234\t1", "alice1234\t2"]
    assert chatmail_account.ban("Alice1234@chat.test") == ALICE
    kick = ["doveadm", "kick", "alice1234@chat.test"]
    assert host.commands == [["accounts", "ban", "Alice1234@chat.test"], kick, kick]


def test_several_are_banned_and_those_that_are_not_there_are_named(host):
    host.answer = ALICE
    assert chatmail_account.ban("alice1234@chat.test", "bob12345@chat.test") == [ALICE, ALICE]
    with pytest.raises(CommandExecutionError, match=r"^2 of 3 are banned\. 'nobody' is no address"):
        chatmail_account.ban("alice1234@chat.test", "nobody", "bob12345@chat.test")
    assert [command[2] for command in host.commands] == ["alice1234@chat.test", "bob12345@chat.test"] * 2


def test_sessions_that_do_not_end_are_told(host, monkeypatch):
    host.answer = ALICE
    host.connections = ["alice1234\t1"] * 1000
    monkeypatch.setattr(chatmail_account, "DISCONNECT_S", 0)
    with pytest.raises(CommandExecutionError, match=r"is banned, but \d+ clients are still connected"):
        chatmail_account.ban("alice1234@chat.test")


def test_sessions_end_before_the_mailbox_goes(host):
    host.answer = ALICE
    host.connections = ["alice1234\t1"]
    deleted = chatmail_account.delete("alice1234@chat.test")
    assert deleted.pop("result").startswith("alice1234@chat.test is deleted, with all its messages (")
    assert deleted == ALICE
    assert [command[1] for command in host.commands] == ["ban", "kick", "delete"]


@pytest.mark.parametrize("address", ["", "alice1234", "--config=@x", "-v@chat.test", None, 5])
def test_what_is_no_address_reaches_no_program(host, address):
    for function in (chatmail_account.info, chatmail_account.ban, chatmail_account.unban, chatmail_account.delete):
        with pytest.raises(CommandExecutionError, match="is no address"):
            function(address)
    assert host.commands == []


def test_creation_is_stopped_and_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(chatmail_account, "NOCREATE", tmp_path / "nocreate")
    states = [chatmail_account.nocreate(on) for on in (None, True, True, None, False, False)]
    assert [one["stopped"] for one in states] == [False, True, True, True, False, False]
    assert states[1]["result"] == "Nobody can create an address; those that there are stay."
    assert states[0]["result"] == "Addresses can be created."
    with pytest.raises(CommandExecutionError, match="allowed is True or False"):
        chatmail_account.nocreate("maybe")
