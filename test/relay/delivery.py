"""How long a message takes to an idle client, and whether each is announced: plain SMTP and IMAP clients."""

import smtplib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from test.relay.chat import credentials
from test.support import messages
from test.support.mail_clients import ImapClient, send, submission

# A new sender for every burst: a relay lets an address send ten messages at once (max_user_send_burst_size).
BURST = 10
# 14 moments after the beginning of IDLE, in seconds: before and after Dovecot hands an idle client to hibernation.
MOMENTS_S = tuple(round(0.1 + 1.9 * number / 13, 3) for number in range(14))
LOST_AFTER_S = 3.0


@dataclass(frozen=True)
class Relay:
    """
    A relay as its clients see it: ``address`` is where its ports are. New users' addresses begin with ``prefix``, and
    are noted in ``created``.
    """

    domain: str
    address: str
    prefix: str = ""
    created: list[str] = field(default_factory=list, compare=False, repr=False)


@dataclass(frozen=True)
class User:
    """An account on a relay; its first login makes it."""

    relay: Relay
    address: str
    password: str

    def imap(self, port: int = 993) -> ImapClient:
        """Log in, with INBOX selected."""
        client = ImapClient(self.relay.address, port)
        client.login(self.address, self.password)
        client.select()
        return client


def new_user(relay: Relay) -> User:
    """Choose an address on a relay and create it by logging in."""
    user = User(relay, *credentials(relay.domain, relay.prefix))
    relay.created.append(user.address)
    user.imap().close()
    return user


def measure(source: Relay, target: Relay, count: int, pause_s: float = 0.1) -> list[float | None]:
    """
    Send ``count`` messages, one after the other, from users of ``source`` to an idle client on ``target``.

    Returns for each the seconds from the answer to DATA to the client's notice, None where there was none in time.
    """
    reader = new_user(target)
    delays: list[float | None] = []
    with reader.imap() as inbox:
        inbox.idle()
        while len(delays) < count:
            writer = new_user(source)
            with submission(source.address, writer.address, writer.password) as client:
                for _ in range(min(BURST, count - len(delays))):
                    delays.append(_delay(client, writer, reader, inbox, len(delays) + 1))
                    time.sleep(pause_s)
    return delays


def _delay(client: smtplib.SMTP, writer: User, reader: User, inbox: ImapClient, number: int) -> float | None:
    message = messages.encrypted(writer.address, reader.address)
    answered = send(client, writer.address, [reader.address], message)
    announced = inbox.wait_exists(number, LOST_AFTER_S)
    return None if announced is None else max(0.0, announced - answered)


def lost_notifications(relay: Relay, rounds: int, moments_s: Sequence[float] = MOMENTS_S) -> tuple[int, int]:
    """
    Deliver one message at each moment after a client begins IDLE, ``rounds`` times; one user a moment, all at once.

    Returns how many were not announced within three seconds, and how many were sent.
    """
    with ThreadPoolExecutor(len(moments_s)) as pool:
        lost = sum(pool.map(lambda moment: _lost_at(relay, moment, rounds), moments_s))
    return lost, rounds * len(moments_s)


def _lost_at(relay: Relay, moment_s: float, rounds: int) -> int:
    reader, writer = new_user(relay), new_user(relay)
    lost = 0
    with reader.imap() as inbox, submission(relay.address, writer.address, writer.password) as client:
        for number in range(1, rounds + 1):
            idle_since = inbox.idle()
            time.sleep(max(0.0, idle_since + moment_s - time.monotonic()))
            lost += _delay(client, writer, reader, inbox, number) is None
            inbox.done()
    return lost
