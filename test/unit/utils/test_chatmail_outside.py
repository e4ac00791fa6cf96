"""What a relay looks like from another machine, and what is made of it."""

import datetime
import errno
import hashlib
import socket
import ssl
import struct
import threading
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import chatmail_outside
import chatmail_services
import chatmail_x509
from chatmail_outside import Seen, judge, look
from chatmail_services import PublicPort
from test.salt.minion import CHECKOUT

HERE = "127.0.0.1"


def seen(**states: str) -> list[dict]:
    """What was seen at 192.0.2.1: the state of each port, given as ``tcp25="closed"``; all others are open."""
    return at("192.0.2.1", {f"{name[3:]}/{name[:3]}": state for name, state in states.items()})


def at(address: str, states: dict) -> list[dict]:
    return [
        {"address": address, "port": port, "state": states.get(port, "open"), "why": "why"}
        for port in chatmail_services.PUBLIC
    ]


def test_where_all_ports_answer_nothing_is_to_be_said():
    assert judge(seen()) == ("8 ports answer at 192.0.2.1", [])


def test_closed_ports_are_named_together_with_what_does_not_work_and_what_to_do():
    (finding,) = judge(seen(tcp25="closed", tcp993="closed", udp3478="closed"))[1]
    assert (finding.level, finding.kind) == ("error", "port-closed")
    assert finding.what == (
        "closed from outside at 192.0.2.1: TCP 25 993, UDP 3478 (no mail comes in from other relays; "
        "clients cannot log in; calls behind address translation fail)"
    )
    assert finding.do.startswith("let TCP 25 993, UDP 3478 in, in the firewall of your provider")


def test_ports_that_few_need_are_a_warning():
    (finding,) = judge(seen(udp3478="closed", tcp143="closed"))[1]
    assert finding.level == "warning"


def test_an_address_where_nothing_answers_is_one_finding():
    closed = dict.fromkeys(chatmail_services.PUBLIC, "closed")
    (finding,) = judge(at("192.0.2.1", closed))[1]
    assert (finding.level, finding.kind) == ("error", "address-mute")
    # Clients take the other address.
    (finding,) = judge(at("192.0.2.1", {}) + at("2001:db8::1", closed))[1]
    assert finding.level == "warning"
    assert "nothing answers at 2001:db8::1" in finding.what


def test_an_address_to_which_no_way_leads_from_here_is_no_finding():
    no_way = dict.fromkeys(chatmail_services.PUBLIC, "no-way")
    says, findings = judge(at("192.0.2.1", {}) + at("2001:db8::1", no_way))
    assert (says, findings) == ("8 ports answer at 192.0.2.1; not tried: 2001:db8::1", [])


def test_ports_that_answer_as_another_does_are_named_together():
    (finding,) = judge(seen(tcp443="other", tcp993="other"))[1]
    assert (finding.level, finding.kind) == ("error", "port-of-another")
    assert finding.what == "192.0.2.1 does not answer as the relay does: why (TCP 443 993)"
    assert finding.do.startswith("see that 192.0.2.1 leads to this host")


def test_a_status_gets_worse_by_what_is_seen():
    found = {"level": "note", "checks": [], "findings": [{"check": "queue", "level": "note"}], "seconds": 1}
    found = chatmail_outside.added(found, seen(tcp443="closed"))
    assert found["level"] == "error"
    assert [one["check"] for one in found["findings"]] == ["outside", "queue"]
    assert found["checks"][-1]["figures"] == {"open": 7, "ports": 8}


@contextmanager
def listener():
    """A port that accepts and says nothing."""
    with socket.create_server((HERE, 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def tls_server(tmp_path):
    """A server with a certificate; yields its port and the certificate's SHA-256."""
    certificate, key = chatmail_x509.make(["a.test"], datetime.datetime.now(datetime.UTC))
    pair = tmp_path / "pair.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)

    def serve(server):
        with socket.socket.accept(server)[0] as plain, context.wrap_socket(plain, server_side=True):
            pass

    with socket.create_server((HERE, 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1], hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


@contextmanager
def udp_server(answer):
    """A server that answers one datagram."""

    def serve(server):
        request, client = server.recvfrom(2048)
        server.sendto(answer(request), client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HERE, 0))
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def looked(monkeypatch, port: str, protocol: str, certificate: str | None = None) -> dict:
    monkeypatch.setattr(chatmail_outside, "PUBLIC", {port: PublicPort(protocol, "nothing works")})
    (one,) = look({"name": "a.test", "addresses": [HERE], "ports": [port], "certificate": certificate})
    return one


def test_an_open_and_a_closed_port_are_seen(monkeypatch):
    with listener() as port:
        assert looked(monkeypatch, f"{port}/tcp", "http")["state"] == "open"
    closed = looked(monkeypatch, f"{port}/tcp", "http")
    assert (closed["state"], closed["why"]) == ("closed", "refused")


def test_a_host_cannot_have_everything_looked_at(monkeypatch):
    looked_at = []
    monkeypatch.setattr(
        chatmail_outside, "_look_at", lambda *place: looked_at.append(place) or Seen(*place[:2], "open")
    )
    addresses = [f"192.0.2.{number}" for number in range(256)]
    facts = {"name": "_one.test", "addresses": addresses, "ports": ["25/tcp"] * 1000 + ["22/tcp"], "certificate": None}
    seen = look(facts)
    assert {one["port"] for one in seen} == {"25/tcp"}
    assert [one["address"] for one in seen] == addresses[: len(looked_at)]
    assert len(looked_at) < 20


def test_a_port_of_tls_has_to_serve_the_relays_certificate(monkeypatch, tmp_path):
    with tls_server(tmp_path) as (port, sha256):
        assert looked(monkeypatch, f"{port}/tcp", "tls", sha256)["state"] == "open"
    with tls_server(tmp_path) as (port, _):
        one = looked(monkeypatch, f"{port}/tcp", "tls", "00" * 32)
    assert (one["state"], one["why"]) == ("other", "another certificate than the relay's")


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.EACCES])
def test_what_a_router_answers_in_the_place_of_a_host_is_a_closed_port(monkeypatch, number):
    def refused(*_):
        raise OSError(number, "No route to host")

    monkeypatch.setattr(socket, "create_connection", refused)
    (one,) = look({"name": "_one.test", "addresses": ["192.0.2.1"], "ports": ["80/tcp"], "certificate": None})
    assert (one["state"], one["why"]) == ("closed", "No route to host")


def test_turn_has_to_answer_a_binding_request_with_its_transaction():
    def right(request):
        return struct.pack("!HHI", 0x0101, 0, 0x2112A442) + request[8:20]

    with udp_server(right) as port:
        chatmail_outside.stun_answers(HERE, port)
    for wrong in (lambda request: right(request)[:8] + bytes(12), lambda _: b"", lambda request: request):
        with udp_server(wrong) as port, pytest.raises(OSError):
            chatmail_outside.stun_answers(HERE, port, repeats_s=(0.1,))


@pytest.mark.parametrize(("leaves", "state"), [(True, "closed"), (False, "no-way")])
def test_a_network_that_lets_nobody_out_by_port_25_is_not_held_against_the_relay(monkeypatch, leaves, state):
    def look_at(address, port, name, certificate):
        return chatmail_outside.Seen(address, port, "closed" if port == "25/tcp" else "open")

    monkeypatch.setattr(chatmail_outside, "_look_at", look_at)
    monkeypatch.setattr(chatmail_outside, "_reaches", lambda place: leaves)
    facts = {"name": "a.test", "addresses": ["192.0.2.1"], "ports": ["25/tcp", "443/tcp"], "certificate": None}
    found = look(facts)
    assert [one["state"] for one in found] == [state, "open"]
    assert bool(judge(found)[1]) is leaves


@pytest.mark.parametrize("path", ["chatmail/proxy/files/etc/chatmail/proxy.nft.j2", "chatmail/proxy/init.sls"])
def test_a_proxy_hands_on_the_ports_that_are_public(path):
    numbers = [port[:-4] for port in chatmail_services.PUBLIC if port.endswith("tcp")]
    assert ", ".join(numbers) in (CHECKOUT / path).read_text()
