"""What clients set and ask by IMAP METADATA, asked of the real service over its socket."""

import contextlib
import json
import socket
import threading
import time

import pytest

from chatmaild import metadata
from chatmaild.config import Config, read_config
from chatmaild.push.device_tokens import TOKEN_MAX, TOKENS_MAX
from test.support.push_server import PushServer
from test.support.waiting import wait_until

USER = "user12345@chat.example.org"
SERVER = "Lshared/123/vendor/vendor.dovecot/pvt/server/vendor/deltachat/"


def setting(token: str, user: str = USER) -> bytes:
    return f"B1\t{user}\nS1\tpriv/123/devicetoken\t{token}\nC1\n".encode()


TOKENS = f"Lpriv/123/devicetoken\t{USER}\n".encode()
MESSAGE = f"B1\t{USER}\nS1\tpriv/123/messagenew\t\nC1\n".encode()


@pytest.fixture
def push_server(tmp_path):
    with PushServer(tmp_path) as server:
        yield server


@pytest.fixture
def mailboxes(tmp_path):
    (tmp_path / "mail").mkdir()
    return tmp_path / "mail"


@pytest.fixture
def start(mailboxes, write_config, start_daemon, push_server, monkeypatch):
    """Start the service with the tests' push server, which its system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(push_server.certificate))

    def start_with(**settings):
        return start_daemon("chatmaild.metadata", write_config(**{"notification_url": push_server.url} | settings))

    return start_with


def queue_of(mailboxes):
    return sorted(path.name for path in (mailboxes / "pending_notifications").iterdir())


def wait_until_empty(mailboxes):
    wait_until(lambda: not queue_of(mailboxes))


def test_tokens_are_kept_in_the_order_in_which_they_were_set(start):
    daemon = start()
    assert daemon.ask(b"H3\t2\t0\t\tmetadata\n" + TOKENS) == b"O\n"
    assert daemon.ask(setting("1111") + TOKENS) == b"O\nO1111\n"
    assert daemon.ask(setting("2222") + setting("1111") + TOKENS) == b"O\nO\nO1111 2222\n"


def test_tokens_that_are_none(start):
    daemon = start()
    assert daemon.ask(setting("") + TOKENS) == b"O\nO\n"
    for token in ("a\x01nb", "a\x01rb", "x" * (TOKEN_MAX + 1)):
        assert daemon.ask(setting(token)).startswith(b"F\tdevice tokens: a device token has")
    assert daemon.ask(setting("x" * TOKEN_MAX)) == b"O\n"
    assert daemon.ask(b"B1\t" + USER.encode() + b"\nU1\tpriv/123/devicetoken\nC1\n") == b"O\n"
    assert daemon.ask(TOKENS) == b"O" + b"x" * TOKEN_MAX + b"\n"


def test_other_entries(start):
    daemon = start()
    assert daemon.ask(f"Lpriv/123/chatmail\t{USER}\nLshared/1\nLx\n".encode()) == b"N\nN\nN\n"
    assert daemon.ask(f"{SERVER}unknown\t{USER}\n{SERVER.replace('vendor.', '')}turn\n".encode()) == b"N\nN\n"
    assert daemon.ask(f"I9\t0\tpriv/123/\t{USER}\n".encode()) == b"\n"
    assert daemon.ask(b"B1\tu@d\nS1\tpriv/123/other\tx\nC1\n").startswith(b"F\t")
    assert daemon.ask(f"B1\t{USER}\nU1\tpriv/123/other\nU1\tshared/123/comment\nC1\n".encode()) == b"O\n"
    assert daemon.ask(f"B1\t{USER}\nU1\t{SERVER[1:]}turn\nC1\n".encode()).startswith(b"F\t")
    assert daemon.ask(b"B1\t../x@d\nS1\tpriv/123/devicetoken\tx\nC1\n").startswith(b"F\t")


@pytest.mark.parametrize(
    "settings, answer",
    [
        ({}, b"Ohttps://chat.example.org\n"),
        ({"iroh_relay": "https://iroh.example.org/"}, b"Ohttps://iroh.example.org/\n"),
        ({"iroh_relay": ""}, b"N\n"),
    ],
)
def test_what_the_server_tells(start, settings, answer):
    daemon = start(**settings)
    assert daemon.ask(f"{SERVER}irohrelay\t{USER}\n{SERVER}maxsmtprecipients\t{USER}\n".encode()) == answer + b"O1000\n"


@pytest.fixture
def turn_server(tmp_path):
    """A credential service that sends what it is given, and closes."""
    with contextlib.ExitStack() as stack:

        def serve(answer: bytes | None) -> str:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / "turn"))
            listener.listen()
            if answer is not None:

                def send():
                    with listener.accept()[0] as connection:
                        connection.sendall(answer)

                threading.Thread(target=send, daemon=True).start()
            return tmp_path / "turn"

        yield serve


@pytest.mark.parametrize(
    "sent, answer",
    [
        (b"user:pass\n", b"Ochat.example.org:3478:user:pass\n"),
        (b"user:pass", b"N\n"),
        (b"", b"N\n"),
        (b"\xff\n", b"N\n"),
        (b"x" * 100_000, b"N\n"),
    ],
)
def test_turn_credentials(start, turn_server, sent, answer):
    daemon = start(turn_socket_path=turn_server(sent))
    assert daemon.ask(f"{SERVER}turn\t{USER}\n{SERVER}maxsmtprecipients\n".encode()) == answer + b"O1000\n"


def test_an_ipv4_relay_names_its_turn_server_without_brackets(start, turn_server):
    daemon = start(mail_domain="192.0.2.7", turn_socket_path=turn_server(b"user:pass\n"))
    assert daemon.ask(f"{SERVER}turn\tuser12345@[192.0.2.7]\n".encode()) == b"O192.0.2.7:3478:user:pass\n"


def test_a_turn_server_that_is_away_or_silent(start, turn_server, tmp_path):
    daemon = start(turn_socket_path=tmp_path / "turn")
    assert daemon.ask(f"{SERVER}turn\t{USER}\n".encode()) == b"N\n"
    turn_server(None)
    with daemon.connect() as waiting:
        waiting.sendall(f"{SERVER}turn\t{USER}\n".encode())
        assert daemon.ask(f"{SERVER}maxsmtprecipients\n".encode()) == b"O1000\n"
        assert waiting.recv(100) == b"N\n"
    assert sum("no TURN credentials" in line for line in daemon.stop()) == 2


@pytest.mark.parametrize(
    "content, answer",
    [
        (None, None),
        (b"{", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b'{ "clients": [] }\n', '{"clients":[]}'),
        (b'{"a": "line\\nbreak"}', '{"a":"line\\nbreak"}'),
    ],
)
def test_app_versions(tmp_path, content, answer):
    if content is not None:
        (tmp_path / "appversions.json").write_bytes(content)
    assert metadata.app_versions(tmp_path / "appversions.json") == answer


def test_a_message_wakes_each_device_once(start, push_server, mailboxes):
    daemon = start()
    assert (
        daemon.ask(setting("1111") + setting("t\xffwo") + setting("other", "other1234@chat.example.org")) == b"O\n" * 3
    )
    assert daemon.ask(MESSAGE) == b"O\n"
    assert sorted(push_server.wait_for(2)) == sorted([b"1111", "t\xffwo".encode()])
    wait_until_empty(mailboxes)
    assert daemon.stop() == []
    daemon = start()
    assert daemon.ask(TOKENS) == "O1111 t\xffwo\n".encode()
    assert len(push_server.bodies) == 2


def test_a_device_that_is_gone_is_forgotten_alone(start, push_server, mailboxes):
    push_server.status_of = lambda body: 410 if body == b"1111" else 200
    daemon = start()
    daemon.ask(setting("1111") + setting("2222") + MESSAGE)
    push_server.wait_for(2)
    wait_until_empty(mailboxes)
    assert daemon.ask(TOKENS) == b"O2222\n"


def test_a_push_never_brings_a_removed_mailbox_back(start, push_server, mailboxes):
    queue = mailboxes / "pending_notifications"
    queue.mkdir()
    (queue / ("0" * 32)).write_text(f"{USER}\n{int(time.time())}\n1111")
    push_server.status_of = lambda body: 410
    daemon = start()
    wait_until_empty(mailboxes)
    assert daemon.ask(TOKENS + MESSAGE) == b"O\nO\n"
    assert [path.name for path in mailboxes.iterdir()] == ["pending_notifications"]


@pytest.mark.parametrize("status", [404, 500, 302, 201])
def test_a_refused_push_waits_for_its_next_try_and_survives_a_restart(start, push_server, mailboxes, status):
    push_server.status_of = lambda body: status
    daemon = start()
    daemon.ask(setting("1111") + MESSAGE)
    daemon.wait_for_log("request failed")
    assert len(queue_of(mailboxes)) == 1
    (line,) = daemon.stop()
    assert line == f"request failed (try 1): status {status}"
    push_server.status_of = lambda body: 200
    start()
    assert push_server.wait_for(2) == [b"1111"] * 2
    wait_until_empty(mailboxes)


def test_a_kill_loses_nothing_and_repeats_nothing_that_succeeded(start, push_server, mailboxes):
    push_server.status_of = lambda body: 200 if body == b"quick" else None
    daemon = start()
    daemon.ask(setting("quick") + setting("hangs") + MESSAGE * 20)
    push_server.wait_for(40)
    wait_until(lambda: len(queue_of(mailboxes)) <= 20)
    daemon.process.kill()
    daemon.process.wait()
    push_server.status_of = lambda body: 200
    start()
    assert sorted(push_server.wait_for(60)[40:]) == [b"hangs"] * 20
    wait_until_empty(mailboxes)


def test_a_push_server_that_hangs_delays_nobody_else(start, push_server):
    push_server.status_of = lambda body: None if body.startswith(b"hangs") else 200
    daemon = start()
    for number in range(TOKENS_MAX):
        daemon.ask(setting(f"hangs{number}"))
    assert daemon.ask(MESSAGE * 10) == b"O\n" * 10
    daemon.ask(setting("quick", "other1234@chat.example.org") + MESSAGE.replace(b"user1", b"user2"))
    assert daemon.ask(MESSAGE.replace(USER.encode(), b"other1234@chat.example.org")) == b"O\n"
    assert b"quick" in push_server.wait_for(10 * TOKENS_MAX + 1)
    assert daemon.ask(f"{SERVER}maxsmtprecipients\n".encode()) == b"O1000\n"


def test_a_certificate_that_is_not_trusted_gets_no_token(start, push_server, monkeypatch, tmp_path, mailboxes):
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    daemon = start()
    daemon.ask(setting("1111") + MESSAGE)
    assert "CERTIFICATE_VERIFY_FAILED" in daemon.wait_for_log("request failed")
    assert push_server.bodies == []
    assert len(queue_of(mailboxes)) == 1


def test_connections_to_the_push_server_are_kept(start, push_server, mailboxes):
    daemon = start()
    daemon.ask(setting("1111"))
    for number in range(1, 21):
        daemon.ask(MESSAGE)
        push_server.wait_for(number)
        wait_until_empty(mailboxes)
    assert len(push_server.connections) == 1


def test_without_a_push_server_nothing_is_kept(start, mailboxes):
    daemon = start(notification_url="")
    assert daemon.ask(setting("1111") + MESSAGE + TOKENS) == b"O\nO\nO1111\n"
    assert [path.name for path in mailboxes.iterdir()] == [USER]


def test_it_needs_the_mailboxes_directory(write_config, run_service, tmp_path):
    result = run_service("chatmaild.metadata", write_config(), sockets=1)
    assert result.returncode == 1
    assert f"mailboxes_dir is {tmp_path}/mail, which is no directory" in result.stderr


def test_tokens_of_the_old_form_are_told_and_converted(start, mailboxes):
    (mailboxes / USER).mkdir()
    (mailboxes / USER / "metadata.json").write_text('{"devicetoken": ["one", "two"], "other": 1}')
    daemon = start()
    assert daemon.ask(TOKENS) == b"Oone two\n"
    content = json.loads((mailboxes / USER / "metadata.json").read_text())
    assert list(content["devicetoken"]) == ["one", "two"]
    assert content["other"] == 1
    assert read_config(mailboxes.parent / "settings.toml", Config).mailbox(USER).path == mailboxes / USER
