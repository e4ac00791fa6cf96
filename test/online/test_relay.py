"""What every relay promises to its clients and to other relays, asked from outside."""

import html
import http.client
import json
import re
import smtplib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from test.relay import chat
from test.relay.chat import clients, credentials
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mail_clients import ImapClient, port_25, submission, unchecked_tls
from test.support.mailing import attempt, deliver, imap_login, inbox, smtp_login, submit

from .conftest import PREFIX, new_login

INTERNAL_PORTS = (3340, 3903, 3904, 8443, 8463, 10025, 10026, 10080, 10081, 10082, 10465, 10993)


def stranger(relay: Relay, password: str = "") -> User:
    """Somebody who has no address yet; noted, should one come into being."""
    address, chosen = credentials(relay.domain, PREFIX)
    relay.created.append(address)
    return User(relay, address, password or chosen)


def get(relay: Relay, path: str, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection(relay.address, timeout=20, context=unchecked_tls())
    connection.request(method, path)
    return connection.getresponse()


def verified_by_name(relay: Relay) -> bool:
    """Whether the relay has a certificate that an authority vouches for: not with an underscore or an IP address."""
    return not relay.domain.startswith(("_", "["))


# --- Logins and addresses ---


def test_imap_announces_what_clients_look_for(relay):
    with ImapClient(relay.address) as client:
        capabilities = client.greeting.decode()
    assert "XCHATMAIL" in capabilities
    assert "XDELTAPUSH" in capabilities


@pytest.mark.parametrize("login", [imap_login, smtp_login])
def test_first_login_creates_the_address_and_its_password_holds(relay, login):
    user = stranger(relay)
    assert login(user)
    assert login(user)
    assert not login(User(relay, user.address, user.password + "x"))


@pytest.mark.parametrize("login", [imap_login, smtp_login])
def test_a_short_password_creates_nothing(relay, login):
    assert not login(stranger(relay, "short"))


def test_two_addresses_may_have_the_same_password(relay):
    password = credentials(relay.domain)[1]
    assert imap_login(stranger(relay, password))
    assert imap_login(stranger(relay, password))


def test_ten_first_logins_of_one_address_at_once_succeed(relay):
    user = stranger(relay)
    with ThreadPoolExecutor(10) as pool:
        logins = [pool.submit(login, user) for login in 5 * [imap_login, smtp_login]]
    assert all(login.result() for login in logins)


def test_an_address_is_had_by_one_request(relay):
    answer = get(relay, "/new", "POST")
    assert answer.status == 200
    assert "no-store" in answer.getheader("Cache-Control")
    new = json.load(answer)
    relay.created.append(new["email"])
    assert new["email"].endswith(f"@{relay.domain}")
    assert imap_login(User(relay, new["email"], new["password"]))


# --- Mail within the relay ---


def test_a_message_arrives_without_subject_signature_and_sender_s_ip(relay, alice, bob):
    subject = "Secret plans"
    assert submit(alice, bob.address, messages.encrypted(alice.address, bob.address, subject=subject)) is None
    (message,) = inbox(bob)
    head = message.split(b"\r\n\r\n")[0].decode()
    assert re.search(r"(?mi)^Subject: \[\.\.\.\]\r$", head)
    assert subject not in head
    assert not re.search(r"(?mi)^(DKIM-Signature|Authentication-Results):", head)
    with socket.create_connection((relay.address, 465), timeout=20) as connection:
        own_address = connection.getsockname()[0]
    assert own_address not in head


def test_unencrypted_mail_is_refused(alice, bob):
    code, text = submit(alice, bob.address, messages.plain(alice.address, bob.address))
    assert (code, text.split(":")[0]) == (523, "Encryption Needed")


@pytest.mark.parametrize("author", ["somebody@example.org", "other"])
def test_a_forged_from_is_refused(relay, alice, bob, author):
    author = author if "@" in author else f"{author}@{relay.domain}"
    message = messages.encrypted(author, bob.address)
    assert submit(alice, bob.address, message)[0] in {500, 554}


def test_the_envelope_sender_of_another_is_refused(alice, bob):
    message = messages.encrypted(alice.address, bob.address)
    assert submit(alice, alice.address, message, sender=bob.address)[0] == 553


def test_the_rate_is_limited_and_not_before_the_burst(relay, alice, bob):
    """Three times the usual rate of 60 a minute, after a burst of ten."""
    message = messages.encrypted(alice.address, bob.address)
    accepted, refusal = 0, None
    with submission(relay.address, alice.address, alice.password) as client:
        while refusal is None and accepted < 180:
            refusal = attempt(client, alice.address, bob.address, message)
            accepted += refusal is None
    assert accepted >= 10
    assert refusal[0] == 450
    assert "Too much mail from" in refusal[1]


def test_device_tokens_accumulate(alice):
    with alice.imap() as client:
        for token in ("1111", "2222"):
            client.command(f'SETMETADATA INBOX (/private/devicetoken "{token}")')
        (tokens,) = client.command("GETMETADATA INBOX /private/devicetoken")
    words = (tokens.literals[0] if tokens.literals else tokens.line).decode()
    assert re.search("1111 2222", words)


# --- From and to other servers ---


def test_vrfy_tells_nothing(relay, alice):
    with port_25(relay.address) as client:
        client.ehlo()
        answers = {client.verify(address) for address in (alice.address, f"nobody@{relay.domain}")}
    assert len({(code, text.split()[0]) for code, text in answers}) == 1
    assert {code for code, _ in answers} == {252}


def test_unsigned_mail_is_refused(relay, alice):
    sender = "somebody@example.org"
    code, text = deliver(relay.address, sender, alice.address, messages.encrypted(sender, alice.address))
    assert code >= 400
    if not relay.domain.startswith("["):
        assert "No DKIM signature found" in text


def test_it_is_no_open_relay(relay):
    with port_25(relay.address) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("a@example.org", ["b@example.net"], b"Subject: x\r\n\r\nx\r\n")
    with smtplib.SMTP(relay.address, 587, timeout=20) as client:
        client.starttls(context=unchecked_tls())
        with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused)):
            client.sendmail("a@example.org", ["b@example.net"], b"Subject: x\r\n\r\nx\r\n")


@pytest.mark.parametrize("port", INTERNAL_PORTS)
def test_internal_ports_are_not_reachable(relay, port):
    with pytest.raises(OSError), socket.create_connection((relay.address, port), timeout=3):
        pass


def test_a_message_reaches_another_relay_and_an_answer_comes_back(relay, relay2):
    one, two = new_user(relay), new_user(relay2)
    assert submit(one, two.address, messages.encrypted(one.address, two.address)) is None
    inbox(two)
    assert submit(two, one.address, messages.encrypted(two.address, one.address)) is None
    inbox(one)


def test_mail_to_nobody_comes_back_signed(relay, relay2):
    writer = new_user(relay2)
    nobody = f"nobodyhere@{relay.domain}"
    assert submit(writer, nobody, messages.encrypted(writer.address, nobody)) is None
    (bounce,) = inbox(writer)
    assert nobody.encode() in bounce


# --- TLS and the web ---


@pytest.mark.parametrize("port", [443, 465, 993])
def test_the_certificate_is_the_relay_s(relay, port):
    if not verified_by_name(relay):
        pytest.skip(f"{relay.domain} has a self-signed certificate, as is usual for such a name")
    context = ssl.create_default_context()
    with (
        socket.create_connection((relay.address, port), timeout=20) as connection,
        context.wrap_socket(connection, server_hostname=relay.domain) as tls,
    ):
        left = ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"]) - time.time()
    assert left > 7 * 86400


@pytest.mark.parametrize("port", [443, 465, 993])
def test_old_tls_is_refused(relay, port):
    context = unchecked_tls()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection((relay.address, port), timeout=20) as connection,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(connection, server_hostname=None)


@pytest.mark.parametrize(("alpn", "greeting"), [("imap", b"* OK"), ("smtp", b"220 ")])
def test_port_443_leads_to_mail(relay, alpn, greeting):
    context = unchecked_tls()
    context.set_alpn_protocols([alpn])
    with (
        socket.create_connection((relay.address, 443), timeout=20) as connection,
        context.wrap_socket(connection, server_hostname=None) as tls,
    ):
        assert tls.recv(100).startswith(greeting)


def test_the_page_has_a_qr_code(relay):
    page = get(relay, "/")
    assert page.status == 200
    (source,) = re.findall(r'<img[^>]* src="([^"]*qr[^"]*)"', page.read().decode())
    picture = get(relay, f"/{html.unescape(source).lstrip('/')}")
    assert picture.status == 200
    assert picture.getheader("Content-Type").startswith("image/")


# --- Delta Chat ---


def test_two_clients_chat(people):
    alice, bob = people
    alices, bobs = chat.make_contact(alice, bob)
    assert chat.round_trips(alice, alices, bob, bobs, 2)


def test_clients_of_two_relays_chat(relay, relay2, tmp_path):
    with clients((("Alice", relay.domain), ("Carol", relay2.domain)), list, tmp_path, new_login) as (alice, carol):
        relay.created.append(alice.address)
        alices, carols = chat.make_contact(alice, carol)
        assert chat.round_trips(alice, alices, carol, carols, 2)


# --- On the host, where ssh is given ---


def test_opendkim_was_started_within_the_last_days(relay, ssh):
    if relay.domain.startswith("["):
        pytest.skip("a relay without a domain has no OpenDKIM")
    started = float(ssh("systemctl show -p ActiveEnterTimestampMonotonic --value opendkim")) / 1e6
    assert float(ssh("cat /proc/uptime").split()[0]) - started < 51 * 3600


def test_dovecot_runs_what_is_installed(ssh):
    status = ssh("systemctl show -p StatusText --value dovecot")
    assert status.startswith(f"v{ssh('dovecot --version').split()[0]}")
    assert "(deleted)" not in ssh("readlink /proc/$(systemctl show -p MainPID --value dovecot)/exe")


def test_connections_are_seen_in_the_journal(relay, ssh):
    with ImapClient(relay.address), port_25(relay.address):
        pass
    assert "dovecot" in ssh("journalctl --no-pager -n 200 -t dovecot")
    assert "postfix" in ssh("journalctl --no-pager -n 200 -t postfix/smtpd")


def test_nginx_writes_no_access_log(ssh):
    access_logs = re.findall(r"(?m)^\s*access_log\s+(\S+);", ssh("nginx -T 2>/dev/null"))
    assert set(access_logs) == {"off"}


def test_no_unit_has_failed(ssh):
    assert ssh("systemctl list-units --failed --no-legend --plain") == ""
