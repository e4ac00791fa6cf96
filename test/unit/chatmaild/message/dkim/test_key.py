"""Key records."""

import base64
import subprocess
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from chatmaild.message.dkim import key, openssl
from chatmaild.message.dkim.tags import Invalid
from test.unit.chatmaild.message.dkim.conftest import public


@pytest.mark.parametrize(
    "record",
    [
        b"p=KEY",
        b"v=DKIM1;p=KEY;",
        b"v=DKIM1; k=rsa; t=y:s; n=a note; s=*; h=sha1:sha256; x=unknown; p=KEY",
        b"k=rsa; s=email ; p=KEY",
        b"v=DKIM1; p= KEY ",
    ],
)
def test_a_record_is_read(rsa_key, record):
    found = key.parse(record.replace(b"KEY", public(rsa_key)))
    assert (found.type, found.value, found.strict) == ("rsa", base64.b64decode(public(rsa_key)), b"t=" in record)


def test_white_space_within_the_key_means_nothing(rsa_key):
    value = public(rsa_key)
    assert key.parse(b"v=DKIM1; p=" + value[:100] + b" \t " + value[100:]).value == base64.b64decode(value)


def test_a_key_without_its_algorithm_is_read(rsa_key):
    """RFC 6376 has an RSAPublicKey in p=, its examples and most domains a SubjectPublicKeyInfo."""
    value = public(rsa_key, serialization.PublicFormat.PKCS1)
    signature = rsa_key.sign(b"data", padding.PKCS1v15(), hashes.SHA256())
    assert key.parse(b"p=" + value).verifies(signature, b"data")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "no key"),
        (b"v=spf1 -all", "version"),
        (b"v=DKIM2; p=KEY", "version"),
        (b"p=KEY; v=DKIM1", "version"),
        (b"v=DKIM1; p=", "revoked"),
        (b"v=DKIM1; p= ", "revoked"),
        (b"v=DKIM1; p=KEY; p=KEY", "two tags"),
        (b"v=DKIM1; s=other; p=KEY", "not for mail"),
        (b"v=DKIM1; h=sha1; p=KEY", "not for SHA-256"),
        (b"v=DKIM1; k=dsa; p=KEY", "neither"),
        (b"v=DKIM1; k=ed25519; p=KEY", "not of Ed25519"),
        (b"v=DKIM1; p=KEY!", "base64"),
        (b"v=DKIM1; p=AAAA", "not of RSA"),
        (b"v=DKIM1; p=KEYAAAA", "base64|not of RSA"),
    ],
)
def test_what_cannot_count_is_invalid(rsa_key, record, reason):
    with pytest.raises(Invalid, match=reason):
        key.parse(record.replace(b"KEY", public(rsa_key))).verifies(b"", b"")


def test_octets_behind_the_key_are_invalid(rsa_key):
    longer = base64.b64encode(base64.b64decode(public(rsa_key)) + b"x")
    with pytest.raises(Invalid, match="not of RSA"):
        key.parse(b"p=" + longer).verifies(b"", b"")


def test_short_keys_do_not_count(tmp_path):
    pem = subprocess.run(["openssl", "genrsa", "1023"], capture_output=True, check=True).stdout
    der = subprocess.run(
        ["openssl", "rsa", "-pubout", "-outform", "DER"], input=pem, capture_output=True, check=True
    ).stdout
    with pytest.raises(Invalid, match="1024 to 8192"):
        key.parse(b"p=" + base64.b64encode(der)).verifies(b"", b"")


def test_keys_of_other_algorithms_do_not_count():
    with pytest.raises(Invalid, match="not of RSA"):
        key.parse(b"p=" + public(ec.generate_private_key(ec.SECP256R1()))).verifies(b"", b"")


def test_only_the_signers_signature_of_these_octets_verifies(rsa_key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    der = base64.b64decode(public(rsa_key))
    good = rsa_key.sign(b"data", padding.PKCS1v15(), hashes.SHA256())
    verify = partial(openssl.verify_rsa, der, bits=key.RSA_BITS)
    assert verify(good, b"data")
    assert not verify(good, b"Data")
    assert not verify(other.sign(b"data", padding.PKCS1v15(), hashes.SHA256()), b"data")
    assert not verify(rsa_key.sign(b"data", padding.PKCS1v15(), hashes.SHA512()), b"data")
    for bad in (b"", b"\0" * 256, good[:-1], b"\0" + good, good + b"\0"):
        assert not verify(bad, b"data")
    with pytest.raises(openssl.UnusableKey):
        openssl.verify_rsa(b"", good, b"data", key.RSA_BITS)
    assert not openssl.verify_ed25519(b"short", good, b"data")
