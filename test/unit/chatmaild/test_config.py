"""The settings file of the services."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatmaild.config import Config, ConfigError, parse_bool, parse_ipv4, parse_size_mb, read_config


def read(tmp_path, text: str) -> Config:
    path = tmp_path / "chatmail.ini"
    path.write_text(text)
    return read_config(path)


def fault(tmp_path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_everything_but_the_mail_domain_has_a_default(tmp_path):
    config = read(tmp_path, "[params]\nmail_domain = chat.example.org\n")
    assert config == Config(
        mail_domain_bare="chat.example.org",
        mailboxes_dir=Path("/home/vmail/mail/chat.example.org"),
        max_user_send_per_minute=60,
        max_user_send_burst_size=10,
        max_message_size=31457280,
        max_mailbox_size=500,
        delete_mails_after=20,
        delete_large_after=7,
        delete_inactive_users_after=90,
        username_min_length=9,
        username_max_length=9,
        password_min_length=9,
        max_load_1m=5,
        min_available_memory=200,
        min_free_disk_space=1024,
        max_imap_connections=10000,
        max_smtp_connections=1000,
        filtermail_host="127.0.0.1",
        filtermail_smtp_port=10080,
        filtermail_smtp_port_incoming=10081,
        filtermail_http_port_incoming=10082,
        postfix_host="127.0.0.1",
        postfix_reinject_port=10025,
        postfix_reinject_port_incoming=10026,
        turn_socket_path=Path("/run/chatmail-turn/turn.socket"),
        passdb_path=Path("/home/vmail/passdb.sqlite"),
    )
    assert config.unknown_keys == ()


def test_unknown_keys_are_collected(tmp_path):
    config = read(tmp_path, "[params]\nmail_domain = chat.example.org\nzoo = 1\npassthrough_sender = a@b\n")
    assert config.unknown_keys == ("passthrough_sender", "zoo")


def test_lists_are_split_at_white_space(tmp_path):
    config = read(
        tmp_path,
        "[params]\nmail_domain = chat.example.org\npassthrough_recipients =  a@b.org\t @c.org\n\n",
    )
    assert config.passthrough_recipients == ("a@b.org", "@c.org")


def test_values_are_not_interpolated(tmp_path):
    config = read(tmp_path, "[params]\nmail_domain = chat.example.org\nprivacy_postal = 100%\n  %(home)s street\n")
    assert config.privacy_postal == "100%\n%(home)s street"


def test_message_size_can_be_set(tmp_path):
    assert read(tmp_path, "[params]\nmail_domain = chat.example.org\nmax_message_size = 100\n").max_message_size == 100


@pytest.mark.parametrize(
    "setting, after_at, ipv4, hostname",
    [
        ("chat.example.org", "chat.example.org", None, "chat.example.org"),
        ("_test.example.org", "_test.example.org", None, "_test.example.org"),
        ("1.3.3.7", "[1.3.3.7]", "1.3.3.7", "7.3.3.1.in-addr.arpa"),
    ],
)
def test_forms_of_the_mail_domain(tmp_path, setting, after_at, ipv4, hostname):
    config = read(tmp_path, f"[params]\nmail_domain = {setting}\n")
    assert config.mail_domain_bare == setting
    assert config.mail_domain == after_at
    assert config.ipv4_relay == ipv4
    assert config.postfix_myhostname == hostname
    assert config.mailboxes_dir == Path("/home/vmail/mail") / setting
    assert config.mailbox(f"user@{after_at}").path == config.mailboxes_dir / f"user@{after_at}"


@pytest.mark.parametrize("text", ["example.org", "fe::1", "ad.1e.dag.adf", "12394142", "1.2.3.4.5", "01.2.3.4", ""])
def test_no_ipv4_address(text):
    assert parse_ipv4(text) is None


def test_an_ipv4_address():
    assert parse_ipv4("1.3.3.7") == "1.3.3.7"


@pytest.mark.parametrize(
    "text, megabytes",
    [
        ("500M", 500),
        ("2G", 2048),
        ("  1g  ", 1024),
        ("100MB", 100),
        ("256", 256),
        ("0", 0),
        ("99999999G", 99999999 * 1024),
    ],
)
def test_sizes(text, megabytes):
    assert parse_size_mb(text) == megabytes


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "5K", "5 M", "5MBB", "٣M"])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="allowed is a whole number of megabytes"):
        parse_size_mb(text)


@pytest.mark.parametrize("text, value", [("true", True), (" TRUE ", True), ("yes", False), ("1", False), ("", False)])
def test_switches(text, value):
    assert parse_bool(text) is value


@pytest.mark.parametrize(
    "settings, mode, certificate, key",
    [
        (
            "mail_domain = chat.example.org",
            "acme",
            "/var/lib/acme/live/chat.example.org/fullchain",
            "/var/lib/acme/live/chat.example.org/privkey",
        ),
        ("mail_domain = _a.test", "self", "/etc/ssl/certs/mailserver.pem", "/etc/ssl/private/mailserver.key"),
        ("mail_domain = 1.3.3.7", "self", "/etc/ssl/certs/mailserver.pem", "/etc/ssl/private/mailserver.key"),
        ("mail_domain = _a.test\ntls_external_cert_and_key = /c /k", "external", "/c", "/k"),
    ],
)
def test_tls_mode(tmp_path, settings, mode, certificate, key):
    config = read(tmp_path, f"[params]\n{settings}\n")
    assert (config.tls_mode, str(config.tls_cert_path), str(config.tls_key_path)) == (mode, certificate, key)


@pytest.mark.parametrize(
    "line, enabled, url",
    [
        ("", True, "https://chat.example.org"),
        ("iroh_relay =  https://iroh.example.org ", False, "https://iroh.example.org"),
        ("iroh_relay =", False, None),
    ],
)
def test_iroh_relay(tmp_path, line, enabled, url):
    config = read(tmp_path, f"[params]\nmail_domain = chat.example.org\n{line}\n")
    assert (config.enable_iroh_relay, config.iroh_relay_url) == (enabled, url)


def test_finding_a_mailbox_creates_nothing(tmp_path):
    config = read(tmp_path, f"[params]\nmail_domain = chat.example.org\nmailboxes_dir = {tmp_path}/mail\n")
    assert config.mailbox("user1@chat.example.org").path == tmp_path / "mail/user1@chat.example.org"
    assert not (tmp_path / "mail").exists()


@pytest.mark.parametrize(
    "address", ["", None, "..", ".", "../x@chat.example.org", "a/b@c", "a\0@b", "x" * 250 + "@b.org"]
)
def test_what_no_mailbox_can_be_called(tmp_path, address):
    config = read(tmp_path, "[params]\nmail_domain = chat.example.org\n")
    with pytest.raises(ValueError, match="a mailbox needs an address"):
        config.mailbox(address)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("tls_external_cert_and_key = /only/one", "two space-separated"),
        ("max_message_size = 30M", "max_message_size is '30M'; allowed is a whole number from 1"),
        ("filtermail_smtp_port = 65536", "allowed is a whole number from 1 to 65535"),
        ("max_load_1m = nan", "max_load_1m is 'nan'; allowed is a number"),
        ("min_free_disk_space = lots", "allowed is a whole number of megabytes"),
        ("mailboxes_dir = mail", "allowed is an absolute path"),
        ("filtermail_host = localhost", "allowed is an IP address"),
        ("username_min_length = 10", "username_min_length is 10; allowed is at most username_max_length, 9"),
        ("mail_domain = b.example.org", "already exists"),
        ("no assignment", "parsing errors"),
    ],
)
def test_faults_say_what_is_allowed(tmp_path, line, expected):
    message = fault(tmp_path, f"[params]\nmail_domain = chat.example.org\n{line}\n")
    assert expected in message
    assert str(tmp_path / "chatmail.ini") in message


@pytest.mark.parametrize(
    "domain",
    ["", "Chat.example.org", "[1.3.3.7]", "12394142", "1.2.3", "a..b", "a b.org", "-a.org", "a.org.", "../x.y"],
)
def test_no_mail_domains(tmp_path, domain):
    message = fault(tmp_path, f"[params]\nmail_domain = {domain}\n")
    assert f"mail_domain is {domain!r}; allowed is a host name in lower case" in message


def test_all_faults_are_told_at_once(tmp_path):
    message = fault(tmp_path, "[params]\ndelete_mails_after = never\nmax_mailbox_size = big\n")
    assert [line.split("] ")[1].split()[0] for line in message.splitlines()] == [
        "delete_mails_after",
        "mail_domain",
        "max_mailbox_size",
    ]


@pytest.mark.parametrize("text", ["", "[other]\nmail_domain = chat.example.org\n"])
def test_a_missing_section(tmp_path, text):
    assert "the section [params] is missing" in fault(tmp_path, text)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.ini: cannot read the settings: No such file"):
        read_config(tmp_path / "absent.ini")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "chatmail.ini").write_bytes(b"[params]\nx = \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 13"):
        read_config(tmp_path / "chatmail.ini")


KEYS = ["mail_domain", "mailboxes_dir", "max_mailbox_size", "delete_mails_after", "max_load_1m", "tmpfs_index", "other"]
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(["10", "1.5", "/x", "a.org"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), values))
def test_any_file_gives_settings_or_names_its_faults(tmp_path, given_values):
    text = "[params]\n" + "".join(f"{key} = {value}\n" for key, value in given_values.items())
    path = tmp_path / "any.ini"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        config = read_config(path)
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        assert config.mail_domain
        assert config.mailboxes_dir.is_absolute()
        assert config.delete_mails_after >= 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_octets_give_settings_or_an_error_that_names_the_file(tmp_path, octets):
    path = tmp_path / "any.ini"
    path.write_bytes(b"[params]\nmail_domain = a.org\n" + octets)
    try:
        read_config(path)
    except ConfigError as error:
        assert str(path) in str(error)


@given(st.integers(0, 10**6), st.sampled_from(["", "M", "G", "m", "g"]), st.sampled_from(["", "B", "b"]))
def test_sizes_are_whole_mebibytes(number, unit, suffix):
    assert parse_size_mb(f" {number}{unit}{suffix}  ") == number * (1024 if unit in ("G", "g") else 1)


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_a_value_error(text):
    try:
        assert parse_size_mb(text) >= 0
    except ValueError as error:
        assert "allowed" in str(error)
