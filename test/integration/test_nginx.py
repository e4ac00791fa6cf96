"""nginx keeps what works, hurts nothing that is not ours, and stays up and silent whatever it is asked."""

import contextlib
import http.client
import socket
import ssl

import pytest

from test.integration.conftest import PERMISSIVE
from test.integration.test_apply import changed
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import inbox, submit

CONFIG = "/etc/nginx/nginx.conf"
OPERATORS = "/etc/nginx/chatmail.d/shop.conf"
SLOW_CLIENTS = 500


def tls(relay: Relay, name: str = "") -> ssl.SSLSocket:
    plain = socket.create_connection((relay.address, 443), timeout=60)
    return unchecked_tls(["http/1.1"]).wrap_socket(plain, server_hostname=name or relay.domain)


def asked(connection: socket.socket, request: bytes) -> http.client.HTTPResponse:
    """The head of the answer to a raw request; raises OSError or HTTPException where there is none."""
    connection.sendall(request)
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


def get(relay: Relay, path: str = "/", name: str = "") -> http.client.HTTPResponse:
    with tls(relay, name) as connection:
        return asked(connection, f"GET {path} HTTP/1.1\r\nHost: {name or relay.domain}\r\n\r\n".encode())


def plain_get(relay: Relay, path: str) -> http.client.HTTPResponse:
    with socket.create_connection((relay.address, 80), timeout=20) as connection:
        return asked(connection, f"GET {path} HTTP/1.1\r\nHost: {relay.domain}\r\n\r\n".encode())


def test_plain_http_and_www_lead_to_the_relay_by_https(one):
    for path in ("/", "/info.html?a=b", "/%0d%0aSet-Cookie:x", "/.well-known/acme-challenge/x"):
        for answer, host in (plain_get(one, path), one.domain), (get(one, path, f"www.{one.domain}"), one.domain):
            assert answer.status == 301
            assert answer.headers["Location"] == f"https://{host}{path}"
            assert answer.headers["Set-Cookie"] is None


@pytest.fixture
def broken_include(one_host):
    one_host.write(OPERATORS, "server {\n    lissten 127.0.0.1:8443 ssl;\n}\n")
    yield
    one_host.run(["rm", OPERATORS])


@pytest.mark.parametrize("change", [{}, {"max_imap_connections": 5000}])
def test_an_include_that_is_broken_is_named_and_what_runs_goes_on(lab, one, one_host, broken_include, change):
    before = one_host.read(CONFIG)
    lab.pillar(one.domain, {"chatmail": {"mail_domain": one.domain, **PERMISSIVE, **change}})
    try:
        with pytest.raises(SaltFailed, match=rf'unknown directive "lissten" in {OPERATORS}:2'):
            lab.salt_ssh(one.domain, "state.apply", "chatmail.nginx")
    finally:
        lab.pillar(one.domain, {"chatmail": {"mail_domain": one.domain, **PERMISSIVE}})
    assert one_host.read(CONFIG) == before
    assert get(one).status == 200


def test_the_next_apply_has_nothing_to_mend(lab, one):
    states = changed(lab.salt_ssh(one.domain, "state.apply", "chatmail.nginx"))
    assert [name for name in states if name.startswith("nginx")] == []


HOSTILE = {
    "a header of 64 KB": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 65536 + b"\r\n\r\n", {400, None}),
    "10,000 headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", {400, None}),
    "a path of 64 KB": (b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {414, None}),
    "a name that no file can have": (b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "both lengths": (
        b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "two lengths": (
        b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 9\r\n\r\nabcd",
        {400},
    ),
    "a length with a sign": (b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd", {400}),
    "an unknown encoding": (
        b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        {400, 501},
    ),
    "a space before the colon": (
        b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "a chunk without end": (
        b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"F" * 17 + b"\r\n",
        {400},
    ),
    "a body for a page": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", {413}),
    "a body for an address": (b"POST /new HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", {413}),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "out of the root": (b"GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "out of the root, encoded": (b"GET /%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "out of an alias": (
        b"GET /.well-known/autoconfig/mail/config-v1.1.xml/../../../../../usr/local/share HTTP/1.1\r\nHost: x\r\n\r\n",
        {400, 404},
    ),
    "beside an alias": (b"GET /mail../config-v1.1.xml HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "a NUL": (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "the sources of the pages": (b"GET /../.chatmail-x/index.html HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    "another server's page": (b"GET http://metadata.test/secret HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
    "a proxy": (b"CONNECT 127.0.0.1:25 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 405}),
    "an echo": (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_request_is_refused(one, case):
    request, expected = HOSTILE[case]
    with tls(one) as connection:
        try:
            status = asked(connection, request).status
        except (OSError, http.client.HTTPException):
            # nginx does not wait for the end of what is too long.
            status = None
        assert status in expected
    assert get(one).status == 200


def test_slow_clients_are_sent_away_and_hold_up_nobody(one, alice):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(tls(one)) for _ in range(SLOW_CLIENTS)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHo")
        assert get(one).status == 200
        with alice.imap(443):
            assert submit(alice, alice.address, messages.encrypted(alice.address, alice.address), port=443) is None
        for connection in slow:
            while connection.recv(1000):
                pass
    assert len(inbox(alice)) == 1


def test_no_log_has_seen_a_clients_address(lab, one_host):
    """After all of the above."""
    assert one_host.run(["nginx", "-T"]).stdout.count("access_log ") == 1
    assert one_host.run(["find", "/var/log/nginx", "-type", "f", "-size", "+0"], check=False).stdout == ""
    run = one_host.run(["systemctl", "show", "--property=InvocationID", "--value", "nginx"]).stdout.strip()
    journal = one_host.run(["journalctl", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={run}"]).stdout
    assert str(lab.layout.ipv4(1)) not in journal
