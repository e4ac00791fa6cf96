"""Mail to domains with signed TLSA records goes to servers with the keys of these, or waits (RFC 7672)."""

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from test.integration.test_mta_sts import waits
from test.lab.layout import BRIDGE_NUMBER, SIGNED_ZONE
from test.support import messages
from test.support.certificates import self_signed
from test.support.mailing import ARRIVAL_TIMEOUT_S, submit

pytestmark = pytest.mark.usefixtures("by_smtp")

ZONE = SIGNED_ZONE.removesuffix(".")
# The mail server's name in its certificate, which _one.test trusts, and another name of it.
CERTIFIED, UNCERTIFIED = f"mx.{ZONE}", f"other.{ZONE}"
TRUST_ANCHOR = "/etc/unbound/unbound.conf.d/signed-zone.conf"
TRUSTED = "/usr/local/share/ca-certificates/dane-test.crt"
WRONG_KEY = "0" * 64


class Arrivals:
    """Takes all mail, and keeps its recipients, each with the port of the client's connection."""

    def __init__(self) -> None:
        self.recipients: dict[str, int] = {}

    async def handle_DATA(self, server, session, envelope) -> str:
        self.recipients |= dict.fromkeys(envelope.rcpt_tos, session.peer[1])
        return "250 OK"

    def wait_for(self, recipient: str) -> int:
        deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
        while recipient not in self.recipients:
            assert time.monotonic() < deadline, f"{recipient} is not in {self.recipients}"
            time.sleep(0.1)
        return self.recipients[recipient]


@pytest.fixture(scope="module", autouse=True)
def trust_anchor(lab, one_host) -> Iterator[None]:
    """_one.test validates the signed zone."""
    keys = lab.name_server.run(["keymgr", SIGNED_ZONE, "ds"]).stdout.splitlines()
    one_host.write(TRUST_ANCHOR, "".join(f'server: trust-anchor: "{key}"\n' for key in keys))
    one_host.run(["systemctl", "restart", "unbound"])
    yield
    one_host.run(["rm", TRUST_ANCHOR])
    one_host.run(["systemctl", "restart", "unbound"])


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.fixture(scope="module", autouse=True)
def key(one_host, tls, tmp_path_factory) -> Iterator[str]:
    """The hash of the mail server's public key, as in TLSA records."""
    certificate, pem = self_signed(CERTIFIED)
    path = tmp_path_factory.mktemp("dane") / "pem"
    path.write_bytes(pem)
    tls.load_cert_chain(path)
    one_host.write(TRUSTED, certificate.decode())
    one_host.run(["update-ca-certificates"])
    # It copies the certificates that it trusts when it starts.
    one_host.run(["systemctl", "restart", "postfix"])
    public = x509.load_pem_x509_certificate(certificate).public_key()
    yield hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    one_host.run(["rm", TRUSTED])
    one_host.run(["update-ca-certificates", "--fresh"])
    one_host.run(["systemctl", "restart", "postfix"])


@pytest.fixture(scope="module")
def arrivals(lab, key, tls) -> Iterator[Arrivals]:
    """What reaches the mail server of all domains here, which is this machine."""
    handler = Arrivals()
    server = Controller(handler, str(lab.layout.ipv4(BRIDGE_NUMBER)), 25, tls_context=tls, require_starttls=True)
    server.start()
    yield handler
    server.stop()


@pytest.fixture
def domain(lab, arrivals) -> Iterator[Callable[..., str]]:
    """Make a domain in the signed zone: its label, its mail server, and the key in a TLSA record, if there is one.

    Each test has a domain of its own: smtp(8) keeps for half a minute what it was told of one.
    """
    records = []

    def make(label: str, server: str, key: str | None = None) -> str:
        name = f"{label}.{ZONE}"
        records.append((name, "MX", f"10 {server}."))
        records.append((server, "A", str(lab.layout.ipv4(BRIDGE_NUMBER))))
        if key:
            records.append((f"_25._tcp.{server}", "TLSA", f"3 1 1 {key}"))
        for owner, rdtype, value in records:
            lab.publish(owner, rdtype, [value])
        return name

    yield make
    for owner, rdtype, _value in records:
        lab.withdraw(owner, rdtype)


def send(alice, domain: str, local_part: str = "someone") -> str:
    recipient = f"{local_part}@{domain}"
    assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None
    return recipient


def test_the_right_key_is_enough_whatever_the_certificate_says(alice, domain, key, arrivals):
    arrivals.wait_for(send(alice, domain("right", UNCERTIFIED, key)))


def test_mail_waits_where_the_server_has_another_key_and_a_good_certificate(one_host, alice, domain, arrivals):
    recipient = send(alice, domain("wrong", CERTIFIED, WRONG_KEY))
    waits(one_host, "not verified")
    assert recipient not in arrivals.recipients


def test_without_tlsa_records_a_good_certificate_is_demanded(one_host, alice, domain, arrivals):
    arrivals.wait_for(send(alice, domain("good", CERTIFIED)))
    recipient = send(alice, domain("bad", UNCERTIFIED))
    waits(one_host, "not verified")
    assert recipient not in arrivals.recipients


def test_without_proof_that_there_are_no_tlsa_records_mail_waits(one_host, alice, domain, arrivals):
    """The zone's signatures do not fit the trust anchor, as if somebody on the way had made them."""
    name = domain("forged", CERTIFIED)
    anchor = one_host.read(TRUST_ANCHOR)
    one_host.write(TRUST_ANCHOR, f'server: trust-anchor: "{SIGNED_ZONE} DS 1 13 2 {WRONG_KEY}"\n')
    one_host.run(["systemctl", "restart", "unbound"])
    try:
        recipient = send(alice, name)
        waits(one_host, "delay_reason")
    finally:
        one_host.write(TRUST_ANCHOR, anchor)
        one_host.run(["systemctl", "restart", "unbound"])
    assert recipient not in arrivals.recipients


def test_while_the_service_is_away_mail_waits(one_host, alice, domain, key, arrivals):
    one_host.run(["systemctl", "stop", "chatmail-dane-policy.socket"])
    try:
        recipient = send(alice, domain("away", CERTIFIED, key))
        waits(one_host, "TLS")
    finally:
        one_host.run(["systemctl", "start", "chatmail-dane-policy"])
    assert recipient not in arrivals.recipients


def test_a_connection_is_kept_for_its_domain_and_for_no_other_policy(one_host, alice, domain, key, arrivals):
    """All have their mail server at one address."""
    verified, dane = domain("kept", CERTIFIED), domain("dane", UNCERTIFIED, key)
    connection = arrivals.wait_for(send(alice, verified, "first"))
    dane_connection = arrivals.wait_for(send(alice, dane, "first"))
    assert arrivals.wait_for(send(alice, verified, "second")) == connection
    assert arrivals.wait_for(send(alice, dane, "second")) == dane_connection != connection
    assert arrivals.wait_for(send(alice, domain("neighbour", CERTIFIED))) not in (connection, dane_connection)


# A name of its own for the wrong key: unbound remembers for the rest of a second that another one has none.
@pytest.mark.parametrize("server", [f"third.{ZONE}", UNCERTIFIED])
def test_no_connection_leads_around_a_policy(one_host, alice, domain, arrivals, server):
    """The domain `open` has its mail server at the same address, and a connection to it is kept."""
    arrivals.wait_for(send(alice, domain(f"open-{server[0]}", CERTIFIED)))
    recipient = send(alice, domain(f"closed-{server[0]}", server, None if server == UNCERTIFIED else WRONG_KEY))
    waits(one_host, "not verified")
    assert recipient not in arrivals.recipients
