"""The queue of push notifications: its files, its levels, its end."""

import asyncio
import logging
import time

import pytest

from chatmaild.mailboxes.mailbox import Mailbox
from chatmaild.push import notifier
from chatmaild.push.client import PushError
from chatmaild.push.device_tokens import DeviceTokens
from chatmaild.push.notifier import DEADLINE, TRIES, Notification, Notifier, left_behind

USER = "user12345@chat.example.org"


class Client:
    """Stands in for the push server: raises or returns what it is told, and remembers the tokens."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.tokens = []

    async def post(self, token):
        self.tokens.append(token)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close_idle(self):
        pass

    def close(self):
        pass


@pytest.fixture
def tokens(tmp_path):
    tokens = DeviceTokens(Mailbox(tmp_path, USER))
    tokens.add("1111")
    tokens.add("2222")
    return tokens


def run(tmp_path, client, *, until, messages=1):
    """Notify of new messages; end when `until` holds for the notifier."""

    async def work():
        async with (
            asyncio.timeout(20),
            Notifier(tmp_path / "queue", client, lambda address: DeviceTokens(Mailbox(tmp_path, address))) as queue,
        ):
            for _ in range(messages):
                await queue.new_message(USER)
            while not until(queue):
                await asyncio.sleep(0.005)

    asyncio.run(work())


def test_a_file_keeps_address_time_and_token(tmp_path):
    notification = Notification(USER, 1700000000, "line one\nline two \udcff")
    path = notification.write(tmp_path)
    assert path.read_bytes() == f"{USER}\n1700000000\nline one\nline two ".encode() + b"\xff"
    assert Notification.read(path) == notification
    assert len(path.name) == 32
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"x", b"a@b\n1", b"a@b\nx\ntoken", b"a@b\n-1\nt", b"a@b\n1\n", b"x" * 20000])
def test_what_is_no_notification_is_deleted_at_the_start(tmp_path, caplog, content):
    good = Notification(USER, 1700000000, "1111").write(tmp_path)
    (tmp_path / "bad").write_bytes(content)
    (tmp_path / "half.tmp-x1").write_bytes(b"a@b\n1\ntoken")
    assert list(left_behind(tmp_path)) == [good.name]
    assert list(tmp_path.iterdir()) == [good]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert caplog.text.count("spurious") == 2


def test_fractions_of_seconds_of_earlier_relays_are_understood(tmp_path):
    (tmp_path / "old").write_bytes(b"a@b\n1700000000.25\ntoken")
    assert Notification.read(tmp_path / "old").start == 1700000000


def test_all_devices_are_told_in_the_order_in_which_they_were_set(tmp_path, tokens, caplog):
    client = Client(200)
    run(tmp_path, client, until=lambda queue: queue.pending == 0)
    assert client.tokens == [b"1111", b"2222"]
    assert tokens.read() == ["1111", "2222"]
    assert list((tmp_path / "queue").iterdir()) == []
    assert not caplog.records


@pytest.mark.parametrize(
    "failure", [404, 500, 302, OSError("refused"), TimeoutError(), PushError("no HTTP"), ZeroDivisionError()]
)
def test_failures_go_from_level_to_level_and_end(tmp_path, tokens, caplog, monkeypatch, failure):
    monkeypatch.setattr(notifier, "RETRY_BASE", 0)
    tokens.remove("2222")
    client = Client(failure)
    run(tmp_path, client, until=lambda queue: queue.pending == 0)
    messages = [record.getMessage() for record in caplog.records]
    assert client.tokens == [b"1111"] * TRIES
    assert [message.startswith("request failed") for message in messages] == [True] * TRIES + [False]
    assert "deadline" in messages[-1]
    assert "1111" not in caplog.text
    assert list((tmp_path / "queue").iterdir()) == []
    assert tokens.read() == ["1111"]


def test_the_next_level_waits(tmp_path, tokens):
    waiting = []

    def queued(queue):
        waiting[:] = [level.qsize() for level in queue.levels]
        return not queue.levels[0].qsize() and len(client.tokens) == 2 and len(queue._tasks) == TRIES + 1

    client = Client(500)
    run(tmp_path, client, until=queued)
    # The first of the second level was taken, and is being waited for.
    assert waiting == [0, 1, 0, 0, 0]
    assert len(list((tmp_path / "queue").iterdir())) == 2


def test_a_later_success_ends_it(tmp_path, tokens, monkeypatch):
    monkeypatch.setattr(notifier, "RETRY_BASE", 0)
    tokens.remove("2222")
    client = Client(500, OSError("refused"), 200)
    run(tmp_path, client, until=lambda queue: queue.pending == 0)
    assert client.tokens == [b"1111"] * 3


def test_after_the_deadline_there_is_one_try(tmp_path, tokens, caplog):
    (tmp_path / "queue").mkdir()
    Notification(USER, int(time.time()) - DEADLINE, "1111").write(tmp_path / "queue")
    client = Client(500)
    run(tmp_path, client, messages=0, until=lambda queue: queue.pending == 0)
    assert len(client.tokens) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert list((tmp_path / "queue").iterdir()) == []


def test_what_is_pending_is_bounded(tmp_path, tokens, monkeypatch):
    monkeypatch.setattr(notifier, "PENDING_MAX", 4)
    with pytest.raises(BufferError, match="is the push server reachable"):
        run(tmp_path, Client(500), messages=3, until=lambda queue: False)
    assert len(list((tmp_path / "queue").iterdir())) == 4


def test_a_file_that_somebody_removed_is_no_failure(tmp_path, tokens, caplog):
    async def work():
        client = Client(200)
        async with Notifier(tmp_path / "queue", client, lambda address: tokens) as queue:
            queue._enqueue(["0" * 32])
            while queue.pending:
                await asyncio.sleep(0.005)
        return client.tokens

    assert asyncio.run(work()) == []
    assert not caplog.records
