"""A domain with keys, and the verifier asked about messages of it."""

import asyncio
import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chatmaild.message import dkim, mime
from chatmaild.text_records import LookupFailed
from test.support import messages
from test.support.signing import ForeignDomain

DOMAIN = "foreign.test"
AUTHOR = f"someone@{DOMAIN}"


def public(key, form=serialization.PublicFormat.SubjectPublicKeyInfo, encoding=serialization.Encoding.DER) -> bytes:
    """The value of p= of a private key."""
    return base64.b64encode(key.public_key().public_bytes(encoding, form))


def private(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


class Records:
    """Few names: those of `records`, each with its TXT records or a failure; counts what is asked."""

    def __init__(self, records: dict[str, list[bytes] | LookupFailed]) -> None:
        self.records = records
        self.asked: list[str] = []

    async def look_up(self, name: str) -> list[bytes]:
        self.asked.append(name)
        found = self.records.get(name, [])
        if isinstance(found, LookupFailed):
            raise found
        return found


@pytest.fixture(scope="session")
def ed25519_key():
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def foreign(rsa_key) -> ForeignDomain:
    return ForeignDomain(DOMAIN, private(rsa_key))


@pytest.fixture
def records(rsa_key, ed25519_key) -> Records:
    raw = public(ed25519_key, serialization.PublicFormat.Raw, serialization.Encoding.Raw)
    return Records(
        {
            f"mail._domainkey.{DOMAIN}": [b"v=DKIM1; k=rsa; p=" + public(rsa_key)],
            f"ed._domainkey.{DOMAIN}": [b"v=DKIM1; k=ed25519; p=" + raw],
        }
    )


@pytest.fixture
def verdict(records):
    """Whether a message counts as its author's: "", or why not."""

    def verdict(message: bytes, domain: str = DOMAIN) -> str:
        async def run(function, *arguments):
            return function(*arguments)

        try:
            asyncio.run(dkim.verify(mime.parse(message), domain, records, run))
        except dkim.NotVerified as reason:
            return str(reason)
        except dkim.TryAgain as reason:
            return f"later: {reason}"
        return ""

    return verdict


@pytest.fixture
def message() -> bytes:
    return messages.encrypted(AUTHOR, "alice@chat.example.org", epilogue="wide   space \t \r\n\r\nend  \r\n\r\n\r\n")
