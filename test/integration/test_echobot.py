"""The echobot on a relay: Delta Chat's own core there, written to by clients with the same core."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltachat_rpc_client import Chat, EventType

from test.integration.conftest import PERMISSIVE, with_echobot
from test.integration.test_secrets import survey_of
from test.lab import Host, Lab
from test.relay import chat
from test.relay.delivery import User
from test.support.mail_clients import ImapError

MEMORY_MB = 30


@pytest.fixture(scope="module")
def echo_host(lab: Lab, one_host: Host) -> Iterator[Host]:
    """The first relay with an echobot, which it loses again."""
    own = {"mail_domain": one_host.name, **PERMISSIVE}
    lab.pillar(one_host.name, {"chatmail": {**own, **with_echobot(one_host)}})
    lab.salt_ssh(one_host.name, "state.apply", "chatmail.echobot")
    yield one_host
    lab.pillar(one_host.name, {"chatmail": own})
    lab.salt_ssh(one_host.name, "state.apply", "chatmail.echobot")
    assert one_host.run(["systemctl", "is-active", "echobot"], check=False).stdout == "inactive\n"


@pytest.fixture(scope="module")
def visitor(lab: Lab, echo_host: Host, tmp_path_factory) -> Iterator[chat.Client]:
    """A client with an account on the relay."""
    accounts = tmp_path_factory.mktemp("visitor")
    with chat.clients([("visitor", echo_host.name)], lab.resolver_argv, accounts) as (client,):
        yield client


@pytest.fixture(scope="module")
def echobot(lab: Lab, echo_host: Host, visitor: chat.Client) -> Chat:
    """The visitor's chat with the bot, opened by the link that an operator hands on."""
    return chat.join(visitor, lab.salt_ssh(echo_host.name, "chatmail_echobot.link"))


def test_nobody_else_reads_its_account(echo_host):
    assert survey_of(echo_host, ["/run/echobot/*"]) == {"strange": {}, "told": []}


def test_who_opens_its_link_gets_text_and_files_back(visitor, echobot, tmp_path):
    for said, answered in (("Grüße, 🦊", "Grüße, 🦊"), ("/help", "Send me any message and I will echo it back")):
        echobot.send_text(said)
        visitor.receive(answered)

    cat = tmp_path / "cat.bin"
    cat.write_bytes(secrets.token_bytes(100_000))
    echobot.send_message(text="a file", file=str(cat))
    event = visitor.wait_for("the file", lambda event: event.kind == EventType.INCOMING_MSG)
    answer = visitor.account.get_message_by_id(event.msg_id).get_snapshot()
    assert answer.text == "a file"
    assert Path(answer.file).read_bytes() == cat.read_bytes()
    assert answer.is_bot


def test_what_is_sent_while_it_is_down_is_answered_when_it_is_back(lab, echo_host, visitor, echobot):
    echo_host.run(["systemctl", "stop", "echobot"])
    echobot.send_text("are you there?")
    visitor.wait_for("that it was sent", lambda event: event.kind == EventType.MSG_DELIVERED)
    echo_host.run(["systemctl", "start", "echobot"])
    visitor.receive("are you there?")


def test_its_password_is_nobodys_and_its_hash_the_mail_users(one, echo_host):
    paths = ["/run/echobot", "/run/echobot/password", "/var/lib/echobot", "/var/lib/echobot/accounts"]
    assert echo_host.run(["stat", "--format=%a %U:%G", *paths]).stdout.splitlines() == [
        "2750 echobot:vmail",
        "640 echobot:vmail",
        "700 echobot:echobot",
        "700 echobot:echobot",
    ]
    with pytest.raises(ImapError, match="AUTHENTICATIONFAILED"):
        User(one, f"echo@{one.domain}", "a guess, long enough").imap()


def test_its_two_processes_take_little_memory_at_rest(echo_host):
    echo_host.run(["systemctl", "restart", "echobot"])
    resident = echo_host.run(["ps", "-u", "echobot", "-o", "rss="]).stdout.split()
    assert len(resident) == 2
    assert max(int(kilobytes) / 1024 for kilobytes in resident) < MEMORY_MB
