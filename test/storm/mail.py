"""Writers that send until they get a 250, as clients do, and the ledger of what they were told."""

import collections
import re
import smtplib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from test.relay.chat import credentials
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mail_clients import submission

# A relay lets an address send ten messages at once (max_user_send_burst_size); some must be tried again.
MESSAGES_EACH = 8
RETRY_S = 0.5
_TRY = re.compile(rb"^X-Try: *(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass
class Try:
    """A message was sent up to its end, so a copy may arrive, whatever was said."""

    name: str  # which this copy has in its header
    begun: float  # by time.monotonic()
    code: int | None = None  # SMTP's answer to DATA, None if there was none


@dataclass
class Message:
    """One message, and what its writer was told about it."""

    number: int
    writer: User
    reader: User
    tries: list[Try] = field(default_factory=list)
    later: int = 0  # how often it was refused with 4xx, or nobody could be reached
    refusals: list[str] = field(default_factory=list)  # what was said for good
    accepted_at: float | None = None  # by time.monotonic()

    def send(self, patience_s: float) -> None:
        """Try until it is accepted, or refused for good, or `patience_s` seconds are over."""
        deadline = time.monotonic() + patience_s
        while self.accepted_at is None and not self.refusals and time.monotonic() < deadline:
            try:
                with submission(self.writer.relay.address, self.writer.address, self.writer.password) as client:
                    self._attempt(client)
            except OSError as error:  # smtplib's own are such, too
                self._note(error)
            if self.accepted_at is None:
                time.sleep(RETRY_S)

    def _attempt(self, client: smtplib.SMTP) -> None:
        for answer in (client.mail(self.writer.address), client.rcpt(self.reader.address)):
            if answer[0] != 250:
                raise smtplib.SMTPResponseException(*answer)
        attempt = Try(f"{self.number}/{len(self.tries)}", time.monotonic())
        header = f"X-Try: {attempt.name}\r\n"
        text = messages.encrypted(self.writer.address, self.reader.address, headers=header)
        self.tries.append(attempt)
        try:
            answer = client.data(text)
        except smtplib.SMTPResponseException as error:
            attempt.code = error.smtp_code
            raise
        attempt.code = answer[0]
        if attempt.code != 250:
            raise smtplib.SMTPResponseException(*answer)
        self.accepted_at = time.monotonic()

    def _note(self, error: Exception) -> None:
        if self.accepted_at is not None:  # it said 250, and nothing to QUIT
            return
        code = getattr(error, "smtp_code", 0)
        if code >= 500:
            self.refusals.append(f"{code} {error.smtp_error.decode(errors='replace')}")
        else:
            self.later += 1


@dataclass(frozen=True)
class Outcome:
    """What became of all messages.

    A message may come twice for two reasons. Its writer got no answer (RFC 5321 section 4.5.4.1 has it try again). Or a
    daemon of a relay got none from the next one, which can be only where something was killed: the writer of a message
    that the filter had already handed on is told 4xx, or a relay delivers one copy twice.
    """

    messages: Sequence[Message]
    seconds: float  # of sending
    arrived: collections.Counter  # by the tries' names
    bounces: int
    last_kill: float | None  # by time.monotonic()
    well_after_s: float | None = None  # from the end of the cause

    @property
    def accepted(self) -> list[Message]:
        return [message for message in self.messages if message.accepted_at is not None]

    @property
    def lost(self) -> list[str]:
        """Tries that got a 250 and did not arrive."""
        return [name for name in accepted_tries(self.messages) if not self.arrived[name]]

    @property
    def never_accepted(self) -> list[int]:
        """Numbers of those that nobody took, though their writers tried until the end."""
        return [item.number for item in self.messages if item.accepted_at is None and not item.refusals]

    @property
    def twice(self) -> list[int]:
        """Numbers of those that came more than once."""
        return [item.number for item in self.messages if sum(self.arrived[each.name] for each in item.tries) > 1]

    @property
    def twice_unanswered(self) -> list[int]:
        """Numbers of those of them whose writers got no answer at least once."""
        silent = {item.number for item in self.messages if any(each.code is None for each in item.tries)}
        return [number for number in self.twice if number in silent]

    @property
    def twice_without_reason(self) -> list[str]:
        """Tries that arrived more often than what was told and killed explains."""
        return [
            each.name
            for item in self.messages
            for each in item.tries
            if self.arrived[each.name] > (each.code in (None, 250))
            and (self.last_kill is None or self.last_kill < each.begun)
        ]

    @property
    def refusals(self) -> list[str]:
        """What writers were told for good."""
        return [text for message in self.messages for text in message.refusals]


def accepted_tries(outgoing: Iterable[Message]) -> list[str]:
    """The names of the tries that got a 250."""
    return [each.name for message in outgoing for each in message.tries if each.code == 250]


def people(relays: Sequence[Relay], count: int) -> list[User]:
    """`count` users, in turn on each of `relays`, with mailboxes."""
    return [new_user(relays[n % len(relays)]) for n in range(count)]


def written(relays: Sequence[Relay], count: int, readers: Sequence[User]) -> list[Message]:
    """`count` messages, each with writer and reader; half of them go to another relay.

    Nobody has logged in to the writers' addresses yet: their relays create them when they first send.
    """
    homes = [relays[n % len(relays)] for n in range(-(-count // MESSAGES_EACH))]
    writers = [User(relay, *credentials(relay.domain)) for relay in homes]
    return [Message(n, writers[n % len(writers)], readers[(n // len(relays)) % len(readers)]) for n in range(count)]


def send_all(
    outgoing: Sequence[Message], workers: int, on_accepted: Callable[[], None], *, over_s: float = 0, patience_s: float
) -> None:
    """Send all messages with so many writers at work, evenly over `over_s` seconds if the relays can.

    :param on_accepted: called after each message that was accepted.
    :param patience_s: how long a writer goes on with one message.
    """
    lock = threading.Lock()
    begun = time.monotonic()

    def send(turn: int) -> None:
        time.sleep(max(0.0, begun + over_s * turn / len(outgoing) - time.monotonic()))
        message = outgoing[turn]
        message.send(patience_s)
        if message.accepted_at is not None:
            with lock:
                on_accepted()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(send, range(len(outgoing))))


def arrived(readers: Iterable[User]) -> collections.Counter:
    """How often each try is in the readers' mailboxes, by its name."""
    found = collections.Counter()
    for reader in readers:
        with reader.imap() as client:
            if not client.select():
                continue
            for response in client.command("FETCH 1:* BODY.PEEK[HEADER.FIELDS (X-TRY)]"):
                for literal in response.literals:
                    found.update(name.decode() for name in _TRY.findall(literal))
    return found


def bounces(writers: Iterable[User]) -> int:
    """How many messages the writers got: nobody writes to them but mail servers that gave up."""
    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(_count, writers))


def _count(user: User) -> int:
    with user.imap() as client:
        return client.select()
