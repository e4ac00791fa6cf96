"""The field DKIM-Signature (RFC 6376 section 3.5)."""

import re
from dataclasses import dataclass

from . import tags
from .canonicalization import RELAXED, SIMPLE, unfold
from .tags import Invalid

NAME = b"dkim-signature"
ALGORITHMS = ("rsa-sha256", "ed25519-sha256")  # RFC 8301 section 3.1 forbids rsa-sha1
_REQUIRED = ("v", "a", "b", "bh", "d", "h", "s")
_TIME_DIGITS = 12  # section 3.5, t= and x=
_LENGTH_DIGITS = 76  # section 3.5, l=
_NAMES_MAX = 253 - len("._domainkey.")  # RFC 1035 section 3.1
# RFC 5321's sub-domains, with the underscore that names in the DNS have.
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_FIELD_NAME = re.compile(r"[!-9<-~]+")
# Tag names are case-sensitive; b= is looked for between separators, and bh= is not it.
_SIGNATURE_VALUE = re.compile(rb"((?:\A[^:]*:|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature as it stands in a message; nothing about it has been verified."""

    field: bytes  # as it came, without the last line break
    algorithm: str
    domain: str  # d=, in lower case
    selector: str  # s=, in lower case
    identity_domain: str  # the domain of i=, in lower case
    signed_fields: tuple[bytes, ...]  # h=, in lower case
    header_canonicalization: str
    body_canonicalization: str
    body_hash: bytes
    value: bytes  # b=
    length: int | None  # l=, octets of the canonicalized body
    signed_at: int | None  # t=, Unix seconds
    expires: int | None  # x=, Unix seconds

    @property
    def key_name(self) -> str:
        """Where the key is in the DNS (section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    def unsigned_field(self) -> bytes:
        """The field as it was signed: without the value of b= (section 3.5)."""
        return _SIGNATURE_VALUE.sub(rb"\1", self.field, count=1)


def parse(field: bytes) -> Signature:
    """Read a signature (section 6.1.1).

    :param field: the field as it came, with its name, without the last line break.
    :raises Invalid: this is not a signature that could count.
    """
    found = tags.parse(unfold(field.partition(b":")[2]))
    for name in _REQUIRED:
        if name not in found:
            raise Invalid(f"no tag {name}=")
    if found["v"] != "1":
        raise Invalid("v= is not 1")
    if found["a"] not in ALGORITHMS:
        raise Invalid(f"a= is neither {' nor '.join(ALGORITHMS)}")
    domain, selector = _domain(found, "d"), _domain(found, "s")
    if len(selector) + len(domain) > _NAMES_MAX:
        raise Invalid("s= and d= are too long for the DNS")
    header, body = _canonicalizations(found.get("c", SIMPLE))
    signed_fields = tags.items(found["h"])
    if not all(map(_FIELD_NAME.fullmatch, signed_fields)):
        raise Invalid("h= is not a list of names")
    signed_fields = tuple(name.lower().encode() for name in signed_fields)
    if b"from" not in signed_fields:
        raise Invalid("From is not signed")
    if "dns/txt" not in tags.items(found.get("q", "dns/txt")):
        raise Invalid("the key is not to be had in the DNS")
    signed_at, expires = tags.number(found, "t", _TIME_DIGITS), tags.number(found, "x", _TIME_DIGITS)
    if signed_at is not None and expires is not None and expires <= signed_at:
        raise Invalid("x= is not after t=")
    return Signature(
        field=field,
        algorithm=found["a"],
        domain=domain,
        selector=selector,
        identity_domain=_identity_domain(found, domain),
        signed_fields=signed_fields,
        header_canonicalization=header,
        body_canonicalization=body,
        body_hash=tags.octets(found, "bh"),
        value=tags.octets(found, "b"),
        length=tags.number(found, "l", _LENGTH_DIGITS),
        signed_at=signed_at,
        expires=expires,
    )


def _domain(found: dict[str, str], name: str) -> str:
    if len(found[name]) > _NAMES_MAX or not _DOMAIN.fullmatch(found[name]):
        raise Invalid(f"{name}= is not a domain name")
    return found[name].lower()


def _canonicalizations(value: str) -> tuple[str, str]:
    header, _, body = value.partition("/")
    body = body if "/" in value else SIMPLE
    if not {header, body} <= {SIMPLE, RELAXED}:
        raise Invalid("unknown canonicalization")
    return header, body


def _identity_domain(found: dict[str, str], domain: str) -> str:
    if "i" not in found:
        return domain
    _, at, identity = found["i"].lower().rpartition("@")
    if not at or not f".{identity}".endswith(f".{domain}") or not _DOMAIN.fullmatch(identity):
        raise Invalid("i= is not below d=")
    return identity
