"""Self-signed pairs are right for their names; whatever is wrong with a pair is said."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

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


def test_names_and_addresses_are_in_the_certificate(pair):
    certificate = x509.load_pem_x509_certificate(pair[0].read_bytes())
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == NAMES[:2]
    assert [str(address) for address in san.get_values_for_type(x509.IPAddress)] == NAMES[2:]


def test_missing_files_are_named(pair):
    cert, key = pair
    key.unlink()
    assert chatmail_cert.problems(str(cert), str(key), NAMES) == [f"{key} is missing"]


def test_a_foreign_key_is_found(pair, tmp_path):
    other = tmp_path / "other.pem"
    chatmail_cert.make_self_signed(str(tmp_path / "other-cert.pem"), str(other), NAMES)
    assert "does not belong" in chatmail_cert.problems(str(pair[0]), str(other), NAMES)[0]


def test_an_uncovered_name_is_found(pair):
    found = chatmail_cert.problems(*map(str, pair), [*NAMES, "new.test"])
    assert found == [f"{pair[0]} does not name new.test"]


def test_garbage_is_no_certificate(pair):
    pair[0].write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert "no PEM certificate" in chatmail_cert.problems(*map(str, pair), NAMES)[0]


def test_garbage_is_no_key(pair):
    pair[1].write_text("nonsense")
    assert "no PEM private key" in chatmail_cert.problems(*map(str, pair), NAMES)[0]


def test_a_certificate_that_ends_too_soon_is_found(pair):
    found = chatmail_cert.problems(*map(str, pair), NAMES, days_left=chatmail_cert.VALID_DAYS + 1)
    assert found[0].startswith(f"{pair[0]} ends at ")


def test_a_certificate_of_the_future_is_found(pair):
    cert, key = pair
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=10)
    certificate, private = chatmail_cert._make(NAMES, moment)
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    assert "is valid only from" in chatmail_cert.problems(str(cert), str(key), NAMES)[0]
