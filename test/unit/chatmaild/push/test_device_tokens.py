"""The tokens of an address' devices: their order, age, number, and the file that holds them."""

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatmaild.mailboxes.mailbox import Mailbox
from chatmaild.push import device_tokens
from chatmaild.push.device_tokens import CLOCK_SKEW, LIFETIME, TOKENS_MAX, DeviceTokens

USER = "user12345@chat.example.org"
NOW = 1_700_000_000


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(tmp_path, USER)


@pytest.fixture
def tokens(mailbox):
    return DeviceTokens(mailbox, lambda: NOW)


def stored(mailbox):
    return json.loads(mailbox.metadata_path.read_text())


def store(mailbox, content):
    mailbox.path.mkdir()
    mailbox.metadata_path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_tokens_keep_their_place_when_they_are_set_again(mailbox):
    now = [NOW]
    tokens = DeviceTokens(mailbox, lambda: now[0])
    for token in ("one", "two", "one"):
        now[0] += 1
        tokens.add(token)
    assert list(stored(mailbox)["devicetoken"].items()) == [("one", NOW + 3), ("two", NOW + 2)]


def test_two_stores_of_one_address_see_each_others_changes(tokens, mailbox):
    other = DeviceTokens(mailbox, lambda: NOW)
    tokens.add("one")
    other.add("two")
    assert tokens.read() == other.read() == ["one", "two"]
    other.remove("one")
    assert tokens.read() == ["two"]


def test_removing_what_is_not_there_changes_nothing(tokens, mailbox, tmp_path):
    tokens.remove("one")
    assert list(tmp_path.iterdir()) == []
    tokens.add("one")
    tokens.remove("two")
    assert tokens.read() == ["one"]


@pytest.mark.parametrize(
    "set_at, valid",
    [
        (NOW, True),
        (NOW + 0.5, True),
        (NOW - LIFETIME + 1, True),
        (NOW - LIFETIME, False),
        (NOW + CLOCK_SKEW - 1, True),
        (NOW + CLOCK_SKEW, False),
        ("1700000000", False),
        (None, False),
        (True, False),
    ],
)
def test_tokens_end_by_age(tokens, mailbox, set_at, valid):
    store(mailbox, {"devicetoken": {"old": set_at, "new": NOW}, "other": [1]})
    assert tokens.read() == (["old", "new"] if valid else ["new"])
    assert list(stored(mailbox)["devicetoken"]) == tokens.read()
    assert stored(mailbox)["other"] == [1]


@pytest.mark.parametrize("change", [lambda tokens: tokens.read(), lambda tokens: tokens.add("two")])
def test_the_list_of_earlier_relays_is_converted(tokens, mailbox, change):
    store(mailbox, {"devicetoken": ["one", "two", 3, ""], "other": None})
    change(tokens)
    assert stored(mailbox) == {"devicetoken": {"one": NOW, "two": NOW}, "other": None}


@pytest.mark.parametrize("value", [None, 1, "text", True])
def test_another_type_means_no_tokens(tokens, mailbox, value):
    store(mailbox, {"devicetoken": value})
    assert tokens.read() == []


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", "[" * 100_000])
def test_a_corrupt_file_counts_as_empty(tokens, mailbox, caplog, content):
    store(mailbox, content)
    assert tokens.read() == []
    assert "corrupt" in caplog.text
    tokens.add("one")
    assert tokens.read() == ["one"]


def test_the_token_that_was_set_longest_ago_makes_room(mailbox):
    times = iter(range(NOW, NOW + 100))
    tokens = DeviceTokens(mailbox, lambda: next(times))
    for number in range(TOKENS_MAX):
        tokens.add(str(number))
    tokens.add("0")
    tokens.add("new")
    assert tokens.read() == ["0", *(str(number) for number in range(2, TOKENS_MAX)), "new"]


def test_thirty_writers_at_once_leave_one_complete_file(mailbox):
    with ThreadPoolExecutor(30) as pool:
        list(pool.map(lambda _: DeviceTokens(mailbox).add("same"), range(30)))
    assert list(stored(mailbox)["devicetoken"]) == ["same"]
    assert {path.name for path in mailbox.path.iterdir()} == {"metadata.json", "metadata.json.lock"}


def test_readers_do_not_wait_for_the_lock_and_writers_not_for_ever(tokens, mailbox, monkeypatch):
    monkeypatch.setattr(device_tokens, "LOCK_TIMEOUT", 0.05)
    tokens.add("one")
    with mailbox.metadata_lock_path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert tokens.read() == ["one"]
        with pytest.raises(TimeoutError, match="is locked"):
            tokens.add("two")
    tokens.add("two")
    assert tokens.read() == ["one", "two"]


def test_bytes_that_are_not_utf8_survive(tokens):
    tokens.add("t\udcff\udcfe")
    assert tokens.read() == ["t\udcff\udcfe"]
