"""Every wrong setting is named, with what was found and what is allowed, all of them at once."""

from pathlib import Path

import pytest
import yaml

from _modules import chatmail_settings

SCHEMA = yaml.safe_load(Path("chatmail/defaults.yaml").read_text())


def problems(**settings):
    return chatmail_settings.problems(SCHEMA, {"mail_domain": "chat.example.org"} | settings)


@pytest.mark.parametrize(
    "domain",
    [
        "chat.example.org",
        "_one.test",
        "_test.example.org",
        "xn--bcher-kva.example",
        "chat.example.xn--p1ai",
        "Chat.Example.ORG",
        "a-b.c4.example",
        "1.3.3.7",
        "[1.3.3.7]",
        "192.168.1.10",
    ],
)
def test_domains_that_a_relay_can_have(domain):
    assert problems(mail_domain=domain) == []


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "chat",
        "-chat.example.org",
        "chat-.example.org",
        "chat..org",
        ".chat.example.org",
        "chat.example.org.",
        "chat.example.org\n",
        "chat example.org",
        "chat._example.org",
        "bücher.example",
        "user@chat.example.org",
        "https://chat.example.org",
        "1.3.3",
        "1.3.3.7.9",
        "01.3.3.7",
        "1.3.3.256",
        "[1.3.3.7",
        "1.3.3.7]",
        "[chat.example.org]",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "fe::1",
        "[IPv6:fe::1]",
        "12394142",
        f"{'a' * 64}.example.org",
        ".".join(["a" * 60] * 5) + ".org",
        12394142,
        10.0,
        True,
        ["chat.example.org"],
        {"chat": "example.org"},
    ],
)
def test_what_is_no_domain_is_refused_with_an_example_of_one(domain):
    (message,) = problems(mail_domain=domain)
    assert message.startswith("mail_domain: found ")
    assert "chat.example.org" in message.partition("allowed is")[2]


@pytest.mark.parametrize("pillar", [None, {}, {"takeover": True}])
def test_a_missing_mail_domain_says_where_to_write_it(pillar):
    (message,) = chatmail_settings.problems(SCHEMA, pillar)
    assert message.startswith("mail_domain: is missing")
    assert "pillar/" in message
    assert "`chatmail:`" in message


@pytest.mark.parametrize("pillar", ["chat.example.org", ["mail_domain"], 5])
def test_a_pillar_that_is_no_mapping_is_shown(pillar):
    (message,) = chatmail_settings.problems(SCHEMA, pillar)
    assert repr(pillar) in message
    assert "mapping" in message


def test_an_unknown_setting_is_named_with_the_one_that_was_meant():
    (message,) = problems(usernam_min_lenght=9)
    assert message.startswith("usernam_min_lenght: ")
    assert "did you mean username_min_length?" in message


@pytest.mark.parametrize("key", ["zzz", 5, None, True])
def test_an_unknown_setting_like_no_other_points_to_pillar_example(key):
    (message,) = chatmail_settings.problems(SCHEMA, {"mail_domain": "chat.example.org", key: 1})
    assert message.startswith(f"{key}: ")
    assert "pillar.example" in message


def test_a_setting_without_value_is_not_taken_for_its_default():
    (message,) = problems(iroh_relay=None)
    assert "iroh_relay: has no value" in message
    assert "remove the line" in message


def test_all_errors_come_at_once():
    found = chatmail_settings.problems(SCHEMA, {"unknown_key": 1, "takeover": "perhaps", "max_load_1m": "high"})
    assert [message.partition(":")[0] for message in found] == [
        "unknown_key",
        "takeover",
        "max_load_1m",
        "mail_domain",
    ]


GOOD = {
    "takeover": [True, False, "true", "False", "TRUE"],
    "max_user_send_per_minute": [1, 1000000],
    "max_mailbox_size": ["500M", "2G", "  1g  ", "100MB", "256", 256],
    "min_available_memory": ["0", 0, "200M"],
    "max_load_1m": [0, 5, 0.5, 99999],
    "username_max_length": [9, 64],
    "passthrough_senders": [[], "", "a@b.org", "a@b.org  c@d.org\ne@f.org", ["a@[1.2.3.4]", "@b.org"]],
    "tls_external_cert_and_key": ["", "/etc/ssl/a.pem /etc/ssl/a.key", ["/etc/ssl/a.pem", "/etc/ssl/a.key"]],
    "acme_email": ["", "admin+acme@example.org"],
    "www_folder": ["", "disabled", "salt://www", "salt://www/chat.example.org"],
    "privacy_postal": ["", "Example e.V.\nStraße 1\n12345 Łódź 🏠"],
    "iroh_relay": ["", "https://iroh.example.org", " https://iroh.example.org:8443/relay "],
    "mtail_address": ["127.0.0.1", "::1", "10.8.0.1"],
    "public_addresses": [[], "", "192.0.2.7 2001:db8::7", ["192.0.2.7"]],
    "iroh_relay_source": ["/root/iroh-relay", "https://mirror.example.org/iroh-relay-v0.35.0.tar.gz"],
    "iroh_relay_sha256": ["0123456789abcdef" * 4],
    "turn_min_port": [1024, 65535],
    "mailboxes_dir": ["/srv/mail", "/home/vmail/mail/[1.3.3.7]"],
    "filtermail_smtp_port": [1024, 65535],
}

WRONG = {
    "takeover": ["yes", "perhaps", 1, "", ["true"]],
    "max_user_send_per_minute": [0, -1, "60", 1.5, True, [60], "many"],
    "max_message_size": ["30M", 0, 65535, 2**40],
    "max_mailbox_size": ["500X", "0", 0, "2T", "-1M", "1.5G", 1.5, "", True, "5B", "500M 500M", "9" * 40],
    "max_load_1m": ["5", -1, float("inf"), float("nan"), True],
    "username_min_length": [0, 65],
    "passthrough_senders": ["a", ["a@b.org", "nobody"], "a@b.org,c@d.org", 5, [5], {"a@b.org": 1}, ["a b@c.org"]],
    "tls_external_cert_and_key": [
        "/etc/ssl/a.pem",
        "/a/b /c/d /e/f",
        "ssl/a.pem ssl/a.key",
        5,
        [1, 2],
        "/etc/ssl/../a /etc/b",
    ],
    "acme_email": ["admin", "@example.org", "a@b", "a b@example.org", 'a"@example.org', ["a@b.org"]],
    "www_folder": ["enabled", "www", "/srv/www", "salt://", "salt://../pillar", 1, False],
    "privacy_postal": [5, ["a"], "a\x00b", "a\x1b[2J", "a\r\nb"],
    "iroh_relay": ["iroh.example.org", "ftp://example.org", "https://", "https://a b", False, "https://x/%n"],
    "mtail_address": ["", "localhost", "127.0.0.256", 2130706433],
    "public_addresses": ["localhost", ["192.0.2.256"], [3221225991], 5, "192.0.2.7,192.0.2.8"],
    "iroh_relay_source": ["iroh-relay", "", "/iroh-relay", "ftp://example.org/x", 5],
    "iroh_relay_sha256": ["", "0123", "0123456789ABCDEF" * 4, 10**63],
    "turn_min_port": [1023, 65536, "49152"],
    "mailboxes_dir": ["", "/", "/srv", "srv/mail", "/srv/../etc", "/srv/mail/", "/srv/ma il", "/srv/%u", "/srv/$x", 5],
    "filtermail_smtp_port": [0, 25, 1023, 65536, "10080", 10080.0, True],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOOD.items() for value in values])
def test_values_that_are_allowed(key, value):
    assert problems(**{key: value}) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.8.0.1", "fd00::1"])
def test_metrics_are_offered_on_private_addresses(address):
    assert problems(mtail_address=address) == []


@pytest.mark.parametrize("address", ["9.9.9.9", "2620:fe::fe"])
def test_metrics_are_never_offered_to_everybody(address):
    (message,) = problems(mtail_address=address)
    assert message.startswith(f"mtail_address: found {address}, allowed is a loopback or private address")


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_values_that_are_refused(key, value):
    (message,) = problems(**{key: value})
    assert message.startswith(f"{key}: found ")
    assert ", allowed is " in message


def test_a_message_tells_bounds_and_unit():
    assert "from 1 to 64 characters" in problems(username_min_length=65)[0]
    assert "at least 1 messages/min" in problems(max_user_send_per_minute=0)[0]


def test_one_path_of_two_is_told_that_two_are_needed():
    assert "two space-separated" in problems(tls_external_cert_and_key="/etc/ssl/a.pem")[0]


def test_a_long_value_is_cut_short():
    (message,) = problems(acme_email="x" * 100000)
    assert len(message) < 300


def test_lengths_that_leave_no_address_are_refused():
    assert "username_max_length" in problems(username_min_length=10)[0]
    assert problems(username_min_length=10, username_max_length=10) == []


def test_two_services_cannot_share_a_port():
    (message,) = problems(postfix_reinject_port=10080)
    assert "10080" in message
    assert "postfix_reinject_port" in message
    assert "filtermail_smtp_port" in message


def test_services_can_swap_their_ports():
    assert problems(postfix_reinject_port=10080, filtermail_smtp_port=10025) == []


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("500M", 500),
        ("2G", 2048),
        ("  1g  ", 1024),
        ("100MB", 100),
        ("256", 256),
        ("0", 0),
        (512, 512),
        ("1.5G", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_sizes_are_megabytes(value, size):
    assert chatmail_settings.size_mb(value) == size


def test_each_default_is_one_that_its_own_entry_allows():
    settings = {key: spec["default"] for key, spec in SCHEMA.items() if spec["default"] is not None}
    assert problems(**settings) == []


def test_each_entry_of_the_schema_is_complete():
    for key, spec in SCHEMA.items():
        assert {"default", "type", "doc"} <= set(spec), key
        assert set(spec) <= {
            "default",
            "type",
            "doc",
            "unit",
            "minimum",
            "maximum",
            "required",
            "example",
            "choices",
        }, key
        assert ("example" in spec) == (spec["default"] is None), key


def test_a_type_that_nobody_checks_is_an_error_of_the_schema():
    with pytest.raises(ValueError, match="colour"):
        chatmail_settings.problems({"x": {"default": 1, "type": "colour", "doc": ""}}, {"x": 1})
