"""Dovecot's dict protocol: forms, order and number of the answers."""

import asyncio
import contextlib
import logging
import random

import pytest

from chatmaild.dovecot.dict_server import (
    CHANGES_MAX,
    LINE_MAX,
    TRANSACTIONS_MAX,
    Connection,
    DictError,
    Dictionary,
    escape,
    serve,
    unescape,
)
from test.support import activation

USER = "user12345@chat.example.org"


class Memory(Dictionary):
    """Keeps values for each user; some keys have a behaviour."""

    def __init__(self):
        self.values = {}

    async def lookup(self, key, user):
        match key:
            case "slow":
                await asyncio.sleep(0.05)
                return "slow"
            case "refused":
                raise DictError("not\tyou")
            case "broken":
                raise ZeroDivisionError
        return self.values.get((key, user))

    async def iterate(self, path, user):
        if path == "broken":
            raise ZeroDivisionError
        return {key: value for (key, owner), value in self.values.items() if key.startswith(path) and owner == user}

    async def set(self, key, value, user):
        if key == "refused":
            raise DictError("not\tyou")
        self.values[key, user] = value

    async def unset(self, key, user):
        del self.values[key, user]


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def connection(memory):
    return Connection(memory)


def answer(connection, *lines) -> list[str]:
    async def answer_all():
        return [await connection.answer(line) for line in lines]

    return asyncio.run(answer_all())


def talk(tmp_path, dictionary, *requests: bytes) -> list[bytes]:
    """Send each request over a connection of its own, all at the same time; return everything answered."""

    async def one(request):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(request)
        writer.write_eof()
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return received

    async def run():
        server = asyncio.create_task(serve(dictionary, activation.unix_listener(tmp_path / "socket")))
        received = await asyncio.gather(*(one(request) for request in requests))
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
        return received

    return asyncio.run(run())


@pytest.mark.parametrize(
    "plain, escaped",
    [
        ("\0", "\x010"),
        ("\x01", "\x011"),
        ("\t", "\x01t"),
        ("\r", "\x01r"),
        ("\n", "\x01n"),
        ("a\x01t\t", "a\x011t\x01t"),
    ],
)
def test_escaping(plain, escaped):
    assert escape(plain) == escaped
    assert unescape(escaped) == plain


@pytest.mark.parametrize("parameter", ["plain", "", "\x01", "\x01x", "a\x01"])
def test_what_is_no_escape_sequence_stays(parameter):
    assert unescape(parameter) == parameter


def test_hello_has_no_answer_and_no_log_line(connection, caplog):
    assert answer(connection, "H3\t2\t0\t\tauth", "HELLO") == ["", ""]
    assert not caplog.records


@pytest.mark.parametrize(
    "line, expected",
    [
        ("Lkey\t" + USER, "Ovalue\n"),
        ("Lkey", "N\n"),
        ("Labsent\t" + USER, "N\n"),
        ("Ltab\x01tkey\t" + USER, "Oa\x01tb\x01n\n"),
        ("Lrefused", "Fnot\x01tyou\n"),
        ("L", "N\n"),
    ],
)
def test_lookup(connection, memory, line, expected):
    memory.values = {("key", USER): "value", ("tab\tkey", USER): "a\tb\n"}
    assert answer(connection, line) == [expected]


def test_a_failing_lookup_is_answered_and_logged_with_a_traceback(connection, caplog):
    assert answer(connection, "Lbroken\tsecret") == ["Finternal error, see the log of the service\n"]
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "line, expected",
    [
        (f"I1\t0\ta/\t{USER}", "Oa/1\tone\nOa/2\tt\x01two\n\n"),
        (f"I1\t1\ta/\t{USER}", "Oa/1\tone\n\n"),
        (f"I9\t0\ta/\t{USER}", "Oa/1\t\nOa/2\t\n\n"),
        (f"I1\t0\tb/\t{USER}", "\n"),
        ("I1\t0\ta/", "\n"),
        ("I", "\n"),
        ("Ix\ty\ta/\t" + USER, "Oa/1\tone\nOa/2\tt\x01two\n\n"),
        ("I1\t0\tbroken", "Finternal error, see the log of the service\n"),
    ],
)
def test_iteration_always_ends(connection, memory, line, expected):
    memory.values = {("a/2", USER): "t\two", ("a/1", USER): "one"}
    assert answer(connection, line) == [expected]


def test_a_dictionary_without_keys_still_answers():
    connection = Connection(Dictionary())
    assert answer(connection, "Lkey", "I0\t0\tpriv/", "B1", "S1\tkey\tvalue", "C1", "B1", "U1\tkey", "C1") == [
        "Fthis key cannot be looked up\n",
        "\n",
        "",
        "",
        "F\tthis key cannot be set\n",
        "",
        "",
        "F\tthis key cannot be unset\n",
    ]


def test_a_transaction(connection, memory):
    assert answer(connection, f"B1111\t{USER}") == [""]
    assert connection.transactions["1111"].user == USER
    assert connection.transactions["1111"].error == ""
    assert answer(connection, "S1111\tkey\x01t\tvalue\x01n", "T1111\t1\t2") == ["", ""]
    assert memory.values == {}
    assert answer(connection, "C1111") == ["O\n"]
    assert memory.values == {("key\t", USER): "value\n"}
    assert connection.transactions == {}


def test_the_old_letter_for_a_commit(connection, memory):
    assert answer(connection, "B1", "S1\tkey\tvalue", "D1") == ["", "", "O\n"]
    assert memory.values == {("key", ""): "value"}


def test_unset(connection, memory):
    memory.values = {("key", USER): "value"}
    assert answer(connection, "B1\t" + USER, "U1\tkey", "C1") == ["", "", "O\n"]
    assert memory.values == {}


def test_rollback_forgets_the_changes(connection, memory):
    assert answer(connection, "B1", "S1\tkey\tvalue", "R1", "C1") == ["", "", "", "F\tthere is no such transaction\n"]
    assert memory.values == {}


def test_a_failing_change_fails_the_commit_only(connection, memory):
    lines = ["B1", "S1\trefused\tx", "S1\tkey\tvalue", "C1", "B1", "S1\tother\tvalue", "C1"]
    assert answer(connection, *lines) == ["", "", "", "F\tnot\x01tyou\n", "", "", "O\n"]
    assert memory.values == {("other", ""): "value"}


def test_increments_are_refused_at_commit(connection):
    assert answer(connection, "B1", "A1\tkey\t1", "C1") == ["", "", "F\tvalues cannot be incremented\n"]


@pytest.mark.parametrize("line", ["S7\tkey\tvalue", "U7\tkey", "A7\tkey\t1", "T7\t1\t2", "R7"])
def test_changes_of_an_unknown_transaction_are_logged(connection, caplog, line):
    assert answer(connection, line, "C7") == ["", "F\tthere is no such transaction\n"]
    assert "there is no transaction '7'" in caplog.records[0].getMessage()


def test_transactions_are_bounded(connection):
    begins = [f"B{number}" for number in range(TRANSACTIONS_MAX + 1)]
    answer(connection, *begins)
    assert len(connection.transactions) == TRANSACTIONS_MAX
    assert answer(connection, f"C{TRANSACTIONS_MAX}", "C0") == ["F\tthere is no such transaction\n", "O\n"]


def test_changes_are_bounded(connection, memory):
    changes = [f"S1\tkey{number}\tvalue" for number in range(CHANGES_MAX + 1)]
    *_nothing, commit = answer(connection, "B1", *changes, "C1")
    assert commit == f"F\ta transaction has at most {CHANGES_MAX} changes\n"
    assert memory.values == {}


def test_unknown_commands_are_logged_without_their_text(connection, caplog):
    assert answer(connection, "Xsecret", "Labsent") == ["", "N\n"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "ignoring unknown command 'X'"


def test_answers_come_in_the_order_of_the_requests(tmp_path, memory):
    memory.values = {("fast", ""): "fast"}
    assert talk(tmp_path, memory, b"Lslow\nLfast\nI0\t0\tfast\nB1\nC1\nLslow\n") == [
        b"Oslow\nOfast\nOfast\tfast\n\nO\nOslow\n"
    ]


def test_transactions_belong_to_their_connection(tmp_path, memory):
    requests = [b"B1\tu%d\nLslow\nS1\tkey\tvalue%d\nC1\n" % (number, number) for number in range(20)]
    assert talk(tmp_path, memory, *requests) == [b"Oslow\nO\n"] * 20
    assert memory.values == {("key", f"u{number}"): f"value{number}" for number in range(20)}


def test_an_empty_line_ends_the_connection(tmp_path, memory):
    assert talk(tmp_path, memory, b"La\n\nLb\n") == [b"N\n"]


def test_the_last_line_may_lack_its_end(tmp_path, memory):
    assert talk(tmp_path, memory, b"HELLO\nI0\t0\tshared/userdb/") == [b"\n"]


def test_bytes_that_are_not_utf8_survive(tmp_path, memory):
    assert talk(tmp_path, memory, b"B1\tu\xff\nS1\tk\xfe\tv\xc3\x28\nC1\nLk\xfe\tu\xff\n") == [b"O\nOv\xc3\x28\n"]


def test_whatever_comes_each_request_has_one_answer(tmp_path):
    noise = random.Random(2)
    lines = [
        bytes(noise.choices(b"HLIBSUATRCD*x\t\x01\x000189k\xff\xc3\r", k=noise.randint(1, 30))) for _ in range(5000)
    ]
    (answered,) = talk(tmp_path, Dictionary(), b"\n".join(lines))
    assert answered.count(b"\n") == sum(line[:1] in b"LICD" for line in lines)


def test_a_line_of_any_length_that_dovecot_sends(tmp_path, memory):
    longest = b"L".ljust(LINE_MAX, b"x") + b"\n"
    assert talk(tmp_path, memory, b"La\n" + longest + b"Lb\n") == [b"N\nN\nN\n"]


def test_a_longer_line_closes_the_connection_alone(tmp_path, memory, caplog):
    too_long = b"La\n" + b"L".ljust(LINE_MAX + 1, b"x") + b"\nLb\n"
    endless = b"L".ljust(300_000, b"x")
    with contextlib.suppress(ConnectionError):  # bytes that nobody reads any more reset the connection
        talk(tmp_path, memory, endless)
    assert talk(tmp_path, memory, too_long, b"Lb\n") == [b"N\n", b"N\n"]
    assert f"a line is longer than {LINE_MAX} bytes" in caplog.text
