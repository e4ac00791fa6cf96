"""How mail goes to others, in words."""

import pytest
from salt.exceptions import CommandExecutionError

from chatmail_checks import Relay
from chatmail_reach import destination, judge, reason_text, way_text, why_text

RELAY = Relay({}, {}, {}, target="chat")
TAKEN = {"failed": "", "said": "250 Ok", "address": "192.0.2.1", "tls": "TLSv1.3"}
IS_RELAY = {"is_relay": True, "connects": True, "said": "HTTP status 405"}
IS_NONE = {"is_relay": False, "connects": True, "said": "HTTP status 404"}


def server(smtp=None, https=IS_RELAY, *, is_allowed=True) -> dict:
    place = {"name": "mx.relay.test", "addresses": ["192.0.2.1"], "is_allowed": is_allowed}
    return place | {"smtp": TAKEN | (smtp or {}), "https": https}


def facts(*servers: dict, **more) -> dict:
    found = {"domain": "relay.test", "known": None, "error": "", "is_final": False, "dane": None, "mta_sts": None}
    return found | {"problems": [], "servers": list(servers)} | more


def refused(step: str) -> dict:
    return {"failed": step, "said": "450 no", "address": "", "tls": ""}


@pytest.mark.parametrize(
    "known, way, why",
    [
        (None, "SMTP", "chatmail-transport does not answer"),
        ({"way": "https", "seconds": 1500, "why_not_https": ""}, "HTTPS", "believed for 25 min more"),
        ({"way": "smtp", "seconds": 90, "why_not_https": "no certificate"}, "SMTP", "by HTTPS: no certificate"),
        ({"way": "either", "seconds": 0, "why_not_https": ""}, "SMTP, where that cannot connect HTTPS", "is found out"),
    ],
)
def test_ways(known, way, why):
    assert way_text(known) == way
    assert why in why_text(known)


def test_a_reason_is_not_told_twice():
    known = {"way": "smtp", "seconds": 90, "why_not_https": "no answer"}
    assert reason_text("timed out", known) == "timed out (by HTTPS: no answer)"
    assert reason_text("451 Not delivered by HTTPS: no answer", known) == "451 Not delivered by HTTPS: no answer"


def test_who_takes_mail_by_both_ways_has_no_findings():
    lines, found = judge(facts(server()), RELAY)
    assert found == []
    assert [line["check"] for line in lines] == ["servers", "policy", "way", "smtp", "https", "signature"]
    says = {line["check"]: line["says"] for line in lines}
    assert says["servers"] == "mx.relay.test (192.0.2.1)"
    assert says["smtp"] == "mx.relay.test takes mail (TLSv1.3): 250 Ok"
    assert says["https"] == "mx.relay.test takes mail"


@pytest.mark.parametrize("step", ["connect", "greeting", "tls", "certificate", "recipient"])
@pytest.mark.parametrize("https, level, kinds", [(IS_RELAY, "warning", []), (IS_NONE, "error", ["no-way"])])
def test_where_smtp_fails_one_way_is_enough(step, https, level, kinds):
    _, found = judge(facts(server(refused(step), https)), RELAY)
    assert [one["kind"] for one in found] == [*kinds, f"smtp-{step}"]
    assert {one["level"] for one in found} == {level}
    assert "450 no" in found[-1]["what"] and found[-1]["do"]


def test_who_takes_no_https_is_as_most_are():
    lines, found = judge(facts(server(https=IS_NONE)), RELAY)
    assert found == []
    assert lines[4]["says"] == "mx.relay.test takes no mail by HTTPS: HTTP status 404"


@pytest.mark.parametrize("final, do", [(True, "spelled right"), (False, "salt-ssh chat chatmail_relay.status")])
def test_without_mail_servers_nothing_else_is_told(final, do):
    lines, (finding,) = judge(facts(error="nobody", is_final=final), RELAY)
    assert [line["check"] for line in lines] == ["servers"]
    assert do in finding["do"]


def test_a_server_that_the_policy_forbids_is_not_counted():
    _, found = judge(facts(server(is_allowed=False), mta_sts=["mx.other.test"]), RELAY)
    assert [one["kind"] for one in found] == ["server-forbidden", "no-way"]


def test_what_cannot_be_told_and_what_is_not_signed_are_faults():
    _, found = judge(facts(server(), problems=["DANE: SERVFAIL"]), RELAY, "OpenDKIM is away")
    assert [one["kind"] for one in found] == ["policy-unknown", "not-signed"]
    assert found[1]["do"] == "salt-ssh chat state.apply chatmail.opendkim"


def test_the_keys_of_dane_are_left_to_postfix():
    _, (finding,) = judge(facts(server(), dane="dane-only"), RELAY)
    assert (finding["level"], finding["kind"]) == ("note", "dane-not-tried")


@pytest.mark.parametrize(
    "typed, meant",
    [
        *((name, name) for name in ("example.org", "_chat.example.org", "[ipv6:2001:db8::1]", "localhost")),
        ("Example.ORG", "example.org"),
        # As Salt reads a literal.
        (["192.0.2.7"], "[192.0.2.7]"),
        (["IPv6:2001:db8::1"], "[ipv6:2001:db8::1]"),
    ],
)
def test_names_and_literals_are_destinations(typed, meant):
    assert destination(typed) == meant


@pytest.mark.parametrize("typed", ["a b", "", "-x", "a@b.test", [], ["a", "b"], ["example.org"], {}])
def test_anything_else_is_no_destination(typed):
    with pytest.raises(CommandExecutionError, match="is no destination; allowed is"):
        destination(typed)
