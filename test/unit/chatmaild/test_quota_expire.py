"""The oldest messages make room."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmaild.mailboxes.mailbox import DAY, Mailbox
from chatmaild.quota_expire import (
    MESSAGES_PER_MIB,
    MIB,
    StoredMessage,
    excess,
    expire_to_target,
    most_messages,
    parse_name,
    size_at_most,
)

USER = "user@example.org"
NOW = 1_800_000_000


def test_a_name_tells_time_and_size():
    path = "cur/1775324677.M448978P3029757.exam,S=3235,W=3305:2,S"
    assert parse_name(path) == StoredMessage(1775324677, 3235, path)


@pytest.mark.parametrize(
    "name", ["", "message", "1775324677", "1775324677.M1P1.host", "x1.M1.host,S=10", "1.M1,S=", "1.M1,S=5x", ".1,S=5"]
)
def test_names_of_other_forms_are_ignored(name):
    assert parse_name(f"cur/{name}") is None


@given(st.text())
def test_any_name_can_be_asked(name):
    message = parse_name(name)
    assert message is None or (message.time >= 0 and message.size >= 0)


pieces = st.sampled_from(["17", ".", ",S=", ",W=", ":2,S", "5", "999999999999999", "0", "x", "\n"])


@given(st.lists(st.lists(pieces, max_size=8).map("".join)))
def test_messages_take_no_more_than_their_names_say_together(names):
    messages = filter(None, map(parse_name, names))
    assert sum(message.size for message in messages) <= size_at_most(names)


@pytest.fixture
def mailbox(tmp_path):
    mailbox = Mailbox(tmp_path, USER)
    (mailbox.path / "cur").mkdir(parents=True)
    (mailbox.path / "new").mkdir()
    return mailbox


def store(mailbox, folder, days, size, on_disk=None):
    name = f"{int(time.time()) - days * DAY}.M1P{days}.host,S={size},W={size}:2,S"
    path = mailbox.path / folder / name
    with path.open("wb") as file:
        file.truncate(size if on_disk is None else on_disk)
    return path


def test_the_oldest_go_until_the_rest_fits(mailbox, capsys):
    paths = [
        store(mailbox, "cur", 10, MIB),
        store(mailbox, "new", 5, MIB, on_disk=100),  # compressed; the quota counts what it was before
        store(mailbox, "cur", 0, MIB),
    ]
    mailbox.quota_cache_path.touch()
    assert expire_to_target(mailbox, MIB, time.time()) == 2
    assert [path.exists() for path in paths] == [False, False, True]
    assert not mailbox.quota_cache_path.exists()
    assert capsys.readouterr().err == f"quota-expire: removed 2 message(s) from {USER}\n"


def test_nothing_to_remove_leaves_the_quota_cache(mailbox, capsys):
    store(mailbox, "cur", 10, MIB)
    store(mailbox, "cur", 0, 10 * MIB)
    mailbox.quota_cache_path.touch()
    assert expire_to_target(mailbox, 11 * MIB, time.time()) == 0
    assert mailbox.quota_cache_path.exists()
    assert capsys.readouterr().err == ""


def test_messages_of_the_last_day_stay(mailbox):
    paths = [store(mailbox, "cur", 0, MIB) for _ in range(3)]
    assert expire_to_target(mailbox, 0, time.time()) == 0
    assert all(path.exists() for path in paths)


def test_links_and_other_names_take_no_part(mailbox, tmp_path):
    outside = tmp_path / "outside"
    outside.touch()
    link = mailbox.path / "cur/1.M1P1.host,S=99999999:2,S"
    link.symlink_to(outside)
    other = mailbox.path / "cur/other"
    other.touch()
    assert expire_to_target(mailbox, 0, time.time()) == 0
    assert link.is_symlink()
    assert other.exists()


def test_the_program_empties_a_mailbox(mailbox, run_service):
    path = store(mailbox, "cur", 5, 2 * MIB)
    mailbox.quota_cache_path.touch()
    result = run_service("chatmaild.quota_expire", "1", mailbox.path)
    assert result.returncode == 0
    assert result.stderr == f"quota-expire: removed 1 message(s) from {USER}\n"
    assert not path.exists()
    assert not mailbox.quota_cache_path.exists()


def test_a_mailbox_that_is_not_there(tmp_path, run_service):
    result = run_service("chatmaild.quota_expire", "1", tmp_path / USER)
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("target", "path"), [("x", USER), ("-1", USER), ("1", "no-address"), ("1", "/")])
def test_arguments_that_make_no_sense(run_service, target, path):
    result = run_service("chatmaild.quota_expire", "--", target, path)
    assert result.returncode == 2
    assert "TARGET_MB" in result.stderr or "MAILBOX_PATH" in result.stderr


def test_the_oldest_go_when_there_are_too_many_however_small(mailbox):
    paths = [store(mailbox, "cur", days, 3) for days in range(100, 0, -1)]
    assert expire_to_target(mailbox, MIB, time.time()) == 100 - MESSAGES_PER_MIB
    assert [path.exists() for path in paths] == [False] * (100 - MESSAGES_PER_MIB) + [True] * MESSAGES_PER_MIB


stored = st.lists(
    st.builds(StoredMessage, st.integers(NOW - 30 * DAY, NOW), st.integers(0, 10**6), st.uuids().map(str)), max_size=30
)


@given(stored, st.integers(0, 10**7))
def test_only_the_oldest_go_and_only_as_many_as_needed(messages, target):
    def fits(kept) -> bool:
        return sum(message.size for message in kept) <= target and len(kept) <= most_messages(target)

    removed = excess(messages, target, NOW)
    kept = set(messages) - set(removed)
    assert all(message.time <= NOW - DAY for message in removed)
    if removed:
        assert max(removed) < min(kept, default=(NOW + 1,))
        assert not fits(kept | {removed[-1]})
    if not fits(kept):
        assert all(message.time > NOW - DAY for message in kept)
