"""IP addresses as literals, and as Postfix tells its client's."""

from ipaddress import ip_address as ip

import pytest

from chatmaild import ip_address


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv6:2001:DB8:0:0:0:0:0:1]", "2001:db8::1"),
        ("[IPv6:::ffff:192.0.2.1]", "192.0.2.1"),
    ],
)
def test_literals_of_addresses_are_read(domain, expected):
    assert ip_address.of_literal(domain) == ip(expected)


@pytest.mark.parametrize(
    "domain",
    [
        *("[_one.test]", "[]", "[1]", "[192.0.2]", "[192.0.2.256]", "[192.0.2.01]", "[192.0.2.1.]", "[0x7f.1]"),
        *("[3221225985]", "192.0.2.1", "[192.0.2.1", "[[192.0.2.1]]", "[192.0.2.1] ", "[\u0661.0.2.1]", "example.org"),
        *("[2001:db8::1]", "[IPv6:192.0.2.1]", "[IPv6:]", "[IPv6:::1%eth0]", "[IPv6:g::1]", "[IPv6:1::2::3]"),
        *("[IPv4:192.0.2.1]", "[x:192.0.2.1]", "[IPv6:2001:db8::1]x"),
    ],
)
def test_other_domains_are_not_literals_of_addresses(domain):
    assert ip_address.of_literal(domain) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("192.0.2.1", "192.0.2.1"), ("IPV6:2001:db8::1", "2001:db8::1"), ("IPV6:::ffff:192.0.2.1", "192.0.2.1")],
)
def test_forwarded_addresses_are_read(value, expected):
    assert ip_address.forwarded(value) == ip(expected)


@pytest.mark.parametrize(
    "value", ["", "[UNAVAILABLE]", "2001:db8::1", "IPV6:192.0.2.1", "192.0.2.1 ", "192.0.2.1+20", "x"]
)
def test_other_forwarded_values_are_no_addresses(value):
    assert ip_address.forwarded(value) is None
