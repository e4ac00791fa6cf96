"""Self-signed pairs are right for their names; whatever is wrong with a pair is said."""

import datetime
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import chatmail_x509

NAMES = ["_chat.test", "www._chat.test", "192.0.2.7"]


@pytest.fixture
def pair(tmp_path):
    """Paths of a certificate and its key."""
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    write_pair(cert, key)
    return cert, key


def write_pair(cert, key, now=None):
    certificate, private = chatmail_x509.make(NAMES, now or datetime.datetime.now(datetime.UTC))
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(chatmail_x509.pem(private))


def test_a_made_pair_has_no_problems(pair):
    assert chatmail_x509.problems(*map(str, pair), NAMES, days_left=365) == []


def test_names_and_addresses_are_in_the_certificate(pair):
    certificate = x509.load_pem_x509_certificate(pair[0].read_bytes())
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == NAMES[:2]
    assert [str(address) for address in san.get_values_for_type(x509.IPAddress)] == NAMES[2:]


def test_missing_files_are_named(pair):
    cert, key = pair
    key.unlink()
    assert chatmail_x509.problems(str(cert), str(key), NAMES) == [f"{key} is missing"]


def test_a_foreign_key_is_found(pair, tmp_path):
    other = tmp_path / "other.pem"
    write_pair(tmp_path / "other-cert.pem", other)
    assert "does not belong" in chatmail_x509.problems(str(pair[0]), str(other), NAMES)[0]


def test_an_uncovered_name_is_found(pair):
    found = chatmail_x509.problems(*map(str, pair), [*NAMES, "new.test"])
    assert found == [f"{pair[0]} does not name new.test"]


def test_garbage_is_no_certificate(pair):
    pair[0].write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    assert "is not a PEM certificate" in chatmail_x509.problems(*map(str, pair), NAMES)[0]


def test_garbage_is_no_key(pair):
    pair[1].write_text("nonsense")
    assert "is not a PEM private key" in chatmail_x509.problems(*map(str, pair), NAMES)[0]


def test_a_certificate_that_ends_too_soon_is_found(pair):
    found = chatmail_x509.problems(*map(str, pair), NAMES, days_left=chatmail_x509.VALID_DAYS + 1)
    assert found[0].startswith(f"{pair[0]} ends at ")


def test_a_certificate_of_the_future_is_found(pair):
    cert, key = pair
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=10)
    write_pair(cert, key, moment)
    assert "is valid only from" in chatmail_x509.problems(str(cert), str(key), NAMES)[0]


@pytest.fixture
def chain(tmp_path):
    """A root that the host does not trust, and a certificate of its intermediate one; paths of leaf and both files."""
    request = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-x509", "-quiet"]
    names = ["root", "middle", "leaf"]
    for issuer, name in zip([None, *names], names, strict=False):
        argv = [*request, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        if issuer:
            argv += ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"]
        if name == "leaf":
            argv += ["-addext", "subjectAltName=DNS:_chat.test"]
        subprocess.run([item for item in argv if item != "-quiet"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_a_chain_is_complete_with_all_intermediate_certificates(chain, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(chain / "root.pem"))
    full = chain / "full.pem"
    full.write_text((chain / "leaf.pem").read_text() + (chain / "middle.pem").read_text())
    assert chatmail_x509.problems(str(full), str(chain / "leaf.key"), ["_chat.test"], chain=True) == []


def test_a_chain_without_its_intermediate_certificate_is_found(chain, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(chain / "root.pem"))
    found = chatmail_x509.problems(str(chain / "leaf.pem"), str(chain / "leaf.key"), ["_chat.test"], chain=True)
    assert len(found) == 1
    assert "no complete chain to an authority that this host trusts (unable to get local issuer" in found[0]


def test_a_self_signed_pair_is_its_own_chain(pair):
    assert chatmail_x509.problems(*map(str, pair), NAMES, chain=True) == []


@pytest.mark.parametrize(
    ("days", "age", "due"), [(365, 330, False), (365, 340, True), (90, 55, False), (90, 65, True), (6, 3, False)]
)
def test_renewal_is_due_when_thirty_days_or_a_third_are_left(monkeypatch, days, age, due):
    monkeypatch.setattr(chatmail_x509, "VALID_DAYS", days)
    now = datetime.datetime.now(datetime.UTC)
    certificate, _ = chatmail_x509.make(NAMES, now - datetime.timedelta(days=age))
    assert chatmail_x509.is_due(certificate, now) is due


def test_a_certificate_is_described_by_names_issuer_and_days(pair):
    certificate = x509.load_pem_x509_certificate(pair[0].read_bytes())
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert chatmail_x509.described(der, datetime.datetime.now(datetime.UTC)) == {
        "names": ["192.0.2.7", "_chat.test", "www._chat.test"],
        "issuer": "itself",
        "days_left": 36499,
    }


def test_what_a_daemon_serves_is_asked_from_it_and_not_read_from_disk(pair):
    cert, key = map(str, pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loaded = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
    # Renewed since, and the daemon does not know.
    write_pair(*pair)

    def serve(listener):
        plain, _ = listener.accept()
        with plain, context.wrap_socket(plain, server_side=True):
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        assert chatmail_x509.served(listener.getsockname()[1], None, NAMES[0]) == loaded
        served.result()
