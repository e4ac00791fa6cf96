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
    # All of them have been tried once those have that fail immediately.
    refusals = MESSAGES * DESTINATIONS // len(SORTS)
    queue = partial(one_host.run, ["postqueue", "-j"])
    wait_until(lambda: queue().stdout.count("Connection refused") == refusals, "not all have been tried")
    assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
    inbox(carol)
    waiting = [json.loads(line) for line in queue().stdout.splitlines()]
    assert {len(message["recipients"]) for message in waiting} == {DESTINATIONS}
    assert len(waiting) == MESSAGES
