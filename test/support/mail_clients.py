"""Plain IMAP, SMTP and LMTP clients for tests and benchmarks: TLS unchecked, times by the monotonic clock."""

from __future__ import annotations

import contextlib
import re
import select
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

DEFAULT_TIMEOUT_S = 20.0


class ImapError(Exception):
    """The server answered NO or BAD, or closed the connection."""


def unchecked_tls(alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a client context that accepts any certificate: the lab's relays sign their own.

    ``alpn`` is the protocols that the client offers (RFC 7301); none means that it does not speak of them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def quoted(text: str) -> str:
    """Return ``text`` as an IMAP quoted string (RFC 9051 section 4.3)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True)
class Response:
    """One untagged response: its ``line`` without CRLF, literals cut out of it into ``literals``."""

    line: bytes
    literals: tuple[bytes, ...] = ()


@dataclass
class ImapClient:
    """An IMAP connection over implicit TLS (RFC 9051, IDLE RFC 2177).

    ``host`` and ``port`` say where (443: by ALPN); ``timeout_s`` bounds each wait for the server. Methods raise
    ``ImapError`` when the server refuses or closes, and ``TimeoutError`` when it is silent for too long.
    """

    host: str
    port: int = 993
    timeout_s: float = DEFAULT_TIMEOUT_S
    greeting: bytes = b""
    _tags: int = 0
    _idle_tag: bytes = b""
    _buffer: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        raw = socket.create_connection((self.host, self.port), timeout=self.timeout_s)
        context = unchecked_tls(["imap"] if self.port == 443 else [])
        self._socket = context.wrap_socket(raw, server_hostname=None)
        self.greeting = self._response(self._deadline()).line

    def __enter__(self) -> ImapClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self._socket.close()

    def login(self, user: str, password: str) -> None:
        """Log in with address and password; a relay makes the address at its first login."""
        self.command(f"LOGIN {quoted(user)} {quoted(password)}")

    def select(self, mailbox: str = "INBOX") -> int:
        """Select ``mailbox`` and return its number of messages."""
        return _exists(self.command(f"SELECT {quoted(mailbox)}"))

    def fetch(self, sequence: str = "1:*") -> list[bytes]:
        """Return the messages of ``sequence`` (RFC 9051 sequence set) as stored, without marking them as seen."""
        responses = self.command(f"FETCH {sequence} BODY.PEEK[]")
        return [response.literals[0] for response in responses if response.literals]

    def expunge(self, sequence: str = "1:*") -> None:
        """Delete the messages of ``sequence`` for good."""
        self.command(f"STORE {sequence} +FLAGS.SILENT (\\Deleted)")
        self.command("EXPUNGE")

    def command(self, line: str) -> list[Response]:
        """Send one command without tag and CRLF; return the untagged responses up to its OK."""
        tag = self._send(line)
        deadline = self._deadline()
        responses = []
        while True:
            response = self._response(deadline)
            if not response.line.startswith(tag + b" "):
                responses.append(response)
            elif response.line.startswith(tag + b" OK"):
                return responses
            else:
                raise ImapError(f"{line.split(' ', 1)[0]}: {response.line.decode(errors='replace')}")

    def idle(self) -> float:
        """Begin IDLE; return the time at which the server accepted it."""
        self._idle_tag = self._send("IDLE")
        deadline = self._deadline()
        while not (line := self._response(deadline).line).startswith(b"+"):
            if line.startswith(self._idle_tag):
                raise ImapError(f"IDLE: {line.decode(errors='replace')}")
        return time.monotonic()

    def wait_exists(self, minimum: int, timeout_s: float) -> float | None:
        """While idling, wait until the server announces at least ``minimum`` messages.

        Returns the time at which the announcement arrived, or ``None`` if it did not within ``timeout_s`` seconds.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(TimeoutError):
            while True:
                if _exists([self._response(deadline)]) >= minimum:
                    return time.monotonic()
        return None

    def done(self, word: str = "DONE") -> list[Response]:
        """End IDLE; return the responses that came before its OK. With another word it is refused."""
        self._socket.sendall(word.encode() + b"\r\n")
        deadline = self._deadline()
        responses = []
        while not (response := self._response(deadline)).line.startswith(self._idle_tag + b" "):
            responses.append(response)
        if not response.line.startswith(self._idle_tag + b" OK"):
            raise ImapError(f"IDLE: {response.line.decode(errors='replace')}")
        return responses

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout_s

    def _send(self, line: str) -> bytes:
        self._tags += 1
        tag = f"t{self._tags}".encode()
        self._socket.sendall(tag + b" " + line.encode() + b"\r\n")
        return tag

    def _response(self, deadline: float) -> Response:
        """Read one response with the literals in it."""
        line, literals = b"", []
        while True:
            line += self._read_until_crlf(deadline)
            literal = re.search(rb"\{(\d+)\}$", line)
            if not literal:
                return Response(line, tuple(literals))
            literals.append(self._read_bytes(int(literal[1]), deadline))

    def _read_until_crlf(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive(deadline)
        return self._take(end + 2)[:-2]

    def _read_bytes(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            self._receive(deadline)
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self, deadline: float) -> None:
        """Add what the server sent to the buffer."""
        remaining_s = deadline - time.monotonic()
        if not self._socket.pending() and (remaining_s <= 0 or not _readable(self._socket, remaining_s)):
            raise TimeoutError(f"IMAP server {self.host} is silent")
        # Bounds a TLS record that does not end.
        self._socket.settimeout(self.timeout_s)
        data = self._socket.recv(65536)
        if not data:
            raise ImapError(f"IMAP server {self.host} closed the connection")
        self._buffer += data


def _readable(sock: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()  # select() refuses descriptors above 1023.
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _exists(responses: Sequence[Response]) -> int:
    """Return the largest number of messages in ``* n EXISTS`` responses; 0 if there is none."""
    return max((int(m[1]) for r in responses if (m := re.match(rb"\* (\d+) EXISTS$", r.line))), default=0)


@contextlib.contextmanager
def submission(host: str, user: str, password: str, port: int = 465) -> Iterator[smtplib.SMTP]:
    """Give a logged-in SMTP client: implicit TLS on port 465 (RFC 8314) and by ALPN on 443, STARTTLS on 587.

    Refusals of the server raise ``smtplib``'s exceptions, which carry its code and text.
    """
    if port in (443, 465):
        context = unchecked_tls(["smtp"] if port == 443 else [])
        client = smtplib.SMTP_SSL(host, port, timeout=DEFAULT_TIMEOUT_S, context=context)
    else:
        client = smtplib.SMTP(host, port, timeout=DEFAULT_TIMEOUT_S)
        client.starttls(context=unchecked_tls())
    with client:
        client.login(user, password)
        yield client


def command(client: smtplib.SMTP, line: str) -> int:
    """Send a line that ``smtplib`` would put right; returns the code of the reply."""
    client.sock.sendall(line.encode() + b"\r\n")
    return client.getreply()[0]


@contextlib.contextmanager
def port_25(host: str) -> Iterator[smtplib.SMTP]:
    """Give an SMTP client as another relay would use it: STARTTLS on port 25."""
    with smtplib.SMTP(host, 25, timeout=DEFAULT_TIMEOUT_S) as client:
        client.starttls(context=unchecked_tls())
        yield client


@contextlib.contextmanager
def local_delivery(socket_path: str) -> Iterator[smtplib.LMTP]:
    """Give an LMTP client (RFC 2033) on a unix socket, as Postfix delivers to Dovecot."""
    with smtplib.LMTP(socket_path, timeout=DEFAULT_TIMEOUT_S) as client:
        client.ehlo_or_helo_if_needed()
        yield client


def send(client: smtplib.SMTP, sender: str, recipients: Sequence[str], message: bytes) -> float:
    """Send ``message`` (CRLF lines) from ``sender`` to ``recipients``; return the time of the server's answer to DATA.

    Raises ``smtplib.SMTPException`` if the server refuses anything, also one recipient of several.
    """
    refused = client.sendmail(sender, recipients, message)
    answered = time.monotonic()
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)
    return answered
