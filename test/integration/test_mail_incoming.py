"""What other servers may send to port 25: the incoming filter, DKIM, and what never passes."""

import base64
import email.policy
import random
import re
import smtplib
import time
from email import message_from_bytes

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from test.relay.deploy import quoted_strings
from test.support import hostile, messages
from test.support.hostile_mail import tampered
from test.support.mail_clients import command, port_25, unchecked_tls
from test.support.mailing import attempt, deliver, inbox
from test.support.signing import ForeignDomain, verified_domains

CLEARTEXT = (523, "Encryption Needed: Invalid Unencrypted Mail")


@pytest.fixture
def author(foreign) -> str:
    return f"someone@{foreign.name}"


def test_signed_and_encrypted_mail_arrives_unchanged(one, bob, foreign, author):
    message = messages.encrypted(author, bob.address, preamble=".dot\r\nümläut\r\n")
    assert deliver(one.address, author, bob.address, foreign.signed(message)) is None
    [arrived] = inbox(bob)
    assert arrived.split(b"\r\n\r\n", 1)[1] == message.split(b"\r\n\r\n", 1)[1]
    header = message_from_bytes(arrived)
    for name in ("Received", "DKIM-Signature", "Authentication-Results"):
        assert header.get_all(name) is None, name


def test_no_line_is_too_long_to_arrive_unchanged(one, bob, foreign, author):
    start = b'Content-Type: multipart/encrypted; x="'
    # Where Postfix would break the line, the boundary would be another: that of a preamble with cleartext.
    line = start + b"a" * (998 - len(start + b'"; boundary="evil')) + b'"; boundary="evilreal"'
    message = messages.encrypted(author, bob.address, preamble="--evil real\r\n\r\ncleartext\r\n--evil real--\r\n")
    message = re.sub(rb"Content-Type: multipart/encrypted.*\r\n .*", line, message)
    message = message.replace(messages.BOUNDARY.encode(), b"evilreal")
    assert deliver(one.address, author, bob.address, foreign.signed(message)) is None
    [arrived] = inbox(bob)
    assert line in arrived.split(b"\r\n")


def test_unsigned_mail_is_refused(one, bob, author):
    code, text = deliver(one.address, author, bob.address, messages.encrypted(author, bob.address))
    assert code == 554
    assert text.startswith("5.7.1 No DKIM signature found")


def test_a_signature_of_another_domain_does_not_count(one, bob, foreign):
    for other in ("victim.test", "sub.foreign.test"):
        sender = f"someone@{other}"
        message = foreign.signed(messages.encrypted(sender, bob.address))
        code, text = deliver(one.address, sender, bob.address, message)
        assert code == 554
        assert text.startswith("5.7.1 No valid DKIM signature found")


def test_one_good_signature_among_others_suffices(one, bob, foreign, author):
    message = foreign.signed(messages.encrypted(author, bob.address))
    for number in range(5):
        message = foreign.signed(message, domain=f"list{number}.test")
    assert deliver(one.address, author, bob.address, message) is None


# Each made the verifier of before give up, and what it had given up on passed.
BROKEN_SIGNATURES = {
    "junk": "junk",
    "empty": "",
    "without d=": "v=1; a=rsa-sha256; s=mail; h=from; bh=AAAA; b=AAAA",
    "impossible number": f"v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA; l={'9' * 80}",
    "impossible time": "v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA; t=-1",
    "twice the same tag": "v=1; v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA",
    "without From": "v=1; a=rsa-sha256; d=foreign.test; s=mail; h=to; bh=AAAA; b=AAAA",
    "unknown algorithm": "v=1; a=rsa-sha512; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA",
}


@pytest.mark.parametrize("field", BROKEN_SIGNATURES.values(), ids=BROKEN_SIGNATURES)
def test_a_broken_signature_is_no_reason_to_accept(one, alice, bob, author, field):
    for sender, message in (
        (author, messages.encrypted(author, bob.address)),
        (alice.address, messages.encrypted(alice.address, bob.address)),
        ("", messages.bounce(f"MAILER-DAEMON@{one.domain}", bob.address)),
    ):
        code, text = deliver(one.address, sender, bob.address, f"DKIM-Signature: {field}\r\n".encode() + message)
        assert code == 554
        assert text.startswith("5.7.1 No valid DKIM signature found")


@pytest.mark.parametrize("field", BROKEN_SIGNATURES.values(), ids=BROKEN_SIGNATURES)
def test_a_broken_signature_beside_a_good_one_does_no_harm(one, bob, foreign, author, field):
    message = foreign.signed(messages.encrypted(author, bob.address))
    assert deliver(one.address, author, bob.address, f"DKIM-Signature: {field}\r\n".encode() + message) is None


def test_a_revoked_key_beside_a_good_one_does_no_harm(lab, one, bob, foreign, author):
    lab.publish("revoked._domainkey.foreign.test.", "TXT", ['"v=DKIM1; p="'])
    try:
        message = messages.encrypted(author, bob.address)
        revoked = foreign.signed(message, selector="revoked")
        assert deliver(one.address, author, bob.address, revoked)[0] == 554
        assert deliver(one.address, author, bob.address, foreign.signed(revoked)) is None
    finally:
        lab.withdraw("revoked._domainkey.foreign.test.", "TXT")


@pytest.mark.parametrize(
    "field",
    ['"(\t"\t)"<ceo@other.test>', "<@route.test:ceo@other.test>", '"<@other.test,@:ceo@other.test>'],
    ids=repr,
)
def test_an_author_whom_another_reader_cannot_find_needs_a_signature_too(one, bob, field):
    message = messages.encrypted("ceo@other.test", bob.address).replace(b"<ceo@other.test>", field.encode())
    refusal = deliver(one.address, "ceo@other.test", bob.address, message)
    assert refusal is not None and refusal[0] in (500, 554)


def test_an_ed25519_signature_counts(lab, one, bob, foreign, author):
    """RFC 8463."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    lab.publish("ed._domainkey.foreign.test.", "TXT", [f'"v=DKIM1;k=ed25519;p={base64.b64encode(public).decode()}"'])
    try:
        signed = foreign.signed(messages.encrypted(author, bob.address), selector="ed", ed25519=key)
        assert deliver(one.address, author, bob.address, signed) is None
        assert deliver(one.address, author, bob.address, signed.replace(b"To:", b"To: x,"))[0] == 554
    finally:
        lab.withdraw("ed._domainkey.foreign.test.", "TXT")


def test_an_expired_signature_does_not_count(one, bob, foreign, author):
    """RFC 6376 section 3.5, x=."""
    message = messages.encrypted(author, bob.address)
    now = int(time.time())
    past = ((b"t", b"%d" % (now - 7200)), (b"x", b"%d" % (now - 3600)))
    code, text = deliver(one.address, author, bob.address, foreign.signed(message, fields=past))
    assert code == 554
    assert text.startswith("5.7.1 No valid DKIM signature found")
    future = ((b"x", b"%d" % (now + 3600)),)
    assert deliver(one.address, author, bob.address, foreign.signed(message, fields=future)) is None


@pytest.mark.parametrize("body", ["simple", "relaxed"])
def test_a_signature_of_a_part_of_the_body_does_not_count(one, bob, foreign, author, body):
    """RFC 6376 section 8.2, l=: whoever passes the message on could add text. One of the whole body counts."""
    message = messages.encrypted(author, bob.address, preamble="wide   space  \r\n")
    partial = foreign.signed(message, body=body, length=True) + b"added later\r\n"
    code, text = deliver(one.address, author, bob.address, partial)
    assert code == 554
    assert text.startswith("5.7.1 No valid DKIM signature found")
    assert deliver(one.address, author, bob.address, foreign.signed(message, body=body)) is None
    whole = messages.encrypted(author, bob.address)
    assert deliver(one.address, author, bob.address, foreign.signed(whole, body=body, length=True)) is None


@pytest.mark.parametrize("part", [b"multipart/encrypted", b"-----END PGP"])
def test_a_changed_message_is_refused(one, bob, foreign, author, part):
    signed = foreign.signed(messages.encrypted(author, bob.address, epilogue="the end\r\n"))
    changed = signed.replace(b"the end", b"The end") if part.startswith(b"-") else signed.replace(b"To:", b"To: x,")
    code, text = deliver(one.address, author, bob.address, changed)
    assert code == 554
    assert text.startswith("5.7.1 No valid DKIM signature found")


def test_a_key_that_cannot_be_fetched_is_a_reason_to_try_again(one, bob, foreign):
    """The lab's name server refuses what is not below .test."""
    sender = "someone@unreachable.example"
    message = foreign.signed(messages.encrypted(sender, bob.address), domain="unreachable.example")
    code, text = deliver(one.address, sender, bob.address, message)
    assert (code, text[:5]) == (451, "4.7.5")


def test_a_key_that_was_rotated_is_found_at_once(lab, one, bob, foreign, author):
    new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = new.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    message = messages.encrypted(author, bob.address)
    rotated = ForeignDomain(foreign.name, pem)
    assert deliver(one.address, author, bob.address, rotated.signed(message, selector="new"))[0] == 554
    public = new.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    value = f"v=DKIM1;k=rsa;p={base64.b64encode(public).decode()}"
    lab.publish("new._domainkey.foreign.test.", "TXT", [quoted_strings(value)])
    try:
        assert deliver(one.address, author, bob.address, rotated.signed(message, selector="new")) is None
    finally:
        lab.withdraw("new._domainkey.foreign.test.", "TXT")


def test_an_address_literal_is_good_for_encrypted_mail_from_that_address(one, two, bob):
    with port_25(one.address) as client:
        here = client.sock.getsockname()[0]
        author = f"someone@[{here}]"
        message = messages.encrypted(author, bob.address)
        assert attempt(client, author, bob.address, message) is None
        assert attempt(client, author, bob.address, messages.plain(author, bob.address)) == CLEARTEXT
        bounce = messages.bounce(f"MAILER-DAEMON@[{here}]", bob.address)
        assert attempt(client, "", bob.address, bounce)[0] == 554
        for domain in ("[192.0.2.0]", "[IPv6:2001:db8::1]", f"[{one.address}]", f"[{two.address}]"):
            author = f"someone@{domain}"
            code, text = attempt(client, author, bob.address, messages.encrypted(author, bob.address))
            assert (code, text[:5]) == (554, "5.7.1"), domain
        named = "someone@[_one.test]"
        assert attempt(client, "", bob.address, messages.encrypted(named, bob.address))[0] in (500, 554)
    assert len(inbox(bob)) == 1


def test_what_passes_opendkim_verifies_for_the_author_whom_python_shows(one, one_host, bob, foreign):
    """Mail that is signed and tampered with in any way; see test/support/hostile_mail.py."""
    rng = random.Random(10)
    sent = [tampered(rng, foreign) for _ in range(60)]
    # One connection each: after 20 refusals Postfix ends it.
    passed = [message for message in sent if deliver(one.address, "", bob.address, message) is None]
    assert 5 < len(passed) < 55
    key = f"mail._domainkey.{foreign.name} {foreign.record()}\n"
    one_host.write("/root/verifier/keys", key)
    one_host.write("/root/verifier/conf", "Mode v\nTestPublicKeys /root/verifier/keys\nSyslog no\n")
    for number, message in enumerate(passed):
        one_host.write(f"/root/verifier/{number}.base64", base64.b64encode(message).decode())
    verify = "base64 -d $1.base64 > $1; opendkim -x conf -vv -t $1 2>/dev/null | sed -n 's/.*dkim=pass.*header.d=//p'"
    script = f"cd /root/verifier; for n in $(seq 0 {len(passed) - 1}); do set -- $n; {verify}; echo --; done"
    # A line that begins with the domain for each signature that is valid, and two dashes after each message.
    signers = one_host.run(["sh", "-c", script]).stdout.lower().split("--\n")[:-1]
    for message, signer in zip(passed, signers, strict=True):
        [author] = message_from_bytes(message, policy=email.policy.default)["from"].addresses
        domains = {line.split()[0] for line in signer.splitlines() if line}
        # OpenDKIM has no verdict on some mail with two valid signatures; dkimpy has.
        domains = domains or verified_domains(message, foreign.name, foreign.record().encode())
        assert author.domain.lower() in domains, message


def test_the_own_domain_is_not_trusted_from_outside(one, alice, bob):
    refusal = deliver(one.address, alice.address, bob.address, messages.encrypted(alice.address, bob.address))
    assert refusal[0] == 554
    assert "No DKIM signature found" in refusal[1]


@pytest.mark.parametrize("sample", [messages.plain, messages.fake_encrypted, messages.literal, messages.read_receipt])
def test_cleartext_to_a_fresh_address_is_refused(one, bob, foreign, author, sample):
    message = foreign.signed(sample(author, bob.address))
    assert deliver(one.address, author, bob.address, message) == CLEARTEXT


def test_cleartext_is_refused_for_any_spelling_of_an_address(one, bob, foreign, author):
    local, domain = bob.address.split("@")
    for recipient in (f"{local}+tag@{domain}", f"{local.upper()}@{domain}", f"{local}+a+b@{domain.upper()}"):
        message = foreign.signed(messages.plain(author, recipient))
        assert deliver(one.address, author, recipient, message) == CLEARTEXT


def test_however_a_recipient_is_written_cleartext_does_not_arrive(one, bob, foreign, author):
    source = random.Random(5321)
    cleartext = foreign.signed(messages.plain(author, bob.address))
    asked = 0
    for _ in range(30):
        with port_25(one.address) as client:
            client.ehlo()
            # After some more errors Postfix slows down, and then hangs up.
            for _ in range(8):
                client.rset()
                client.mail(author)
                if command(client, f"RCPT TO:{hostile.path(source, bob.address)}") == 250:
                    client.data(cleartext)
                    asked += 1
    assert asked > 50
    assert deliver(one.address, author, bob.address, foreign.signed(messages.encrypted(author, bob.address))) is None
    assert len(inbox(bob)) == 1


def test_cleartext_passes_where_the_mailbox_allows_it(one, one_host, bob, foreign, author):
    one_host.run(["rm", f"/home/vmail/mail/{one.domain}/{bob.address}/enforceE2EEincoming"])
    message = foreign.signed(messages.plain(author, bob.address))
    assert deliver(one.address, author, bob.address, message) is None
    assert len(inbox(bob)) == 1


@pytest.mark.parametrize(
    "sample", [messages.version_line, messages.legacy_packets, messages.partial_lengths, messages.securejoin]
)
def test_other_forms_of_encrypted_mail_and_securejoin_pass(one, bob, foreign, author, sample):
    assert deliver(one.address, author, bob.address, foreign.signed(sample(author, bob.address))) is None
    assert len(inbox(bob)) == 1


def test_a_detail_address_reaches_its_mailbox(one, bob, foreign, author):
    local, domain = bob.address.split("@")
    recipient = f"{local}+tag@{domain}"
    message = foreign.signed(messages.encrypted(author, recipient))
    assert deliver(one.address, author, recipient, message) is None
    assert len(inbox(bob)) == 1


def test_a_bounce_of_another_server_passes(one, bob, foreign):
    message = foreign.signed(messages.bounce("MAILER-DAEMON@foreign.test", bob.address))
    assert deliver(one.address, "", bob.address, message) is None
    assert len(inbox(bob)) == 1


def test_a_rewritten_envelope_sender_is_never_bounced_to(one, bob, foreign, author):
    message = foreign.signed(messages.encrypted(author, bob.address))
    rewritten = "SRS1=HHH=example.test==HHH=TT=example.test=alice@forwarder.test"
    assert deliver(one.address, rewritten, bob.address, message) is None
    [arrived] = inbox(bob)
    assert message_from_bytes(arrived)["Return-Path"] == "<>"


def test_several_from_fields_or_addresses_are_refused(one, bob, foreign, author):
    two_fields = messages.encrypted(author, bob.address, headers="From: <president@example.test>\r\n")
    two_addresses = messages.encrypted(author, bob.address).replace(
        f"From: <{author}>".encode(), f"From: <{author}>, <president@example.test>".encode()
    )
    assert b"president" in two_addresses
    for message in (two_fields, two_addresses):
        assert deliver(one.address, author, bob.address, foreign.signed(message))[0] == 500


def test_mail_for_other_domains_is_refused(one, two, author):
    for recipient in ("someone@elsewhere.test", f"nobody999@{two.domain}", "user%elsewhere.test@_one.test"):
        refusal = deliver(one.address, author, recipient, messages.encrypted(author, recipient))
        assert refusal[0] in (550, 554), recipient


def test_port_25_wants_tls_first(one, bob, author):
    with smtplib.SMTP(one.address, 25, timeout=20) as client:
        client.ehlo()
        code, text = client.docmd(f"MAIL FROM:<{author}>")
    assert code == 530
    assert text.startswith(b"5.7.0 Must issue a STARTTLS command first")


def test_disabled_addresses_get_nothing_and_nobody_is_told(one, one_host, bob, foreign, author):
    one_host.run(["touch", f"/home/vmail/mail/{one.domain}/{bob.address}/DISABLED"])
    message = foreign.signed(messages.encrypted(author, bob.address))
    assert deliver(one.address, author, bob.address, message) is None
    one_host.run(["rm", f"/home/vmail/mail/{one.domain}/{bob.address}/DISABLED"])
    assert deliver(one.address, author, bob.address, message) is None
    assert len(inbox(bob)) == 1


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\n.\r", b"\r\n\x00.\r\n"], ids=repr
)
def test_no_message_is_smuggled_behind_another(one, bob, foreign, author, end):
    """Only CRLF.CRLF ends DATA (RFC 5321 section 4.1.1.4): what follows another sequence is no new transaction."""
    inner = (
        f"MAIL FROM:<{author}>\r\nRCPT TO:<{bob.address}>\r\nDATA\r\n".encode()
        + foreign.signed(messages.encrypted(author, bob.address, subject="smuggled"))
        + b"\r\n.\r\n"
    )
    outer = foreign.signed(messages.encrypted(author, bob.address, epilogue="outer\r\n"))
    with port_25(one.address) as client:
        client.ehlo()
        client.mail(author)
        client.rcpt(bob.address)
        assert client.docmd("DATA")[0] == 354
        client.send(outer + end + inner)
        code, _ = client.getreply()
        client.close()
    # Whatever was answered to the whole: it is one message at the most, and an altered one has no valid signature.
    marker = f"marker@{foreign.name}"
    assert deliver(one.address, marker, bob.address, foreign.signed(messages.encrypted(marker, bob.address))) is None
    others = [message for message in inbox(bob) if marker.encode() not in message]
    assert len(others) <= (1 if code == 250 else 0)


def test_a_refusal_leaves_the_dialogue_in_step(one, bob, foreign, author):
    good = foreign.signed(messages.encrypted(author, bob.address))
    with smtplib.SMTP(one.address, 25, timeout=20) as client:
        client.starttls(context=unchecked_tls())
        assert attempt(client, author, bob.address, messages.encrypted(author, bob.address))[0] == 554
        assert attempt(client, author, bob.address, foreign.signed(messages.plain(author, bob.address))) == CLEARTEXT
        assert attempt(client, author, bob.address, good) is None
    assert len(inbox(bob)) == 1
