"""A 250 means that the message is on disk: whatever is killed whenever, what was accepted arrives."""

import contextlib
import itertools
import smtplib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from test.integration.conftest import peculiar
from test.lab import Host
from test.relay.delivery import User, new_user
from test.support import messages
from test.support.mail_clients import send, submission
from test.support.mailing import inbox, submit

SENDERS = 6
MESSAGES_EACH = 10  # max_user_send_burst_size


def victims(host: Host) -> list[str]:
    """Units that systemd brings back by itself after a second."""
    postfix = peculiar(host)["postfix_unit"]
    return ["filtermail", "opendkim", postfix, "dovecot", "doveauth", "filtermail-incoming"]


def send_all(writer: User, reader: User, pause_s: float) -> list[str]:
    """Send messages one after the other, each on a connection of its own; return the Message-IDs that got a 250."""
    accepted = []
    for number in range(MESSAGES_EACH):
        identifier = f"<{number}.{writer.address}>"
        message = messages.encrypted(writer.address, reader.address, headers=f"X-Number: {identifier}\r\n")
        with (
            contextlib.suppress(OSError, smtplib.SMTPException),
            submission(writer.relay.address, writer.address, writer.password) as client,
        ):
            send(client, writer.address, [reader.address], message)
            accepted.append(identifier)
        time.sleep(pause_s)
    return accepted


def test_no_accepted_message_is_lost_when_daemons_are_killed(one, two, one_host, two_host):
    readers = [new_user(one), new_user(two)]
    writers = [new_user(one) for _ in range(SENDERS)]
    stop = threading.Event()

    def kill_in_turn() -> int:
        turns = enumerate(itertools.cycle([(host, unit) for host in (one_host, two_host) for unit in victims(host)]))
        while not stop.wait(1.5):
            kills, (host, unit) = next(turns)
            host.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", unit], check=False)
        return kills

    with ThreadPoolExecutor(SENDERS + 1) as pool:
        killer = pool.submit(kill_in_turn)
        runs = [pool.submit(send_all, writer, readers[n % 2], 2) for n, writer in enumerate(writers)]
        accepted = [(readers[n % 2], run.result()) for n, run in enumerate(runs)]
        stop.set()
        assert killer.result() > 5
    for host in (one_host, two_host):
        host.run(["systemctl", "start", *victims(host)])
        # What waits for its next try need not wait for the test.
        host.run(["postqueue", "-f"])
    wanted = {reader.address: set() for reader in readers}
    for reader, identifiers in accepted:
        wanted[reader.address].update(identifiers)
    assert sum(map(len, wanted.values())) > SENDERS
    for reader in readers:
        deadline = time.monotonic() + 90
        while missing := {
            name for name in wanted[reader.address] if name.encode() not in b"".join(inbox(reader, minimum=0))
        }:
            assert time.monotonic() < deadline, f"accepted and lost: {missing}"
            time.sleep(1)
            for host in (one_host, two_host):
                host.run(["postqueue", "-f"])


@pytest.mark.parametrize("unit", ["opendkim", "filtermail"])
def test_what_is_down_defers_mail_and_lets_nothing_pass(one_host, alice, bob, unit):
    # With its socket, if it has one: else the first client starts it again.
    units = [f"{unit}.socket", unit] if unit == "filtermail" else [unit]
    one_host.run(["systemctl", "stop", *units])
    try:
        assert 400 <= submit(alice, bob.address, messages.encrypted(alice.address, bob.address))[0] < 500
        assert submit(alice, bob.address, messages.plain(alice.address, bob.address))[0] >= 400
    finally:
        one_host.run(["systemctl", "start", *units])
    assert inbox(bob, minimum=0) == []
