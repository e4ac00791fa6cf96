"""The filter between Postfix's listeners and its queue: only end-to-end encrypted mail passes.

Two roles, a process each: `outgoing` takes what the relay's own users submit, `incoming` what other servers send. Each
takes a message over SMTP, decides, and hands it back to Postfix on another port. A message is answered with success
only after Postfix has taken it. The incoming role also takes messages over HTTP, from relays that cannot reach port 25.

One process serves a role: it hands on some 700 messages a second, where Postfix on two cores takes half of that.
So the rate limit needs no memory shared between processes.
"""

import argparse
import asyncio
import gc
import logging
import re
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiosmtpd import smtp

from . import dkim, http_server, ip_address, mime, openpgp, smtp_client, systemd
from .address import decode, parse_from, parse_path, same
from .authentication import Authenticator, is_literal
from .config import Config, ConfigError, read_config
from .mailbox import without_detail
from .rate_limit import RateLimiter
from .resolver import Resolver
from .smtp_client import Envelope
from .smtp_server import RECIPIENTS_MAX, Handler, InvalidData, Server, one_line, stuff, unstuff

ENCRYPTION_NEEDED = "523 Encryption Needed: Invalid Unencrypted Mail"
SECUREJOIN_REQUESTS = (b"vc-request", b"vg-request")
SECUREJOIN_TEXT_MAX = 1000  # octets
# For how long large messages wait for memory, in seconds. Delta Chat gives up an answer that takes more than a minute.
# Mail servers have ten for the one to a message (RFC 5321 section 4.5.3.2.6); Postfix and nginx give the filter five.
OUTGOING_PATIENCE = 40
INCOMING_PATIENCE = 240
IN_PLACE_MAX = 256 * 1024  # octets of a message that is examined without a thread, within about a millisecond

_ROUTING = frozenset("@%!")  # in a local part Postfix may read them as a way to another host
_QUOTED_PAIR = re.compile(r"\\(.)")  # RFC 5321 section 4.1.2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What both filters read."""

    max_message_size: int  # octets
    filtermail_host: str
    postfix_host: str


@dataclass(frozen=True, kw_only=True)
class OutgoingSettings(Settings):
    """What the filter for mail that users submit reads."""

    max_user_send_per_minute: int
    max_user_send_burst_size: int
    passthrough_senders: tuple[str, ...]
    passthrough_recipients: tuple[str, ...]
    postfix_reinject_port: int


@dataclass(frozen=True, kw_only=True)
class IncomingSettings(Settings):
    """What the filter for mail from other servers reads."""

    postfix_reinject_port_incoming: int


ROLES = {"outgoing": OutgoingSettings, "incoming": IncomingSettings}


class Refused(Exception):
    """A rule refuses the message; the text is the SMTP reply."""


Rules = Callable[[Config, Envelope, mime.Entity], Envelope]


def examine(
    rules: Rules, config: Settings, envelope: Envelope, data: bytes | bytearray
) -> tuple[Envelope, mime.Entity]:
    """Apply all rules to one message.

    :param data: the message, dot-stuffed.
    :returns: the envelope with which the message goes on, without recipients it is to be dropped; and the message.
    :raises Refused: it does not go on.
    """
    try:
        message = unstuff(data)
    except InvalidData:
        raise Refused("500 Invalid DATA") from None
    if len(message) > config.max_message_size:
        raise Refused("552 Message exceeds maximum size")
    try:
        entity = mime.parse(message)
    except mime.MalformedMessage as error:
        raise Refused(f"500 Failed to parse message: {error}") from error
    return rules(config, envelope, entity), entity


def outgoing_rules(config: OutgoingSettings, envelope: Envelope, message: mime.Entity) -> Envelope:
    """What a user may send: encrypted mail, under the own address; see `examine`."""
    recipients = [to for to in envelope.recipients if not is_disabled(config, to)]
    author = from_address(message)
    if not same(author, envelope.sender):
        raise Refused(f"500 Invalid FROM <{author}> for <{envelope.sender}>")
    why_not = unencrypted(message, outgoing=True)
    logger.info("Outgoing: Filtering %s mail.", "unencrypted" if why_not else "encrypted")
    if not (
        not why_not
        or is_securejoin_request(message)
        or any(same(envelope.sender, item) for item in config.passthrough_senders)
        or is_autocrypt_setup(message, envelope.sender, recipients)
        or all(passes_recipient(config, to) for to in recipients)
    ):
        logger.info("Rejected unencrypted mail")
        raise Refused(why_not)
    if is_disabled(config, envelope.sender):
        recipients = []
    return Envelope(envelope.sender, recipients)


def incoming_rules(config: Settings, envelope: Envelope, message: mime.Entity) -> Envelope:
    """What others may send: encrypted mail, and bounces; see `examine`. `IncomingFilter` checks where it is from."""
    author = from_address(message)
    recipients = [to for to in envelope.recipients if not is_disabled(config, to)]
    why_not = unencrypted(message, outgoing=False)
    logger.info("Incoming: Filtering %s mail.", "unencrypted" if why_not else "encrypted")
    if why_not and not is_securejoin_request(message):
        if is_bounce(message, author):
            logger.info("Incoming: Filtering mailer-daemon message from %s", one_line(author))
        elif is_literal(author) or any(enforces_e2ee(config, to) for to in recipients):
            logger.info("Rejected unencrypted mail")
            raise Refused(why_not)
    # Forwarders rewrite the sender, forgers choose it: no bounce may go to an address that is not the author's.
    sender = envelope.sender if same(author, envelope.sender) else ""
    return Envelope(sender, recipients)


def from_address(message: mime.Entity) -> str:
    """The author. RFC 5322 section 3.6 has exactly one From field; clients show one of several, DKIM checks another.

    :raises Refused: there is not exactly one field with exactly one address.
    """
    values = message.values(b"from")
    if len(values) != 1:
        raise Refused(f"500 Invalid FROM header: {len(values)} fields, allowed is one")
    author = parse_from(values[0])
    if author is None:
        raise Refused("500 Invalid FROM header: allowed is one address, such as: Name <user@example.org>")
    return author


def unencrypted(message: mime.Entity, *, outgoing: bool) -> str:
    """The reply to a message that is not encrypted, "" for one that is; who sends PGP/MIME is told what is wrong."""
    try:
        openpgp.require_encrypted_message(message, outgoing=outgoing)
    except openpgp.NotEncrypted as error:
        return f"{ENCRYPTION_NEEDED} ({error})" if str(error) else ENCRYPTION_NEEDED
    return ""


def is_securejoin_request(message: mime.Entity) -> bool:
    """Whether this is the one cleartext message by which a contact without known key is asked for it.

    It is one text, which may be the only part of a multipart.
    """
    try:
        if message.value(b"secure-join") not in SECUREJOIN_REQUESTS:
            return False
        part = message
        if message.content_type().startswith("multipart/"):
            (part,) = message.parts(1, padding=mime.no_text)
        if part.content_type() != "text/plain" or part.end - part.start > SECUREJOIN_TEXT_MAX:
            return False
        text = part.body().strip().lower()
    except ValueError:  # malformed, or no part
        return False
    return text in [b"secure-join: " + request for request in SECUREJOIN_REQUESTS]


def is_autocrypt_setup(message: mime.Entity, sender: str, recipients: list[str]) -> bool:
    """Whether a user sends the own key to the own other devices (Autocrypt 1.1 section 4.4)."""
    return (
        len(recipients) == 1
        and same(recipients[0], sender)
        and message.values(b"subject") == [b"Autocrypt Setup Message"]
        and _has_type(message, "multipart/mixed")
    )


def is_bounce(message: mime.Entity, author: str) -> bool:
    """Whether a mail server reports on a delivery (RFC 3464)."""
    return (
        any(message.values(b"auto-submitted"))
        and author.lower().startswith("mailer-daemon@")
        and _has_type(message, "multipart/report")
    )


def _has_type(message: mime.Entity, content_type: str) -> bool:
    try:
        return message.content_type() == content_type
    except mime.MalformedMessage:
        return False


def passes_recipient(config: OutgoingSettings, recipient: str) -> bool:
    """Whether an item of passthrough_recipients, an address or ``@domain``, lets cleartext to `recipient` pass."""
    address = recipient.lower()
    return any(
        address == item or (item.startswith("@") and address.endswith(item))
        for item in map(str.lower, config.passthrough_recipients)
    )


def is_disabled(config: Settings, address: str) -> bool:
    """Whether the operator has shut `address` off."""
    try:
        return config.mailbox(delivery_address(config, address)).is_disabled()
    except ValueError:
        return False


def enforces_e2ee(config: Settings, recipient: str) -> bool:
    """Whether `recipient` refuses cleartext; so does what may be another spelling of such an address."""
    try:
        return config.mailbox(delivery_address(config, recipient)).enforces_e2ee()
    except ValueError:
        return True


def delivery_address(config: Settings, address: str) -> str:
    """The address that Postfix and Dovecot take `address` for, however it is spelled.

    A quoted local part means what is in the quotes, one without a domain gets ours (myorigin), and the dot at the end
    of an absolute domain goes.

    :raises ValueError: what the quotes held looks like a route, which Postfix resolves in ways that are not known here.
    """
    local_part, at, domain = address.rpartition("@")
    if not at:
        local_part, domain = address, config.mail_domain
    if local_part.startswith('"'):
        local_part = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    if not _ROUTING.isdisjoint(local_part):
        raise ValueError("routes are not resolved")
    return without_detail(f"{local_part}@{domain.rstrip('.')}")


class Filter(Handler):
    """What both roles share: examine, then hand on."""

    def __init__(self, config: Settings, rules: Rules, destination: smtp_client.Destination) -> None:
        self._config = config
        self._rules = rules
        self._destination = destination
        # One thread: large messages are examined one after the other, each with copies of its own.
        self._examiner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="examine")

    async def handle_DATA(self, server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope) -> str:
        """Take responsibility for a message or refuse it; see `smtp_server.Handler`.

        :returns: the reply to DATA.
        """
        return await self.deliver(Envelope(envelope.mail_from, envelope.rcpt_tos, session.client), envelope.content)

    async def deliver(self, envelope: Envelope, data: bytes | bytearray) -> str:
        """Take responsibility for a message or refuse it.

        :param data: the message, dot-stuffed.
        :returns: the SMTP reply.
        """
        try:
            async with asyncio.timeout(smtp_client.TOTAL_SECONDS):
                onward = await self._examine(envelope, data)
                if onward.recipients:
                    await smtp_client.send(self._destination, onward, data)
        except TimeoutError:
            return "451 I/O error"
        except (Refused, smtp_client.DeliveryFailed) as refusal:
            return str(refusal)
        except OSError as error:
            logger.error("Cannot look for the flags of a mailbox: %s", error.strerror)
            return "451 Local error"
        return "250 OK"

    async def _examine(self, envelope: Envelope, data: bytes | bytearray) -> Envelope:
        run = self._in_place if len(data) <= IN_PLACE_MAX else self._in_thread
        onward, message = await run(examine, self._rules, self._config, envelope, data)
        if onward.recipients:
            await self._authenticate(message, envelope, run)
        return onward

    async def _in_place(self, function: Callable, *arguments):
        return function(*arguments)

    async def _in_thread(self, function: Callable, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._examiner, function, *arguments)

    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: dkim.Run) -> None:
        """Return if the author sent `message`.

        :param run: calls a function in a way that is fit for the size of the message.
        :raises Refused: that is not known.
        """
        raise NotImplementedError


class HttpDelivery:
    """Incoming mail by HTTP: the envelope is in header fields, the body is the message as it is, not dot-stuffed."""

    def __init__(self, config: Settings, incoming: Filter) -> None:
        self._config = config
        self._incoming = incoming

    async def __call__(self, request: http_server.Request) -> http_server.Response:
        """200 where the message was taken; 400 with the SMTP reply where it was not."""
        if request.method != "POST":
            return http_server.Response(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", (("Allow", "POST"),))
        try:
            envelope = self._envelope(request)
        except Refused as refusal:
            reply = str(refusal)
        else:
            reply = await self._incoming.deliver(envelope, stuff(request.body))
        status = HTTPStatus.OK if reply.startswith("250 ") else HTTPStatus.BAD_REQUEST
        return http_server.Response(status, one_line(reply))

    def _envelope(self, request: http_server.Request) -> Envelope:
        """The envelope in X-MAIL-FROM, which the null sender does without, and X-MAIL-TO, once for each recipient.

        The client is in X-Real-IP, which nginx puts in the place of what a client says.

        :raises Refused: a field cannot be read, or a recipient is not ours: Postfix's listener for clients, where port
            25 refuses that, was not asked.
        """
        senders = request.values(b"x-mail-from")
        sender = parse_path(decode(senders[0])) if senders and senders[0] else ""
        if sender is None or len(senders) > 1:
            raise Refused("500 Invalid address in X-MAIL-FROM")
        recipients = [parse_path(decode(value)) for value in request.values(b"x-mail-to")]
        if not recipients:
            raise Refused("503 5.5.1 X-MAIL-TO is needed")
        if len(recipients) > RECIPIENTS_MAX:
            raise Refused("452 4.5.3 Too many recipients")
        for recipient in recipients:
            if not recipient:
                raise Refused("501 5.1.3 Invalid address in X-MAIL-TO")
            if not self._is_ours(recipient):
                raise Refused(f"550 5.7.1 <{recipient}>: Relay access denied")
        addresses = request.values(b"x-real-ip")
        client = ip_address.parse(decode(addresses[0])) if len(addresses) == 1 else None
        return Envelope(sender, recipients, client)

    def _is_ours(self, recipient: str) -> bool:
        try:
            return delivery_address(self._config, recipient).endswith(f"@{self._config.mail_domain}")
        except ValueError:
            return False


class IncomingFilter(Filter):
    """The role for what arrives: it must be of the author whom it names."""

    wants_client = True

    def __init__(self, config: Settings, destination: smtp_client.Destination, resolver: Resolver) -> None:
        super().__init__(config, incoming_rules, destination)
        self._authenticator = Authenticator(config.mail_domain, resolver)

    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: dkim.Run) -> None:
        author = from_address(message)
        try:
            await self._authenticator.check(message, author, envelope.client, run)
            if is_literal(author) and is_bounce(message, author):
                await self._authenticator.check_returned(message, envelope.recipients, run)
        except dkim.NotVerified as reason:
            logger.info("Incoming: %s", reason)
            raise Refused(f"554 5.7.1 {reason}") from reason
        except dkim.TryAgain as reason:
            logger.info("Incoming: %s", reason)
            raise Refused(f"451 4.7.5 {reason}") from reason


class OutgoingFilter(Filter):
    """The role for submission: senders are limited in rate."""

    def __init__(self, config: OutgoingSettings, destination: smtp_client.Destination) -> None:
        super().__init__(config, outgoing_rules, destination)
        self._limiter = RateLimiter(config.max_user_send_per_minute, config.max_user_send_burst_size)

    async def handle_MAIL(
        self,
        server: smtp.SMTP,
        session: smtp.Session,
        envelope: smtp.Envelope,
        address: str,
        mail_options: list[str],
    ) -> str:
        """Refuse what is no address with a domain, and who sends too fast; the null sender is neither.

        :returns: the reply to MAIL.
        """
        if address:
            if address.count("@") != 1:
                return f"500 Invalid from address <{address}>"
            if not self._limiter.allow(self._account(address)):
                return f"450 4.7.1: Too much mail from <{address}>; try again later"
        envelope.mail_from = address
        return "250 OK"

    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: dkim.Run) -> None:
        """Postfix knows by the login whose envelope sender it is, and `outgoing_rules` compares the author with it."""

    def _account(self, sender: str) -> str:
        """What the rate of `sender` is counted by: other spellings of an address have no rate of their own."""
        try:
            return delivery_address(self._config, sender)
        except ValueError:
            return sender.lower()


class StartError(Exception):
    """The service cannot start; the text says why and what to do."""


async def run(config: Settings, role: str) -> None:
    """Serve until SIGTERM or SIGINT.

    :param role: `outgoing`, which needs one socket, or `incoming`, which needs another for HTTP.
    :raises StartError: systemd did not pass them, or postfix_host has no address.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if role == "outgoing":
        service = OutgoingFilter(config, _destination(config, config.postfix_reinject_port))
        smtp_server = Server(service, config.max_message_size, OUTGOING_PATIENCE)
        (smtp_listener,) = _listeners(1)
        serving = [smtp_server.serve(smtp_listener, stop)]
    else:
        service = IncomingFilter(
            config,
            _destination(config, config.postfix_reinject_port_incoming),
            Resolver(seconds=dkim.DNS_S),
        )
        smtp_server = Server(service, config.max_message_size, INCOMING_PATIENCE)
        # Memory for large messages is the process's, whichever way they come.
        http = http_server.Server(HttpDelivery(config, service), config.max_message_size, smtp_server.budget)
        smtp_listener, http_listener = _listeners(2)
        serving = [smtp_server.serve(smtp_listener, stop), http.serve(http_listener, stop)]
    logger.info("entering serving loop")
    systemd.notify("READY=1")
    await asyncio.gather(*serving)


def _destination(config: Settings, port: int) -> smtp_client.Destination:
    """Postfix's listener at `port`; its name is resolved once."""
    try:
        found = socket.getaddrinfo(config.postfix_host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(
            f"postfix_host is {config.postfix_host!r}, which has no address: {error.strerror};"
            " allowed is an IP address or a host name that resolves"
        ) from error
    return smtp_client.Destination(found[0][4][0], port, smtp_client.address_literal(config.filtermail_host))


def _listeners(number: int) -> list[socket.socket]:
    try:
        return systemd.listening_sockets(number)
    except ValueError as error:
        raise StartError(str(error)) from error


def main() -> None:
    """Run the service; exit status 1 and a message say that settings or sockets cannot be used."""
    parser = argparse.ArgumentParser(
        prog="filtermail", description="Let only end-to-end encrypted mail pass between Postfix and its queue."
    )
    parser.add_argument("config", type=Path, help="settings file, such as /etc/chatmail/filtermail.toml")
    parser.add_argument(
        "role",
        choices=list(ROLES),
        help="outgoing: mail that users submit; incoming: mail from other servers",
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    # aiosmtpd logs what clients send, addresses included.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    # Its connections are reference cycles; collected early, they do not pile up to megabytes.
    gc.set_threshold(200, 5, 5)
    try:
        asyncio.run(run(read_config(arguments.config, ROLES[arguments.role]), arguments.role))
    except ConfigError as error:
        sys.exit(str(error))
    except StartError as error:
        sys.exit(f"{arguments.config}: {error}")


if __name__ == "__main__":
    main()
