"""Waiting mail is summed up by destination; only what waits for one destination alone is dropped with it."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_queue


@pytest.fixture
def configure_loader_modules():
    return {chatmail_queue: {}}


def message(queue_id, *recipients, since=100, queue="deferred", reason="timed out"):
    return {
        "queue_name": queue,
        "queue_id": queue_id,
        "arrival_time": since,
        "sender": "a@chat.test",
        "recipients": [{"address": one} | ({"delay_reason": reason} if reason else {}) for one in recipients],
    }


WAITING = [
    message("1", "a@dead.test", since=300),
    message("2", "b@Dead.test", "c@dead.test", since=200, reason="refused"),
    message("3", "d@dead.test", "e@slow.test"),
    message("4", "f@slow.test", queue="active", reason=""),
]


@pytest.fixture
def queue(monkeypatch):
    """A queue with the messages above; what is run instead of Postfix's programs."""
    run = []
    monkeypatch.setattr(chatmail_queue, "_messages", lambda: iter(WAITING))
    monkeypatch.setattr(chatmail_queue, "_run", lambda argv, text_in=None: run.append((argv, text_in)))
    return run


def test_each_destination_has_a_line(queue):
    dead, slow = chatmail_queue.summary(WAITING)
    assert dead == {"destination": "dead.test", "messages": 3, "deferred": 3, "since": 100, "reason": "timed out"}
    assert slow == {"destination": "slow.test", "messages": 2, "deferred": 1, "since": 100, "reason": "timed out"}


def test_each_line_has_the_way_and_why_it_is_not_https(queue, monkeypatch):
    known = {
        "dead.test": {"way": "smtp", "seconds": 90, "why_not_https": "mx.dead.test[192.0.2.1]:443 does not answer"},
        "slow.test": {"way": "https", "seconds": 90, "why_not_https": ""},
    }
    ways = lambda destinations: {name: known[name] for name in destinations}  # noqa: E731
    monkeypatch.setattr(chatmail_queue, "__salt__", {"chatmail_relay.ways": ways}, raising=False)
    dead, slow = chatmail_queue.list_()
    assert (dead["way"], slow["way"]) == ("SMTP", "HTTPS")
    assert dead["reason"] == "timed out (by HTTPS: mx.dead.test[192.0.2.1]:443 does not answer)"
    assert slow["reason"] == "timed out"
    # Long texts belong into the last column of a table.
    assert list(dead)[-1] == "reason"
    assert chatmail_queue.list_(limit=1) == [dead]


def test_where_the_ways_cannot_be_told_the_queue_is(queue, monkeypatch):
    def ways(_):
        raise CommandExecutionError("No module named chatmaild.reach")

    monkeypatch.setattr(chatmail_queue, "__salt__", {"chatmail_relay.ways": ways}, raising=False)
    dead, slow = chatmail_queue.list_()
    assert (dead["messages"], slow["messages"]) == (3, 2)
    assert (dead["way"], slow["way"]) == ("SMTP", "SMTP")


def test_nothing_is_kept_of_many_messages_but_numbers():
    messages = (message(str(n), f"x@{n % 3}.test", reason=f"reason {n}") for n in range(5000))
    lines = chatmail_queue.summary(messages)
    assert sum(line["messages"] for line in lines) == 5000
    assert len(lines) == 3


def test_all_that_waits_for_a_destination_is_tried(queue):
    assert chatmail_queue.retry("DEAD.test") == {"tried": 3}
    assert [argv for argv, _ in queue] == [["postqueue", "-i", queue_id] for queue_id in "123"]


def test_what_waits_for_others_too_is_not_dropped(queue):
    assert chatmail_queue.drop("dead.test") == {"dropped": 2, "kept": 1}
    assert queue == [(["postsuper", "-d", "-"], "1\n2\n")]


@pytest.mark.parametrize("destination", ["", "-d", "ALL", "other.test", "a@dead.test", "dead.test\n1", "*", None, 5])
def test_what_is_no_destination_or_has_no_mail_changes_nothing(queue, destination):
    for change in (chatmail_queue.retry, chatmail_queue.drop):
        with pytest.raises(CommandExecutionError, match=r"is no destination|nothing waits for"):
            change(destination)
    assert queue == []
