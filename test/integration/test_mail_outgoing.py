"""What clients may send: submission, the outgoing filter, signing, delivery here and to another relay."""

import random
import smtplib
from email import message_from_bytes
from functools import partial

import pytest

from chatmaild.message import mime
from chatmaild.message.address import parse_from, parse_path
from test.integration.conftest import PERMISSIVE
from test.relay.delivery import User, new_user
from test.support import messages
from test.support.hostile import path
from test.support.mail_clients import command, submission, unchecked_tls
from test.support.mailing import attempt, inbox, kept_connections, submit
from test.support.waiting import wait_until

NEEDED = "523 Encryption Needed: Invalid Unencrypted Mail"


def refused_as_cleartext(refusal) -> bool:
    return refusal is not None and f"{refusal[0]} {refusal[1]}".startswith(NEEDED)


@pytest.mark.parametrize("name", ["localhost", "phone", "[127.0.0.1]"])
def test_a_client_calls_itself_what_it_likes(alice, bob, name):
    context = unchecked_tls()
    with smtplib.SMTP_SSL(alice.relay.address, 465, local_hostname=name, timeout=20, context=context) as client:
        client.login(alice.address, alice.password)
        assert attempt(client, alice.address, bob.address, messages.encrypted(alice.address, bob.address)) is None


@pytest.mark.parametrize("port", [25, 465])
def test_only_what_it_does_is_announced(one, port):
    kind = smtplib.SMTP if port == 25 else partial(smtplib.SMTP_SSL, context=unchecked_tls())
    with kind(one.address, port, timeout=20) as client:
        client.ehlo()
        assert "8bitmime" in client.esmtp_features
        assert not {"dsn", "etrn"} & set(client.esmtp_features)
        assert client.docmd("ETRN", "example.org")[0] >= 400


@pytest.mark.parametrize("port", [465, 587])
def test_an_encrypted_message_arrives(alice, bob, port):
    assert submit(alice, bob.address, messages.encrypted(alice.address, bob.address), port=port) is None
    assert len(inbox(bob)) == 1


@pytest.mark.parametrize("recipient", ["bob", "carol"])
def test_what_arrives_tells_nothing_about_the_way(request, alice, recipient):
    reader = request.getfixturevalue(recipient)
    message = messages.encrypted(
        alice.address,
        reader.address,
        subject="Secret plans",
        headers="User-Agent: tell-tale\r\nX-Mailer: tell-tale\r\nX-Originating-IP: 203.0.113.9\r\n"
        "Received: from home (203.0.113.9) by nowhere; Mon, 1 Jan 2024 00:00:00 +0000\r\n",
    )
    assert submit(alice, reader.address, message) is None
    [arrived] = inbox(reader)
    header = message_from_bytes(arrived)
    assert header.get_all("Subject") == ["[...]"]
    for name in ("Received", "DKIM-Signature", "Authentication-Results", "User-Agent", "X-Mailer", "X-Originating-IP"):
        assert header.get_all(name) is None, name
    for trace in (b"tell-tale", b"203.0.113.9", b"Secret plans", b"198.18."):
        assert trace not in arrived


@pytest.mark.parametrize("recipient", ["bob", "carol"])
def test_the_body_arrives_byte_for_byte(request, alice, recipient):
    reader = request.getfixturevalue(recipient)
    message = messages.encrypted(alice.address, reader.address, payload=messages.encrypted_payload(300_000))
    assert submit(alice, reader.address, message) is None
    [arrived] = inbox(reader)
    assert arrived.split(b"\r\n\r\n", 1)[1] == message.split(b"\r\n\r\n", 1)[1]


@pytest.mark.parametrize("shape", ["one field", "many fields"])
def test_the_largest_header_section_arrives_whole_and_a_larger_one_is_refused(alice, carol, shape):
    message = messages.encrypted(alice.address, carol.address)
    # Postfix adds a Received field before the filter counts.
    largest = messages.with_header_section(message, mime.HEADERS_MAX - 1000, shape)
    assert submit(alice, carol.address, largest) is None
    [arrived] = inbox(carol)
    name = "Cc" if shape == "one field" else "X-Field"
    sent, got = (message_from_bytes(octets).get_all(name) for octets in (largest, arrived))
    assert ["".join(value.split()) for value in got] == ["".join(value.split()) for value in sent]
    code, text = submit(alice, carol.address, messages.with_header_section(message, mime.HEADERS_MAX + 1, shape))
    assert code == 500
    assert "more than 64000 octets" in text


@pytest.mark.parametrize(
    "sample", [messages.plain, messages.fake_encrypted, messages.literal, messages.read_receipt, messages.version_line]
)
def test_cleartext_is_refused(alice, bob, sample):
    assert refused_as_cleartext(submit(alice, bob.address, sample(alice.address, bob.address)))


@pytest.mark.parametrize("sample", [messages.legacy_packets, messages.partial_lengths, messages.securejoin])
def test_other_forms_of_encrypted_mail_and_securejoin_pass(alice, bob, sample):
    assert submit(alice, bob.address, sample(alice.address, bob.address)) is None
    assert len(inbox(bob)) == 1


def test_a_setup_message_goes_to_oneself_only(alice, bob):
    assert submit(alice, alice.address, messages.autocrypt_setup(alice.address, alice.address)) is None
    assert refused_as_cleartext(submit(alice, bob.address, messages.autocrypt_setup(alice.address, bob.address)))


@pytest.mark.parametrize("forged", ["somebody@elsewhere.test", "bob"])
def test_a_forged_from_is_refused(alice, bob, forged):
    author = bob.address if forged == "bob" else forged
    code, text = submit(alice, bob.address, messages.encrypted(author, bob.address))
    assert code == 500
    assert text.startswith("Invalid FROM")


def test_two_from_fields_are_refused(alice, bob):
    message = messages.encrypted(alice.address, bob.address, headers=f"From: <{bob.address}>\r\n")
    assert submit(alice, bob.address, message)[0] == 500


def test_an_envelope_sender_of_another_login_is_refused(alice, bob):
    message = messages.encrypted(bob.address, alice.address)
    assert submit(alice, alice.address, message, sender=bob.address)[0] == 553


@pytest.mark.parametrize("spelling", ["{user}%{domain}@{domain}", "{user}%{domain}@[127.0.0.1]", "{domain}!{user}"])
def test_another_spelling_of_the_own_address_is_no_sender(alice, bob, spelling):
    user, domain = alice.address.split("@")
    sender = spelling.format(user=user, domain=domain)
    assert submit(alice, bob.address, messages.encrypted(sender, bob.address), sender=sender)[0] == 553


def test_however_a_sender_is_written_mail_is_of_who_logged_in(one, bob):
    source = random.Random(5321)
    # The filter lets ten messages of a user pass at a time.
    users = [new_user(one) for _ in range(8)]
    accepted = 0
    for user in users:
        for _ in range(3):
            with submission(one.address, user.address, user.password) as client:
                client.ehlo()
                # After some more errors Postfix slows down, and then hangs up.
                accepted += sum(sent_from(client, path(source, user.address), user, bob.address) for _ in range(9))
    arrived = [message_from_bytes(octets) for octets in inbox(bob, accepted)]
    assert accepted == len(arrived) > 20
    for message in arrived:
        assert parse_from(message["From"].encode()) == message["Return-Path"].strip("<>")
        assert message["Return-Path"].strip("<>") in [user.address for user in users]


def sent_from(client: smtplib.SMTP, sender: str, user: User, recipient: str) -> bool:
    """Whether a message passes whose sender is written so, and whose author is whom our filter reads there."""
    client.rset()
    if command(client, f"MAIL FROM:{sender}") != 250:
        return False
    client.rcpt(recipient)
    author = parse_path(sender) or ""
    named = author if parse_from(author.encode()) else user.address
    code, _ = client.data(messages.encrypted(named, recipient, payload=messages.encrypted_payload(50)))
    return code == 250


def test_a_client_that_did_not_log_in_sends_nothing(one, bob):
    with smtplib.SMTP_SSL(one.address, 465, context=unchecked_tls(), timeout=20) as client:
        refusal = attempt(client, "x@_one.test", bob.address, messages.encrypted("x@_one.test", bob.address))
    assert refusal[0] == 554
    assert "Access denied" in refusal[1]


def test_a_sender_that_is_too_fast_is_told_so(one, bob):
    hasty = new_user(one)
    message = messages.encrypted(hasty.address, bob.address)
    outcomes = [submit(hasty, bob.address, message) for _ in range(13)]
    assert outcomes[:10] == [None] * 10
    refusal = next(outcome for outcome in outcomes if outcome)
    assert refusal[0] == 450
    assert "4.7.1: Too much mail from" in refusal[1]


def test_a_message_that_is_too_large_ends_neither_dialogue_nor_filter(alice, bob):
    large = messages.encrypted(alice.address, bob.address, payload=messages.encrypted_payload(26 * 1024 * 1024))
    small = messages.encrypted(alice.address, bob.address)
    with submission(alice.relay.address, alice.address, alice.password) as client:
        # Without SIZE= on MAIL, so that the limit is met while the data comes.
        client.esmtp_features.pop("size", None)
        assert attempt(client, alice.address, bob.address, large)[0] == 552
        assert attempt(client, alice.address, bob.address, small) is None
    assert len(inbox(bob)) == 1


def test_several_recipients_on_both_relays_each_get_one(alice, bob, carol):
    message = messages.encrypted(alice.address, bob.address)
    assert submit(alice, [bob.address, carol.address], message) is None
    assert len(inbox(bob)) == 1
    assert len(inbox(carol)) == 1


@pytest.mark.parametrize("domain", ["_one.test", "_two.test"])
def test_a_bounce_for_an_unknown_address_comes_back(alice, domain):
    unknown = f"nobody999@{domain}"
    assert submit(alice, unknown, messages.encrypted(alice.address, unknown)) is None
    [bounce] = inbox(alice)
    report = message_from_bytes(bounce)
    assert report.get_content_type() == "multipart/report"
    assert unknown.encode() in bounce


def test_passthrough_addresses_may_have_cleartext(lab, two, two_host):
    """Set by the pillar; the services restart with it, and go back to refusing without it."""
    support, sender, outsider = (new_user(two) for _ in range(3))
    lab.pillar(
        two.domain,
        {
            "chatmail": {
                "mail_domain": two.domain,
                **PERMISSIVE,
                "passthrough_senders": [sender.address],
                "passthrough_recipients": support.address,
            }
        },
    )
    lab.salt_ssh(two.domain, "state.apply", "chatmail")
    try:
        assert submit(outsider, support.address, messages.plain(outsider.address, support.address)) is None
        both = [support.address, sender.address]
        assert refused_as_cleartext(submit(outsider, both, messages.plain(outsider.address, support.address)))
        assert submit(sender, outsider.address, messages.plain(sender.address, outsider.address)) is None
        assert len(inbox(support)) == 1
        assert len(inbox(outsider)) == 1
    finally:
        lab.pillar(two.domain, {"chatmail": {"mail_domain": two.domain, **PERMISSIVE}})
        lab.salt_ssh(two.domain, "state.apply", "chatmail")
    assert refused_as_cleartext(submit(outsider, support.address, messages.plain(outsider.address, support.address)))


@pytest.mark.parametrize(
    ("destination", "level"),
    [
        ("_two.test", "encrypt"),
        ("[192.0.2.7]", "encrypt"),
        ("[IPv6:2001:db8::1]", "encrypt"),
        ("nauta.cu", "may"),
        ("example.org", ""),
        ("sub._two.test", ""),
        ("xnauta.cu", ""),
    ],
)
def test_who_need_not_show_a_verified_certificate(one_host, destination, level):
    policy = one_host.run(["postmap", "-q", destination, "regexp:/etc/postfix/smtp_tls_policy_map"], check=False)
    assert policy.stdout.strip() == level
    assert one_host.run(["postconf", "-h", "smtp_tls_security_level"]).stdout.strip() == "verify"


@pytest.mark.usefixtures("by_smtp")
def test_messages_to_one_relay_share_a_connection(one_host, two_host, alice, carol):
    kept = []
    for number in range(1, 4):
        assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
        inbox(carol, number)
        kept.append(kept_connections(one_host, two_host))
    assert kept[0]
    assert kept == 3 * [kept[0]]


@pytest.mark.usefixtures("by_smtp")
def test_nothing_goes_to_a_server_whose_certificate_is_not_verified(lab, one_host, two_host, alice, carol):
    """A named domain whose MX shows a self-signed certificate: the message waits, encrypted mail or not.

    There is a connection to that server, which was kept for a domain whose certificate nobody checks.
    """
    assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
    inbox(carol)
    assert kept_connections(one_host, two_host)
    lab.publish("impostor.test.", "MX", ["10 _two.test."])
    recipient = "someone99@impostor.test"
    try:
        assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None
        wait_until(lambda: "not verified" in one_host.run(["postqueue", "-j"]).stdout, "the message is not deferred")
    finally:
        one_host.run(["postsuper", "-d", "ALL"])
        lab.withdraw("impostor.test.", "MX")
