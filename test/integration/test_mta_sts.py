"""Mail to a domain with an MTA-STS policy goes to the servers that the policy names, or waits (RFC 8461)."""

import time

import pytest

from test.support import messages
from test.support.certificates import self_signed
from test.support.mailing import inbox, kept_connections, submit
from test.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("by_smtp")

DOMAIN = "policy.test"
NEIGHBOUR = "neighbour.test"
POLICY_HOST = f"mta-sts.{DOMAIN}"
TRUSTED = "/usr/local/share/ca-certificates/mta-sts-test"
SERVER = """
import functools, http.server, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/policy/pem")
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/run/policy/www")
server = http.server.ThreadingHTTPServer(("", 443), handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def policy(lab, one_host, two_host):
    """Let _two.test serve a policy for the domain, and _one.test trust its certificates; call it with the MX names."""
    certificate, pem = self_signed(POLICY_HOST)
    two_host.write("/run/policy/pem", pem.decode(), mode="0600")
    two_host.write("/run/policy/server.py", SERVER)
    # Its own web server has the port.
    two_host.run(["systemctl", "stop", "nginx"])
    two_host.run(["systemd-run", "--quiet", "--collect", "--unit=policy-server", "python3", "/run/policy/server.py"])
    one_host.write(f"{TRUSTED}-policy.crt", certificate.decode())
    one_host.write(f"{TRUSTED}-mx.crt", two_host.read("/etc/ssl/certs/mailserver.pem"))
    one_host.run(["update-ca-certificates"])
    one_host.run(["systemctl", "restart", "postfix-mta-sts-resolver", "postfix"])
    lab.publish(POLICY_HOST, "A", [str(two_host.ipv4)])
    for name in (DOMAIN, NEIGHBOUR):
        lab.publish(name, "MX", ["10 _two.test."])

    def publish(name: str) -> None:
        two_host.write(
            "/run/policy/www/.well-known/mta-sts.txt",
            f"version: STSv1\r\nmode: enforce\r\nmx: {name}\r\nmax_age: 86400\r\n",
        )
        lab.publish(f"_mta-sts.{DOMAIN}", "TXT", [f'"v=STSv1; id={time.monotonic_ns()};"'])

    yield publish
    for name, rdtype in ((POLICY_HOST, "A"), (DOMAIN, "MX"), (NEIGHBOUR, "MX"), (f"_mta-sts.{DOMAIN}", "TXT")):
        lab.withdraw(name, rdtype)
    two_host.run(["systemctl", "stop", "policy-server"])
    two_host.run(["systemctl", "start", "nginx"])
    one_host.run(["rm", f"{TRUSTED}-policy.crt", f"{TRUSTED}-mx.crt"])
    one_host.run(["update-ca-certificates", "--fresh"])
    one_host.run(["systemctl", "restart", "postfix-mta-sts-resolver", "postfix"])


def waits(host, reason: str) -> None:
    """Wait until a message is deferred for this reason, and remove it."""
    wait_until(lambda: reason in host.run(["postqueue", "-j"]).stdout, f"nothing waits because: {reason}")
    host.run(["postsuper", "-d", "ALL"])


def send(alice, domain: str = DOMAIN) -> None:
    recipient = f"someone@{domain}"
    assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None


# In this order: a policy is kept as long as it says.
def test_mail_goes_to_a_server_that_the_policy_names(one_host, alice, policy):
    policy("_two.test")
    send(alice)
    # The server is found right, and says that it does not serve the domain.
    assert b"Relay access denied" in inbox(alice)[0]


def test_while_the_resolver_is_away_mail_waits(one_host, alice, policy):
    one_host.run(["systemctl", "stop", "postfix-mta-sts-resolver"])
    try:
        # To the other domain there is a connection, which was made by its policy.
        send(alice, NEIGHBOUR)
        waits(one_host, "TLS")
    finally:
        one_host.run(["systemctl", "start", "postfix-mta-sts-resolver"])


def test_mail_waits_where_no_server_is_named_by_the_policy(one_host, two_host, alice, policy):
    """The MX record is unsigned DNS: whoever forges it has a certificate for the name in it.

    A connection to that server, kept for a domain without a policy, changes nothing.
    """
    policy("mx.policy.test")
    one_host.run(["systemctl", "stop", "postfix-mta-sts-resolver"])
    one_host.run(["rm", "-f", "/var/lib/mta-sts/cache.db"])
    one_host.run(["systemctl", "start", "postfix-mta-sts-resolver"])
    # An smtp(8) process keeps what it was told for half a minute.
    one_host.run(["systemctl", "restart", "postfix"])
    send(alice, NEIGHBOUR)
    assert b"Relay access denied" in inbox(alice)[0]
    assert kept_connections(one_host, two_host)
    send(alice)
    waits(one_host, "not verified")


@pytest.mark.parametrize("destination", ["_two.test", "[192.0.2.7]"])
def test_destinations_without_public_certificates_are_not_asked_for(one_host, destination):
    maps = one_host.run(["postconf", "-h", "smtp_tls_policy_maps"]).stdout.replace(",", " ").split()
    answers = [one_host.run(["postmap", "-q", destination, table], check=False).stdout.strip() for table in maps]
    assert answers[0] == "encrypt"
    assert maps[1].startswith("socketmap:")
