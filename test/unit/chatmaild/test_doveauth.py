"""Looking addresses up, and creating them at their first login."""

import asyncio
import json
import re
import stat
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmaild import doveauth
from chatmaild.config import BOTS, Config, read_config
from chatmaild.doveauth import AddressBook, split_fields
from chatmaild.dovecot.dict_server import DictError, TryLater
from chatmaild.invites import Invites

DOMAIN = "chat.example.org"
USER = f"user12345@{DOMAIN}"
HASH = re.compile(r"\{SHA512-CRYPT\}\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}")


def escaped(text: str) -> str:
    """As Dovecot's modifier %E escapes it."""
    return re.sub(r"""(["'\\])""", r"\\\1", text)


def passdb(password: str, address: str) -> str:
    return f'shared/passdb/{escaped(password)}"{escaped(address)}'


def userdb(address: str) -> str:
    return f"shared/userdb/{escaped(address)}"


@pytest.fixture
def addresses(write_config):
    """An address book in this process; the function makes one with other settings."""

    def make(**settings) -> AddressBook:
        return AddressBook(read_config(write_config(**settings), doveauth.Settings))

    return make


def lookup(book: AddressBook, key: str):
    value = asyncio.run(book.lookup(key, ""))
    return None if value is None else json.loads(value)


def tries(book: AddressBook, keys) -> list[bool]:
    """Whether each of the passwords was looked at."""

    async def try_all():
        return [not isinstance(value, TryLater) for value in [await attempt(key) for key in keys]]

    async def attempt(key):
        try:
            return await book.lookup(key, "")
        except TryLater as error:
            return error

    return asyncio.run(try_all())


def listed(book: AddressBook) -> set[str]:
    return {key.removeprefix("shared/userdb/") for key in asyncio.run(book.iterate("shared/userdb/", ""))}


@pytest.mark.parametrize(
    "text, fields",
    [
        ("", [""]),
        ('secret"user', ["secret", "user"]),
        ('a\\"b"user', ['a"b', "user"]),
        ("a\\\\\\'b", ["a\\'b"]),
        ('a\\b""', ["ab", "", ""]),
        ('\\"', ['"']),
    ],
)
def test_fields_of_a_key(text, fields):
    assert split_fields(text) == fields


@pytest.mark.parametrize("text", ["\\", 'secret"user\\', "\\\\\\"])
def test_a_backslash_at_the_end_of_a_key(text):
    with pytest.raises(DictError, match="backslash"):
        split_fields(text)


@given(st.lists(st.text(alphabet=st.characters() | st.sampled_from("\"'\\/")), min_size=1, max_size=4))
def test_no_field_reaches_into_another(fields):
    assert split_fields('"'.join(map(escaped, fields))) == fields


def test_the_first_login_creates(addresses, tmp_path):
    book = addresses()
    assert lookup(book, userdb(USER)) is None
    created = lookup(book, passdb("secret-password", USER))
    assert created.keys() == {"addr", "home", "uid", "gid", "password"}
    assert created["addr"] == USER
    assert created["home"] == str(tmp_path / "mail" / USER)
    assert (created["uid"], created["gid"]) == ("vmail", "vmail")
    assert HASH.fullmatch(created["password"])
    assert lookup(book, userdb(USER)) == created
    assert lookup(book, passdb("secret-password", USER)) == created
    assert (tmp_path / "mail" / USER / "password").read_text() == created["password"]
    assert (tmp_path / "mail" / USER / "enforceE2EEincoming").exists()


def test_another_password_changes_nothing(addresses):
    book = addresses()
    created = lookup(book, passdb("secret-password", USER))
    for password in ("other-password", "", "x" * 600):
        assert lookup(book, passdb(password, USER)) == created


def test_no_password_no_address(addresses, caplog):
    book = addresses()
    assert lookup(book, userdb(USER)) is None
    assert not caplog.records
    book.config.mailbox(USER).path.mkdir(parents=True)
    assert lookup(book, userdb(USER)) is None
    assert not caplog.records
    book.config.mailbox(USER).password_path.touch()
    assert lookup(book, userdb(USER)) is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize(
    "address",
    ["user12345@other.example.org", f"user12345@x{DOMAIN}", "user12345", f"{USER}.org", f"../x@{DOMAIN}", "", "@"],
)
def test_addresses_of_others(addresses, tmp_path, address):
    book = addresses()
    assert lookup(book, userdb(address)) is None
    assert lookup(book, passdb("secret-password", address)) is None
    assert not (tmp_path / "mail").exists()


def test_an_ipv4_relay(addresses, tmp_path):
    created = lookup(addresses(mail_domain="1.3.3.7"), passdb("secret-password", "user12345@[1.3.3.7]"))
    assert created["home"] == str(tmp_path / "mail/user12345@[1.3.3.7]")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "shared",
        "shared/passdb",
        "shared/userdb",
        f"private/userdb/{USER}",
        f"shared/other/{USER}",
        f"shared/passdb/{USER}",
        f'shared/passdb/secret"{USER}"x"y',
        f'shared/userdb/{USER}"x',
        f"shared/userdb/{USER}\\",
    ],
)
def test_keys_of_other_forms_are_refused(addresses, key):
    with pytest.raises(DictError):
        lookup(addresses(), key)


def test_while_the_nocreate_file_exists_nothing_is_created(addresses, tmp_path, monkeypatch, caplog):
    book = addresses()
    created = lookup(book, passdb("secret-password", USER))
    monkeypatch.setattr(doveauth, "NOCREATE_PATH", tmp_path / "nocreate")
    doveauth.NOCREATE_PATH.touch()
    assert lookup(book, passdb("secret-password", f"user54321@{DOMAIN}")) is None
    assert str(tmp_path / "nocreate") in caplog.text
    assert lookup(book, passdb("secret-password", USER)) == created
    assert listed(book) == {USER}


@pytest.mark.parametrize("length, accepted", [(5, False), (6, True), (8, True), (10, True), (11, False)])
def test_length_of_the_local_part(addresses, length, accepted):
    book = addresses(username_min_length=6, username_max_length=10)
    found = lookup(book, passdb("secret-password", "x" * length + f"@{DOMAIN}"))
    assert (found is not None) is accepted


@pytest.mark.parametrize("local_part", ["abc123", "a.b-c_d", "___", "a--", "a.-.b"])
def test_allowed_local_parts(addresses, local_part):
    book = addresses(username_min_length=3)
    assert lookup(book, passdb("secret-password", f"{local_part}@{DOMAIN}"))["addr"] == f"{local_part}@{DOMAIN}"


@pytest.mark.parametrize(
    "local_part",
    [
        *("Abc123", "ABCDEFG", "a b cde", "abc+def", "abc!def", "ab@cdef", "abc/def", "abc\\def", 'abc"def', "abc'def"),
        *("abcdef\n", "abc\tdef", "abc\0def", "äbcdef", "abc\u0661\u0662\u0663", "abc\udcff", "../abc"),
        *("postmaster", "abuse", "root", "mailer-daemon", "double-bounce"),
        # What Postfix delivers nothing to: no dot-strings (RFC 5321), or what might be taken for an option.
        *("-aaaaaaaa", ".........", ".abc", "abc.", "a..b", "-"),
    ],
)
def test_refused_local_parts(addresses, tmp_path, caplog, local_part):
    book = addresses(username_min_length=3, username_max_length=20)
    assert lookup(book, passdb("secret-password", f"{local_part}@{DOMAIN}")) is None
    assert listed(book) == set()
    assert not list(tmp_path.glob("**/password*"))
    assert "\n" not in "".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", BOTS)
def test_a_bot_that_does_not_run_is_refused_silently(addresses, caplog, name):
    book = addresses(username_min_length=3, username_max_length=20)
    assert lookup(book, passdb("secret-password", f"{name}@{DOMAIN}")) is None
    assert lookup(book, userdb(f"{name}@{DOMAIN}")) is None
    assert not caplog.records


@pytest.mark.parametrize(("setting", "name"), [("echobot", "echo"), ("operator_bot", "operator-bot")])
def test_a_bots_hash_is_its_own_file_and_mail_waits_until_it_is_there(addresses, tmp_path, monkeypatch, setting, name):
    monkeypatch.setitem(BOTS, name, tmp_path / setting / "password")
    book = addresses(**{setting: True})
    keys = [passdb("secret-password", f"{name}@{DOMAIN}"), userdb(f"{name}@{DOMAIN}")]
    for key in keys:
        with pytest.raises(DictError, match=f"{name}@.* has no password yet; see `systemctl status {setting}`"):
            lookup(book, key)
    (tmp_path / setting).mkdir()
    (tmp_path / setting / "password").write_text("{SHA512-CRYPT}$6$salt$hash")
    for key in keys:
        assert lookup(book, key)["password"] == "{SHA512-CRYPT}$6$salt$hash"
    assert not (tmp_path / "mail").exists()


@pytest.mark.parametrize(
    "password, accepted",
    [
        ("x" * 8, False),
        ("x" * 9, True),
        ("ä" * 9, True),
        ("x" * 511, True),
        ("x" * 512, False),
        ("ä" * 256, False),
        ("secret\0password", False),
        ("\udcff" * 9, True),
        ("tab\tnewline\n", True),
    ],
)
def test_passwords_of_new_addresses(addresses, password, accepted, caplog):
    book = addresses()
    assert (lookup(book, passdb(password, USER)) is not None) is accepted
    assert (USER in listed(book)) is accepted
    assert password not in caplog.text


def test_escaped_passwords_and_addresses(addresses):
    created = lookup(addresses(), passdb('\\a"b\'c/d\\\\"', USER))
    assert created["home"].endswith(f"mail/{USER}")
    assert HASH.fullmatch(created["password"])


@pytest.mark.parametrize(
    "limit", [{"max_load_1m": -1}, {"min_available_memory_mb": 10**9}, {"min_free_disk_space_mb": 10**9}]
)
def test_a_full_machine_refuses_new_addresses_only(addresses, caplog, limit):
    created = lookup(addresses(), passdb("secret-password", USER))
    book = addresses(**limit)
    assert lookup(book, passdb("secret-password", f"user54321@{DOMAIN}")) is None
    assert caplog.messages[-1].startswith("registration rejected: ")
    assert listed(book) == {USER}
    assert lookup(book, passdb("secret-password", USER)) == created


def test_a_lock_that_is_never_given_up(addresses, monkeypatch):
    monkeypatch.setattr(doveauth, "LOCK_TIMEOUT", 0.1)
    book = addresses()
    mailbox = book.config.mailbox(USER)
    with mailbox.try_lock(), pytest.raises(DictError, match=r"password\.lock is locked for more than"):
        lookup(book, passdb("secret-password", USER))
    assert lookup(book, passdb("secret-password", USER))["addr"] == USER


def test_iteration_lists_the_addresses(addresses):
    book = addresses()
    assert listed(book) == set()
    users = {f"user1234{number}@{DOMAIN}" for number in range(3)}
    for user in users:
        lookup(book, passdb("secret-password", user))
    (book.config.mailboxes_dir / "pending_notifications").mkdir()
    assert listed(book) == users
    assert asyncio.run(book.iterate("shared/passdb/", "")) == {}


def test_answers_of_the_daemon(write_config, start_daemon, tmp_path):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    hello = b"H3\t2\t0\t\tauth\n"
    password = 'tab\x01t, quote\\" and slash/'
    assert daemon.ask(hello) == b""
    assert daemon.ask(hello + b"Lshared/userdb/user12345@chat.example.org\n") == b"N\n"
    created = daemon.ask(hello + f'Lshared/passdb/{password}"{USER}\t{USER}\n'.encode())
    assert created[:1] == b"O"
    assert json.loads(created[1:])["addr"] == USER
    assert daemon.ask(hello + f"Lshared/userdb/{USER}\t{USER}\n".encode()) == created
    assert daemon.ask(hello + b"I0\t0\tshared/userdb/") == f"Oshared/userdb/{USER}\t\n\n".encode()
    assert daemon.ask(hello + b"Lshared/nothing/x\nLshared/userdb/x\n").splitlines() == [
        b'Fknown keys are shared/userdb/USER and shared/passdb/PASSWORD"USER"CLIENT',
        b"N",
    ]
    assert daemon.ask(hello + b'Lshared/passdb/short"user54321@chat.example.org\n') == b"N\n"
    log = daemon.stop()
    assert f"Created address: {USER}" in log
    assert any("refused to create" in line for line in log)
    assert "quote" not in "\n".join(log)


def test_a_login_waits_for_no_other(write_config, start_daemon, tmp_path):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    config = read_config(tmp_path / "settings.toml", Config)
    with config.mailbox(USER).try_lock(), daemon.connect() as waiting:
        waiting.sendall(f'Lshared/passdb/secret-password"{USER}\nLshared/userdb/{USER}\n'.encode())
        other = daemon.ask(b'Lshared/passdb/secret-password"user54321@chat.example.org\n')
        assert other[:1] == b"O"
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(1)
        waiting.settimeout(20)
        config.mailbox(USER).lock_path.unlink()
        reader = waiting.makefile("rb")
        first = reader.readline()
        assert first[:1] == b"O"
        assert reader.readline() == first


def run_threads(count: int, work) -> list:
    """Run `work(0)`, `work(1)`, ... at once; return what they return."""
    results = [None] * count

    def store(number: int) -> None:
        results[number] = work(number)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_ten_logins_create_one_address(write_config, start_daemon, tmp_path):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    answers = run_threads(10, lambda number: daemon.ask(f'Lshared/passdb/secret-password-{number}"{USER}\n'.encode()))
    assert answers[0][:1] == b"O"
    assert len(set(answers)) == 1
    assert daemon.stop().count(f"Created address: {USER}") == 1
    assert {path.name for path in (tmp_path / "mail" / USER).iterdir()} == {
        "password",
        "password.lock",
        "enforceE2EEincoming",
    }


def test_fifty_clients_create_five_addresses_each(write_config, start_daemon, tmp_path):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    users = [[f"client{number:02}{index}@{DOMAIN}" for index in range(5)] for number in range(50)]

    def create(number):
        return [daemon.ask(f'Lshared/passdb/secret-password"{user}\n'.encode()) for user in users[number]]

    for answers, expected in zip(run_threads(50, create), users, strict=True):
        assert [json.loads(answer[1:])["addr"] for answer in answers] == expected
    listing = daemon.ask(b"I0\t0\tshared/userdb/\n")
    assert listing.count(b"\n") == 251
    assert listing.endswith(b"\t\n\n")


def test_hundreds_of_connections_at_once(write_config, start_daemon):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    daemon.process.send_signal(19)  # SIGSTOP: they all wait in the queue
    connections = []
    for _ in range(500):
        connection = daemon.connect()
        connection.sendall(f"Lshared/userdb/{USER}\n".encode())
        connections.append(connection)
    daemon.process.send_signal(18)  # SIGCONT
    for connection in connections:
        with connection:
            assert connection.recv(100) == b"N\n"


def test_files_of_the_daemon_are_private(write_config, start_daemon, tmp_path):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    daemon.ask(f'Lshared/passdb/secret-password"{USER}\n'.encode())
    mailbox = tmp_path / "mail" / USER
    assert stat.S_IMODE(mailbox.stat().st_mode) == 0o700
    assert stat.S_IMODE((mailbox / "password").stat().st_mode) == 0o600


def test_broken_clients_leave_the_daemon_alone(write_config, start_daemon):
    daemon = start_daemon("chatmaild.doveauth", write_config())
    for request in (
        b"\xff\xfe\n",
        b"L\xff\n",
        b"\x00\n",
        b"L" * 200_000,
        b"Lshared/userdb/" + b"x" * 300 + b"@chat.example.org\n",
    ):
        with daemon.connect() as connection:
            connection.sendall(request)
    assert daemon.ask(b"Lshared/userdb/\xff@chat.example.org\n") == b"N\n"


def test_without_its_socket_it_says_how_to_start_it(write_config, run_service):
    result = run_service("chatmaild.doveauth", write_config())
    assert result.returncode == 1
    assert "systemd passed 0 sockets, not 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_that_are_wrong(write_config, run_service):
    result = run_service("chatmaild.doveauth", write_config(max_load_1m="high"))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "max_load_1m is 'high'; allowed is a number" in result.stderr


def test_help(run_service):
    result = run_service("chatmaild.doveauth", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: doveauth [-h] config\n")
    assert "Tell Dovecot about the relay's addresses" in result.stdout


def from_client(password: str, address: str, client: str) -> str:
    return f'{passdb(password, address)}"{client}'


def names(count: int):
    return (f"user{number:05}@{DOMAIN}" for number in range(count))


def test_a_disabled_address_cannot_log_in_and_keeps_its_mailbox(addresses):
    book = addresses()
    created = lookup(book, passdb("secret-password", USER))
    mailbox = book.config.mailbox(USER)
    mailbox.disabled_path.touch()
    assert lookup(book, passdb("secret-password", USER)) is None
    assert lookup(book, userdb(USER)) == created
    mailbox.disabled_path.unlink()
    assert lookup(book, passdb("secret-password", USER)) == created


def test_a_disabled_address_without_password_is_not_created(addresses):
    book = addresses()
    mailbox = book.config.mailbox(USER)
    mailbox.path.mkdir(parents=True)
    mailbox.disabled_path.touch()
    assert lookup(book, passdb("secret-password", USER)) is None
    assert mailbox.read_password() is None


@pytest.mark.parametrize("clients", [["192.0.2.1"], ["2001:db8::1", "2001:db8::ffff:2"], ["::ffff:192.0.2.1"]])
def test_one_client_creates_so_many_addresses(addresses, clients, caplog):
    book = addresses(max_creations_per_hour=5)
    created = [
        lookup(book, from_client("secret-password", address, clients[number % len(clients)]))
        for number, address in enumerate(names(7))
    ]
    assert [value is not None for value in created] == [True] * 5 + [False] * 2
    # Addresses that exist, and other clients, are not touched by it.
    assert lookup(book, from_client("secret-password", f"user00000@{DOMAIN}", clients[0])) == created[0]
    assert lookup(book, from_client("secret-password", USER, "198.51.100.1"))
    assert "registration rejected: too many new addresses from one place" in caplog.text
    assert not any(client in caplog.text for client in clients)
    assert listed(book) == {*names(5), USER}


@pytest.mark.parametrize("client", ["", "127.0.0.1", "::1", "::ffff:127.0.0.1", "nonsense"])
def test_a_client_that_is_not_known_is_not_limited(addresses, client):
    book = addresses(max_creations_per_hour=1)
    assert all(lookup(book, from_client("secret-password", address, client)) for address in names(3))


def test_a_key_without_client_creates(addresses):
    assert lookup(addresses(max_creations_per_hour=1), passdb("secret-password", USER))


def test_an_invite_is_needed_where_the_settings_say_so(addresses, tmp_path):
    book = addresses(invite_only="true", invites_dir=tmp_path / "invites")
    invite = Invites(tmp_path / "invites").make(uses=2, days=1)
    for password in ("secret-password", "abcdefgh0123-secret-password", invite.token, invite.token + "x" * 8):
        assert lookup(book, passdb(password, USER)) is None
    assert listed(book) == set()
    first, second, third = names(3)
    created = lookup(book, passdb(invite.token + "x" * 9, first))
    assert created
    assert lookup(book, passdb(invite.token + "x" * 9, second))
    assert lookup(book, passdb(invite.token + "x" * 9, third)) is None
    # A login needs no invite any more, and counts none.
    assert lookup(book, passdb(invite.token + "x" * 9, first)) == created


def test_an_invite_is_good_for_its_number_of_addresses_when_all_come_at_once(addresses, tmp_path):
    book = addresses(invite_only="true", invites_dir=tmp_path / "invites")
    password = Invites(tmp_path / "invites").make(uses=5, days=1).token + "long enough"

    async def create_all():
        return await asyncio.gather(*(book.lookup(passdb(password, address), "") for address in names(30)))

    assert sum(value is not None for value in asyncio.run(create_all())) == 5


def test_an_invite_counts_one_for_an_address_that_logs_in_ten_times_at_once(addresses, tmp_path):
    book = addresses(invite_only="true", invites_dir=tmp_path / "invites")
    invites = Invites(tmp_path / "invites")
    password = invites.make(uses=2, days=1).token + "long enough"

    async def log_in():
        return await asyncio.gather(*(book.lookup(passdb(password, USER), "") for _ in range(10)))

    assert len(set(asyncio.run(log_in()))) == 1
    assert [invite.uses_left for invite in invites.valid()] == [1]


@given(st.text(alphabet="a1_-.", min_size=1, max_size=9))
def test_a_local_part_is_taken_if_and_only_if_postfix_delivers_to_it(local_part):
    is_dot_string = all(local_part.split("."))
    config = SimpleNamespace(mail_domain=DOMAIN, username_min_length=1, username_max_length=9, password_min_length=9)
    taken = doveauth.refusal(config, f"{local_part}@{DOMAIN}", "secret-password") is None
    assert taken is (is_dot_string and not local_part.startswith("-"))


def test_an_address_from_before_that_rule_still_logs_in(addresses):
    book = addresses()
    address = f"-aaaaaaaa@{DOMAIN}"
    book.config.mailbox(address).create("{SHA512-CRYPT}$6$salt$hash")
    assert lookup(book, passdb("secret-password", address))["addr"] == address


def test_wrong_passwords_are_counted_and_the_owner_goes_on(addresses, caplog):
    book = addresses()
    owner = from_client("secret-password", USER, "192.0.2.1")
    created = lookup(book, owner)
    assert lookup(book, owner) == created
    guesses = [from_client(f"guess-{number}", USER, "203.0.113.5") for number in range(20)]
    assert tries(book, guesses) == [True] * 10 + [False] * 10
    # Even the right password, from where nobody has logged in yet.
    assert tries(book, [from_client("secret-password", USER, "203.0.113.6")]) == [False]
    assert lookup(book, owner) == created
    assert tries(book, [from_client("other-password", f"user54321@{DOMAIN}", "203.0.113.5")]) == [True]
    assert "guess" not in caplog.text
    assert "203.0.113" not in caplog.text


def test_guesses_at_the_same_time_are_counted_as_those_one_after_the_other(addresses):
    book = addresses()
    lookup(book, from_client("secret-password", USER, "192.0.2.1"))
    guesses = [from_client(f"guess-{number}", USER, "203.0.113.5") for number in range(30)]

    async def guess_all():
        return await asyncio.gather(*(book.lookup(key, "") for key in guesses), return_exceptions=True)

    assert sum(isinstance(answer, TryLater) for answer in asyncio.run(guess_all())) == 20


def test_right_passwords_are_never_too_many(addresses):
    book = addresses()
    assert all(tries(book, [from_client("secret-password", USER, f"192.0.2.{number}") for number in range(200)]))
    assert all(tries(book, [from_client("secret-password", USER, "192.0.2.1")] * 200))


def test_who_tries_for_a_known_place_is_not_known_elsewhere(addresses):
    book = addresses()
    lookup(book, from_client("secret-password", USER, "192.0.2.1"))
    assert not all(tries(book, [from_client("wrong", USER, "198.51.100.1")] * 20))
    assert all(tries(book, [from_client("secret-password", USER, "192.0.2.1")] * 20))
