"""Who gets an address: by /new, by invite, so many a client though all come by nginx; and nobody who is shut off.

Clients have addresses of their own, on the lab's bridge; what they do goes by way of port 443.
"""

import contextlib
import http.client
import imaplib
import json
import smtplib
import socket
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from test.lab import Host
from test.relay.chat import credentials
from test.relay.delivery import Relay, User
from test.support import messages
from test.support.mail_clients import submission, unchecked_tls
from test.support.mailing import attempt, inbox

FILES = ("/etc/chatmail/doveauth.toml", "/etc/chatmail/newemail.toml")
OUR_SERVICES = [
    "doveauth",
    "lastlogin",
    "chatmail-sasl",
    "chatmail-metadata",
    "filtermail",
    "filtermail-incoming",
    "chatmail-newemail",
    "nginx",
]


@contextlib.contextmanager
def other_settings(host: Host, **changes: object) -> Iterator[None]:
    """The services for new addresses with other settings; a restart forgets what was counted."""
    usual = {file: host.read(file) for file in FILES}
    restart = ["systemctl", "restart", "doveauth", "chatmail-newemail"]
    try:
        for file, text in usual.items():
            changed = tomllib.loads(text) | changes
            host.write(file, "".join(f"{key} = {json.dumps(value)}\n" for key, value in changed.items()))
        host.run(restart)
        yield
    finally:
        for file, text in usual.items():
            host.write(file, text)
        host.run(restart)


def ask(relay: Relay, place: str, method: str = "POST", path: str = "/new") -> tuple[int, Mapping, dict]:
    """Ask the web server from ``place``: status, header fields and what JSON the body has."""
    connection = http.client.HTTPSConnection(
        relay.address, context=unchecked_tls(), timeout=20, source_address=(place, 0)
    )
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Host": relay.domain.strip("[]")})
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read())


class _Imap(imaplib.IMAP4_SSL):
    """Comes from ``place``, and says by ALPN (RFC 7301) that it wants IMAP of port 443."""

    def __init__(self, address: str, place: str) -> None:
        self._place = place
        super().__init__(address, 443, ssl_context=alpn("imap"), timeout=20)

    def _create_socket(self, timeout: float) -> socket.socket:
        raw = socket.create_connection((self.host, self.port), timeout, source_address=(self._place, 0))
        return self.ssl_context.wrap_socket(raw)


def alpn(protocol: str):
    context = unchecked_tls()
    context.set_alpn_protocols([protocol])
    return context


def imap_login(user: User, place: str) -> bool:
    client = _Imap(user.relay.address, place)
    try:
        client.login(user.address, user.password)
    except imaplib.IMAP4.error as error:
        assert "AUTHENTICATIONFAILED" in str(error)
        return False
    else:
        return True
    finally:
        client.logout()


def smtp_login(user: User, place: str) -> bool:
    with smtplib.SMTP_SSL(
        user.relay.address, 443, context=alpn("smtp"), timeout=20, source_address=(place, 0)
    ) as client:
        try:
            client.login(user.address, user.password)
        except smtplib.SMTPAuthenticationError as error:
            assert error.smtp_code == 535
            return False
        return True


def newcomer(relay: Relay, password: str = "") -> User:
    address, random = credentials(relay.domain)
    return User(relay, address, password or random)


def test_new_answers_with_an_address_that_a_login_creates(one, places):
    for method, path in (("POST", "/new"), ("GET", "/new"), ("POST", "/cgi-bin/newemail.py")):
        status, headers, made = ask(one, places[0], method, path)
        assert status == 200, path
        assert headers["Content-Type"] == "application/json"
        assert headers["Cache-Control"] == "no-store"
        user = User(one, made["email"], made["password"])
        # The relays of these tests have certificates of their own: clients are told to accept them.
        assert made["dclogin_url"].startswith(f"dclogin:{user.address}?p=")
        assert imap_login(user, places[0])
        assert smtp_login(user, places[0])


def test_a_client_that_asks_too_fast_does_not_slow_others(one, places):
    with ThreadPoolExecutor(20) as pool:
        answers = [status for status, _, _ in pool.map(lambda _: ask(one, places[1]), range(20))]
    assert set(answers) == {200, 429}
    assert answers.count(200) >= 6
    assert ask(one, places[2])[0] == 200


def test_each_client_creates_so_many_addresses_an_hour_by_imap_and_smtp_and_all_ports(one, one_host, places):
    here, there, _ = places
    with other_settings(one_host, max_creations_per_hour=2):
        first, second = newcomer(one), newcomer(one)
        assert imap_login(first, here)
        assert smtp_login(second, here)
        late = newcomer(one)
        assert not imap_login(late, here)
        assert not smtp_login(late, here)
        with (
            socket.create_connection((one.address, 993), 20, source_address=(here, 0)) as raw,
            pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
        ):
            connected(raw).login(late.address, late.password)
        # Who has an address is not limited, and neither are other clients.
        assert smtp_login(first, here)
        assert imap_login(late, there)
        assert smtp_login(newcomer(one), there)


def connected(raw: socket.socket) -> imaplib.IMAP4:
    """An IMAP client on a connection that is there."""

    class OnSocket(imaplib.IMAP4):
        def _create_socket(self, timeout):
            return unchecked_tls().wrap_socket(raw)

    return OnSocket()


def test_a_machine_at_its_limits_takes_nobody_new_and_keeps_those_it_has(one, one_host, places):
    here = places[0]
    known = newcomer(one)
    assert imap_login(known, here)
    for setting, value in (
        ("max_load_1m", -1),
        ("min_available_memory_mb", 99_999_999),
        ("min_free_disk_space_mb", 99_999_999),
    ):
        with other_settings(one_host, **{setting: value}):
            for login in (imap_login, smtp_login):
                assert not login(newcomer(one), here), setting
                assert login(known, here), setting


def test_our_services_log_no_client(one_host, places):
    units = [f"--unit={service}" for service in OUR_SERVICES]
    log = one_host.run(["journalctl", "--quiet", "--output=cat", *units]).stdout
    assert "Created address: " in log
    assert "registration rejected: " in log
    for place in places:
        assert place not in log


def test_invites_let_so_many_in_until_they_end_or_are_revoked(lab, one, one_host, places):
    def call(function: str, *arguments: str):
        return lab.salt_ssh(one_host.name, f"chatmail_account.{function}", *arguments)

    made, other = call("invite", "uses=2", "days=1"), call("invite")
    token = made["token"]
    assert made["link"] == f"DCACCOUNT:https://{one.domain}/new?invite={token}"
    with other_settings(one_host, invite_only=True):
        assert ask(one, places[0])[0] == 403
        assert not imap_login(newcomer(one), places[0])
        # What is not an invite's is found out at the first login.
        _, headers, guessed = ask(one, places[0], path="/new?invite=abcdefgh0123")
        assert headers["Cache-Control"] == "no-store"
        assert not imap_login(User(one, guessed["email"], guessed["password"]), places[0])

        for login in (imap_login, smtp_login):
            _, _, invited = ask(one, places[1], path=f"/new?invite={token}")
            assert invited["password"].startswith(token)
            assert login(User(one, invited["email"], invited["password"]), places[1])
        assert imap_login(User(one, invited["email"], invited["password"]), places[1])
        assert not imap_login(newcomer(one, invited["password"]), places[1])

        valid = {invite["token"]: invite["uses_left"] for invite in call("invites")}
        assert token not in valid
        assert valid[other["token"]] == 1
        path, late = f"/var/lib/doveauth/invites/{other['token']}", newcomer(one, other["token"] + "long enough")
        expires = one_host.read(path)
        one_host.run(["sed", "-i", 's/"expires": [0-9]*/"expires": 1/', path])
        assert not imap_login(late, places[2])
        one_host.write(path, expires)
        assert call("revoke_invite", other["token"]) is True
        assert not imap_login(late, places[2])


# Writes a relay's database of before July 2024: path, address, password.
OLD_DATABASE = """
import crypt, sqlite3, sys
path, address, password = sys.argv[1:]
with sqlite3.connect(path) as database:
    database.execute("CREATE TABLE users (addr TEXT PRIMARY KEY, password TEXT, last_login INTEGER)")
    hashed = "{SHA512-CRYPT}" + crypt.crypt(password, crypt.METHOD_SHA512)
    database.execute("INSERT INTO users VALUES (?, ?, ?)", (address, hashed, 1720000000))
"""


def test_addresses_of_an_old_database_keep_their_password(one, one_host, places):
    path = "/home/vmail/passdb.sqlite"
    known = newcomer(one)
    as_vmail = ["runuser", "-u", "vmail", "--", "python3", "-W", "ignore", "-c", OLD_DATABASE]
    one_host.run([*as_vmail, path, known.address, known.password])
    one_host.run(["systemctl", "restart", "doveauth"])
    assert not imap_login(User(one, known.address, "what a stranger guesses"), places[0])
    assert imap_login(known, places[0])
    assert one_host.run(["ls", path], check=False).stdout == ""
    one_host.run(["rm", f"{path}.old"])


def test_a_disabled_address_neither_logs_in_nor_sends(one, one_host, places, alice, bob):
    flag = f"/home/vmail/mail/{one.domain}/{alice.address}/DISABLED"
    with submission(one.address, alice.address, alice.password) as client:
        one_host.run(["touch", flag])
        assert not imap_login(alice, places[0])
        assert not smtp_login(alice, places[0])
        # Who was logged in before is not told.
        assert attempt(client, alice.address, bob.address, messages.encrypted(alice.address, bob.address)) is None
    one_host.run(["rm", flag])
    assert imap_login(alice, places[0])
    with submission(one.address, alice.address, alice.password) as client:
        second = messages.encrypted(alice.address, bob.address)
        assert attempt(client, alice.address, bob.address, second) is None
    assert len(inbox(bob)) == 1
