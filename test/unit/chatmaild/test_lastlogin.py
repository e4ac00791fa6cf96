"""Remembering the day of each last login."""

import asyncio

import pytest

from chatmaild.config import BOTS, Config, read_config
from chatmaild.dovecot.dict_server import DictError
from chatmaild.lastlogin import LastLogins

USER = "user12345@chat.example.org"


@pytest.fixture
def logins(write_config):
    return LastLogins(read_config(write_config(), Config))


@pytest.fixture
def mailbox(logins):
    mailbox = logins.config.mailbox(USER)
    mailbox.create("{SHA512-CRYPT}$6$salt$hash")
    return mailbox


def remember(logins, key, value):
    asyncio.run(logins.set(key, value, ""))


def test_logins_of_one_day_give_one_time(logins, mailbox):
    for second in range(100000, 100010):
        remember(logins, f"shared/last-login/{USER}", str(second))
        assert mailbox.last_login() == 86400
    remember(logins, f"shared/last-login/{USER}", "200000")
    assert mailbox.last_login() == 172800


def test_a_missing_file_is_logged(logins, caplog):
    remember(logins, f"shared/last-login/{USER}", "100000")
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert USER in record.getMessage()


def test_logins_of_bots_are_not_remembered(logins, caplog):
    for name in BOTS:
        remember(logins, f"shared/last-login/{name}@chat.example.org", "100000")
    assert not caplog.records


@pytest.mark.parametrize("key", ["", "shared/last-login", f"shared/other/{USER}", f"priv/last-login/{USER}"])
def test_other_keys_are_refused(logins, key):
    with pytest.raises(DictError, match="the only known keys"):
        remember(logins, key, "100000")


@pytest.mark.parametrize("address", ["", "..", "../x@chat.example.org", "user", "a\0@b"])
def test_addresses_that_no_mailbox_has(logins, address):
    with pytest.raises(DictError, match="a mailbox needs an address"):
        remember(logins, f"shared/last-login/{address}", "100000")


@pytest.mark.parametrize("value", ["", "-1", "1.5", "now", "1" * 12, "1" * 5000, "²"])
def test_values_that_are_no_times(logins, mailbox, value):
    before = mailbox.last_login()
    with pytest.raises(DictError, match="no time"):
        remember(logins, f"shared/last-login/{USER}", value)
    assert mailbox.last_login() == before


def test_answers_of_the_daemon(mailbox, start_daemon, tmp_path):
    daemon = start_daemon("chatmaild.lastlogin", tmp_path / "settings.toml")
    hello = b"H3\t2\t0\t\tlastlogin\n"
    assert daemon.ask(hello + f"B1\t{USER}\nS1\tshared/last-login/{USER}\t100000\nC1\n".encode()) == b"O\n"
    assert mailbox.last_login() == 86400
    assert daemon.ask(hello + b"B1\nS1\tshared/last-login/nobody@chat.example.org\t100000\nC1\n") == b"O\n"
    assert daemon.ask(hello + b"B1\nS1\tshared/other\t100000\nC1\n")[:2] == b"F\t"
    assert daemon.ask(b"Lshared/last-login/x@y\n")[:1] == b"F"
    assert daemon.ask(b"I0\t0\tshared/last-login/\n") == b"\n"
    assert any("nobody@chat.example.org" in line for line in daemon.stop())


def test_help(run_service):
    result = run_service("chatmaild.lastlogin", "--help")
    assert result.returncode == 0
    assert "the day of each address' last login" in result.stdout
