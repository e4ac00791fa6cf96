"""What is asked of the DNS, and how `check` judges zones served by real name servers on loopback addresses."""

import dataclasses
import json
import os
import re
import threading

import dns.zone
import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_dns
from test.unit.dns_servers import NameServer, UpdateServer, free_port

DOMAIN = "chat.example.org"
SETTINGS = {
    "mail_domain_bare": DOMAIN,
    "ipv4_relay": None,
    "tls_mode": "acme",
    "disable_ipv6": False,
    "public_addresses": [],
    "privacy_mail": "operator@example.com",
    "dns_root_servers": [],
    "dns_update_server": None,
    "dns_update_key_file": None,
}
ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1"
# As long as the text of a 2048 bit key, so that it needs two strings.
DKIM = f"v=DKIM1;k=rsa;p={'MIIB' * 98};s=email;t=s"
KEYS = [{"name": f"opendkim._domainkey.{DOMAIN}.", "value": DKIM, "use": "now"}]
IPV4, IPV6 = "192.0.2.7", "2001:db8::7"
CERTIFICATE = {
    "account_uri": ACCOUNT,
    "caa_issuers": ["letsencrypt.org"],
    "names": [DOMAIN],
    "public_key_sha256": "ab" * 32,
}
ALL = chatmail_dns._wanted(SETTINGS, (IPV4,), (IPV6,), KEYS, CERTIFICATE)
WANTED = [record for record in ALL if not record.signed]
TLSA = next(record for record in ALL if record.signed)
TLSA_LINE = f"{TLSA.name} TLSA"
GOOD = chatmail_dns._zone(ALL)
DS = "{} DS 1 13 2 " + "cd" * 32 + "\n"
NAME_SERVERS = "@ NS ns1.example.org.\n@ NS ns2.example.org.\nns1 A 127.0.0.4\nns2 A 127.0.0.5\n"
REQUIRED = {f"{record.name} {record.type}" for record in WANTED if record.required}
RECOMMENDED = {f"{record.name} {record.type}" for record in WANTED if not record.required}


@pytest.fixture
def configure_loader_modules():
    return {chatmail_dns: {}}


@pytest.fixture
def serve():
    """
    Run a root server, one of ``org`` and two of ``example.org``, in which the relay's name is no zone of its own.

    Takes the text of the relay's records, for the second server too unless it has another; returns what ``check``
    returns.
    """
    servers = []

    def run(text, second=None, *, faults=("", ""), wanted=WANTED, other_zones=None, signed=()):
        port = free_port()
        root = "@ NS root.\nroot. A 127.0.0.2\norg. NS ns.org.\nns.org. A 127.0.0.3\n"
        root += DS.format("org.") if "org." in signed else ""
        org = "@ NS ns.org.\nns.org. A 127.0.0.3\nexample.org. NS ns1.example.org.\nexample.org. NS ns2.example.org.\n"
        org += "ns1.example.org. A 127.0.0.4\nns2.example.org. A 127.0.0.5\n"
        org += DS.format("example.org.") if "example.org." in signed else ""
        zones = [{".": root}, {"org.": org + "relays.org. NS ns.relays.org.\nns.relays.org. A 127.0.0.4\n"}]
        zones += [
            {"example.org.": NAME_SERVERS + one, **(other_zones or {})}
            for one in (text, text if second is None else second)
        ]
        for number, (of_server, fault) in enumerate(zip(zones, ("", "", *faults), strict=True), 2):
            servers.append(NameServer(f"127.0.0.{number}", port, of_server, fault))
        return chatmail_dns._Survey(wanted, ["127.0.0.2"], port=port, seconds=20).as_result()

    yield run
    for server in servers:
        server.close()


def without(*patterns: str) -> str:
    return "".join(line + "\n" for line in GOOD.splitlines() if not any(re.search(one, line) for one in patterns))


def replaced(pattern: str, new: str) -> str:
    assert re.search(pattern, GOOD, re.M)
    return re.sub(pattern, new, GOOD, flags=re.M)


def statuses(result: dict) -> dict:
    return {record: line["status"] for record, line in (result["required"] | result["recommended"]).items()}


def not_ok(result: dict) -> dict:
    return {record: status for record, status in statuses(result).items() if status != "ok"}


def test_the_zone_file_is_one_and_has_all_records():
    zone = dns.zone.from_text(GOOD, origin="chat.example.org.", check_origin=False)
    assert {f"{name.derelativize(zone.origin)} {rdata.rdtype.name}" for name, _, rdata in zone.iterate_rdatas()} == (
        REQUIRED | RECOMMENDED | {TLSA_LINE}
    )
    assert all(re.fullmatch(r"\S+ +3600 +IN \w+ +\S.*", line) for line in GOOD.splitlines() if not line.startswith(";"))


def test_names_for_https_are_wanted_only_with_a_public_certificate():
    for mode in ("self", "external"):
        wanted = chatmail_dns._wanted(SETTINGS | {"tls_mode": mode}, (IPV4,), (), KEYS, CERTIFICATE)
        assert not [one for one in wanted if "mta-sts" in one.name or one.type == "CAA"]
        assert [one.initial for one in wanted if one.name.startswith("www.")] == [False]


def test_mta_sts_is_wanted_where_an_external_certificate_covers_its_name():
    certificate = CERTIFICATE | {"names": [DOMAIN, f"mta-sts.{DOMAIN}"]}
    wanted = chatmail_dns._wanted(SETTINGS | {"tls_mode": "external"}, (IPV4,), (), KEYS, certificate)
    assert [(one.name, one.required, one.initial) for one in wanted if "mta-sts" in one.name] == [
        (f"mta-sts.{DOMAIN}.", True, False),
        (f"_mta-sts.{DOMAIN}.", True, False),
    ]


def test_the_id_of_the_mta_sts_policy_changes_with_the_policy_and_nothing_else(monkeypatch):
    def wanted(**settings):
        found = chatmail_dns._wanted(SETTINGS | settings, (IPV4,), (), KEYS, CERTIFICATE)
        return next(one.values for one in found if one.name.startswith("_mta-sts."))

    before = wanted()
    assert wanted(privacy_mail="other@example.net") == before
    monkeypatch.setattr(chatmail_dns, "mta_sts_policy", lambda domain: "mode: testing\r\n")
    assert wanted() != before


def test_a_caa_record_names_the_authority_that_has_the_account():
    certificate = CERTIFICATE | {"account_uri": "https://ca.example/acct/7", "caa_issuers": ["ca.example"]}
    (caa,) = (one for one in chatmail_dns._wanted(SETTINGS, (), (), KEYS, certificate) if one.type == "CAA")
    assert caa.values == ('0 issue "ca.example;accounturi=https://ca.example/acct/7"',)


def test_the_key_of_an_operators_own_certificate_is_not_pinned():
    wanted = chatmail_dns._wanted(SETTINGS | {"tls_mode": "external"}, (IPV4,), (), KEYS, CERTIFICATE)
    assert not [one for one in wanted if one.type == "TLSA"]


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
    for _ in range(100):
        assert not_ok(serve(GOOD)) == {}


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


APEX = f"{DOMAIN}."
DKIM_NAME = f"opendkim._domainkey.{APEX}"
DKIM_LINE = rf"^{re.escape(DKIM_NAME)} .*$"


@pytest.mark.parametrize(
    ("zone", "record", "status", "success"),
    [
        pytest.param(replaced(f" 10 {APEX}", f" 0 {APEX}"), f"{APEX} MX", "ok", True, id="MX: another preference"),
        pytest.param(GOOD + f"{APEX} MX 20 b.example.net.\n", f"{APEX} MX", "differs", True, id="MX: a second, later"),
        pytest.param(GOOD + f"{APEX} MX 5 b.example.net.\n", f"{APEX} MX", "wrong", False, id="MX: an earlier one"),
        pytest.param(
            replaced(f"10 {APEX}", "10 mx.example.org.") + f"mx.example.org. A {IPV4}\n",
            f"{APEX} MX",
            "ok",
            True,
            id="MX: another name of this host",
        ),
        pytest.param(replaced(f"10 {APEX}", "0 ."), f"{APEX} MX", "wrong", False, id="MX: refuses mail (RFC 7505)"),
        pytest.param(without(" AAAA "), f"{APEX} AAAA", "missing", True, id="AAAA: missing, recommended then"),
        pytest.param(without(" A "), f"{APEX} A", "missing", True, id="A: missing beside AAAA"),
        pytest.param(without(" A ", " AAAA "), f"{APEX} A", "missing", False, id="no address"),
        pytest.param(GOOD + f"{APEX} AAAA 2001:db8::99\n", f"{APEX} AAAA", "wrong", False, id="AAAA: of an old host"),
        pytest.param(
            without("^www") + f"www.{APEX} A {IPV4}\n", f"www.{APEX} CNAME", "ok", True, id="www: address of the relay"
        ),
        pytest.param(
            without("^www") + f"www.{APEX} A 192.0.2.99\n", f"www.{APEX} CNAME", "wrong", False, id="www: elsewhere"
        ),
        pytest.param(
            without("^www") + f"www.{APEX} CNAME a.example.org.\na.example.org. CNAME {APEX}\n",
            f"www.{APEX} CNAME",
            "ok",
            True,
            id="www: a chain of names",
        ),
        pytest.param(
            without("^www") + f"www.{APEX} CNAME a.example.org.\na.example.org. CNAME www.{APEX}\n",
            f"www.{APEX} CNAME",
            "unknown",
            False,
            id="www: a circle",
        ),
        pytest.param(
            replaced(r'"v=STSv1; id=\w+"', '"v=STSv1;id=20260101;"'),
            f"_mta-sts.{APEX} TXT",
            "differs",
            True,
            id="MTA-STS: another id",
        ),
        pytest.param(
            replaced(r"id=\w+", "id=2026-01-01"), f"_mta-sts.{APEX} TXT", "wrong", False, id="MTA-STS: bad id"
        ),
        pytest.param(
            GOOD + f'_mta-sts.{APEX} TXT "v=STSv1; id=1"\n', f"_mta-sts.{APEX} TXT", "wrong", False, id="MTA-STS: two"
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "{DKIM[:50]}" "{DKIM[50:100]}" "{DKIM[100:350]}" "{DKIM[350:]}"'),
            f"{DKIM_NAME} TXT",
            "ok",
            True,
            id="DKIM: other strings",
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "s=* ; p={"MIIB" * 50} " "{"MIIB" * 48}; k=RSA; v=DKIM1;"'),
            f"{DKIM_NAME} TXT",
            "ok",
            True,
            id="DKIM: other order and spaces",
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "v=DKIM1;k=rsa;p=AAAA"'),
            f"{DKIM_NAME} TXT",
            "wrong",
            False,
            id="DKIM: another key",
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "v=DKIM1;p="'),
            f"{DKIM_NAME} TXT",
            "wrong",
            False,
            id="DKIM: revoked",
        ),
        pytest.param(
            GOOD + f'{DKIM_NAME} TXT "v=DKIM1;p=AAAA"\n', f"{DKIM_NAME} TXT", "wrong", False, id="DKIM: a second one"
        ),
        pytest.param(
            replaced(f"^{re.escape(DKIM_NAME)} ", "key.example.org. ") + f"{DKIM_NAME} CNAME key.example.org.\n",
            f"{DKIM_NAME} TXT",
            "ok",
            True,
            id="DKIM: by way of another name",
        ),
        pytest.param(GOOD + f'{APEX} TXT "site=1"\n', f"{APEX} TXT", "ok", True, id="SPF: beside another text"),
        pytest.param(replaced("v=spf1 a ~all", "V=SPF1  +A ~ALL"), f"{APEX} TXT", "ok", True, id="SPF: other spelling"),
        pytest.param(replaced("a ~all", "a mx -all"), f"{APEX} TXT", "differs", True, id="SPF: more mechanisms"),
        pytest.param(replaced("a ~all", "-all"), f"{APEX} TXT", "wrong", True, id="SPF: nobody may send"),
        pytest.param(GOOD + f'{APEX} TXT "v=spf1 mx -all"\n', f"{APEX} TXT", "wrong", True, id="SPF: two"),
        pytest.param(
            replaced("v=DMARC1;p=reject", "v=DMARC1; p=REJECT; rua=mailto:a@example.com"),
            f"_dmarc.{APEX} TXT",
            "differs",
            True,
            id="DMARC: with reports",
        ),
        pytest.param(replaced("p=reject", "p=none"), f"_dmarc.{APEX} TXT", "wrong", True, id="DMARC: weaker"),
        pytest.param(replaced("acct/1", "acct/2"), f"{APEX} CAA", "wrong", True, id="CAA: another account"),
        pytest.param(
            GOOD + f'{APEX} CAA 0 issue "other.example"\n', f"{APEX} CAA", "differs", True, id="CAA: another authority"
        ),
        pytest.param(replaced("0 1 993", "5 0 993"), f"_imaps._tcp.{APEX} SRV", "ok", True, id="SRV: other priority"),
        pytest.param(replaced("0 1 993", "0 1 995"), f"_imaps._tcp.{APEX} SRV", "wrong", True, id="SRV: other port"),
    ],
)
def test_one_difference_is_judged_and_nothing_else_is_touched_by_it(serve, zone, record, status, success):
    result = serve(zone)
    assert statuses(result)[record] == status
    assert result["success"] is success
    family = {f"{APEX} A", f"{APEX} AAAA"}
    beside = not_ok(result).keys() - {record}
    assert not beside or beside <= family


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
    monkeypatch.setattr(chatmail_dns, "PATIENCE_S", (0.1, 0.2, 0.3))
    result = serve(GOOD, faults=(fault, "") if faulty == 0 else ("", fault))
    assert result["success"]
    assert result["servers"][f"ns{faulty + 1}.example.org. (127.0.0.{faulty + 4})"] == state


def test_where_no_server_answers_nothing_is_known(serve, monkeypatch):
    monkeypatch.setattr(chatmail_dns, "PATIENCE_S", (0.1, 0.2, 0.3))
    result = serve(GOOD, faults=("silent", "SERVFAIL"))
    assert not result["success"]
    assert set(statuses(result).values()) == {"unknown"}
    assert "of the servers of example.org. none answers" in result["required"][f"{APEX} MX"]["remark"]


def test_a_lost_answer_is_asked_for_again(serve, monkeypatch):
    monkeypatch.setattr(chatmail_dns, "PATIENCE_S", (0.2, 2.0, 2.0))
    assert not_ok(serve(GOOD, faults=("once silent", "once silent"))) == {}


def test_a_host_behind_address_translation_accepts_what_is_published(serve):
    wanted = chatmail_dns._wanted(SETTINGS, None, None, KEYS, CERTIFICATE)
    result = serve(without(" AAAA "), wanted=wanted)
    assert result["success"]
    assert "public_addresses" in result["required"][f"{APEX} A"]["remark"]
    assert f"{APEX} AAAA" not in statuses(result)


def test_without_a_key_the_dkim_record_is_no_alarm_but_no_success_either(serve):
    wanted = chatmail_dns._wanted(SETTINGS, (IPV4,), (IPV6,), None, CERTIFICATE)
    result = serve(GOOD, wanted=wanted)
    assert not_ok(result) == {f"{DKIM_NAME} TXT": "unknown"}
    assert "apply of chatmail.opendkim" in result["required"][f"{DKIM_NAME} TXT"]["do"]
    assert not result["success"]


def test_what_a_text_holds_cannot_steer_the_terminal(serve):
    result = serve(without("^opendkim") + rf'{DKIM_NAME} TXT "p=\027[31m\"x"' + "\n")
    assert r"\027[31m\"x" in result["required"][f"{DKIM_NAME} TXT"]["found"]


@pytest.mark.parametrize(
    ("settings", "own", "expected"),
    [
        ({}, ["127.0.0.1", "10.0.0.5", "9.9.9.9"], (("9.9.9.9",), ())),
        ({}, ["127.0.0.1", "10.0.0.5"], (None, None)),
        ({"disable_ipv6": True}, ["127.0.0.1"], (None, ())),
        ({"public_addresses": ["9.9.9.10", "2620:fe::fe"]}, ["9.9.9.9"], (("9.9.9.10",), ("2620:fe::fe",))),
    ],
    ids=["own", "translated", "translated, without IPv6", "listed"],
)
def test_the_addresses_are_those_listed_or_the_hosts_public_ones(settings, own, expected):
    assert chatmail_dns._public_addresses(SETTINGS | settings, {"ipv4": own, "ipv6": ["::1", "fe80::1"]}) == expected


def test_a_relay_without_a_name_has_nothing_to_publish():
    settings = SETTINGS | {"ipv4_relay": "192.0.2.7"}
    assert chatmail_dns.records(settings) == []
    assert chatmail_dns.zone(settings).startswith("; The mail domain is the address 192.0.2.7")
    for function in (chatmail_dns.check, chatmail_dns.publish):
        assert function(settings)["success"]


def test_texts_of_other_purposes_stay_when_one_is_replaced():
    record = next(one for one in WANTED if one.judge is chatmail_dns._judge_spf)
    assert chatmail_dns._kept(record, ["site=1", "v=spf1 -all", "v=spf10"]) == ["site=1", "v=spf10"]
    record = dataclasses.replace(next(one for one in WANTED if one.type == "CAA"))
    others = ['0 issue "other.example"', '0 iodef "mailto:a@b.example"']
    assert chatmail_dns._kept(record, [*others, '0 issue "letsencrypt.org"']) == others


def test_a_key_file_is_read_as_tsig_keygen_writes_it(tmp_path):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text('key "relay" {\n\talgorithm hmac-sha256;\n\tsecret "c2VjcmV0";\n};\n')
    assert chatmail_dns._read_key(str(path)) == ("relay", "hmac-sha256", "c2VjcmV0")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ('key "relay" { algorithm hmac-sha256; secret "c2VjcmV0"; };', 0o644, "chmod 600"),
        ('key "relay" { secret "c2VjcmV0"; };', 0o600, "no TSIG key file"),
        ("c2VjcmV0", 0o600, "no TSIG key file"),
    ],
    ids=["open to others", "no algorithm", "something else"],
)
def test_a_key_file_that_cannot_be_used_is_refused_without_showing_it(tmp_path, text, mode, message):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(CommandExecutionError, match=message) as caught:
        chatmail_dns._read_key(str(path))
    assert "c2VjcmV0" not in str(caught.value)


SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(f'key "relay" {{ algorithm hmac-sha256; secret "{SECRET}"; }};')
    return str(path)


@pytest.fixture
def publish(key_file):
    """Publish to a primary that serves ``text``; its secondary gets what was published, unless it ``lags``."""
    servers = []

    def run(text, keys, lags=False, wanted=WANTED):
        port = free_port()
        root = "@ NS root.\nroot. A 127.0.0.2\nexample.org. NS ns1.example.org.\nns1.example.org. A 127.0.0.4\n"
        servers.append(NameServer("127.0.0.2", port, {".": root}))
        both = [NameServer(f"127.0.0.{number}", port, {"example.org.": NAME_SERVERS + text}) for number in (4, 5)]
        servers.extend(both)
        servers.append(UpdateServer("127.0.0.6", port, keys, "example.org.", both[:1] if lags else both))
        done = chatmail_dns._publish(wanted, ["127.0.0.2"], "127.0.0.6", key_file, seconds=1, port=port)
        return done, chatmail_dns._Survey(wanted, ["127.0.0.2"], port=port).as_result()

    yield run
    for server in servers:
        server.close()


def test_into_an_empty_zone_everything_is_published(publish):
    done, after = publish("", {"relay": SECRET})
    assert done.keys() == REQUIRED | RECOMMENDED
    assert done[f"{APEX} MX"] == {"old": "nothing", "new": f"10 {APEX}"}
    assert not_ok(after) == {}


def test_only_what_is_not_right_is_published_and_other_texts_stay(publish):
    text = replaced("v=spf1 a ~all", "v=spf1 -all") + f'{APEX} TXT "a \\"b\\" \\195"\n'
    text = text.replace(f"www.{APEX} ", "else.example.org. ") + f"www.{APEX} A 192.0.2.99\n"
    done, after = publish(text, {"relay": SECRET})
    assert done.keys() == {f"{APEX} TXT", f"www.{APEX} CNAME"}
    assert not_ok(after) == {}
    assert r'"a \"b\" \195"' in after["recommended"][f"{APEX} TXT"]["found"]


def test_an_address_that_the_relay_does_not_have_is_withdrawn(publish):
    wanted = chatmail_dns._wanted(SETTINGS, (IPV4,), (), KEYS, CERTIFICATE)
    done, after = publish(GOOD, {"relay": SECRET}, wanted=wanted)
    assert done == {f"{APEX} AAAA": {"old": IPV6, "new": ""}}
    assert f"{APEX} AAAA" not in statuses(after)


def test_a_right_zone_is_not_touched(publish):
    assert publish(GOOD, {})[0] == {}


def test_a_server_that_does_not_know_the_key_is_reported_without_it(publish):
    with pytest.raises(CommandExecutionError, match=r"took no update of .* with the key relay") as caught:
        publish("", {"other": SECRET})
    assert SECRET not in str(caught.value)


def test_a_secondary_that_lags_is_waited_for_and_then_named(publish):
    with pytest.raises(CommandExecutionError, match="after 1 s the authoritative servers do not serve it") as caught:
        publish("", {"relay": SECRET}, lags=True)
    assert "ns2.example.org. (127.0.0.5) has nothing" in str(caught.value)


@pytest.fixture
def controller(tmp_path, monkeypatch):
    """The other end of a host's requests: takes one, and says ``answer``."""
    monkeypatch.setattr(chatmail_dns, "REQUESTS", tmp_path)
    pipes = {name: tmp_path / name for name in ("request", "answer")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    descriptors = {name: os.open(pipe, os.O_RDWR) for name, pipe in pipes.items()}
    threads = []

    def listen(answer):
        def once():
            asked = os.read(descriptors["request"], 65536)
            assert json.loads(asked) == {"facts": {"dkim": DKIM}, "initial": False}
            for part in (answer[:9], answer[9:]):
                os.write(descriptors["answer"], part)

        threads.append(threading.Thread(target=once))
        threads[0].start()

    yield listen
    for thread in threads:
        thread.join()
    for descriptor in descriptors.values():
        os.close(descriptor)


def test_a_host_without_the_key_has_its_records_published_by_the_controller(controller):
    controller(b'{"published": {"a. MX": {"old": "nothing", "new": "10 a."}}}\n')
    assert list(chatmail_dns._request({"dkim": DKIM}, False, 5)) == ["a. MX"]


def test_a_refusal_reaches_the_host(controller):
    controller(b'{"error": "the DNS server refused the update"}\n')
    with pytest.raises(CommandExecutionError, match="refused the update"):
        chatmail_dns._request({"dkim": DKIM}, False, 5)


def test_a_controller_that_does_not_answer_is_not_waited_for_longer_than_told(controller):
    with pytest.raises(CommandExecutionError, match="no answer in 0 s"):
        chatmail_dns._request({"dkim": DKIM}, False, 0)


@pytest.mark.parametrize("left", [False, True], ids=["nothing", "pipes of an ended run"])
def test_without_a_controller_a_host_says_so_at_once(tmp_path, monkeypatch, left):
    monkeypatch.setattr(chatmail_dns, "REQUESTS", tmp_path)
    if left:
        os.mkfifo(tmp_path / "request")
    with pytest.raises(CommandExecutionError, match="no salt-ssh that could publish is connected"):
        chatmail_dns._request({"dkim": DKIM}, False, 5)
