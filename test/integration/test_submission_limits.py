"""How many connections a client may have for submission: of its own address, also by way of port 443."""

import contextlib
import smtplib
import time

import pytest

from test.lab import Host
from test.relay.delivery import Relay
from test.support.mail_clients import unchecked_tls

LIMIT = 2
SERVICES = {465: "smtps/inet", 443: "127.0.0.1:10465/inet"}


@pytest.fixture
def low_limit(one: Relay, one_host: Host):
    """A fifth of max_smtp_connections, of 1000, is more than a test can open."""
    settings = [f"{service}/smtpd_client_connection_count_limit" for service in SERVICES.values()]
    shown = one_host.run(["postconf", "-P", *settings]).stdout
    assert [line.rpartition(" = ")[2] for line in shown.splitlines()] == ["200", "200"]
    usual = one_host.read("/etc/postfix/master.cf")
    one_host.run(["postconf", "-P", *(f"{setting}={LIMIT}" for setting in settings)])
    one_host.run(["postfix", "reload"])
    for port in SERVICES:
        wait_until_served(one, port)
    yield
    one_host.write("/etc/postfix/master.cf", usual)
    one_host.run(["postfix", "reload"])


def connect(relay: Relay, port: int, place: str = "", timeout_s: float = 20) -> smtplib.SMTP_SSL:
    context = unchecked_tls()
    context.set_alpn_protocols(["smtp"])
    return smtplib.SMTP_SSL(relay.address, port, context=context, timeout=timeout_s, source_address=(place, 0))


def wait_until_served(relay: Relay, port: int) -> None:
    """A connection may meet a process that the reload is ending; the next one meets a new one."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return connect(relay, port, timeout_s=5).close()
        except OSError:
            assert time.monotonic() < deadline


def test_a_client_with_too_many_connections_does_not_shut_out_others(one, places, low_limit):
    here, there, _ = places
    for port in SERVICES:
        with contextlib.ExitStack() as stack:
            for _ in range(LIMIT):
                assert stack.enter_context(connect(one, port, here)).noop()[0] == 250
            with pytest.raises(smtplib.SMTPConnectError, match=r"421.*too many connections"):
                connect(one, port, here)
            assert stack.enter_context(connect(one, port, there)).noop()[0] == 250
