"""Addresses come into being at first login, by IMAP and by SMTP, and by nothing else."""

import random
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from chatmaild.doveauth import refusal
from test.relay.chat import credentials
from test.relay.delivery import User
from test.support.mail_clients import ImapClient, port_25, unchecked_tls
from test.support.mailing import imap_login, inbox, smtp_login, submit
from test.support.messages import encrypted

ON_BOTH_RELEASES = True
NAME = 9  # username_min_length and username_max_length

LOGINS = pytest.mark.parametrize("login", [imap_login, smtp_login])


@LOGINS
def test_the_first_login_creates_and_the_password_holds(one, login):
    user = User(one, *credentials(one.domain))
    assert login(user)
    assert login(user)
    assert not login(User(one, user.address, user.password + "x"))
    assert imap_login(user)
    assert smtp_login(user)


@LOGINS
def test_a_short_password_creates_nothing(one, one_host, login):
    user = User(one, credentials(one.domain)[0], "12345")
    assert not login(user)
    assert one_host.run(["ls", f"/home/vmail/mail/{one.domain}/{user.address}"], check=False).stdout == ""


@LOGINS
@pytest.mark.parametrize("local_part", ["short", "waytoolongname", "has+plus9", "has space", "a/../../b"])
def test_bad_local_parts_create_nothing(one, one_host, login, local_part):
    before = one_host.run(["ls", "/home/vmail/mail"]).stdout
    assert not login(User(one, f"{local_part}@{one.domain}", "long enough"))
    assert not login(User(one, f"{'x' * NAME}@elsewhere.test", "long enough"))
    assert one_host.run(["ls", "/home/vmail/mail"]).stdout == before


def test_what_can_be_created_gets_mail(one, alice):
    config = SimpleNamespace(
        mail_domain=one.domain, username_min_length=NAME, username_max_length=NAME, password_min_length=9
    )
    made_up = random.Random(1)
    local_parts = ["".join(made_up.choices("a0_-.", k=NAME)) for _ in range(60)] + ["_" * NAME, "a" + "-" * (NAME - 1)]
    good, bad = [], []
    for local_part in local_parts:
        address = f"{local_part}@{one.domain}"
        (bad if refusal(config, address, "long enough") else good).append(User(one, address, "long enough"))
    assert len(good) > 15
    assert all(imap_login(user) for user in good)
    with ThreadPoolExecutor(10) as pool:
        assert not any(pool.map(imap_login, bad[:10]))
    assert submit(alice, [user.address for user in good], encrypted(alice.address, good[0].address)) is None
    for user in good:
        assert len(inbox(user)) == 1


@LOGINS
def test_a_password_may_hold_what_protocols_quote(one, login):
    user = User(one, credentials(one.domain)[0], "pa\"ss\\wo'r/d %u")
    assert login(user)
    assert login(user)
    assert not login(User(one, user.address, "pa\"ss\\wo'r/d %u x"))


def test_two_addresses_may_share_a_password(one):
    users = [User(one, credentials(one.domain)[0], "the same password") for _ in range(2)]
    assert all(imap_login(user) for user in users)
    assert all(imap_login(user) for user in users)


def test_ten_first_logins_at_once_all_succeed(one):
    user = User(one, *credentials(one.domain))
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda login: login(user), [imap_login, smtp_login] * 5))
    assert results == [True] * 10


def test_the_nocreate_file_stops_creation_alone(one, one_host, alice):
    one_host.write("/etc/chatmail-nocreate", "")
    try:
        assert not imap_login(User(one, *credentials(one.domain)))
        assert imap_login(alice)
    finally:
        one_host.run(["rm", "/etc/chatmail-nocreate"])
    assert imap_login(User(one, *credentials(one.domain)))


def test_a_new_mailbox_is_private_and_refuses_cleartext(one, one_host, alice):
    mailbox = f"/home/vmail/mail/{one.domain}/{alice.address}"
    names = one_host.run(["ls", "-A", mailbox]).stdout.split()
    assert {"password", "enforceE2EEincoming"} <= set(names)
    assert not [name for name in names if "tmp-" in name]
    assert one_host.run(["stat", "-c", "%U:%G %a", mailbox]).stdout.strip() == "vmail:vmail 700"
    assert one_host.run(["stat", "-c", "%U %a", f"{mailbox}/password"]).stdout.strip() == "vmail 600"
    assert one_host.read(f"{mailbox}/password").startswith("{SHA512-CRYPT}$6$")


def test_no_password_is_in_the_journal(one, one_host):
    user = User(one, credentials(one.domain)[0], "find-me-in-no-log")
    imap_login(user)
    imap_login(User(one, user.address, "find-me-neither"))
    journal = one_host.run(["journalctl", "-b", "-o", "cat"]).stdout
    assert f"Created address: {user.address}" in journal
    assert "find-me" not in journal


def test_the_login_day_is_remembered_and_nothing_finer(one, one_host, alice):
    password = f"/home/vmail/mail/{one.domain}/{alice.address}/password"
    one_host.run(["touch", "-d", "2020-01-01 13:14:15", password])
    assert imap_login(alice)
    seconds = int(one_host.run(["stat", "-c", "%Y", password]).stdout)
    today = int(one_host.run(["date", "+%s"]).stdout) // 86400 * 86400
    assert seconds == today


def test_capabilities_name_what_clients_look_for(one, alice):
    with ImapClient(one.address) as client:
        before = client.command("CAPABILITY")[0].line
        client.login(alice.address, alice.password)
        after = client.command("CAPABILITY")[0].line
    for capability in (b"XCHATMAIL", b"XDELTAPUSH"):
        assert capability in before
        assert capability in after


def test_the_operator_can_list_the_addresses(one, one_host, alice):
    listed = one_host.run(["doveadm", "user", "*"]).stdout.split()
    directory = f"/home/vmail/mail/{one.domain}"
    assert set(listed) == {name for name in one_host.run(["ls", directory]).stdout.split() if "@" in name}
    assert alice.address in listed


def test_vrfy_tells_nobody_who_exists(one, alice):
    with port_25(one.address) as client:
        known = client.verify(alice.address)
        unknown = client.verify(f"{'n' * NAME}@{one.domain}")
    assert known[0] == unknown[0] == 252
    assert known[1].startswith(b"2.0.0")
    assert unknown[1].startswith(b"2.0.0")


def handshake(address: str, port: int, version: ssl.TLSVersion, starttls: bool) -> bool:
    context = unchecked_tls()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        if starttls:
            with smtplib.SMTP(address, port, timeout=10) as client:
                return client.starttls(context=context)[0] == 220
        with socket.create_connection((address, port), timeout=10) as raw, context.wrap_socket(raw):
            return True
    except (ssl.SSLError, ConnectionResetError, smtplib.SMTPServerDisconnected):
        return False


@pytest.mark.parametrize(
    ("port", "starttls", "oldest"),
    [
        (993, False, ssl.TLSVersion.TLSv1_3),
        (465, False, ssl.TLSVersion.TLSv1_3),
        (587, True, ssl.TLSVersion.TLSv1_3),
        (25, True, ssl.TLSVersion.TLSv1_2),
    ],
)
def test_the_oldest_tls_version_of_each_port(one, port, starttls, oldest):
    versions = [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
    accepted = [version for version in versions if handshake(one.address, port, version, starttls)]
    assert accepted == [version for version in versions if version >= oldest]


@pytest.mark.parametrize("port", [10025, 10026, 10080, 10081, 53])
def test_internal_ports_are_closed_to_others(one, port):
    with pytest.raises(OSError), socket.create_connection((one.address, port), timeout=5):
        pass
