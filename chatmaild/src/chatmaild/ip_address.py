"""IP addresses in SMTP: domain literals (RFC 5321 section 4.1.3), and the client's as Postfix and nginx tell it."""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ADDRESS = r"(?:([0-9.]+)|(?i:IPv6):([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))"
_LITERAL = re.compile(rf"\[{_ADDRESS}\]")
_FORWARDED = re.compile(_ADDRESS)
UNAVAILABLE = "[UNAVAILABLE]"


def parse(text: str) -> Address | None:
    """The address that `text` is, None if it is not one; an IPv4-mapped one (RFC 4291 section 2.5.5.2) is of IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 4:
        return address
    return None if address.scope_id else address.ipv4_mapped or address


def of_literal(domain: str) -> Address | None:
    """The address in a domain literal; None if it is not the literal of an address."""
    return _parse_match(_LITERAL.fullmatch(domain))


def forwarded(value: str) -> Address | None:
    """The address in ``ADDR=`` of XFORWARD (Postfix's XFORWARD_README); None if it is not one or is not known."""
    return _parse_match(_FORWARDED.fullmatch(value))


def _parse_match(match: re.Match | None) -> Address | None:
    return parse(match[1] or match[2]) if match else None
