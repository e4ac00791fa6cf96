"""The filter between Postfix's listeners and its queue: only end-to-end encrypted mail passes.

Two roles, a process each: `outgoing` takes what the relay's own users submit, `incoming` what other servers send. Each
takes a message over SMTP, decides, and hands it back to Postfix on another port. A message is answered with success
only after Postfix has taken it. The incoming role also takes messages over HTTP, from relays that cannot reach port 25.

One process serves a role: it hands on some 700 messages a second, where Postfix on two cores takes half of that.
So the rate limit needs no memory shared between processes.
"""

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from aiosmtpd import smtp

from . import ip_address, service
from .config import read_config_or_exit
from .filter.authentication import Authenticator, is_literal
from .filter.rules import (
    IncomingSettings,
    OutgoingSettings,
    Refused,
    Rules,
    Settings,
    delivery_address,
    examine,
    from_address,
    incoming_rules,
    is_bounce,
    outgoing_rules,
)
from .http import server as http_server
from .limits.rate_limit import RateLimiter
from .message import dkim, mime
from .message.address import decode, parse_path
from .resolver import Resolver
from .smtp import client as smtp_client
from .smtp import replies
from .smtp.client import Envelope
from .smtp.data import stuff
from .smtp.server import RECIPIENTS_MAX, Handler, Server

# For how long large messages wait for memory, in seconds. Delta Chat gives up an answer that takes more than a minute.
# Mail servers have ten for the one to a message (RFC 5321 section 4.5.3.2.6). Postfix and nginx give the filter five
# (smtpd_proxy_timeout, proxy_read_timeout) for this and for what comes then (smtp_client.TOTAL_SECONDS).
OUTGOING_PATIENCE = 40
INCOMING_PATIENCE = 200
IN_PLACE_MAX = 256 * 1024  # octets of a message that is examined without a thread, within about a millisecond


logger = logging.getLogger(__name__)


ROLES = {"outgoing": OutgoingSettings, "incoming": IncomingSettings}


class Filter(Handler):
    """What both roles share: examine, then hand on."""

    def __init__(self, config: Settings, rules: Rules, destination: smtp_client.Destination) -> None:
        self._config = config
        self._rules = rules
        self._destination = destination
        # One thread: large messages are examined one after the other, each with copies of its own.
        self._examiner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="examine")

    async def handle_DATA(self, server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope) -> str:
        """Take responsibility for a message or refuse it; see `smtp.server.Handler`.

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
            return replies.IO_ERROR
        except (Refused, smtp_client.DeliveryFailed) as refusal:
            return str(refusal)
        except OSError as error:
            logger.error("Cannot look for the flags of a mailbox: %s", error.strerror)
            return replies.LOCAL_ERROR
        return replies.OK

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
        status = HTTPStatus.OK if replies.is_success(reply) else HTTPStatus.BAD_REQUEST
        return http_server.Response(status, replies.one_line(reply))

    def _envelope(self, request: http_server.Request) -> Envelope:
        """The envelope in X-MAIL-FROM, which the null sender does without, and X-MAIL-TO, once for each recipient.

        The client is in X-Real-IP, which nginx puts in the place of what a client says.

        :raises Refused: a field cannot be read, or a recipient is not ours: Postfix's listener for clients, where port
            25 refuses that, was not asked.
        """
        senders = request.values(b"x-mail-from")
        sender = parse_path(decode(senders[0])) if senders and senders[0] else ""
        if sender is None or len(senders) > 1:
            raise Refused(replies.invalid_sender("X-MAIL-FROM"))
        recipients = [parse_path(decode(value)) for value in request.values(b"x-mail-to")]
        if not recipients:
            raise Refused(replies.RECIPIENT_FIELD_NEEDED)
        if len(recipients) > RECIPIENTS_MAX:
            raise Refused(replies.TOO_MANY_RECIPIENTS)
        for recipient in recipients:
            if not recipient:
                raise Refused(replies.invalid_recipient("X-MAIL-TO"))
            if not self._is_ours(recipient):
                raise Refused(replies.relay_denied(recipient))
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
            raise Refused(replies.not_authenticated(reason)) from reason
        except dkim.TryAgain as reason:
            logger.info("Incoming: %s", reason)
            raise Refused(replies.authentication_failed_for_now(reason)) from reason


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
                return replies.sender_without_domain(address)
            if not self._limiter.allow(self._account(address)):
                return replies.too_much_mail(address)
        envelope.mail_from = address
        return replies.OK

    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: dkim.Run) -> None:
        """Postfix knows by the login whose envelope sender it is, and `outgoing_rules` compares the author with it."""

    def _account(self, sender: str) -> str:
        """What the rate of `sender` is counted by: other spellings of an address have no rate of their own."""
        try:
            return delivery_address(self._config, sender)
        except ValueError:
            return sender.lower()


async def run(config: Settings, role: str, smtp_listener: socket.socket, *http_listeners: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT.

    :param role: `outgoing`, which has one socket, or `incoming`, which has another for HTTP.
    :raises StartError: postfix_host has no address.
    """
    if role == "outgoing":
        filtering = OutgoingFilter(config, _destination(config, config.postfix_reinject_port))
        smtp_server = Server(filtering, config.max_message_size, OUTGOING_PATIENCE)
    else:
        filtering = IncomingFilter(
            config,
            _destination(config, config.postfix_reinject_port_incoming),
            Resolver(seconds=dkim.DNS_S),
        )
        smtp_server = Server(filtering, config.max_message_size, INCOMING_PATIENCE)
    stop = service.stop_signal()
    serving = [smtp_server.serve(smtp_listener, stop)]
    for listener in http_listeners:
        # Memory for large messages is the process's, whichever way they come.
        http = http_server.Server(HttpDelivery(config, filtering), config.max_message_size, smtp_server.budget)
        serving.append(http.serve(listener, stop))
    logger.info("entering serving loop")
    service.notify("READY=1")
    await asyncio.gather(*serving)


def _destination(config: Settings, port: int) -> smtp_client.Destination:
    """Postfix's listener at `port`; its name is resolved once."""
    try:
        found = socket.getaddrinfo(config.postfix_host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise service.StartError(
            f"postfix_host is {config.postfix_host!r}, which has no address: {error.strerror};"
            " allowed is an IP address or a host name that resolves"
        ) from error
    return smtp_client.Destination(found[0][4][0], port, smtp_client.address_literal(config.filtermail_host))


def main() -> None:
    """Run the service; see `service.run`."""
    parser = service.parser("Let only end-to-end encrypted mail pass between Postfix and its queue.", config=True)
    parser.add_argument(
        "role",
        choices=list(ROLES),
        help="outgoing: mail that users submit; incoming: mail from other servers",
    )
    arguments = parser.parse_args()
    # aiosmtpd logs what clients send, addresses included.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    # Its connections are reference cycles; collected early, they do not pile up to megabytes.
    gc.set_threshold(200, 5, 5)
    config = read_config_or_exit(arguments.config, ROLES[arguments.role])
    service.run(
        lambda *listeners: run(config, arguments.role, *listeners), sockets=1 if arguments.role == "outgoing" else 2
    )


if __name__ == "__main__":
    main()
