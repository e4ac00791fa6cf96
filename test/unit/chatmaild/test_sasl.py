"""What Postfix is told, by a client that speaks as Postfix does, with doveauth behind it."""

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmaild import sasl
from chatmaild.sasl import Doveauth, NoAnswer, SaslServer, parse_plain
from test.support import activation
from test.unit.chatmaild.conftest import SOURCE

DOMAIN = "chat.example.org"
USER = f"user12345@{DOMAIN}"
PASSWORD = "pa\"ss\\wo'r/d\t%u ü"


def plain(user: str, password: str, authorization: str = "") -> str:
    return base64.b64encode(f"{authorization}\0{user}\0{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "user", "address"),
    [("", USER, USER), (USER, USER, USER), ("", "User12345@[192.0.2.7]", "user12345@[192.0.2.7]")],
)
def test_a_response_is_read(authorization, user, address):
    assert parse_plain(plain(user, PASSWORD, authorization)) == (address, PASSWORD)


@pytest.mark.parametrize(
    "response",
    [
        *("", "=", "x", "####", base64.b64encode(b"no fields").decode()),
        *(plain("", "secret"), plain(USER, "secret", "other@x"), plain("a b", "secret"), plain("ä@x", "secret")),
        *(plain(USER, "sec\0ret"), plain("user\t@x", "secret"), plain("x" * 400, "secret")),
    ],
)
def test_other_responses_are_no_logins(response):
    assert parse_plain(response) is None


@given(st.text(max_size=100) | st.binary(max_size=100).map(lambda octets: base64.b64encode(octets).decode()))
def test_any_response_can_be_read(response):
    login = parse_plain(response)
    assert login is None or (login[0] == login[0].lower() and "\0" not in login[1])


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(sasl, "FAILURE_S", 0)


class Postfix:
    """A connection of Postfix's."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer = reader, writer

    async def handshake(self) -> list[bytes]:
        self.writer.write(b"VERSION\t1\t1\nCPID\t7\n")
        lines = []
        while not lines or lines[-1] != b"DONE\n":
            lines.append(await self.reader.readline())
        return lines

    async def say(self, line: str) -> bytes:
        """The line that answers, nothing where the connection ends instead."""
        self.writer.write(line.encode() + b"\n")
        return await self.reader.readline()

    async def log_in(self, password: str, user: str = USER) -> bytes:
        parameters = "service=smtp\tnologin\tlip=192.0.2.1\trip=198.51.100.1\tsecured"
        return await self.say(f"AUTH\t1\tPLAIN\t{parameters}\tresp={plain(user, password)}")


def talk(doveauth, dialogue):
    """Run `dialogue` with a connection to the server, which asks the socket `doveauth`."""

    async def run():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=theirs, limit=sasl.REQUEST_MAX)
        serving = asyncio.create_task(SaslServer(Doveauth(doveauth)).serve_connection(reader, writer))
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        async with asyncio.timeout(30):
            result = await dialogue(Postfix(reader, writer))
            writer.close()
            await serving
        return result

    return asyncio.run(run())


@pytest.fixture
def doveauth(start_daemon, write_config):
    return start_daemon("chatmaild.doveauth", write_config())


def test_the_handshake_offers_plain(tmp_path):
    lines = talk(tmp_path / "absent", Postfix.handshake)
    assert lines[0] == b"VERSION\t1\t1\n"
    assert b"MECH\tPLAIN\tplaintext\n" in lines


def test_the_first_login_creates_and_the_password_holds(doveauth):
    async def dialogue(postfix):
        await postfix.handshake()
        return [
            await postfix.log_in(PASSWORD),
            await postfix.log_in(PASSWORD, USER.upper()),
            await postfix.log_in(PASSWORD + "x"),
            await postfix.log_in(PASSWORD, f"user54321@other.{DOMAIN}"),
            await postfix.say("AUTH\t2\tPLAIN\trip=192.0.2.1"),
            await postfix.say(f"CONT\t2\t{plain(USER, PASSWORD)}"),
            await postfix.say(f"CONT\t2\t{plain(USER, PASSWORD)}"),
            await postfix.say("AUTH\t3\tLOGIN\tresp="),
        ]

    right = f"OK\t1\tuser={USER}\n".encode()
    assert talk(doveauth.socket_path, dialogue) == [
        *(right, right, b"FAIL\t1\n", b"FAIL\t1\n"),
        *(b"CONT\t2\t\n", right.replace(b"1", b"2", 1), b"FAIL\t2\n", b"FAIL\t3\n"),
    ]
    assert not [line for line in doveauth.stop() if "pa" in line and "ss" in line]


async def log_in(postfix):
    await postfix.handshake()
    return await postfix.log_in(PASSWORD)


def test_without_doveauth_there_is_no_answer(tmp_path):
    assert talk(tmp_path / "absent", log_in) == b""


def test_a_doveauth_that_hangs_gives_no_answer(doveauth, monkeypatch):
    monkeypatch.setattr(sasl, "ANSWER_S", 0.2)
    os.kill(doveauth.process.pid, signal.SIGSTOP)
    assert talk(doveauth.socket_path, log_in) == b""
    os.kill(doveauth.process.pid, signal.SIGCONT)


def test_too_many_guesses_get_no_answer(doveauth):
    async def dialogue(postfix):
        await postfix.handshake()
        await postfix.log_in(PASSWORD)
        return [await postfix.log_in(f"guess {number}") for number in range(12)]

    assert talk(doveauth.socket_path, dialogue) == [b"FAIL\t1\n"] * 10 + [b""] * 2


def test_a_question_that_was_not_read_is_asked_again(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "doveauth"))
    listener.listen()

    def serve():
        listener.accept()[0].close()
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"N\n")
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert asyncio.run(Doveauth(tmp_path / "doveauth").is_right(USER, PASSWORD, "")) is False
    thread.join()
    listener.close()
    with pytest.raises(NoAnswer):
        asyncio.run(Doveauth(tmp_path / "doveauth").is_right(USER, PASSWORD, ""))


def test_a_doveauth_that_is_silent_is_named_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(sasl, "ANSWER_S", 0.05)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "doveauth"))
        listener.listen()
        with pytest.raises(NoAnswer, match="none in time"):
            asyncio.run(Doveauth(tmp_path / "doveauth").is_right(USER, PASSWORD, ""))


@pytest.fixture
def service(tmp_path):
    """The service as a process, and a client that has connected to it; doveauth is for the test to play."""
    with contextlib.closing(activation.unix_listener(tmp_path / "sasl")) as listener:
        argv = [sys.executable, "-m", "chatmaild.sasl", tmp_path / "doveauth"]
        process = activation.start(argv, [listener], {"PYTHONPATH": str(SOURCE)})
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(tmp_path / "sasl"))
        assert client.recv(1000).startswith(b"VERSION")
        yield process, client
    process.kill()


def test_the_service_takes_its_socket_from_systemd(tmp_path, run_service, service):
    assert "start this by its" in run_service("chatmaild.sasl", tmp_path / "doveauth").stderr
    process, client = service
    process.terminate()
    assert client.recv(1000) == b""
    assert process.wait(20) == 0


def test_a_login_that_has_begun_is_answered_before_the_service_ends(tmp_path, service):
    process, client = service
    with contextlib.closing(activation.unix_listener(tmp_path / "doveauth")) as doveauth:
        client.sendall(f"AUTH\t1\tPLAIN\tresp={plain(USER, PASSWORD)}\n".encode())
        question, _ = doveauth.accept()
        process.terminate()
        question.sendall(b"N\n")
        assert client.recv(1000) == b"FAIL\t1\n"
        question.close()
    assert process.wait(20) == 0


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_whatever_is_sent_nobody_is_let_in(requests):
    async def dialogue(postfix):
        postfix.writer.write(b"\n".join(requests) + b"\n")
        postfix.writer.write_eof()
        return await postfix.reader.read()

    assert b"\nOK" not in talk("/nowhere/doveauth", dialogue)
