"""What the mail tests share: waiting for messages, refusals as (code, text)."""

import contextlib
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

from _modules import chatmail_dkim
from test.lab import Host, Lab
from test.relay.delivery import User
from test.relay.deploy import quoted_strings
from test.support.mail_clients import ImapClient, ImapError, port_25, send, submission
from test.support.signing import ForeignDomain

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


def imap_login(user: User) -> bool:
    """Whether the relay lets the user in by IMAP; every refusal says that it is the password."""
    with ImapClient(user.relay.address) as client:
        try:
            client.login(user.address, user.password)
        except ImapError as error:
            assert "AUTHENTICATIONFAILED" in str(error)
            return False
        return True


def smtp_login(user: User) -> bool:
    """The same by submission."""
    try:
        with submission(user.relay.address, user.address, user.password, port=587):
            return True
    except smtplib.SMTPAuthenticationError as error:
        assert error.smtp_code == 535
        return False


def read_all(client: ImapClient) -> list[bytes]:
    return client.fetch() if client.select() else []


@contextlib.contextmanager
def foreign_domain(lab: Lab, directory: Path) -> Iterator[ForeignDomain]:
    """The domain foreign.test, its key published and kept in ``directory``."""
    path = directory / "mail.private"
    chatmail_dkim.make_key(str(path))
    (directory / "KeyTable").write_text(f"mail._domainkey.foreign.test foreign.test:mail:{path}\n")
    record = chatmail_dkim.record(str(directory / "KeyTable"))
    names = ("mail._domainkey.foreign.test.", "mail._domainkey.sub.foreign.test.")
    for name in names:
        lab.publish(name, "TXT", [quoted_strings(record["value"])])
    yield ForeignDomain("foreign.test", path.read_bytes())
    for name in names:
        lab.withdraw(name, "TXT")


@contextlib.contextmanager
def by_smtp_alone(source: Host) -> Iterator[None]:
    """Let a host's Postfix deliver by SMTP to everybody, also to who takes mail over HTTPS."""
    name = "outgoing_transport_maps"
    before = source.run(["postconf", "-h", name]).stdout.strip()
    source.run(["postconf", "-e", f"{name}="])
    source.run(["postfix", "reload"])
    try:
        yield
    finally:
        source.run(["postconf", "-e", f"{name}={before}"])
        source.run(["postfix", "reload"])


def kept_connections(source: Host, target: Host) -> set[str]:
    """The local addresses of the connections that one host's Postfix has to another host's."""
    found = source.run(["ss", "-Htn", "state", "established", "dst", f"{target.ipv4}", "dport", "=", ":25"]).stdout
    return {line.split()[2] for line in found.splitlines()}


def metadata_entry(client: ImapClient, mailbox: str, name: str) -> str | None:
    """The value of a METADATA entry, None for NIL."""
    (response,) = [r for r in client.command(f'GETMETADATA "{mailbox}" {name}') if b"METADATA" in r.line]
    value = response.line.partition(f"({name} ".encode())[2].removesuffix(b")")
    if response.literals:
        return response.literals[0].decode()
    return None if value == b"NIL" else value.decode().strip('"')
