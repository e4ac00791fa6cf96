"""Mail to dead destinations waits, and mail to others does not wait for it."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from test.lab import Host, Lab
from test.support import messages
from test.support.dead_destinations import SORTS, dead_domains
from test.support.mailing import inbox, submit
from test.support.waiting import wait_until

ON_BOTH_RELEASES = True

# Of each of the six sorts eight; more than Postfix would by default serve at a time, five messages for each.
DESTINATIONS, MESSAGES = 48, 5


def queue(host: Host, sender: str) -> list[dict]:
    """Messages of this sender that wait, as postqueue(1) shows them."""
    found = map(json.loads, host.run(["postqueue", "-j"]).stdout.splitlines())
    return [message for message in found if message["sender"] == sender]


def tried(messages: list[dict], recipients: set[str]) -> int:
    """To how many of these recipients delivery has failed, of all messages."""
    found = [one for message in messages for one in message["recipients"] if one["address"] in recipients]
    return sum("delay_reason" in one for one in found)


@pytest.fixture
def dead(lab: Lab, one_host: Host) -> Iterator[list[str]]:
    with dead_domains(lab, one_host, 1, DESTINATIONS) as domains:
        yield domains
        one_host.run(["postsuper", "-d", "ALL"])


def test_mail_arrives_while_mail_to_dead_destinations_waits(one_host: Host, alice, carol, dead: list[str]):
    recipients = [f"someone@{domain}" for domain in dead]
    for _ in range(MESSAGES):
        message = messages.encrypted(alice.address, recipients[0])
        assert submit(alice, recipients, message) is None
    # All have been tried once those have, of all messages, that fail immediately, which is the first sort.
    refusing = set(recipients[:: len(SORTS)])
    waiting = partial(queue, one_host, alice.address)
    wait_until(lambda: tried(waiting(), refusing) == MESSAGES * len(refusing), "not all have been tried")
    assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
    inbox(carol)
    assert [len(message["recipients"]) for message in waiting()] == MESSAGES * [DESTINATIONS]
