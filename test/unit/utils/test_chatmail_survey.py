"""Zones served by real name servers on loopback addresses are looked up and judged."""

import pytest

import chatmail_authoritative
import chatmail_zone
from test.support.zones import (
    ALL,
    APEX,
    CERTIFICATE,
    DKIM_NAME,
    DOMAIN,
    GOOD,
    IPV4,
    IPV6,
    KEYS,
    RECOMMENDED,
    REQUIRED,
    SETTINGS,
    TLSA_LINE,
    not_ok,
    statuses,
    without,
)


def test_a_right_zone_is_right(serve):
    result = serve(GOOD)
    assert result["success"]
    assert not_ok(result) == {}
    assert result["required"].keys() == REQUIRED
    assert result["recommended"].keys() == RECOMMENDED
    assert result["servers"] == {
        "ns1.example.org. (127.0.0.4)": "answers",
        "ns2.example.org. (127.0.0.5)": "answers",
    }


def test_an_apply_misses_initial_records_alone_at_its_beginning_but_tells_all(serve):
    for missing, success in (("DKIM1", True), ("CNAME", False)):
        result = serve(without(missing), initial=True)
        assert result["success"] is success
        assert "not right" in result["result"]
        assert "missing" in result["report"]


@pytest.mark.parametrize("signed", [(), ("org.",), ("example.org.",)])
def test_the_key_is_pinned_only_where_the_zone_is_signed_up_to_the_root(serve, signed):
    assert TLSA_LINE not in statuses(serve(without("TLSA"), wanted=ALL, signed=signed))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (GOOD, "ok"),
        (without("TLSA"), "missing"),
        (GOOD.replace("ab" * 32, "ef" * 32), "wrong"),
        (GOOD + f"_25._tcp.{DOMAIN}. TLSA 3 1 1 {'ef' * 32}\n", "ok"),
    ],
)
def test_in_a_signed_zone_the_key_is_compared(serve, text, status):
    result = serve(text, wanted=ALL, signed=("org.", "example.org."))
    assert result["success"]
    assert result["recommended"][TLSA_LINE]["status"] == status


def test_an_answer_that_is_cut_is_asked_for_by_tcp(serve):
    result = serve(GOOD, faults=("truncating", "truncating"))
    assert not_ok(result) == {}


def test_a_right_zone_never_raises_an_alarm(serve):
    assert [not_ok(result) for result in serve(GOOD, times=20)] == [{}] * 20


def test_an_empty_zone_lacks_everything_at_once(serve):
    result = serve("")
    assert not result["success"]
    assert set(statuses(result).values()) == {"missing"}
    lines = (result["required"] | result["recommended"]).values()
    assert {line["do"] for line in lines} == {"Enter it."}
    # What is to be entered is a zone in which everything is right.
    assert not_ok(serve("\n".join(line["enter"] for line in lines) + "\n")) == {}


def test_the_report_is_as_wide_as_a_terminal_and_has_what_to_enter_as_a_whole(serve):
    result = serve(without("^www", f"^{APEX} .* MX ") + f"{APEX} MX 5 mail.example.net.\n")
    required, recommended, _, enter, verdict = result["report"].split("\n\n")
    expected = f"""\
Required
✓ A     {APEX}                      {IPV4}
✓ AAAA  {APEX}                      {IPV6}
✗ MX    {APEX}                      wrong: mail goes to another
        host
        wanted  10 {APEX}
        found   5 mail.example.net.
        Replace it.
✗ CNAME www.{APEX}                  missing: {APEX}
✓ CNAME mta-sts.{APEX}              CNAME {APEX}, 1…
✓ TXT   _mta-sts.{APEX}             "v=STSv1; id=51f588c2d9ed1…
✓ TXT   opendkim._domainkey.{APEX}  "v=DKIM1;k=rsa;p=MIIBMIIBM…"""
    assert required == expected
    assert recommended.startswith(f"Recommended\n✓ TXT   {APEX}   ")
    assert enter.split() == [*f"{APEX} 3600 IN MX 10 {APEX} www.{APEX} 3600 IN CNAME {APEX}".split()]
    assert verdict == "2 of 7 required records are not right."
    assert max(map(len, f"{required}\n{recommended}".splitlines())) == 74


def test_an_alias_into_another_zone_is_followed_there(serve):
    zone = without("^www") + f"www.{APEX} CNAME front.relays.org.\n"
    relays = {"relays.org.": f"@ NS ns.relays.org.\nns A 127.0.0.4\nfront A {IPV4}\nfront AAAA {IPV6}\n"}
    assert not_ok(serve(zone, other_zones=relays)) == {}


def test_names_below_the_relay_that_are_a_zone_of_their_own_are_found_there(serve):
    zone = without("_domainkey") + f"_domainkey.{APEX} NS ns1.example.org.\n"
    keys = "".join(line + "\n" for line in GOOD.splitlines() if "_domainkey" in line)
    sub_zone = {f"_domainkey.{APEX}": f"@ NS ns1.example.org.\n{keys}"}
    assert not_ok(serve(zone, other_zones=sub_zone)) == {}


def test_servers_that_disagree_are_told_and_waiting_is_advised(serve):
    result = serve(GOOD, second=without(" MX "))
    line = result["required"][f"{APEX} MX"]
    assert (line["status"], result["success"]) == ("missing", False)
    assert "ns2.example.org. (127.0.0.5) has nothing" in line["remark"]
    assert line["do"] == "Wait until all servers have it. If that takes longer than an hour: Enter it."


@pytest.mark.parametrize(
    ("fault", "state"), [("silent", "does not answer"), ("SERVFAIL", "answers SERVFAIL")], ids=["silent", "SERVFAIL"]
)
@pytest.mark.parametrize("faulty", [0, 1])
def test_a_server_that_does_not_serve_is_named_and_the_others_judged(serve, monkeypatch, fault, state, faulty):
    monkeypatch.setattr(chatmail_authoritative, "PATIENCE_S", (0.1, 0.2, 0.3))
    result = serve(GOOD, faults=(fault, "") if faulty == 0 else ("", fault))
    assert result["success"]
    assert result["servers"][f"ns{faulty + 1}.example.org. (127.0.0.{faulty + 4})"] == state


def test_where_no_server_answers_nothing_is_known(serve, monkeypatch):
    monkeypatch.setattr(chatmail_authoritative, "PATIENCE_S", (0.1, 0.2, 0.3))
    result = serve(GOOD, faults=("silent", "SERVFAIL"))
    assert not result["success"]
    assert set(statuses(result).values()) == {"unknown"}
    assert "of the servers of example.org. none answers" in result["required"][f"{APEX} MX"]["remark"]


def test_a_lost_answer_is_asked_for_again(serve, monkeypatch):
    monkeypatch.setattr(chatmail_authoritative, "PATIENCE_S", (0.2, 2.0, 2.0))
    assert not_ok(serve(GOOD, faults=("once silent", "once silent"))) == {}


def test_a_host_behind_address_translation_accepts_what_is_published(serve):
    wanted = chatmail_zone.wanted(SETTINGS, None, None, KEYS, CERTIFICATE)
    result = serve(without(" AAAA "), wanted=wanted)
    assert result["success"]
    assert "public_addresses" in result["required"][f"{APEX} A"]["remark"]
    assert f"{APEX} AAAA" not in statuses(result)


def test_without_a_key_the_dkim_record_is_no_alarm_but_no_success_either(serve):
    wanted = chatmail_zone.wanted(SETTINGS, (IPV4,), (IPV6,), None, CERTIFICATE)
    result = serve(GOOD, wanted=wanted)
    assert not_ok(result) == {f"{DKIM_NAME} TXT": "unknown"}
    assert "apply of chatmail.opendkim" in result["required"][f"{DKIM_NAME} TXT"]["do"]
    assert not result["success"]


def test_what_a_text_holds_cannot_steer_the_terminal(serve):
    result = serve(without("^opendkim") + rf'{DKIM_NAME} TXT "p=\027[31m\"x"' + "\n")
    assert r"\027[31m\"x" in result["required"][f"{DKIM_NAME} TXT"]["found"]
