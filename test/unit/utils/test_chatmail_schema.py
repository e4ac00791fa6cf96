"""Every wrong setting is named, with what was found and what is allowed, all of them together."""

from pathlib import Path

import pytest
import yaml

import chatmail_schema
from chatmail_setting_types import TYPES, size_mb
from chatmaild.config import BOTS, bot_password

SCHEMA = yaml.safe_load(Path("chatmail/defaults.yaml").read_text())


def problems(**settings):
    return chatmail_schema.problems(SCHEMA, {"mail_domain": "chat.example.org"} | settings)


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
    (message,) = chatmail_schema.problems(SCHEMA, pillar)
    assert message.startswith("mail_domain: is missing")
    assert "pillar/" in message
    assert "`chatmail:`" in message


@pytest.mark.parametrize("pillar", ["chat.example.org", ["mail_domain"], 5])
def test_a_pillar_that_is_no_mapping_is_shown(pillar):
    (message,) = chatmail_schema.problems(SCHEMA, pillar)
    assert repr(pillar) in message
    assert "mapping" in message


def test_an_unknown_setting_is_named_with_the_one_that_was_meant():
    (message,) = problems(usernam_min_lenght=9)
    assert message.startswith("usernam_min_lenght: ")
    assert "did you mean username_min_length?" in message


@pytest.mark.parametrize("key", ["zzz", 5, None, True])
def test_an_unknown_setting_like_no_other_points_to_pillar_example(key):
    (message,) = chatmail_schema.problems(SCHEMA, {"mail_domain": "chat.example.org", key: 1})
    assert message.startswith(f"{key}: ")
    assert "pillar.example" in message


def test_a_setting_without_value_is_not_taken_for_its_default():
    (message,) = problems(iroh_relay=None)
    assert "iroh_relay: has no value" in message
    assert "remove the line" in message


def test_all_errors_come_together():
    found = chatmail_schema.problems(SCHEMA, {"unknown_key": 1, "takeover": "perhaps", "max_load_1m": "high"})
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
    "iroh_relay": [
        "",
        "https://iroh.example.org",
        " https://iroh.example.org:8443/relay ",
        "https://[2001:db8::1]:443/?a=b",
        "https://push._one.test",
    ],
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
    "max_message_size": ["30M", 0, 65535, 1_500_000_000, 2**40],
    "delete_mails_after": [0, 36501, 1_000_000],
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
    "iroh_relay": [
        "iroh.example.org",
        "ftp://example.org",
        "http://example.org",
        "https://",
        "https://:443",
        "https://a..b",
        "https://a b",
        "https://x:0",
        "https://x:65536",
        "https://[::1",
        "https://[1::2::3]",
        "https://user@x.org",
        "https://" + "x/" * 250,
        False,
        "https://x/%n",
    ],
    "mtail_address": ["", "localhost", "127.0.0.256", 2130706433, "fe80::1%eth0"],
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


@pytest.mark.parametrize("address", ["9.9.9.9", "2620:fe::fe", "0.0.0.0", "::", "224.0.0.1"])
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
    assert "from 1 to 1000000 messages/min" in problems(max_user_send_per_minute=0)[0]


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


@pytest.mark.parametrize("port, owner", [(8443, "nginx"), (10465, "postfix"), (8462, "chatmail-dane-policy")])
def test_a_port_of_another_daemon_is_refused(port, owner):
    (message,) = problems(filtermail_smtp_port=port)
    assert message.startswith(f"filtermail_smtp_port: found {port}, which is a port of {owner};")


def test_a_port_of_metrics_is_free_where_there_are_none():
    assert problems(filtermail_smtp_port=3903) == []
    assert "a port of mtail" in problems(filtermail_smtp_port=3903, mtail_address="127.0.0.1")[0]


@pytest.mark.parametrize("key", ["filtermail_host", "postfix_host"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "9.9.9.9", "10.0.0.1"])
def test_mail_is_handed_over_on_the_loopback_interface_alone(key, address):
    (message,) = problems(**{key: address})
    assert message.startswith(f"{key}: found {address}, allowed is a loopback address")


def test_addresses_that_a_host_without_ipv6_lacks_are_refused():
    found = problems(disable_ipv6=True, filtermail_host="::1", postfix_host="::1", mtail_address="::1")
    assert [message.partition(":")[0] for message in found] == ["filtermail_host", "postfix_host", "mtail_address"]
    assert all("allowed is an IPv4 address" in message for message in found)


def test_a_relay_is_not_renamed_to_itself():
    assert "rename_from: found the mail_domain itself" in problems(rename_from="Chat.example.org")[0]
    assert problems(rename_from="192.0.2.7") == []


@pytest.mark.parametrize("domain", ["chat.example.org", "192.0.2.7"])
def test_the_addresses_of_the_bots_are_those_that_doveauth_keeps_from_others(domain):
    pillar = {"mail_domain": domain, "echobot": True, "operator_bot": True}
    bots = chatmail_schema.effective(SCHEMA, pillar)["bots"]
    assert [bot.partition("@")[0] for bot in bots] == list(BOTS)
    assert all(bot_password(bot) for bot in bots)


def test_a_retired_setting_stops_nobody_and_is_told():
    pillar = {"mail_domain": "chat.example.org", "filtermail_lmtp_port_transport": 10083}
    assert chatmail_schema.problems(SCHEMA, pillar) == []
    (notice,) = chatmail_schema.notices(pillar | {"contact": "me@example.org"})
    assert notice.startswith("filtermail_lmtp_port_transport: does nothing any more")
    assert "remove the line" in notice
    assert not set(chatmail_schema.RETIRED) & set(SCHEMA)


def test_a_relay_that_nobody_can_be_asked_about_is_told_of():
    pillar = {"mail_domain": "chat.example.org"}
    for given in (pillar, pillar | {"contact": ""}):
        (notice,) = chatmail_schema.notices(given)
        assert notice.startswith("contact: is missing")
    assert chatmail_schema.notices(pillar | {"contact": "me@example.org"}) == []


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("operator1@chat.example.org", True),
        ("", True),
        ("operator1@example.org", False),
        ("abuse@chat.example.org", False),
        ("Postmaster@chat.example.org", False),
    ],
)
def test_the_operators_address_is_one_of_this_relay(address, fits):
    found = chatmail_schema.problems(SCHEMA, {"mail_domain": "chat.example.org", "operator_address": address})
    assert [problem.startswith("operator_address: found") for problem in found] == ([] if fits else [True])


@pytest.mark.parametrize(
    ("contact", "fits"),
    [
        ("me@example.org", True),
        ("https://i.delta.chat/#0123ABCD&a=me%40chat.example.org&n=Me&i=x&s=y", True),
        ("https://example.org/", False),
        ('https://i.delta.chat/#"><script>', False),
        ("me", False),
        (7, False),
    ],
)
def test_a_contact_is_an_address_or_a_chat(contact, fits):
    found = chatmail_schema.problems(SCHEMA, {"mail_domain": "chat.example.org", "contact": contact})
    assert [problem.startswith("contact: found") for problem in found] == ([] if fits else [True])


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
    assert size_mb(value) == size


SOURCE = {"sourceId": "gplay", "versionInteger": 2**32 - 1, "versionString": "2.62.0", "downloadUrl": "https://a.org/b"}
CLIENT = {"clientId": "deltachat", "sources": [SOURCE]}


@pytest.mark.parametrize("versions", [[], [CLIENT], [CLIENT, CLIENT | {"clientId": "arcanechat"}]])
def test_versions_of_clients_as_apps_read_them(versions):
    assert effective({"app_versions": versions})["app_versions"] == versions
    assert problems(app_versions=versions) == []


@pytest.mark.parametrize(
    "versions",
    [
        {"clients": [CLIENT]},
        "deltachat 2.62.0",
        [CLIENT, CLIENT],
        [CLIENT | {"clientId": ""}],
        [CLIENT | {"sources": []}],
        [CLIENT | {"sources": [SOURCE, SOURCE]}],
        [CLIENT | {"more": 1}],
        [{"clientId": "deltachat"}],
        *(
            [CLIENT | {"sources": [SOURCE | wrong]}]
            for wrong in (
                {"versionInteger": True},
                {"versionInteger": 2**32},
                {"versionInteger": -1},
                {"versionInteger": 1.0},
                {"versionInteger": "758"},
                {"versionString": 2.62},
                {"downloadUrl": "http://a.org/b"},
                {"sourceId": "a b"},
                {"more": 1},
            )
        ),
    ],
)
def test_apps_would_drop_all_versions_for_one_of_another_type(versions):
    (message,) = problems(app_versions=versions)
    assert message.startswith("app_versions: found ")


def test_each_default_is_one_that_its_own_entry_allows():
    settings = {key: spec["default"] for key, spec in SCHEMA.items() if spec["default"] is not None}
    assert problems(**settings) == []


def test_each_entry_of_the_schema_is_complete():
    for key, spec in SCHEMA.items():
        assert {"default", "type", "doc"} <= set(spec), key
        assert spec["type"] in TYPES, key
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


def effective(pillar):
    return chatmail_schema.effective(SCHEMA, pillar)


NOWHERE = ("missing.invalid", "missing.invalid", None, "missing.invalid")


def test_every_setting_has_its_default_where_the_pillar_says_nothing():
    settings = effective({"mail_domain": "chat.example.org"})
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
        ("25.0.10.199", "[25.0.10.199]", "25.0.10.199", "25.0.10.199", "199.10.0.25.in-addr.arpa"),
        # Refused; the states render all the same.
        ("1.3.3.256", *NOWHERE),
        ("01.3.3.7", *NOWHERE),
        (12394142, *NOWHERE),
        ("fe::1", *NOWHERE),
    ],
)
def test_forms_of_the_domain(given, domain, bare, ipv4, myhostname):
    settings = effective({"mail_domain": given})
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
def test_tls_modes(domain, external, expected):
    settings = effective({"mail_domain": domain, "tls_external_cert_and_key": external})
    assert (settings["tls_mode"], settings["tls_cert_path"], settings["tls_key_path"]) == expected


@pytest.mark.parametrize(
    ("given", "size"), [("500M", 500), ("2G", 2048), ("  1g  ", 1024), ("100MB", 100), ("256", 256), (256, 256)]
)
def test_sizes(given, size):
    assert effective({"mail_domain": "a.b", "max_mailbox_size": given})["max_mailbox_size_mb"] == size


@pytest.mark.parametrize(
    ("given", "value"), [(True, True), ("true", True), ("TRUE", True), (False, False), ("false", False), ("yes", False)]
)
def test_booleans(given, value):
    assert effective({"mail_domain": "a.b", "imap_rawlog": given})["imap_rawlog"] is value


@pytest.mark.parametrize("given", ["a@b.org  c@d.org\n", ["a@b.org", "c@d.org"]])
def test_lists(given):
    assert effective({"passthrough_senders": given})["passthrough_senders"] == ["a@b.org", "c@d.org"]


@pytest.mark.parametrize(
    "given",
    ["a: b", "x\ny: z", "[1.3.3.7", "- x", "{% x", "'", '"', "x #", "*x", "x:", "!x", "%x", "@x", "|", "[", {1: 2}],
)
def test_what_would_break_the_yaml_of_a_state_is_left_to_the_validation(given):
    keys = ["mail_domain", "mailboxes_dir", "max_mailbox_size", "filtermail_smtp_port", "mtail_address", "iroh_relay"]
    settings = effective(dict.fromkeys(keys, given))
    assert settings["mail_domain"] == settings["mail_domain_bare"] == "missing.invalid"
    assert settings["mailboxes_dir"] == "/home/vmail/mail/missing.invalid"
    for key in keys[2:]:
        assert settings[key] == SCHEMA[key]["default"]


def test_an_empty_real_time_relay_differs_from_none():
    assert effective({"iroh_relay": ""})["iroh_relay"] == ""
    assert effective({})["iroh_relay"] is None


@pytest.mark.parametrize(
    "repository",
    ["/srv/backup/relay", "sftp:relay@backup.example.net:/srv/relay", "sftp:u@192.0.2.1:relay", "s3:https://s3.test/a"],
)
def test_a_repository_is_what_restic_takes(repository):
    assert chatmail_schema.problems(SCHEMA, {"mail_domain": "chat.test", "backup_repository": repository}) == []


@pytest.mark.parametrize(
    "repository",
    [
        "/srv",
        "/srv/../backup",
        "sftp:-oProxyCommand=x@host:/a",
        "sftp:u@-host:/a",
        "sftp:u@host:-a",
        "s3:http://s3.test/a",
        "/srv/a b",
        "/srv/%h",
    ],
)
def test_what_ssh_or_systemd_would_take_for_something_else_is_no_repository(repository):
    (problem,) = chatmail_schema.problems(SCHEMA, {"mail_domain": "chat.test", "backup_repository": repository})
    assert problem.startswith("backup_repository: ")
