"""Whether mail leaves by port 25: closed, open, or not to be known."""

import socket

import pytest

import chatmail_checks_network
from test.support.relays import judged, relay


def tried(domain: str, port_25: bool, port_443: bool) -> dict:
    return {"domain": domain, "port_25": port_25, "why": "" if port_25 else "timed out", "port_443": port_443}


def test_one_that_is_reached_is_enough():
    assert judged("outgoing", [tried("a.test", False, True), tried("b.test", True, True)]) is None


def test_port_25_alone_closed_is_the_providers_doing():
    found = judged("outgoing", [tried("a.test", False, True), tried("b.test", False, False)])
    assert (found.level, found.kind) == ("warning", "port-25-closed")
    assert "a.test: timed out; b.test: timed out" in found.what
    assert "provider" in found.do


def test_where_nobody_is_reached_nothing_is_known():
    found = judged("outgoing", [tried("a.test", False, False)])
    assert (found.level, found.kind) == ("note", "port-25-unknown")


def test_that_nobodys_address_is_found_is_for_the_check_of_the_resolver():
    assert judged("outgoing", [tried("a.test", False, False) | {"why": ""}]) is None


def test_the_relay_itself_is_not_tried(monkeypatch):
    asked = []
    monkeypatch.setattr(chatmail_checks_network, "_try", asked.append)
    chatmail_checks_network.OUTGOING.collect(relay(port_25_targets=["chat.test", "b.test"]))
    assert asked == ["b.test"]


@pytest.mark.parametrize("listens", [True, False])
def test_a_domain_is_tried_at_its_mail_server(monkeypatch, listens):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(chatmail_checks_network, "addresses_of", lambda name: {"mx.test": ["127.0.0.1"]}[name])
        if not listens:
            server.close()
        reached, why = chatmail_checks_network._connects(["mx.test"], port)
    assert (reached, why) == ((True, "") if listens else (False, "Connection refused"))


def test_an_address_needs_no_look_up():
    assert chatmail_checks_network.addresses_of("192.0.2.7") == ["192.0.2.7"]
