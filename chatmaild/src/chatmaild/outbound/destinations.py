"""The domains to which mail goes: what is known of each, its kept connections, and delivery by HTTPS.

A relay answers POST to ``/mxdeliv``. One that does is known by what it says to GET there: 405, for which no web server
without that path has a reason. What it says then to a message is more than a status; see `verdict`.
"""

import asyncio
import contextlib
import enum
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

import h11

from ..http.client import Connection
from ..message import address
from ..smtp import replies
from .connecting import Connector
from .mail_servers import Directory, NotNow, Server, Undeliverable

PATH = "/mxdeliv"
BODY_MAX = 2048  # octets of an answer, a reply; a page of a web server is longer
OPEN_S = 30  # seconds to find the servers, to connect and to be known
DELIVER_S = 120  # seconds for one message; the other side has 90 for it (smtp.client.TOTAL_SECONDS)
KEEP_S = 60  # seconds for which an idle connection is kept; nginx keeps it for 75
# Seconds after which a connection is kept no more, as with SMTP (main.cf, smtp_connection_reuse_time_limit): for the
# next one, mail servers and policy are looked up again.
REUSE_S = 300
KNOWN_S = 30 * 60  # seconds for which a destination is believed to speak HTTPS, or not to
RETRY_S = 30  # seconds between two attempts to connect
CONNECTIONS_MAX = 4  # to one destination; a relay takes at least five of a network (nginx.conf, limit_conn)
WAITING_MAX = 30  # deliveries to one destination that wait for one of them
KEPT_MAX = 100  # idle connections to all
OPENINGS_MAX = 50  # attempts in the background at a time
DESTINATIONS_MAX = 4000  # that are remembered

OF_A_RELAY = HTTPStatus.METHOD_NOT_ALLOWED  # what GET is answered with

_REPLY = re.compile(rb"([245][0-9]{2})(?:[ -][^\r\n]*)?(?:\r?\n[245][0-9]{2}[ -][^\r\n]*)*")


class Way(enum.Enum):
    """How a message goes, by the name of Postfix's transport."""

    HTTPS = "https"
    SMTP = "smtp"
    # By SMTP, and where that cannot connect by HTTPS.
    EITHER = "either"


@dataclass(frozen=True)
class Mail:
    """A message and its envelope."""

    sender: str
    recipients: tuple[str, ...]
    message: bytes | bytearray  # not dot-stuffed


class Kept(NamedTuple):
    """A connection, to whom, and since when by the clock of `Destinations`."""

    connection: Connection
    server: Server
    since: float


@dataclass(frozen=True)
class Known:
    """How mail goes to a destination, for how many seconds more that is believed, and why not by HTTPS."""

    way: Way
    seconds: float
    why_not_https: str


class NoRelay(Exception):
    """What answers is not a relay, or does not answer as one; the text says what."""


def verdict(status: int, body: bytes) -> str | None:
    """What a relay says of a message, as an SMTP reply; None if that is not what a relay says.

    Those that there are answer 200 with ``250 OK`` (filtermail and ours), ``OK`` or nothing (Madmail), and refuse by
    400 with a reply of SMTP; ours also by 413 and 503, where nginx refuses.
    """
    text = body.strip() if len(body) <= BODY_MAX else b"<"
    if status == 200:
        return replies.DELIVERED if text in (b"", b"OK", b"250 OK") else None
    match = _REPLY.fullmatch(text)
    if status not in (400, 413, 503) or not match or match[1].startswith(b"2"):
        return None
    return " ".join(text.decode("ascii", "replace").split())


def introduction(server: Server) -> h11.Request:
    """The request by whose answer a relay is known; see `OF_A_RELAY`."""
    return h11.Request(method="GET", target=PATH, headers=[("Host", _host(server))])


class Destination:
    """What is known of one domain."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.idle: list[Kept] = []  # the one used last is at the end
        self.places = asyncio.Semaphore(CONNECTIONS_MAX)
        self.waiting = 0  # deliveries, those under way included
        self.opening: asyncio.Task | None = None
        # By the clock of `Destinations`.
        self.speaks_until = float("-inf")
        self.fails_until = float("-inf")
        self.retry_at = float("-inf")
        # What Postfix hears of the last one; the exception would hold the message, by its traceback.
        self.failure = ""
        self.why_not_https = ""

    def is_busy(self) -> bool:
        """Whether no more deliveries can wait."""
        return self.waiting >= CONNECTIONS_MAX + WAITING_MAX

    def is_in_use(self) -> bool:
        """Whether something is under way, or kept."""
        return bool(self.waiting or self.idle or self.opening)

    def take_idle(self) -> Kept | None:
        """A connection that the server has not closed, as far as one can know."""
        while self.idle:
            kept = self.idle.pop()
            if kept.connection.is_reusable():
                return kept
            kept.connection.abort()
        return None


class Destinations:
    """All of them."""

    def __init__(self, directory: Directory, connector: Connector, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._connector = connector
        self._clock = clock
        self._known: OrderedDict[str, Destination] = OrderedDict()
        self._openings: set[asyncio.Task] = set()

    def way(self, domain: str) -> Way:
        """How a message for `domain` goes now; whether it could go by HTTPS is found out in the background."""
        destination = self._get(domain)
        way = self.known(domain).way
        if not (way is Way.HTTPS and destination.idle):
            self._open_in_background(destination)
        return way

    def known(self, domain: str) -> Known:
        """What is known of `domain`; to ask for it changes nothing."""
        now = self._clock()
        destination = self._known.get(domain)
        if destination is None:
            return Known(Way.EITHER, 0, "")
        if destination.speaks_until > now:
            return Known(Way.HTTPS, destination.speaks_until - now, "")
        # Where HTTPS has failed lately, Postfix's own reasons for a failure are worth more than ours.
        if destination.fails_until > now:
            return Known(Way.SMTP, destination.fails_until - now, destination.why_not_https)
        return Known(Way.EITHER, 0, destination.why_not_https)

    def is_busy(self, domain: str) -> bool:
        """Whether no more deliveries can wait for `domain`."""
        return self._get(domain).is_busy()

    async def deliver(self, domain: str, mail: Mail) -> str:
        """Deliver by HTTPS; returns the SMTP reply for Postfix."""
        destination = self._get(domain)
        if destination.is_busy():
            return replies.busy(domain)
        destination.waiting += 1
        try:
            async with asyncio.timeout(DELIVER_S), destination.places:
                return await self._deliver(destination, mail)
        except TimeoutError:
            return self._forget(destination, NotNow(f"{domain} gives no answer within {DELIVER_S} s"))
        finally:
            destination.waiting -= 1

    async def _deliver(self, destination: Destination, mail: Mail) -> str:
        if destination.opening:
            # Whatever comes of it; it is a second's work that has begun.
            await asyncio.wait([destination.opening])
        if destination.failure and destination.retry_at > self._clock():
            return destination.failure
        try:
            reply, server = await self._post(destination, mail)
        except h11.LocalProtocolError:
            return replies.no_domain(mail.recipients[0])
        except (Undeliverable, NotNow, NoRelay, OSError) as error:
            return self._forget(destination, error)
        destination.speaks_until = self._clock() + KNOWN_S
        return reply if replies.is_success(reply) else f"{reply} (HTTPS, {server.name})"

    async def _post(self, destination: Destination, mail: Mail) -> tuple[str, Server]:
        """Post a message over a kept connection, or a new one.

        A kept one that ends without a word was closed by the server before the message came, or leads to nobody any
        more (`connecting.UNACKNOWLEDGED_MS`).
        """
        while kept := destination.take_idle():
            with contextlib.suppress(OSError):
                return await self._exchange(destination, kept, mail), kept.server
        kept = await self._open(destination)
        return await self._exchange(destination, kept, mail), kept.server

    async def _exchange(self, destination: Destination, kept: Kept, mail: Mail) -> str:
        server = kept.server
        headers = [("Host", _host(server)), ("Content-Type", "message/rfc822")]
        if mail.sender:
            headers.append(("X-MAIL-FROM", address.encode(mail.sender)))
        headers += [("X-MAIL-TO", address.encode(recipient)) for recipient in mail.recipients]
        headers.append(("Content-Length", str(len(mail.message))))
        request = h11.Request(method="POST", target=PATH, headers=headers)
        status, body = await self._request(destination, kept, request, mail.message)
        reply = verdict(status, body)
        if reply is None:
            raise NoRelay(f"{server.name} answers with HTTP status {status}, and not as a relay does")
        return reply

    async def _request(
        self, destination: Destination, kept: Kept, request: h11.Request, message: bytes | bytearray = b""
    ) -> tuple[int, bytes]:
        """Status and body of the answer to a request; the connection is kept afterwards, or closed."""
        connection = kept.connection
        try:
            return await connection.status(request, message), await connection.body(BODY_MAX)
        except h11.RemoteProtocolError as error:
            raise NoRelay(f"{kept.server.name} does not speak HTTP/1.1: {error}") from error
        finally:
            if connection.is_reusable() and self._clock() < kept.since + REUSE_S:
                self._keep(destination, kept)
            else:
                connection.abort()

    async def _open(self, destination: Destination) -> Kept:
        """A connection to the first server of the domain that can be reached, if it is a relay.

        :raises Undeliverable: the domain has no servers.
        :raises NotNow: none can be reached.
        :raises NoRelay: that server is none.
        """
        try:
            async with asyncio.timeout(OPEN_S):
                kept = await self._connect(destination.domain)
                if destination.speaks_until > self._clock():
                    return kept
                return await self._introduce(destination, kept)
        except TimeoutError as error:
            raise NotNow(f"no mail server of {destination.domain} answers within {OPEN_S} s") from error

    async def _connect(self, domain: str) -> Kept:
        for server in await self._directory.servers(domain):
            try:
                return Kept(await self._connector.connect(server), server, self._clock())
            except NotNow as error:
                reason = error
        raise reason

    async def _introduce(self, destination: Destination, kept: Kept) -> Kept:
        status, _ = await self._request(destination, kept, introduction(kept.server))
        if status != OF_A_RELAY:
            raise NoRelay(f"{kept.server.name} takes no mail by HTTPS (HTTP status {status})")
        destination.speaks_until = self._clock() + KNOWN_S
        return destination.take_idle() or await self._connect(destination.domain)

    def _open_in_background(self, destination: Destination) -> None:
        if destination.opening or destination.retry_at > self._clock() or len(self._openings) >= OPENINGS_MAX:
            return
        destination.opening = asyncio.create_task(self._try_to_open(destination))
        self._openings.add(destination.opening)

    async def _try_to_open(self, destination: Destination) -> None:
        try:
            self._keep(destination, await self._open(destination))
        except (Undeliverable, NotNow, NoRelay, OSError) as error:
            self._forget(destination, error)
        finally:
            self._openings.discard(destination.opening)
            destination.opening = None

    def _keep(self, destination: Destination, kept: Kept) -> None:
        kept.connection.idle_since = self._clock()
        destination.idle.append(kept)

    def _forget(self, destination: Destination, failure: Exception) -> str:
        """Note that a destination does not speak HTTPS: for now, or for a while where something else answers there.

        :returns: what Postfix hears of a message that was not delivered.
        """
        now = self._clock()
        destination.speaks_until = float("-inf")
        destination.fails_until = now + KNOWN_S
        destination.retry_at = now + (RETRY_S if isinstance(failure, (NotNow, OSError)) else KNOWN_S)
        is_final = isinstance(failure, Undeliverable)
        destination.why_not_https = replies.one_line(str(failure))
        destination.failure = str(failure) if is_final else replies.not_by_https(failure)
        while kept := destination.take_idle():
            kept.connection.abort()
        return destination.failure

    def _get(self, domain: str) -> Destination:
        if domain not in self._known:
            self._known[domain] = Destination(domain)
            if len(self._known) > DESTINATIONS_MAX:
                # Few are in use, and those at the end.
                del self._known[next(name for name, known in self._known.items() if not known.is_in_use())]
        self._known.move_to_end(domain)
        return self._known[domain]

    def close_idle(self) -> None:
        """Close kept connections that have not been used for `KEEP_S`, are too many, or have been ended."""
        kept = [(one.connection.idle_since, one, each) for each in self._known.values() for one in each.idle]
        kept.sort(key=lambda item: item[0], reverse=True)
        limit = self._clock() - KEEP_S
        for place, (idle_since, one, destination) in enumerate(kept):
            if place >= KEPT_MAX or idle_since < limit or not one.connection.is_reusable():
                destination.idle.remove(one)
                one.connection.abort()


def _host(server: Server) -> str:
    """A server in the Host field (RFC 9110 section 7.2)."""
    return f"[{server.name}]" if ":" in server.name else server.name
