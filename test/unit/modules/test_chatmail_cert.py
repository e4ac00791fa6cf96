"""What operators and states ask of certificates, with files where a relay has them."""

import pytest

import chatmail_x509
from _modules import chatmail_cert

NAMES = ["_chat.test", "www._chat.test", "192.0.2.7"]


@pytest.fixture
def configure_loader_modules():
    return {chatmail_cert: {}}


@pytest.fixture
def pair(tmp_path):
    cert, key = tmp_path / "c.pem", tmp_path / "private" / "k.pem"
    chatmail_cert.make_self_signed(str(cert), str(key), NAMES)
    return cert, key


def test_a_made_pair_has_no_problems(pair):
    assert chatmail_cert.problems(*map(str, pair), NAMES, days_left=365) == []


def test_the_key_is_private_and_the_certificate_public(pair):
    cert, key = pair
    assert cert.stat().st_mode & 0o777 == 0o644
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_new_pair_is_not_due(pair):
    assert chatmail_cert.acme_due(str(pair[0])) is False


def test_what_dns_records_tell_of_a_certificate(pair, tmp_path):
    known = chatmail_cert.facts(str(pair[0]))
    assert (known["names"], len(known["public_key_sha256"]), known["account_uri"]) == (NAMES, 64, None)
    assert known["days_left"] == 36499
    assert chatmail_cert.facts(str(tmp_path / "none"))["names"] == []


def test_what_is_served_is_shown_with_the_places_that_serve_it(monkeypatch, tmp_path, pair):
    def served(port, protocol, name):
        if port == 443:
            raise ConnectionRefusedError(111, "Connection refused")
        return der[port != 25]

    der = [chatmail_x509.load(pair[0]).public_bytes(chatmail_cert.Encoding.DER)]
    chatmail_cert.make_self_signed(*map(str, pair), NAMES)
    der.append(chatmail_x509.load(pair[0]).public_bytes(chatmail_cert.Encoding.DER))
    monkeypatch.setattr(chatmail_x509, "served", served)
    (tmp_path / "mailname").write_text("_chat.test\n")
    monkeypatch.setattr(chatmail_cert, "MAILNAME", tmp_path / "mailname")
    shown = chatmail_cert.show()
    old, new = shown["certificates"]
    assert (old["names"], old["issuer"], old["days_left"]) == (sorted(NAMES), "itself", 36499)
    assert old["places"] == [{"port": 25, "daemon": "postfix"}]
    assert [place["port"] for place in new["places"]] == [143, 465, 587, 993]
    assert shown["not_served"] == [{"port": 443, "daemon": "nginx", "problem": "Connection refused"}]
