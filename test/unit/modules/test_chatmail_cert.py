"""Self-signed pairs are right for their names; whatever is wrong with a pair is said."""

import datetime
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from salt.exceptions import CommandExecutionError

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
    assert chatmail_cert.problems(str(full), str(chain / "leaf.key"), ["_chat.test"], chain=True) == []


def test_a_chain_without_its_intermediate_certificate_is_found(chain, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(chain / "root.pem"))
    found = chatmail_cert.problems(str(chain / "leaf.pem"), str(chain / "leaf.key"), ["_chat.test"], chain=True)
    assert len(found) == 1
    assert "no complete chain to an authority that this host trusts (unable to get local issuer" in found[0]


def test_a_self_signed_pair_is_its_own_chain(pair):
    assert chatmail_cert.problems(*map(str, pair), NAMES, chain=True) == []


@pytest.mark.parametrize(
    ("days", "age", "due"), [(365, 330, False), (365, 340, True), (90, 55, False), (90, 65, True), (6, 3, False)]
)
def test_renewal_is_due_when_thirty_days_or_a_third_are_left(tmp_path, monkeypatch, days, age, due):
    monkeypatch.setattr(chatmail_cert, "VALID_DAYS", days)
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
    path = tmp_path / "c.pem"
    path.write_bytes(chatmail_cert._make(NAMES, moment)[0].public_bytes(serialization.Encoding.PEM))
    assert chatmail_cert.acme_due(str(path)) is due


@pytest.fixture
def acme_state(tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_cert, "ACME_STATE", tmp_path)
    return tmp_path


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_a_made_key_is_found_again_by_its_type(acme_state, key_type):
    assert chatmail_cert.acme_key_id(key_type) == ""
    name = chatmail_cert.make_acme_key(key_type)
    assert chatmail_cert.acme_key_id(key_type) == name
    assert len(name) == 52
    assert chatmail_cert.acme_key_id({"ecdsa": "rsa", "rsa": "ecdsa"}[key_type]) == ""
    assert (acme_state / "keys" / name / "privkey").stat().st_mode & 0o777 == 0o600


def test_the_key_in_use_is_kept_though_there_are_others(acme_state):
    chatmail_cert.make_acme_key("ecdsa")
    used = chatmail_cert.make_acme_key("ecdsa")
    assert chatmail_cert.acme_key_id("ecdsa", str(acme_state / "keys" / used / "privkey")) == used


ACCOUNT = "https://ca.example/acct/1"


@pytest.mark.parametrize(
    ("records", "allowed"),
    [
        ([], True),
        (["ca.example"], True),
        ([f"ca.example; accounturi={ACCOUNT}"], True),
        (["other.example", f"ca.example;accounturi={ACCOUNT};validationmethods=http-01"], True),
        (["other.example"], False),
        ([";"], False),
        ([f"ca.example;accounturi={ACCOUNT}0"], False),
    ],
)
def test_caa_records_allow_an_authority_and_an_account(records, allowed):
    refusal = chatmail_cert.caa_refusal(records, ["ca.example"], ACCOUNT)
    assert (refusal == "") is allowed
    if not allowed:
        assert records[0] in refusal
        assert ACCOUNT in refusal


def test_of_acmetools_log_the_authoritys_words_stay():
    log = """\
20261121142505 [ERROR] acmetool.storageops: failed to reconcile: the following errors occurred:
20261121142505 [CRITICAL] acmetool: fatal: reconcile: the following errors occurred:
error satisfying Target(chat.test): the following errors occurred:
Get "http://www.chat.test/.well-known/acme-challenge/x": no such host;
could not install DNS challenge, no hooks succeeded;
challenge type not supported]
"""
    reason = chatmail_cert._reason(log)
    assert reason.endswith('Get "http://www.chat.test/.well-known/acme-challenge/x": no such host;')
    assert "DNS challenge" not in reason
    assert chatmail_cert._reason("") == "acmetool does not say why"


def test_an_authority_that_is_down_is_named(monkeypatch):
    with pytest.raises(CommandExecutionError, match=r"does not answer at https://127\.0\.0\.1:9/dir: .*refused"):
        chatmail_cert.acme_meta("https://127.0.0.1:9/dir")


def test_a_certificate_is_described_by_names_issuer_and_days(pair):
    certificate = x509.load_pem_x509_certificate(pair[0].read_bytes())
    der = certificate.public_bytes(serialization.Encoding.DER)
    line = chatmail_cert._describe(der, datetime.datetime.now(datetime.UTC))
    assert line == "192.0.2.7, _chat.test, www._chat.test; issued by itself; 36499 days left"


def test_what_a_daemon_serves_is_asked_from_it_and_not_read_from_disk(pair):
    cert, key = map(str, pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loaded = ssl.PEM_cert_to_DER_cert(pair[0].read_text())
    # Renewed since, and the daemon does not know.
    chatmail_cert.make_self_signed(cert, key, NAMES)

    def serve(listener):
        plain, _ = listener.accept()
        with plain, context.wrap_socket(plain, server_side=True):
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        assert chatmail_cert._served(listener.getsockname()[1], None, NAMES[0]) == loaded
        served.result()
