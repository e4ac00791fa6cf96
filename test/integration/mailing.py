"""What the mail tests share: waiting for messages, refusals as (code, text), mail of a foreign domain."""

import smtplib
import time

import dkim

from test.mail_clients import ImapClient, port_25, send, submission
from test.relay.delivery import User

ARRIVAL_TIMEOUT_S = 30.0


def inbox(user: User, minimum: int = 1, timeout_s: float = ARRIVAL_TIMEOUT_S) -> list[bytes]:
    """Wait until ``user`` has ``minimum`` messages, and return all as stored. Fails if they do not come in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        with user.imap() as client:
            messages = client.fetch() if client.select() else []
        if len(messages) >= minimum or time.monotonic() > deadline:
            assert len(messages) >= minimum, f"{user.address} has {len(messages)} messages, {minimum} were expected"
            return messages
        time.sleep(0.1)


def submit(user: User, recipients: str | list[str], message: bytes, *, sender: str | None = None, port: int = 465):
    """Send ``message`` as ``user`` logs in. Returns ``None`` if it was accepted, else the refusal as (code, text)."""
    with submission(user.relay.address, user.address, user.password, port) as client:
        return attempt(client, sender or user.address, recipients, message)


def deliver(address: str, sender: str, recipients: str | list[str], message: bytes):
    """Send ``message`` to port 25 of the relay at ``address``, as another mail server does; returns as `submit`."""
    with port_25(address) as client:
        return attempt(client, sender, recipients, message)


def attempt(client: smtplib.SMTP, sender: str, recipients: str | list[str], message: bytes):
    """One transaction; ``None`` if it was accepted, else the first refusal as (code, text)."""
    recipients = [recipients] if isinstance(recipients, str) else recipients
    try:
        send(client, sender, recipients, message)
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        return code, text.decode()
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, error.smtp_error.decode()
    return None


def read_all(client: ImapClient) -> list[bytes]:
    return client.fetch() if client.select() else []


class ForeignDomain:
    """A mail domain in the lab's DNS that signs with a key of its own."""

    def __init__(self, name: str, private_key: bytes) -> None:
        self.name = name
        self._private_key = private_key

    def signed(self, message: bytes, *, domain: str | None = None, selector: str = "mail") -> bytes:
        """``message`` with a DKIM-Signature whose d= is ``domain``, usually the own one."""
        header = dkim.sign(
            message,
            selector.encode(),
            (domain or self.name).encode(),
            self._private_key,
            canonicalize=(b"relaxed", b"simple"),
        )
        return header + message
