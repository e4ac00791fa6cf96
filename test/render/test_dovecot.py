"""Dovecot's files follow the settings that concern them, and nothing else."""

import pytest

from chatmaild.quota_expire import MESSAGES_PER_MIB
from test.salt.minion import CHECKOUT

COMPONENT = CHECKOUT / "chatmail/dovecot"
LOGIN_PLACES = """
{%- from "chatmail/dovecot/login_places.jinja" import login_places -%}
{{ login_places(memory_mb, connections) }}
"""


@pytest.fixture
def rendered(renderer):
    """
    Render a file of /etc/dovecot for pillar values beside ``mail_domain``, of Dovecot 2.3 where no version is said;
    returns its lines without indentation. ``memory_mb`` is the host's, which has two processors.
    """

    def render(name: str, version: str = "2.3", memory_mb: int = 1000, **pillar) -> list[str]:
        file = COMPONENT / f"files-{version}/etc/dovecot/{name}.j2"
        settings = renderer.settings({"mail_domain": "chat.example.org", **pillar})
        places = renderer.template(LOGIN_PLACES, memory_mb=memory_mb, connections=settings["max_imap_connections"])
        context = {"settings": settings, "login_places": int(places), "grains": {"num_cpus": 2}}
        text = renderer.template(file.read_text(), **context)
        return [line.strip() for line in text.splitlines()]

    return render


@pytest.mark.parametrize(
    ("pillar", "line"),
    [
        ({}, "ssl_cert = </var/lib/acme/live/chat.example.org/fullchain"),
        ({"mail_domain": "_chat.test"}, "ssl_cert = </etc/ssl/certs/mailserver.pem"),
        ({}, "mail_location = maildir:/home/vmail/mail/chat.example.org/%u"),
        ({"mail_domain": "192.0.2.7"}, "mail_location = maildir:/home/vmail/mail/192.0.2.7/%u"),
        ({"mailboxes_dir": "/srv/mail"}, "mail_location = maildir:/srv/mail/%u"),
        ({"max_mailbox_size": "2G"}, "quota_rule = *:storage=2048M"),
        ({"max_mailbox_size": "2G"}, f"quota_rule2 = *:messages={2048 * MESSAGES_PER_MIB}"),
        ({"max_message_size": 1048576}, "quota_max_mail_size = 1048576"),
        ({"max_imap_connections": 50000}, "process_limit = 50000"),
        ({"disable_ipv6": True}, "listen = 0.0.0.0"),
        ({}, "mail_plugins = $mail_plugins imap_quota last_login"),
        ({"imap_compress": True}, "mail_plugins = $mail_plugins imap_quota last_login imap_zlib"),
        ({"imap_rawlog": True}, "rawlog_dir = %h"),
    ],
)
def test_settings_reach_dovecot_conf(rendered, pillar, line):
    assert line in rendered("dovecot.conf", **pillar)


@pytest.mark.parametrize(
    ("pillar", "line"),
    [
        ({}, "ssl_server_cert_file = /var/lib/acme/live/chat.example.org/fullchain"),
        ({"mailboxes_dir": "/srv/mail"}, "mail_path = /srv/mail/%{user}"),
        ({"tmpfs_index": True}, "mail_index_path = /dev/shm/chatmail/%{user}"),
        ({"max_mailbox_size": "2G"}, "storage_size = 2048M"),
        ({"max_mailbox_size": "2G"}, f"message_count = {2048 * MESSAGES_PER_MIB}"),
        ({"max_message_size": 1048576}, "quota_mail_size = 1048576"),
        ({"max_imap_connections": 50000}, "process_limit = 50000"),
        ({"disable_ipv6": True}, "listen = 0.0.0.0"),
        ({}, '"COMPRESS=DEFLATE" = no'),
        ({"imap_rawlog": True}, "rawlog_dir = %{home}"),
    ],
)
def test_settings_reach_the_file_of_2_4(rendered, pillar, line):
    assert line in rendered("dovecot.conf", "2.4", **pillar)


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize(("memory_mb", "clients"), [(970, 2560), (7900, 10_000), (100_000, 10_000)])
def test_clients_that_log_in_have_half_of_the_memory(rendered, version, memory_mb, clients):
    lines = rendered("dovecot.conf", version, memory_mb)
    assert f"client_limit = {clients}" in lines
    assert f"vsz_limit = {clients // 10 + 64}M" in lines


def test_both_versions_count_the_same(rendered):
    """Metrics have the same names, so that alerts and the dashboard hold for either."""
    names = [
        [line for line in rendered("dovecot.conf", version, mtail_address="127.0.0.1") if line.startswith("metric ")]
        for version in ("2.3", "2.4")
    ]
    assert names[0] == names[1]
    assert len(names[0]) > 20


@pytest.mark.parametrize("words", ["rawlog", "postlogin", "listen =", "imap_zlib", "imap_compress_deflate_level"])
def test_what_is_off_leaves_no_trace(rendered, words):
    assert not [line for line in rendered("dovecot.conf") if words in line]


def test_mail_is_never_acknowledged_before_it_is_on_disk(rendered):
    assert [line for line in rendered("dovecot.conf") if line.startswith("mail_fsync")] == ["mail_fsync = optimized"]


def test_only_the_file_that_the_plugin_brings_names_it_and_hibernates(rendered):
    """Without the plugin, hibernation loses notifications, and a plugin that does not load stops every session."""
    settings = [line for line in rendered("dovecot.conf") if not line.startswith("#")]
    assert not [line for line in settings if "imap_instant" in line or line.startswith("imap_hibernate_timeout")]
    assert "mail_plugins = $mail_plugins imap_instant" in rendered("imap-instant.conf")
    assert "imap_hibernate_timeout = 1s" in rendered("imap-instant.conf")


def test_compressed_sessions_do_not_hibernate(rendered):
    assert "imap_hibernate_timeout = 0" in rendered("imap-instant.conf", imap_compress=True)
