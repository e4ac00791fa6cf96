"""The incoming filter as a process, with keys from a name server: what is not verified does not pass."""

import functools

import pytest

from chatmaild import dane_policy, socketmap
from chatmaild.resolver import Resolver
from test.support import messages
from test.support.dns_servers import NameServer
from test.support.serving import serving
from test.unit.chatmaild.message.dkim.conftest import AUTHOR, DOMAIN, public
from test.unit.chatmaild.test_filtermail import ALICE, running_filter
from test.unit.chatmaild.test_filtermail_http import deliver

NONE, NOT_VALID = "554 5.7.1 No DKIM signature found", "554 5.7.1 No valid DKIM signature found"
LATER = "451 4.7.5 DKIM key could not be fetched, try again later"

PROGRAM = """
from functools import partial

from chatmaild import filtermail
from chatmaild.filter import incoming

incoming.TextRecords = partial(incoming.TextRecords, daemon=("127.0.0.1", {}))
filtermail.main()
"""


@pytest.fixture(scope="module")
def zone(rsa_key) -> str:
    value = public(rsa_key).decode()
    strings = " ".join(f'"{value[at : at + 200]}"' for at in range(0, len(value), 200))
    return f"""
mail._domainkey  TXT "p=" {strings}
k1._domainkey CNAME mail._domainkey
k2._domainkey CNAME k1._domainkey
k3._domainkey CNAME ext.{DOMAIN}.
ext TXT "v=DKIM1; p=" {strings}
k6._domainkey TXT "v=DKIM1; k=rsa; p=" {strings.replace('" "', ' " "')}
k7._domainkey TXT "v=DKIM1; k=rsa; p=" {strings}
k7._domainkey TXT "v=spf1 -all"
k8._domainkey TXT "v=DKIM1; k=rsa; p=" {strings}
k8._domainkey TXT "v=DKIM1; k=rsa; p=" {strings} ";"
"""


@pytest.fixture(scope="module")
def incoming(tmp_path_factory, zone):
    server = NameServer("127.0.0.1", 0, {f"{DOMAIN}.": zone})
    directory = tmp_path_factory.mktemp("incoming")
    tables = dane_policy.tables(Resolver(port=server.port))
    with (
        serving(functools.partial(socketmap.serve, tables)) as port,
        running_filter("incoming", directory, PROGRAM.format(port)) as relay,
    ):
        relay.name_server = server
        yield relay
    server.close()


@pytest.fixture(params=["smtp", "http"])
def send(request, incoming):
    """Deliver a message by SMTP or HTTP; returns the SMTP reply."""
    if request.param == "smtp":
        yield lambda sender, message: incoming.mail(sender, ALICE, message)
    else:
        yield lambda sender, message: deliver(incoming, message, sender, ALICE)[1]
    incoming.forget()
    incoming.name_server.fault = ""


def test_signed_mail_passes_and_other_mail_does_not(send, incoming, foreign, message):
    assert send(AUTHOR, message) == NONE
    assert send(AUTHOR, b"DKIM-Signature: junk\r\n" + message).startswith(NOT_VALID)
    assert send(AUTHOR, foreign.signed(message) + b"more\r\n").startswith(NOT_VALID)
    assert incoming.next.transactions == []
    signed = foreign.signed(message)
    assert send(AUTHOR, signed) == "250 OK"
    assert incoming.next.delivered[0].message == signed


@pytest.mark.parametrize("selector", ["mail", "k1", "k2", "k3", "k6", "k7", "k8"])
def test_keys_are_found_by_aliases_and_among_other_records(send, foreign, message, selector):
    assert send(AUTHOR, foreign.signed(message, selector=selector)) == "250 OK"


def test_without_an_answer_of_the_dns_the_sender_tries_again(send, incoming, foreign, message):
    incoming.name_server.fault = "SERVFAIL"
    assert send(AUTHOR, foreign.signed(message)) == LATER
    assert incoming.next.transactions == []


def test_the_relays_own_users_need_a_signature_too(send, incoming):
    assert send(ALICE, messages.encrypted(ALICE, ALICE)) == NONE
    bounce = messages.bounce("MAILER-DAEMON@chat.example.org", ALICE)
    assert send("", b"DKIM-Signature: d=\r\n" + bounce).startswith(NOT_VALID)


def test_large_messages_are_verified(send, incoming, foreign):
    large = messages.encrypted(AUTHOR, ALICE, payload=messages.encrypted_payload(3_000_000))
    signed = foreign.signed(large, body="relaxed")
    assert send(AUTHOR, signed) == "250 OK"
    assert send(AUTHOR, signed.replace(b"=abcd", b"=abce")).startswith(NOT_VALID)
