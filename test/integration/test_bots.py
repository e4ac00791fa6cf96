"""The relay's own bots: Delta Chat's own core there, written to by clients with the same core."""

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltachat_rpc_client import Chat, EventType

from test.integration.conftest import PERMISSIVE, with_echobot
from test.integration.test_sandbox import too_exposed
from test.integration.test_secrets import survey_of
from test.lab import Host, Lab
from test.relay import chat
from test.relay.delivery import User
from test.support.mail_clients import ImapError

MEMORY_MB = 30
HEARD_S = 60.0
SLS = "chatmail.echobot,chatmail.operator_bot"
# What the operator's bot consists of.
UNITS = ["operator-bot.service", "operator-bot.socket", "operator-bot-host.socket", "chatmail-status.timer"]


@pytest.fixture(scope="module")
def bots_applied(lab: Lab, one_host: Host) -> Iterator[dict]:
    """The first relay with both bots, which it loses again; what the apply said of each state."""
    own = {"mail_domain": one_host.name, **PERMISSIVE}
    lab.pillar(one_host.name, {"chatmail": {**own, **with_echobot(one_host), "operator_bot": True}})
    states = lab.salt_ssh(one_host.name, "state.apply", SLS)
    yield {identifier.split("_|-")[1]: state for identifier, state in states.items()}
    lab.pillar(one_host.name, {"chatmail": own})
    lab.salt_ssh(one_host.name, "state.apply", SLS)
    is_active = one_host.run(["systemctl", "is-active", "echobot", *UNITS], check=False).stdout
    assert is_active.split() == ["inactive"] * (1 + len(UNITS))
    assert one_host.run(["ls", "/usr/local/lib/chatmail-status"], check=False).returncode
    # Who the operators are is kept for the day on which it is wanted again.
    one_host.run(["rm", "-r", "/var/lib/operator-bot"])


@pytest.fixture(scope="module")
def echo_host(one_host: Host, bots_applied) -> Host:
    """The first relay, with its bots."""
    return one_host


@pytest.fixture(scope="module")
def visitor(lab: Lab, echo_host: Host, tmp_path_factory) -> Iterator[chat.Client]:
    """A client with an account on the relay."""
    accounts = tmp_path_factory.mktemp("visitor")
    with chat.clients([("visitor", echo_host.name)], lab.resolver_argv, accounts) as (client,):
        yield client


@pytest.fixture(scope="module")
def operator(lab: Lab, echo_host: Host, tmp_path_factory) -> Iterator[chat.Client]:
    """A client with an account on the relay, who is about to be its operator."""
    accounts = tmp_path_factory.mktemp("operator")
    with chat.clients([("operator", echo_host.name)], lab.resolver_argv, accounts) as (client,):
        yield client


@pytest.fixture(scope="module")
def operator_chat(operator: chat.Client, bots_applied) -> Chat:
    """The operator's chat with the bot, opened by the link that the apply printed."""
    link = re.search(r"https://\S+", bots_applied["operator_bot-link"]["warnings"][0])[0]
    joined = chat.join(operator, link)
    hear(operator, f"You are an operator of {operator.domain} now.")
    hear(operator, "22 checks in ")
    return joined


@pytest.fixture(scope="module")
def echobot(lab: Lab, echo_host: Host, visitor: chat.Client) -> Chat:
    """The visitor's chat with the bot, opened by the link that an operator hands on."""
    return chat.join(visitor, lab.salt_ssh(echo_host.name, "chatmail_echobot.link"))


def test_nobody_else_reads_its_account(echo_host):
    assert survey_of(echo_host, ["/run/echobot/*", "/run/operator-bot/*"]) == {"strange": {}, "told": []}


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


def hear(client: chat.Client, words: str) -> str:
    """The line with these words of the client's next message that has them; it is encrypted."""
    while True:
        event = client.wait_for(f"{words!r}", lambda event: event.kind == EventType.INCOMING_MSG, HEARD_S)
        message = client.account.get_message_by_id(event.msg_id).get_snapshot()
        assert message.show_padlock
        if lines := [line for line in message.text.splitlines() if words in line]:
            return lines[0]


def look(host: Host) -> dict:
    """Have the timer's service look at the relay now; returns the result that it keeps."""
    host.run(["systemctl", "start", "chatmail-status"], timeout=240)
    return json.loads(host.read("/var/lib/chatmail-status/last.json"))


def kinds(status: dict) -> set[str]:
    """What is wrong, but for what a busy machine does."""
    return {one["kind"] for one in status["findings"]} - {"probe-slow", "memory-low"}


def test_what_root_runs_each_hour_sees_from_its_sandbox_what_an_operator_sees(lab, echo_host, operator_chat):
    kept = look(echo_host)
    by_salt = lab.salt_ssh(echo_host.name, "chatmail_relay.examine")
    assert kinds(kept["status"]) == kinds(by_salt)
    assert [one["check"] for one in kept["status"]["checks"]] == [one["check"] for one in by_salt["checks"]]
    assert not [one for one in kept["status"]["checks"] if one["level"] == "skipped"]


def test_a_daemon_that_is_down_is_a_message_of_the_next_run_and_so_is_its_return(echo_host, operator, operator_chat):
    echo_host.run(["systemctl", "stop", "lastlogin.socket", "lastlogin"])
    look(echo_host)
    fault = hear(operator, "warning: lastlogin is stopped: ")
    assert "systemctl" in fault
    echo_host.run(["systemctl", "start", "lastlogin.socket", "lastlogin"])
    look(echo_host)
    hear(operator, f"well again: {fault}")


def test_an_operators_commands_are_done(alice, operator, operator_chat):
    operator_chat.send_text(f"ban {alice.address}")
    hear(operator, f"{alice.address} is banned: ")
    with pytest.raises(ImapError, match="AUTHENTICATIONFAILED"):
        alice.imap()
    operator_chat.send_text("ban nobody123@elsewhere.test")
    hear(operator, "there is no address")
    operator_chat.send_text("queue")
    hear(operator, "no message waits")
    operator_chat.send_text("accounts")
    hear(operator, " addresses; the largest:")
    operator_chat.send_text("reboot")
    hear(operator, "ban ADDRESS: ")


def write(client: chat.Client, to: Chat, text: str) -> None:
    """Send a message, and wait until the relay has it."""
    to.send_text(text)
    client.wait_for("that it was sent", lambda event: event.kind == EventType.MSG_DELIVERED)


def heard_from_bot(of: Chat) -> list[str]:
    """What the bot has written in a chat of two; beside it are notices of the client's own."""
    (bot,) = of.get_contacts()
    said = [message.get_snapshot() for message in of.get_messages()]
    return [message.text for message in said if message.from_id == bot.id and not message.is_info]


def test_strangers_get_no_answer_and_nothing_is_done_for_them(alice, operator, operator_chat, visitor):
    # They have the bot's key, by a card that an operator has sent.
    (bot,) = operator_chat.get_contacts()
    (contact,) = visitor.account.import_vcard(bot.make_vcard())
    stranger = contact.create_chat()
    for text in (f"ban {alice.address}", "status", "x" * 100_000, "<b>accounts</b>"):
        write(visitor, stranger, text)
    # In a group with an operator, who says it: the stranger would read the answer.
    group = operator.account.create_group("a group")
    group.add_contact(bot)
    group.add_contact(operator.account.create_contact(visitor.account))
    write(operator, group, "accounts")
    # What came before has been looked at when this is answered.
    operator_chat.send_text("queue")
    hear(operator, "no message waits")
    alice.imap()
    assert heard_from_bot(stranger) == []


def test_a_link_lets_one_in_and_who_is_removed_is_out(lab, echo_host, operator, operator_chat, visitor):
    link = lab.salt_ssh(echo_host.name, "chatmail_bot.link")
    other = chat.join(visitor, link)
    hear(operator, f"{visitor.address} is an operator of this relay now.")
    hear(visitor, "You are an operator")
    hear(visitor, "22 checks in ")
    lab.salt_ssh(echo_host.name, "chatmail_bot.remove", visitor.address)
    heard = heard_from_bot(other)
    write(visitor, other, "accounts")
    # The link was used.
    visitor.account.secure_join(link)
    operator_chat.send_text("queue")
    hear(operator, "no message waits")
    assert lab.salt_ssh(echo_host.name, "chatmail_bot.operators") == [operator.address]
    assert heard_from_bot(other) == heard


def test_the_operators_bot_is_as_small_and_as_closed_as_the_other(echo_host):
    paths = ["/run/operator-bot", "/run/operator-bot/password", "/var/lib/operator-bot", "/run/chatmail-operator"]
    paths += ["/run/chatmail-operator/bot.socket", "/run/chatmail-operator/host.socket", "/var/lib/chatmail-status"]
    assert echo_host.run(["stat", "--format=%a %U:%G", *paths]).stdout.splitlines() == [
        "2750 operator-bot:vmail",
        "640 operator-bot:vmail",
        "700 operator-bot:operator-bot",
        "755 root:root",
        "600 root:root",
        "600 operator-bot:operator-bot",
        "700 root:root",
    ]
    echo_host.run(["systemctl", "restart", "operator-bot"])
    resident = echo_host.run(["ps", "-u", "operator-bot", "-o", "rss="]).stdout.split()
    assert len(resident) == 2
    assert max(int(kilobytes) / 1024 for kilobytes in resident) < MEMORY_MB
    assert too_exposed(echo_host) == {}
