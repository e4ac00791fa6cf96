"""With ``disable_ipv6`` nothing that is rendered listens on IPv6, binds to it or asks over it."""

import re

import pytest

from test.salt.minion import CHECKOUT

# An address in brackets, ::1 or ::
ADDRESS = re.compile(r"\[[0-9a-f:]*::[0-9a-f.:]*\]|(?<![\w:.])::1?(?![\w:])")
DOMAINS = ("chat.example.org", "_one.test", "192.0.2.7")


def rendered(renderer, pillar, sls="chatmail"):
    """Name and text, without comments, of each file that an apply would write from a source of ours."""
    for chunk in renderer.low(pillar, sls):
        source = chunk.get("source")
        if chunk["fun"] != "managed" or not isinstance(source, str):
            continue
        text = (CHECKOUT / "etc/roots" / source.removeprefix("salt://")).read_text()
        if chunk.get("template") == "jinja":
            text = renderer.template(text, **chunk.get("defaults", {}), **chunk.get("context", {}))
        yield chunk["name"], re.sub(r"(?m)^\s*#.*$", "", text)


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_configuration_has_an_ipv6_address(renderer, domain):
    files = list(rendered(renderer, {"mail_domain": domain, "disable_ipv6": True}))
    assert len(files) > 20
    found = {name: ADDRESS.findall(text) for name, text in files if name.startswith("/etc/")}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}


def test_daemons_that_would_use_ipv6_by_default_are_told_not_to(renderer):
    files = dict(rendered(renderer, {"mail_domain": "chat.example.org", "disable_ipv6": True}))
    assert "inet_protocols = ipv4\n" in files["/etc/postfix/main.cf"]
    assert "listen = 0.0.0.0\n" in files["/etc/dovecot/dovecot.conf"]
    assert "do-ip6: no\n" in files["/etc/unbound/unbound.conf.d/chatmail.conf"]


def test_without_it_ipv6_is_served(renderer):
    files = dict(rendered(renderer, {"mail_domain": "chat.example.org"}))
    assert "inet_protocols = all\n" in files["/etc/postfix/main.cf"]
    assert "listen = 0.0.0.0\n" not in files["/etc/dovecot/dovecot.conf"]
