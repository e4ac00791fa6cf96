"""At the end of an apply: what is closed fails it, and who cannot look says so."""

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_session
from _states import chatmail_firewall

SEEN = [{"address": "192.0.2.1", "port": "443/tcp", "state": "open", "why": ""}]
CLOSED = [*SEEN, {"address": "192.0.2.1", "port": "993/tcp", "state": "closed", "why": "no answer"}]


@pytest.fixture
def host(monkeypatch):
    host = {"outgoing": ("port 25 of b.test is reached", []), "seen": SEEN}

    def ask(request, seconds):
        if isinstance(host["seen"], Exception):
            raise host["seen"]
        return {"seen": host["seen"]}

    monkeypatch.setattr(chatmail_session, "ask", ask)
    return host


@pytest.fixture
def configure_loader_modules(host):
    functions = {"chatmail_relay.outgoing": lambda: host["outgoing"], "chatmail_relay.outside": dict}
    return {chatmail_firewall: {"__opts__": {"test": False}, "__salt__": functions}}


def test_an_open_relay_passes_and_says_what_was_seen():
    ret = chatmail_firewall.reachable("outside")
    assert (ret["result"], ret["changes"]) == (True, {})
    assert ret["comment"] == "Port 25 of b.test is reached; 1 ports answer at 192.0.2.1."


def test_a_closed_port_fails_with_what_to_do(host):
    host["seen"] = CLOSED
    ret = chatmail_firewall.reachable("outside")
    assert ret["result"] is False
    assert "closed from outside at 192.0.2.1: TCP 993 (clients cannot log in): let TCP 993 in" in ret["comment"]


def test_a_note_does_not_fail(host):
    host["outgoing"] = ("", [{"level": "note", "what": "not known", "do": "try again later"}])
    ret = chatmail_firewall.reachable("outside")
    assert ret["result"] is True
    assert "not known: try again later." in ret["comment"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (chatmail_session.NoController("none"), "which only salt-ssh does"),
        (CommandExecutionError("gave no answer in 60 s"), "gave no answer in 60 s"),
    ],
)
def test_where_nobody_looks_from_outside_that_is_said(host, error, said):
    host["seen"] = error
    ret = chatmail_firewall.reachable("outside")
    assert ret["result"] is True
    assert said in ret["comment"]


def test_test_mode_connects_to_nobody():
    chatmail_firewall.__opts__["test"] = True
    assert chatmail_firewall.reachable("outside")["result"] is True


def test_where_the_dns_may_lead_elsewhere_nobody_looks_from_outside(host):
    host["seen"] = CLOSED
    ret = chatmail_firewall.reachable("outside", from_outside=False)
    assert ret["result"] is True
    assert "the DNS may lead elsewhere (dns_check: false)" in ret["comment"]
