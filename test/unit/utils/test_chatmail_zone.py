"""Which records a relay wants, and their text."""

import re

import dns.zone
import pytest

import chatmail_zone
from test.support.zones import (
    CERTIFICATE,
    DOMAIN,
    GOOD,
    IPV4,
    KEYS,
    RECOMMENDED,
    REQUIRED,
    SETTINGS,
    TLSA_LINE,
)


def test_the_zone_file_is_one_and_has_all_records():
    zone = dns.zone.from_text(GOOD, origin="chat.example.org.", check_origin=False)
    assert {f"{name.derelativize(zone.origin)} {rdata.rdtype.name}" for name, _, rdata in zone.iterate_rdatas()} == (
        REQUIRED | RECOMMENDED | {TLSA_LINE}
    )
    assert all(re.fullmatch(r"\S+ +3600 +IN \w+ +\S.*", line) for line in GOOD.splitlines() if not line.startswith(";"))


def test_names_for_https_are_wanted_only_with_a_public_certificate():
    for mode in ("self", "external"):
        wanted = chatmail_zone.wanted(SETTINGS | {"tls_mode": mode}, (IPV4,), (), KEYS, CERTIFICATE)
        assert not [one for one in wanted if "mta-sts" in one.name or one.type == "CAA"]
        assert [one.initial for one in wanted if one.name.startswith("www.")] == [False]


def test_mta_sts_is_wanted_where_an_external_certificate_covers_its_name():
    certificate = CERTIFICATE | {"names": [DOMAIN, f"mta-sts.{DOMAIN}"]}
    wanted = chatmail_zone.wanted(SETTINGS | {"tls_mode": "external"}, (IPV4,), (), KEYS, certificate)
    assert [(one.name, one.required, one.initial) for one in wanted if "mta-sts" in one.name] == [
        (f"mta-sts.{DOMAIN}.", True, False),
        (f"_mta-sts.{DOMAIN}.", True, False),
    ]


def test_the_id_of_the_mta_sts_policy_changes_with_the_policy_and_nothing_else(monkeypatch):
    def wanted(**settings):
        found = chatmail_zone.wanted(SETTINGS | settings, (IPV4,), (), KEYS, CERTIFICATE)
        return next(one.values for one in found if one.name.startswith("_mta-sts."))

    before = wanted()
    assert wanted(privacy_mail="other@example.net") == before
    monkeypatch.setattr(chatmail_zone, "mta_sts_policy", lambda domain: "mode: testing\r\n")
    assert wanted() != before


def test_a_caa_record_names_the_authority_that_has_the_account():
    certificate = CERTIFICATE | {"account_uri": "https://ca.example/acct/7", "caa_issuers": ["ca.example"]}
    (caa,) = (one for one in chatmail_zone.wanted(SETTINGS, (), (), KEYS, certificate) if one.type == "CAA")
    assert caa.values == ('0 issue "ca.example;accounturi=https://ca.example/acct/7"',)


def test_the_key_of_an_operators_own_certificate_is_not_pinned():
    wanted = chatmail_zone.wanted(SETTINGS | {"tls_mode": "external"}, (IPV4,), (), KEYS, CERTIFICATE)
    assert not [one for one in wanted if one.type == "TLSA"]


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
    assert chatmail_zone.public_addresses(SETTINGS | settings, [*own, "::1", "fe80::1"]) == expected
