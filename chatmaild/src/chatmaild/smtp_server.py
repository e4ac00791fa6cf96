"""The SMTP server of a before-queue content filter (RFC 5321; Postfix's SMTPD_PROXY_README).

It stands on asyncio's streams and not on aiosmtpd, of which little would be left: that takes bare LF for a line end,
refuses parameters it does not know, and fixes reply texts inside the command loop that all else hangs on.

A message is kept as it came over the wire, dot-stuffed (section 4.5.2), because in that form it goes on.
"""

import asyncio
import contextlib
import logging
import re
import socket
from dataclasses import dataclass, field
from typing import Protocol

from . import address

LINE_MAX = 8192  # octets of a command; RFC 5321 section 4.5.3.1.4 says 512 plus what extensions add
RECIPIENTS_MAX = 1000  # Postfix's smtpd_recipient_limit
BACKLOG = 1024  # connections not yet accepted
CHUNK = 64 * 1024  # octets
IDLE_SECONDS = 330  # Postfix's own clients time out after 300 s (smtpd_timeout), which is to happen first
LINGER_SECONDS = 5
DRAIN_SECONDS = 10  # nobody is served meanwhile, and who is cut off tries again
SMALL_MESSAGE = 256 * 1024  # octets that a message may take without asking the budget
LARGE_MESSAGES = 4  # how many of full size a process holds at a time

_MAIL = re.compile(rb"MAIL FROM:", re.IGNORECASE)
_RCPT = re.compile(rb"RCPT TO:", re.IGNORECASE)
_REPLY_TEXT = re.compile(r"[^\x20-\x7e]")

logger = logging.getLogger(__name__)


@dataclass
class Envelope:
    """Who sends to whom (RFC 5321 section 2.3.1); addresses as they were written, the null sender is empty."""

    sender: str
    recipients: list[str] = field(default_factory=list)


class Role(Protocol):
    """What the server does with mail."""

    def refuse_sender(self, sender: str) -> str | None:
        """The reply that refuses MAIL FROM, or None to accept."""

    async def deliver(self, envelope: Envelope, data: bytearray) -> str:
        """Take responsibility for a message or refuse it.

        :param data: the message, dot-stuffed, without the final dot; it may be empty.
        :returns: the reply to DATA.
        """


class InvalidData(ValueError):
    """Message data with stray CR, LF or dot, which the next server might take for the end (SMTP smuggling)."""


class LineTooLong(ValueError):
    """A command longer than LINE_MAX."""


def unstuff(data: bytes | bytearray) -> bytes | bytearray:
    """The message in dot-stuffed `data` (RFC 5321 section 4.5.2).

    :raises InvalidData: it is empty, a line does not end in CRLF, CR or LF stand alone, or a line is a single dot.
    """
    line_ends = data.count(b"\r\n")
    if not data.endswith(b"\r\n") or data.count(b"\r") != line_ends or data.count(b"\n") != line_ends:
        raise InvalidData
    if data.startswith(b".\r\n") or b"\r\n.\r\n" in data:
        raise InvalidData
    if data.startswith(b"."):
        data = data[1:]
    return data.replace(b"\r\n.", b"\r\n") if b"\r\n." in data else data


def one_line(reply: str) -> str:
    """`reply` fit to be sent: printable ASCII, and short enough for RFC 5321 section 4.5.3.1.5."""
    return _REPLY_TEXT.sub("?", reply)[:500]


class Budget:
    """Memory for messages above SMALL_MESSAGE: many slow large ones must not exhaust the host's."""

    def __init__(self, octets: int) -> None:
        self.left = octets

    @contextlib.contextmanager
    def reservation(self):
        """What one message takes, given back at the end of the block."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.left += reservation.octets


@dataclass
class Reservation:
    """One message's share of a budget."""

    budget: Budget
    octets: int = 0

    def cover(self, size: int) -> bool:
        """Make room for a message of `size` octets; False if there is none."""
        more = size - SMALL_MESSAGE - self.octets
        if more <= 0:
            return True
        if more > self.budget.left:
            return False
        self.budget.left -= more
        self.octets += more
        return True


class Session:
    """One client's connection."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()  # received, not yet consumed
        self.envelope: Envelope | None = None  # while a transaction is open

    async def run(self) -> None:
        """Serve until either side ends the connection."""
        try:
            await self._reply("220 filtermail SMTP")
            while (line := await self._line()) is not None and await self._command(line):
                if self._server.draining and self.envelope is None:
                    self.dismiss()
                    break
        except LineTooLong:
            await self._reply("500 Command line too long")
        except (ConnectionError, TimeoutError):
            pass  # the client is gone; whether it got its answer is its own to find out
        finally:
            self._writer.close()

    def dismiss(self) -> None:
        """Tell the client, which has no transaction open, that the service ends."""
        self._writer.write(b"421 4.3.2 Service shutting down\r\n")

    async def _fill(self) -> None:
        async with asyncio.timeout(IDLE_SECONDS):
            chunk = await self._reader.read(CHUNK)
        if not chunk:
            raise ConnectionResetError("end of file")
        self._buffer += chunk

    async def _reply(self, reply: str) -> None:
        self._writer.write(reply.encode("ascii") + b"\r\n")
        if self._writer.transport.get_write_buffer_size():
            async with asyncio.timeout(IDLE_SECONDS):
                await self._writer.drain()

    async def _line(self) -> bytes | None:
        """The next command without its CRLF; None if it ends in a bare LF, so that no guess is made where it ends."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_MAX:
                raise LineTooLong
            await self._fill()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if len(line) > LINE_MAX:
            raise LineTooLong
        return line[:-2] if line.endswith(b"\r\n") else None

    async def _command(self, line: bytes) -> bool:
        """Answer one command; False ends the connection."""
        verb = line.partition(b" ")[0].upper()
        if match := _MAIL.match(line):
            reply = self._mail(line[match.end() :])
        elif match := _RCPT.match(line):
            reply = self._rcpt(line[match.end() :])
        elif verb == b"DATA":
            return await self._data()
        elif verb in (b"EHLO", b"LHLO"):
            self.envelope = None
            reply = "250-filtermail\r\n250-8BITMIME\r\n250 OK"
        elif verb == b"HELO":
            self.envelope = None
            reply = "250-filtermail\r\n250 OK"
        elif verb == b"RSET":
            self.envelope = None
            reply = "250 OK"
        elif verb == b"NOOP":
            reply = "250 OK"
        elif verb == b"QUIT":
            await self._reply("221 OK")
            return False
        else:
            reply = "500 Command not recognized"
        await self._reply(reply)
        return True

    def _mail(self, argument: bytes) -> str:
        if self.envelope is not None:
            return "503 5.5.1 Sender already given; RSET starts over"
        sender = address.parse_path(address.decode(argument))
        if sender is None:
            return "500 Invalid address in MAIL FROM"
        if sender and (refusal := self._server.role.refuse_sender(sender)):
            return one_line(refusal)
        self.envelope = Envelope(sender)
        return "250 OK"

    def _rcpt(self, argument: bytes) -> str:
        if self.envelope is None:
            return "503 5.5.1 MAIL FROM is needed before RCPT TO"
        recipient = address.parse_path(address.decode(argument))
        if not recipient:
            return "501 5.1.3 Invalid address in RCPT TO"
        if len(self.envelope.recipients) >= RECIPIENTS_MAX:
            return "452 4.5.3 Too many recipients"
        self.envelope.recipients.append(recipient)
        return "250 OK"

    async def _data(self) -> bool:
        if self.envelope is None or not self.envelope.recipients:
            await self._reply("503 5.5.1 MAIL FROM and RCPT TO are needed before DATA")
            return True
        await self._reply("354 End data with <CR><LF>.<CR><LF>")
        with self._server.budget.reservation() as reservation:
            try:
                data, refusal = await self._message_data(reservation)
            except InvalidData:
                # Where this message ends is now anybody's guess.
                await self._reply("500 Invalid DATA")
                await self._linger()
                return False
            except (ConnectionError, TimeoutError):
                logger.info("Connection lost within a message; nothing of it is delivered")
                raise
            reply = refusal or await self._server.role.deliver(self.envelope, data)
            del data
            await self._reply(one_line(reply))
        self.envelope = None
        return True

    async def _message_data(self, reservation: Reservation) -> tuple[bytearray, str | None]:
        """Read up to the final dot, whatever the size, so that the dialogue stays in step.

        :returns: the data, and the refusal if it could not be kept.
        :raises InvalidData: a bare LF.
        """
        # Stuffing makes a message longer by a third at most, each of its lines being a lone dot.
        limit = self._server.max_message_size * 4 // 3 + 1
        refusal = None
        dropped = searched = 0
        while True:
            at = self._buffer.find(b"\r\n.\r\n", max(0, searched - 4))
            end = at + 2 if at >= 0 else len(self._buffer)
            if not dropped and self._buffer.startswith(b".\r\n"):
                at = end = 0
            line_feeds = self._buffer.count(b"\n", searched, end)
            if line_feeds != self._buffer.count(b"\r\n", max(0, searched - 1), end):
                raise InvalidData
            if at >= 0:
                break
            if dropped + end > limit:
                refusal = refusal or "552 Message exceeds maximum size"
            elif not reservation.cover(end):
                refusal = refusal or "452 4.3.1 Too many large messages at a time; try again later"
            if refusal:
                excess = max(0, end - 4)
                del self._buffer[:excess]
                dropped += excess
            searched = len(self._buffer)
            await self._fill()
        data, self._buffer = self._buffer, self._buffer[end + 3 :]
        del data[end:]
        return data, refusal

    async def _linger(self) -> None:
        """Read on for a moment: closing with unread input would reset the connection and lose the reply."""
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(CHUNK):
                    pass


class Server:
    """Listens and serves sessions until told to stop."""

    def __init__(self, role: Role, max_message_size: int) -> None:
        """Set up, without listening yet.

        :param role: what to do with mail.
        :param max_message_size: octets of one message.
        """
        self.role = role
        self.max_message_size = max_message_size
        self.budget = Budget(LARGE_MESSAGES * max_message_size)
        self.draining = False
        self._sessions: dict[Session, asyncio.Task] = {}

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve on `listener`, which is bound, until `stop` is set; then let open transactions end, in bounded time."""
        server = await asyncio.start_server(self._connected, sock=listener, backlog=BACKLOG)
        await stop.wait()
        server.close()
        self.draining = True
        for session, task in self._sessions.items():
            if session.envelope is None:
                session.dismiss()
                task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions.values(), timeout=DRAIN_SECONDS)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        self._sessions[session] = asyncio.current_task()
        try:
            await session.run()
        finally:
            del self._sessions[session]
