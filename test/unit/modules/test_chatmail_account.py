"""Invites are made, listed and withdrawn by the relay's own command."""

import json

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_account

INVITE = {"token": "abcdefgh0123", "uses_left": 3, "expires": 1_800_000_000}
LINK = "DCACCOUNT:https://chat.test/new?invite=abcdefgh0123"


class Host:
    """A relay whose command answers what it is told to."""

    def __init__(self) -> None:
        self.answer = {"retcode": 0, "stdout": "null", "stderr": ""}
        self.commands = []

    def run_all(self, command, **options):
        assert options["runas"] == "vmail"
        assert options["python_shell"] is False
        self.commands.append(command[3:])
        return self.answer


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def configure_loader_modules(host):
    settings = "# comment\n[params]\nmail_domain = chat.test\n"
    return {chatmail_account: {"__salt__": {"cmd.run_all": host.run_all, "file.read": lambda _path: settings}}}


def test_an_invite_comes_with_its_link(host):
    host.answer["stdout"] = json.dumps(INVITE)
    assert chatmail_account.invite(uses=3, days=2) == {**INVITE, "link": LINK}
    assert host.commands == [["make", "--uses=3", "--days=2"]]


def test_invites_are_listed(host):
    host.answer["stdout"] = json.dumps([INVITE])
    assert chatmail_account.invites() == [{**INVITE, "link": LINK}]


def test_an_invite_is_withdrawn(host):
    host.answer["stdout"] = "true"
    assert chatmail_account.revoke_invite("abcdefgh0123") is True
    assert host.commands == [["revoke", "abcdefgh0123"]]


@pytest.mark.parametrize("token", ["abcdefgh0123", "--help", "../x", ""])
def test_an_invite_that_is_not_there_is_named(host, token):
    host.answer["stdout"] = "false"
    with pytest.raises(CommandExecutionError, match="there is no invite"):
        chatmail_account.revoke_invite(token)


def test_what_the_command_says_is_passed_on(host):
    host.answer.update(retcode=2, stderr="usage: ...\nargument --uses: '0' is not allowed\n")
    with pytest.raises(CommandExecutionError, match="argument --uses: '0' is not allowed"):
        chatmail_account.invite(uses=0)
