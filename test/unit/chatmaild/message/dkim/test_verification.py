"""Whether a message counts as signed by its author's domain."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from chatmaild.message.dkim.verification import SIGNATURES_MAX
from chatmaild.text_records import LookupFailed
from test.support import messages
from test.support.signing import ForeignDomain
from test.unit.chatmaild.message.dkim.conftest import AUTHOR, DOMAIN, private, public

NONE, NOT_VALID = "No DKIM signature found", "No valid DKIM signature found"
KEY_NAME = f"mail._domainkey.{DOMAIN}"


@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
def test_signed_mail_counts_in_each_canonical_form(verdict, foreign, message, header, body):
    signed = foreign.signed(message, header=header, body=body)
    assert verdict(signed) == ""
    assert verdict(signed + b"more\r\n").startswith(NOT_VALID)
    assert verdict(signed.replace(b"Subject: ", b"Subject: not ")).startswith(NOT_VALID)
    assert verdict(b"From: <ceo@other.test>\r\n" + signed).startswith(NOT_VALID)
    relaxed = signed.replace(b"Subject: ", b"SUBJECT:  \t")
    assert (verdict(relaxed) == "") is (header == "relaxed")
    assert (verdict(signed.replace(b"wide   space", b"wide space")) == "") is (body == "relaxed")
    assert verdict(signed + b"\r\n\r\n") == ""


def test_unsigned_mail_does_not_count(verdict, message):
    assert verdict(message) == NONE


def test_the_case_of_the_domain_does_not_matter(verdict, foreign, message):
    assert verdict(foreign.signed(message), "Foreign.TEST") == ""
    assert verdict(foreign.signed(message, domain="FOREIGN.Test")) == ""


def test_a_look_alike_of_the_domain_is_another(verdict, foreign, message, records, rsa_key):
    """The Kelvin sign is a k in lower case."""
    records.records["mail._domainkey.kk.test"] = [b"p=" + public(rsa_key)]
    signed = foreign.signed(message, domain="kk.test")
    assert verdict(signed, "kk.test") == ""
    assert verdict(signed, "\u212ak.test").startswith(NOT_VALID)


def test_other_domains_signatures_do_not_count_and_cost_no_query(verdict, foreign, message, records):
    for other in ("victim.test", f"sub.{DOMAIN}", "test", f"x{DOMAIN}"):
        assert verdict(foreign.signed(message, domain=other)) == f"{NOT_VALID}: d= is not the domain of From"
    assert records.asked == []


def test_one_good_signature_counts_whatever_is_beside_it(verdict, foreign, message, rsa_key, records):
    records.records[f"revoked._domainkey.{DOMAIN}"] = [b"v=DKIM1; p="]
    records.records[f"silent._domainkey.{DOMAIN}"] = LookupFailed("SERVFAIL")
    signed = foreign.signed(message)
    for selector in ("revoked", "silent", "nobody"):
        signed = foreign.signed(signed, selector=selector)
    for number in range(30):
        signed = foreign.signed(signed, domain=f"list{number}.test")
    for field in ("", "junk", "v=1", "v=1; d=; s=", "v=2; d=foreign.test"):
        signed = f"DKIM-Signature: {field}\r\n".encode() + signed
    assert verdict(signed) == ""


@pytest.mark.parametrize(
    "field",
    [
        "junk",
        "",
        "v=1; a=rsa-sha256; s=mail; h=from; bh=AAAA; b=AAAA",
        "v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA; l=-1",
        f"v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA; t={'9' * 400}",
        f"v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA; l={'9' * 70}",
        f"v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA; x={'0' * 12}",
        "v=1; v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=AAAA; b=AAAA",
        "v=1; a=rsa-sha256; d=foreign.test; s=mail; h=from; bh=; b=",
    ],
)
def test_a_broken_field_is_not_a_signature(verdict, message, field):
    assert verdict(f"DKIM-Signature: {field}\r\n".encode() + message).startswith(NOT_VALID)


def test_a_second_field_of_a_tag_does_not_replace_the_first(verdict, foreign, message):
    signed = foreign.signed(message, domain="attacker.test")
    assert verdict(signed.replace(b"d=attacker.test", b"d=attacker.test; d=foreign.test")).startswith(NOT_VALID)


def test_a_signature_of_a_part_of_the_body_does_not_count(verdict, foreign, message):
    whole = foreign.signed(message, length=True)
    assert verdict(whole) == ""
    assert "l= is not the length" in verdict(whole + b"added later\r\n")
    longer = foreign.signed(message, length=True, fields=((b"l", b"%d" % (len(message) * 2)),))
    assert "l= is not the length" in verdict(longer)


def test_an_expired_signature_does_not_count(verdict, foreign, message):
    now = int(time.time())
    past = foreign.signed(message, fields=((b"t", b"%d" % (now - 7200)), (b"x", b"%d" % (now - 3600))))
    assert verdict(past) == f"{NOT_VALID}: it is past x="
    assert verdict(foreign.signed(message, fields=((b"x", b"%d" % (now + 3600)),))) == ""


@pytest.mark.parametrize("ahead_s", [360, 93600])
def test_a_signature_of_the_future_may_count_later(verdict, foreign, message, ahead_s):
    signed = foreign.signed(message, fields=((b"t", b"%d" % (time.time() + ahead_s)),))
    assert verdict(signed).startswith("later: DKIM signature is of the future")
    assert verdict(signed + b"more\r\n").startswith(NOT_VALID)


def test_some_minutes_of_difference_between_clocks_are_allowed(verdict, foreign, message):
    assert verdict(foreign.signed(message, fields=((b"t", b"%d" % (time.time() + 200)),))) == ""


def test_a_key_that_cannot_be_had_may_be_had_later(verdict, foreign, message, records):
    records.records[KEY_NAME] = LookupFailed("SERVFAIL")
    assert verdict(foreign.signed(message)) == "later: DKIM key could not be fetched, try again later"
    assert verdict(foreign.signed(message) + b"more\r\n").startswith(NOT_VALID)
    records.records[KEY_NAME] = []
    assert verdict(foreign.signed(message)) == f"{NOT_VALID}: there is no key under its name"


def test_of_several_records_the_key_is_found(verdict, foreign, message, records, rsa_key):
    for others in ([b"v=spf1 -all"], [b"v=DKIM1; k=rsa; p=" + public(rsa_key) + b";"], [b"", b"v=DKIM1; p="]):
        records.records[KEY_NAME] = [*others, b"v=DKIM1; k=rsa; p=" + public(rsa_key)]
        assert verdict(foreign.signed(message)) == ""


def test_the_number_of_queries_is_bounded(verdict, foreign, message, records):
    for number in range(30):
        message = foreign.signed(message, selector=f"s{number}")
    assert verdict(message).startswith(NOT_VALID)
    assert len(records.asked) == SIGNATURES_MAX


def test_an_ed25519_signature_counts(verdict, foreign, message, ed25519_key):
    """RFC 8463."""
    signed = foreign.signed(message, selector="ed", ed25519=ed25519_key)
    assert verdict(signed) == ""
    assert verdict(signed.replace(b"To:", b"To: x,")).startswith(NOT_VALID)
    assert "another type" in verdict(foreign.signed(message, selector="ed"))


def test_a_strict_key_wants_i_to_be_d(verdict, foreign, message, records, rsa_key):
    below = foreign.signed(message, fields=((b"i", b"x@sub.foreign.test"),))
    assert verdict(below) == ""
    records.records[KEY_NAME] = [b"t=s; p=" + public(rsa_key)]
    assert "as the key wants" in verdict(below)
    assert verdict(foreign.signed(message, fields=((b"i", b"x@foreign.test"),))) == ""


def test_another_key_of_the_same_name_does_not_count(verdict, message):
    other = ForeignDomain(DOMAIN, private(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    assert "the key is another" in verdict(other.signed(message))


def test_a_message_of_header_fields_alone(verdict, foreign):
    head = messages.plain(AUTHOR, "alice@chat.example.org").partition(b"\r\n\r\n")[0] + b"\r\n"
    field = foreign.signed(head + b"\r\n").removesuffix(b"\r\n\r\n").removesuffix(b"\r\n")
    assert verdict(field + b"\r\n") == ""
    assert verdict(field + b"\r\n\r\n") == ""
