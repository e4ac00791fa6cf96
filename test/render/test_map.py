"""What follows from the settings: forms of the domain, TLS modes, sizes."""

import pytest
import yaml

from test.salt.minion import CHECKOUT

SCHEMA = yaml.safe_load((CHECKOUT / "chatmail/defaults.yaml").read_text())


def test_every_setting_has_its_default_where_the_pillar_says_nothing(renderer):
    settings = renderer.settings({"mail_domain": "chat.example.org"})
    derived = {"mail_domain", "mailboxes_dir"}
    assert {key: settings[key] for key in SCHEMA.keys() - derived} == {
        key: SCHEMA[key]["default"] for key in SCHEMA.keys() - derived
    }
    assert settings["mailboxes_dir"] == "/home/vmail/mail/chat.example.org"


@pytest.mark.parametrize(
    ("given", "domain", "bare", "ipv4", "myhostname"),
    [
        ("chat.example.org", "chat.example.org", "chat.example.org", None, "chat.example.org"),
        ("Chat.Example.ORG", "chat.example.org", "chat.example.org", None, "chat.example.org"),
        ("_test.example.org", "_test.example.org", "_test.example.org", None, "_test.example.org"),
        ("1.3.3.7", "[1.3.3.7]", "1.3.3.7", "1.3.3.7", "7.3.3.1.in-addr.arpa"),
        ("[1.3.3.7]", "[1.3.3.7]", "1.3.3.7", "1.3.3.7", "7.3.3.1.in-addr.arpa"),
        ("255.0.10.199", "[255.0.10.199]", "255.0.10.199", "255.0.10.199", "199.10.0.255.in-addr.arpa"),
        # No addresses; the validation refuses them.
        ("ad.1e.dag.adf", "ad.1e.dag.adf", "ad.1e.dag.adf", None, "ad.1e.dag.adf"),
        (12394142, "12394142", "12394142", None, "12394142"),
        ("1.3.3.256", "1.3.3.256", "1.3.3.256", None, "1.3.3.256"),
        ("01.3.3.7", "01.3.3.7", "01.3.3.7", None, "01.3.3.7"),
        ("fe::1", "missing.invalid", "missing.invalid", None, "missing.invalid"),
    ],
)
def test_forms_of_the_domain(renderer, given, domain, bare, ipv4, myhostname):  # noqa: PLR0917
    settings = renderer.settings({"mail_domain": given})
    assert settings["mail_domain"] == domain
    assert settings["mail_domain_bare"] == bare
    assert settings["ipv4_relay"] == ipv4
    assert settings["postfix_myhostname"] == myhostname
    assert settings["mailboxes_dir"] == f"/home/vmail/mail/{bare}"


SELF_SIGNED = ("self", "/etc/ssl/certs/mailserver.pem", "/etc/ssl/private/mailserver.key")
LIVE = "/var/lib/acme/live/chat.example.org"


@pytest.mark.parametrize(
    ("domain", "external", "expected"),
    [
        ("chat.example.org", "", ("acme", f"{LIVE}/fullchain", f"{LIVE}/privkey")),
        ("_one.test", "", SELF_SIGNED),
        ("1.3.3.7", "", SELF_SIGNED),
        ("_one.test", "/a/cert /a/key", ("external", "/a/cert", "/a/key")),
        ("chat.example.org", ["/a/cert", "/a/key"], ("external", "/a/cert", "/a/key")),
    ],
)
def test_tls_modes(renderer, domain, external, expected):
    settings = renderer.settings({"mail_domain": domain, "tls_external_cert_and_key": external})
    assert (settings["tls_mode"], settings["tls_cert_path"], settings["tls_key_path"]) == expected


@pytest.mark.parametrize(
    ("given", "size"), [("500M", 500), ("2G", 2048), ("  1g  ", 1024), ("100MB", 100), ("256", 256), (256, 256)]
)
def test_sizes(renderer, given, size):
    assert renderer.settings({"mail_domain": "a.b", "max_mailbox_size": given})["max_mailbox_size_mb"] == size


@pytest.mark.parametrize(
    ("given", "value"), [(True, True), ("true", True), ("TRUE", True), (False, False), ("false", False), ("yes", False)]
)
def test_booleans(renderer, given, value):
    assert renderer.settings({"mail_domain": "a.b", "imap_rawlog": given})["imap_rawlog"] is value


@pytest.mark.parametrize("given", ["a@b.org  c@d.org\n", ["a@b.org", "c@d.org"]])
def test_lists(renderer, given):
    assert renderer.settings({"passthrough_senders": given})["passthrough_senders"] == ["a@b.org", "c@d.org"]


@pytest.mark.parametrize(
    "given",
    ["a: b", "x\ny: z", "[1.3.3.7", "- x", "{% x", "'", '"', "x #", "*x", "x:", "!x", "%x", "@x", "|", "[", {1: 2}],
)
def test_what_would_break_the_yaml_of_a_state_is_left_to_the_validation(renderer, given):
    keys = ["mail_domain", "mailboxes_dir", "max_mailbox_size", "filtermail_smtp_port", "mtail_address", "iroh_relay"]
    settings = renderer.settings(dict.fromkeys(keys, given))
    assert settings["mail_domain"] == settings["mail_domain_bare"] == "missing.invalid"
    assert settings["mailboxes_dir"] == "/home/vmail/mail/missing.invalid"
    for key in keys[2:]:
        assert settings[key] == SCHEMA[key]["default"]


def test_an_empty_real_time_relay_differs_from_none(renderer):
    assert renderer.settings({"iroh_relay": ""})["iroh_relay"] == ""
    assert renderer.settings({})["iroh_relay"] is None
