"""Keys as domains publish them in the DNS (RFC 6376 section 3.6.1)."""

import hashlib
from dataclasses import dataclass

from . import openssl, tags
from .tags import Invalid

VERSION = "DKIM1"
RSA_BITS = range(1024, 8192 + 1)  # RFC 8301 section 3.2; more than that nobody has, and it would take long
ED25519_OCTETS = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and what it may be used for."""

    type: str  # k=
    value: bytes  # p=
    strict: bool  # t=s: i= must have d= itself as its domain

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the owner of the key has signed `data`.

        :raises Invalid: the key cannot count.
        """
        if self.type == "ed25519":  # RFC 8463 section 3
            return openssl.verify_ed25519(self.value, signature, hashlib.sha256(data).digest())
        try:
            return openssl.verify_rsa(self.value, signature, data, RSA_BITS)
        except openssl.UnusableKey as error:
            raise Invalid(f"the key is not of RSA with {RSA_BITS[0]} to {RSA_BITS[-1]} bits") from error


def parse(record: bytes) -> Key:
    """Read a key record (section 6.1.2).

    :param record: the strings of a TXT record in one piece.
    :raises Invalid: it is not a key for mail that could count, or it is revoked; `Key.verifies` reads the key itself.
    """
    found = tags.parse(record)
    if "v" in found and (found["v"] != VERSION or next(iter(found)) != "v"):
        raise Invalid(f"the key record is not of version {VERSION}")
    if "p" not in found:
        raise Invalid("the key record has no key")
    if not {"*", "email"} & set(tags.items(found.get("s", "*"))):
        raise Invalid("the key is not for mail")
    if "sha256" not in tags.items(found.get("h", "sha256")):
        raise Invalid("the key is not for SHA-256")
    value = tags.octets(found, "p")
    if not value:
        raise Invalid("the key is revoked")
    kind = found.get("k", "rsa")
    if kind not in ("rsa", "ed25519"):
        raise Invalid("the key is neither rsa nor ed25519")
    if kind == "ed25519" and len(value) != ED25519_OCTETS:
        raise Invalid("the key is not of Ed25519")
    return Key(kind, value, strict="s" in tags.items(found.get("t", "")))
