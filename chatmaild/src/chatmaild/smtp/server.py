"""The SMTP server of a before-queue content filter (RFC 5321; Postfix's SMTPD_PROXY_README), built on aiosmtpd.

Connections, commands, sessions, envelopes and timeouts are aiosmtpd's, and so are the hooks that a handler has. Other
than there, commands end in CRLF only, all parameters of MAIL and RCPT are taken and ignored, replies have fixed texts,
messages are read in chunks within a budget, and open transactions end before the service does.

A message is kept as it came over the wire, dot-stuffed (section 4.5.2), because in that form it goes on.
"""

import asyncio
import collections
import contextlib
import logging
import re
import socket
import sys
import traceback

from aiosmtpd.smtp import MISSING, SMTP, Envelope, Session

from .. import ip_address
from ..connections import ACCEPT_AT_ONCE, BACKLOG, DRAIN_SECONDS, QUIET_SECONDS, stop_accepting
from ..limits.budget import GROWTH, WAIT_SECONDS, Budget, Reservation
from ..limits.rate_limit import place_of
from ..message import address
from . import replies
from .data import InvalidData

LINE_MAX = 8192  # octets of a command; RFC 5321 section 4.5.3.1.4 says 512 plus what extensions add
RECIPIENTS_MAX = 1000  # Postfix's smtpd_recipient_limit
IDLE_SECONDS = 330  # Postfix's own clients time out after 300 s (smtpd_timeout), which is to happen first
LINGER_SECONDS = 5
LARGE_MESSAGES = 4  # how many of full size a process holds at a time

_SIZE = re.compile(r" SIZE=([0-9]{1,20})(?= |$)", re.IGNORECASE)  # RFC 1870 section 6
_ALL = sys.maxsize  # octets to read: whatever has arrived

logger = logging.getLogger(__name__)


class Handler:
    """What aiosmtpd asks for while it talks to a client; a service adds ``handle_DATA``.

    It finds the message, dot-stuffed and without the final dot, in the envelope's `content`, and the address of
    Postfix's client, None if that is unknown, in the session's `client`. It returns the reply; where the session says
    `speaks_lmtp`, it may return a list of replies, one for each recipient. ``handle_MAIL`` and ``handle_RCPT``, where
    they are there, return a refusal or MISSING.
    """

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:
        """The reply to HELO."""
        return f"250-filtermail\r\n{replies.OK}"

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """The replies to EHLO and LHLO, in the place of aiosmtpd's `responses`."""
        return [f"250-filtermail\r\n250-XFORWARD ADDR\r\n250-8BITMIME\r\n{replies.OK}"]

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """The reply to QUIT."""
        return replies.CLOSING

    async def handle_exception(self, error: Exception) -> str:
        """The reply where this program has a fault: the client shall keep the message."""
        logger.error("Fault in the filter", exc_info=error)
        return replies.LOCAL_ERROR


class CommandReader:
    """Stands before the stream from which aiosmtpd reads commands.

    Alone, aiosmtpd takes a bare LF for a line end, and looks for the end of a line however far that is.
    """

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._at_end = False

    async def readuntil(self) -> bytes:
        """The next command with its CRLF, or the beginning of one that is too long for aiosmtpd.

        :raises asyncio.CancelledError: the dialogue ends here, upon which aiosmtpd closes the connection.
        """
        if self._at_end:
            raise asyncio.CancelledError
        try:
            line = await self._stream.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            self._at_end = True
            return await self._stream.read(LINE_MAX + 1)
        if not line.endswith(b"\r\n"):
            raise asyncio.CancelledError
        return line


class Connection(SMTP):
    """One client's connection."""

    command_size_limit = line_length_limit = LINE_MAX
    command_size_limits = collections.defaultdict(lambda: LINE_MAX)

    # Commands that aiosmtpd knows and this server does not.
    smtp_AUTH = smtp_EXPN = smtp_HELP = smtp_STARTTLS = smtp_VRFY = None

    def __init__(self, server: "Server") -> None:
        super().__init__(
            server.handler,
            data_size_limit=None,
            enable_SMTPUTF8=True,  # octets of an address that are no ASCII reach the methods below
            hostname="filtermail",
            ident="SMTP",
            timeout=IDLE_SECONDS,
            loop=asyncio.get_running_loop(),
        )
        self._server = server
        self._declared_size = 0  # octets, 0 where MAIL has not said
        self._has_begun = False  # a transaction; until then the client is about to, having connected for one

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._stream = self._reader
        self._reader = CommandReader(self._stream)
        self._server.connections.add(self)
        self.session.client = None
        self.session.speaks_lmtp = False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        self._server.connections.discard(self)
        super().connection_lost(error)

    async def push(self, status: str) -> None:
        """Send a reply."""
        # So begin the texts that aiosmtpd's command loop has for what it does not understand.
        await super().push(replies.NOT_RECOGNIZED if status.startswith("500 Error: ") else status)
        if self._server.draining and self.is_idle():
            self.dismiss()

    def is_idle(self) -> bool:
        """Whether a transaction has ended and no other begun."""
        return self._has_begun and not self.in_transaction()

    def in_transaction(self) -> bool:
        """Whether a sender was accepted; the null sender is one too."""
        return self.envelope.mail_from is not None

    def dismiss(self) -> None:
        """Tell the client, which has no transaction open, that the service ends."""
        self._writer.write(f"{replies.SHUTTING_DOWN}\r\n".encode())
        self._writer.close()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        await self._writer.wait_closed()

    async def smtp_LHLO(self, arg: str | None) -> None:
        """Greet a client of LMTP (RFC 2033), which expects an answer for each recipient."""
        self.session.speaks_lmtp = True
        await self.smtp_EHLO(arg)

    async def smtp_XFORWARD(self, arg: str | None) -> None:
        """Take the address of Postfix's client (XFORWARD_README)."""
        await self.push(self._xforward(arg or ""))

    def _xforward(self, argument: str) -> str:
        if self.in_transaction():
            return replies.XFORWARD_TOO_LATE
        name, _, value = argument.strip().partition("=")
        client = ip_address.forwarded(value)
        if name.upper() != "ADDR" or (client is None and value.upper() != ip_address.UNAVAILABLE):
            return replies.XFORWARD_SYNTAX
        self.session.client = client
        return replies.OK

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Take the sender (RFC 5321 section 4.1.1.2) unless the handler refuses it."""
        status = replies.one_line(await self._mail(arg or ""))
        self._has_begun = True
        await self.push(status)

    async def _mail(self, argument: str) -> str:
        if not argument.upper().startswith("FROM:"):
            return replies.NOT_RECOGNIZED
        if self.in_transaction():
            return replies.SENDER_ALREADY_GIVEN
        sender = address.parse_path(argument[len("FROM:") :])
        if sender is None:
            return replies.invalid_sender("MAIL FROM")
        declared = _SIZE.search(argument)
        self._declared_size = min(int(declared[1]), self._server.max_message_size) if declared else 0
        status = await self._call_handler_hook("MAIL", sender, [])
        if status is not MISSING:
            return status
        self.envelope.mail_from = sender
        return replies.OK

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Take a recipient (RFC 5321 section 4.1.1.3)."""
        await self.push(replies.one_line(await self._rcpt(arg or "")))

    async def _rcpt(self, argument: str) -> str:
        if not argument.upper().startswith("TO:"):
            return replies.NOT_RECOGNIZED
        if not self.in_transaction():
            return replies.SENDER_NEEDED
        recipient = address.parse_path(argument[len("TO:") :])
        if not recipient:
            return replies.invalid_recipient("RCPT TO")
        if len(self.envelope.rcpt_tos) >= RECIPIENTS_MAX:
            return replies.TOO_MANY_RECIPIENTS
        status = await self._call_handler_hook("RCPT", recipient, [])
        if status is not MISSING:
            return status
        self.envelope.rcpt_tos.append(recipient)
        return replies.OK

    async def smtp_DATA(self, arg: str | None) -> None:
        """Take a message (RFC 5321 section 4.1.1.4)."""
        if not self.envelope.rcpt_tos:
            await self.push(replies.RECIPIENT_NEEDED)
            return
        answers = len(self.envelope.rcpt_tos) if self.session.speaks_lmtp else 1
        place = place_of(str(self.session.client))
        with self._server.budget.reservation(place.network if place else "") as reservation:
            if not await reservation.cover(self._declared_size + GROWTH):
                self._set_post_data_state()
                await self.push(replies.NO_ROOM)
                return
            await self.push(replies.START_DATA)
            try:
                self.envelope.content, refusal = await self._message_data(reservation)
                status = refusal or await self._call_handler_hook("DATA")
            except InvalidData:
                # Where this message ends is now anybody's guess.
                await self.push(replies.INVALID_DATA)
                await self._hang_up()
            except asyncio.CancelledError as lost:
                # This task keeps the traceback, and reference cycles keep the task; the message is to go now.
                traceback.clear_frames(lost.__traceback__)
                raise
            finally:
                self._set_post_data_state()
        statuses = [status] * answers if isinstance(status, str) else status
        await self.push("\r\n".join(map(replies.one_line, statuses)))

    async def _message_data(self, reservation: Reservation) -> tuple[bytearray, str | None]:
        """Read up to the final dot, whatever the size, so that the dialogue stays in step.

        aiosmtpd's own reading makes an object of each line, which for 30 MiB of empty ones takes a gigabyte and holds
        up all other connections; it lets bare LF pass and refuses long lines.

        :returns: the data, and the refusal if it could not be kept.
        :raises InvalidData: a bare LF.
        """
        # Stuffing makes a message longer by a third at most, each of its lines being a lone dot.
        limit = self._server.max_message_size * 4 // 3 + 1
        refusal = None
        data = bytearray()
        dropped = searched = 0
        while True:
            try:
                data += await self._stream.read(_ALL)
            except asyncio.CancelledError:
                logger.info("Connection lost within a message; nothing of it is delivered")
                raise
            self._reset_timeout()
            at = data.find(b"\r\n.\r\n", max(0, searched - 4))
            end = at + 2 if at >= 0 else len(data)
            if not dropped and data.startswith(b".\r\n"):
                at = end = 0
            if data.count(b"\n", searched, end) != data.count(b"\r\n", max(0, searched - 1), end):
                data.clear()
                raise InvalidData
            if at >= 0:
                break
            if dropped + end > limit:
                refusal = refusal or replies.TOO_LARGE
            elif not refusal and not await reservation.cover(end, self._server.max_message_size + GROWTH):
                refusal = replies.NO_ROOM
            if refusal:
                excess = max(0, end - 4)
                del data[:excess]
                dropped += excess
            searched = len(data)
        # The stream is empty now, so what follows the message, such as QUIT, may come once more.
        self.data_received(bytes(data[end + 3 :]))
        del data[end:]
        return data, refusal

    async def _hang_up(self) -> None:
        """End the connection, and with it this task."""
        self._writer.write_eof()
        # Closing with unread input would reset the connection, and the client might never see the reply.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._stream.read(_ALL):
                    pass
        self._writer.close()
        await self.wait_closed()


class Server:
    """Listens and serves connections until told to stop."""

    def __init__(self, handler: Handler, max_message_size: int, patience: float = WAIT_SECONDS) -> None:
        """Set up, without listening yet.

        :param handler: what to do with mail.
        :param max_message_size: octets of one message.
        :param patience: seconds that a large message waits for memory.
        """
        self.handler = handler
        self.max_message_size = max_message_size
        self.budget = Budget(LARGE_MESSAGES * max_message_size, patience)
        self.draining = False
        self.connections: set[Connection] = set()

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve on `listener`, which is bound, until `stop` is set; then let open transactions end, in bounded time."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=ACCEPT_AT_ONCE)
        listener.listen(BACKLOG)
        await stop.wait()
        await stop_accepting(listener)
        self.draining = True
        for connection in self.connections:
            if connection.is_idle():
                connection.dismiss()
        await self._all_closed(QUIET_SECONDS)
        for connection in self.connections:
            if not connection.in_transaction():
                connection.dismiss()
        await self._all_closed(DRAIN_SECONDS)
        server.close()

    async def _all_closed(self, seconds: float) -> None:
        """Wait until no connection is left, at most so many `seconds`."""
        if closed := [asyncio.create_task(connection.wait_closed()) for connection in self.connections]:
            await asyncio.wait(closed, timeout=seconds)
