"""What the mail tests share: waiting for messages, refusals as (code, text), mail of a foreign domain."""

import smtplib
import time
from types import SimpleNamespace

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from test.mail_clients import ImapClient, ImapError, port_25, send, submission
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


class _Signer(dkim.DKIM):
    """dkimpy's signer, with ``fields``, pairs of tag and value, in the place of its own, and RFC 8463."""

    fields: tuple[tuple[bytes, bytes], ...] = ()
    ed25519: Ed25519PrivateKey | None = None

    def gen_header(self, fields, include_headers, canon_policy, header_name, pk):
        if self.ed25519:
            # RFC 8463; dkimpy itself would want one more library for it.
            self.signature_algorithm = b"ed25519-sha256"
            pk = SimpleNamespace(sign=lambda digest: SimpleNamespace(signature=self.ed25519.sign(digest)))
        kept = [field for field in fields if field[0] not in dict(self.fields)]
        # b= stays last.
        fields = [*kept[:-1], *self.fields, kept[-1]]
        return super().gen_header(fields, include_headers, canon_policy, header_name, pk)


class ForeignDomain:
    """A mail domain in the lab's DNS that signs with a key of its own."""

    def __init__(self, name: str, private_key: bytes) -> None:
        self.name = name
        self._private_key = private_key

    def signed(
        self,
        message: bytes,
        *,
        domain: str | None = None,
        selector: str = "mail",
        body: str = "simple",
        length: bool = False,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        ed25519: Ed25519PrivateKey | None = None,
    ) -> bytes:
        """``message`` with a DKIM-Signature (RFC 6376) of the own key.

        Arguments: ``domain`` is d=, usually the own one; ``body`` the canonicalization of the body; ``length`` adds l=
        as long as the body; ``fields`` are further tags, or other values of tags, as (b"x", b"1"); ``ed25519`` signs in
        the place of the own key.
        """
        signer = _Signer(message)
        signer.fields = fields + (((b"a", b"ed25519-sha256"),) if ed25519 else ())
        signer.ed25519 = ed25519
        header = signer.sign(
            selector.encode(),
            (domain or self.name).encode(),
            self._private_key,
            canonicalize=(b"relaxed", body.encode()),
            length=length,
        )
        return header + message


def metadata_entry(client: ImapClient, mailbox: str, name: str) -> str | None:
    """The value of a METADATA entry, None for NIL."""
    (response,) = [r for r in client.command(f'GETMETADATA "{mailbox}" {name}') if b"METADATA" in r.line]
    value = response.line.partition(f"({name} ".encode())[2].removesuffix(b")")
    if response.literals:
        return response.literals[0].decode()
    return None if value == b"NIL" else value.decode().strip('"')
