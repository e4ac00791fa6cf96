"""Operators list addresses, shut one off, remove one, and stop the creation of new ones."""

import re
import time

import pytest

from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mail_clients import ImapError
from test.support.mailing import inbox, submit

RELAY = "_one.test"
# imap_hibernate_timeout is a second.
HIBERNATED_S = 2


@pytest.fixture
def account(lab: Lab, applied):
    """Call a function of ``chatmail_account`` as an operator does."""

    def call(function: str, *args: str):
        return lab.salt_ssh(RELAY, f"chatmail_account.{function}", *args)

    return call


def can_log_in(user: User) -> bool:
    try:
        user.imap().close()
    except ImapError as error:
        assert "AUTHENTICATIONFAILED" in str(error)
        return False
    return True


def test_an_address_is_listed_shut_off_let_in_and_removed(account, one: Relay, one_host: Host, alice, bob):
    assert submit(alice, bob.address, messages.encrypted(alice.address, bob.address)) is None
    inbox(bob)
    listed = account("list", "limit=100000")
    mine = {line["address"]: line for line in listed["listed"]}
    assert listed["count"] == len(mine)
    assert mine[bob.address]["size"] > 1000
    assert mine[alice.address] | {"last_login": 0} == {
        "address": alice.address,
        "size": 0,
        "last_login": 0,
        "banned": False,
    }

    # Hibernated, and one that speaks.
    with bob.imap() as idle, bob.imap() as client:
        idle.idle()
        time.sleep(HIBERNATED_S)
        told = account("info", bob.address)
        assert (told["messages"], told["takes_cleartext"], told["connections"]) == (1, False, 2)
        assert account("ban", bob.address.upper())["banned"] is True
        # What was connected is no longer.
        with pytest.raises((ImapError, OSError)):
            client.command("NOOP")
        with pytest.raises((ImapError, OSError)):
            idle.done()
    assert not can_log_in(bob)
    assert [line["address"] for line in account("list", "banned=True")["listed"]] == [bob.address]
    assert account("unban", bob.address)["banned"] is False
    assert can_log_in(bob)

    assert account("delete", bob.address)["address"] == bob.address
    assert bob.address not in one_host.run(["ls", f"/home/vmail/mail/{RELAY}"]).stdout
    # It is as if it had never been.
    again = User(one, bob.address, "another password")
    with again.imap() as client:
        assert client.select() == 0


def test_no_address_is_created_while_the_operator_says_so(account, one: Relay, alice):
    assert account("nocreate", "on=True")["stopped"] is True
    try:
        with pytest.raises(ImapError, match="AUTHENTICATIONFAILED"):
            new_user(one)
        assert can_log_in(alice)
    finally:
        assert account("nocreate", "on=False")["stopped"] is False
    new_user(one)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("ban", "nobody123@_one.test"), "there is no address 'nobody123@_one.test' on this relay"),
        (("delete", "../x@_one.test"), "is no address: .* without / and NUL"),
        (
            ("list", "order=age"),
            r"argument --order: invalid choice: 'age' \(choose from 'size', 'last_login', 'address'",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_by_name(account, call, told):
    with pytest.raises(SaltFailed) as refused:
        account(*call)
    assert re.search(told, str(refused.value))
