"""A relay without a name: its mail domain is the host's IPv4 address, and addresses end in a domain literal."""

import html
import re
import smtplib
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE, with_echobot
from test.integration.test_account_link import scanned
from test.integration.test_web_pages import log_in
from test.integration.test_web_server import ask
from test.lab import Host
from test.relay import chat
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import attempt, inbox, metadata_entry, submit
from test.support.waiting import wait_until


@pytest.fixture(scope="module")
def address_host(lab) -> Iterator[Host]:
    """Deployed without a name; the lab's name server knows one, which nothing of this uses."""
    host = lab.add("address.test", packages=True)
    lab.pillar(host.name, {"chatmail": {"mail_domain": str(host.ipv4), **PERMISSIVE, **with_echobot(host)}})
    lab.salt_ssh(host.name, "state.apply", "chatmail")
    yield host
    lab.remove(host.name)


@pytest.fixture(scope="module")
def address_relay(address_host) -> Relay:
    return Relay(f"[{address_host.ipv4}]", str(address_host.ipv4))


@pytest.fixture
def dave(address_relay) -> User:
    """A fresh address on the relay without a name."""
    return new_user(address_relay)


def test_a_second_apply_changes_nothing(lab, address_host):
    states = lab.salt_ssh(address_host.name, "state.apply", "chatmail")
    assert [name for name, state in states.items() if state["changes"]] == []


def test_nothing_runs_that_would_sign(address_host):
    assert address_host.run(["systemctl", "is-active", "opendkim"], check=False).stdout == "inactive\n"
    assert address_host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""


def test_delta_chat_clients_talk_with_each_other_and_with_a_named_relay(lab, address_relay, two, tmp_path):
    """All that they know of their relays are the QR codes of the pages, with a new address in each."""
    relays = {relay.domain: relay for relay in (address_relay, two)}
    who = [("dave", address_relay.domain), ("erin", address_relay.domain), ("carol", two.domain)]
    with chat.clients(who, lab.resolver_argv, tmp_path, lambda domain: scanned(relays[domain])) as (dave, erin, carol):
        assert dave.address.endswith(f"@{address_relay.domain}")
        for inviter, joiner in ((dave, erin), (dave, carol), (carol, erin)):
            inviter_chat, joiner_chat = chat.make_contact(inviter, joiner)
            assert len(chat.round_trips(inviter, inviter_chat, joiner, joiner_chat, 1)) == 1


def test_the_web_page_has_a_login_for_its_visitor(address_relay):
    page = ask(address_relay, "/", host=address_relay.address).body
    log_in(address_relay, html.unescape(re.search('class="button" href="([^"]*)"', page)[1]))


def test_its_echobot_answers(lab, address_host, address_relay, tmp_path):
    with chat.clients([("dave", address_relay.domain)], lab.resolver_argv, tmp_path) as (dave,):
        chat.join(dave, lab.salt_ssh(address_host.name, "chatmail_echobot.link")).send_text("Grüße")
        dave.receive("Grüße")


def test_mail_travels_both_ways_with_a_named_relay(dave, carol):
    assert submit(dave, carol.address, messages.encrypted(dave.address, carol.address)) is None
    assert len(inbox(carol)) == 1
    assert submit(carol, dave.address, messages.encrypted(carol.address, dave.address)) is None
    assert len(inbox(dave)) == 1


def test_a_bounce_for_an_unknown_address_comes_back(dave, carol, address_relay):
    unknown = f"nobody999@{address_relay.domain}"
    assert submit(carol, unknown, messages.encrypted(carol.address, unknown)) is None
    [bounce] = inbox(carol)
    assert unknown.encode() in bounce


def test_mail_of_another_relay_without_a_name_arrives(dave, address_relay):
    with smtplib.SMTP(address_relay.address, 25, timeout=20) as client:
        client.starttls(context=unchecked_tls())
        author = f"someone@[{client.sock.getsockname()[0]}]"
        assert attempt(client, author, dave.address, messages.encrypted(author, dave.address)) is None
        stolen = f"erin@{address_relay.domain}"
        assert attempt(client, stolen, dave.address, messages.encrypted(stolen, dave.address))[0] == 554
    assert len(inbox(dave)) == 1


def test_to_another_relay_without_a_name_no_bounce_is_sent_and_nobody_writes_for_nothing(address_host, dave):
    """Each refuses the other's bounces, which nobody signs; of what is refused, the sender's own relay makes one."""
    domain = dave.address.rpartition("@")[2]
    unknown = f"nobody999@{domain}"
    with smtplib.SMTP(dave.relay.address, 25, timeout=20) as client:
        client.starttls(context=unchecked_tls())
        author = f"someone@[{client.sock.getsockname()[0]}]"
        refusal = (550, f"5.1.1 <{unknown}>: no such address here")
        assert attempt(client, author, unknown, messages.encrypted(author, unknown)) == refusal
        message = messages.encrypted(author, dave.address)
        assert attempt(client, author, [dave.address, unknown], message) is None
    assert len(inbox(dave)) == 1
    refused = ["journalctl", "--no-pager", "--grep", f"to=<{re.escape(unknown)}>.*status=bounced"]
    wait_until(lambda: address_host.run(refused, check=False).stdout, "it is not tried")
    queues = address_host.run(["postqueue", "-j"]).stdout
    bounces = ["journalctl", "--no-pager", "--grep", f"to=<{re.escape(author)}>"]
    assert (queues, address_host.run(bounces, check=False).stdout) == ("", "-- No entries --\n")


def test_cleartext_and_other_literals_are_refused(dave, address_relay):
    refusal = submit(dave, dave.address, messages.plain(dave.address, dave.address))
    assert refusal[0] == 523
    with smtplib.SMTP(address_relay.address, 25, timeout=20) as client:
        client.starttls(context=unchecked_tls())
        client.ehlo("tester.test")
        client.mail("x@_one.test")
        assert client.rcpt("nobody999@[192.0.2.99]")[0] == 554


def test_the_mailbox_is_below_the_bare_address(address_host, dave):
    path = f"/home/vmail/mail/{address_host.ipv4}/{dave.address}/password"
    assert address_host.run(["stat", "--format=%U", path]).stdout == "vmail\n"


def test_the_turn_server_is_named_without_brackets(address_host, dave):
    with dave.imap() as client:
        told = metadata_entry(client, "", "/shared/vendor/deltachat/turn")
    assert told.startswith(f"{address_host.ipv4}:3478:")
