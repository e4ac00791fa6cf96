"""The role for what other servers send, over SMTP and over HTTP."""

import logging
from http import HTTPStatus

from .. import ip_address
from ..http import server as http_server
from ..limits.rate_limit import RateLimiter
from ..message import dkim, mime
from ..message.address import decode, is_literal, parse_path
from ..smtp import replies
from ..smtp.client import Destination, Envelope
from ..smtp.data import stuff
from ..smtp.server import RECIPIENTS_MAX
from ..text_records import TextRecords
from .authentication import Authenticator
from .role import Filter, Run
from .rules import (
    Refused,
    Settings,
    delivery_address,
    from_address,
    has_mailbox,
    incoming_rules,
    is_bounce,
    is_role,
    is_without_bounces,
)

# How much one domain may write to postmaster and abuse, which need no encryption: a burst, then so many a minute. All
# together ten times that.
ROLE_PER_MINUTE, ROLE_BURST = 1, 10

logger = logging.getLogger(__name__)


class IncomingFilter(Filter):
    """The role for what arrives: it must be of the author whom it names."""

    def __init__(self, config: Settings, destination: Destination) -> None:
        super().__init__(config, incoming_rules, destination)
        self._authenticator = Authenticator(config.mail_domain, TextRecords(dkim.DNS_S))
        self._domains = RateLimiter(ROLE_PER_MINUTE, ROLE_BURST)
        self._operator = RateLimiter(10 * ROLE_PER_MINUTE, 10 * ROLE_BURST)

    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: Run) -> None:
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
        # What is refused here, the author hears of by the own relay.
        if is_without_bounces(self._config, author) and not any(self._is_somebody(to) for to in envelope.recipients):
            raise Refused(replies.no_mailbox(envelope.recipients[0]))
        if any(is_role(self._config, to) for to in envelope.recipients):
            domain = author.rpartition("@")[2].lower()
            # Who has many domains does not flood the operator with each.
            if not (self._domains.allow(domain) and self._operator.allow("")):
                raise Refused(replies.too_much_mail(author))

    def _is_somebody(self, recipient: str) -> bool:
        return is_role(self._config, recipient) or has_mailbox(self._config, recipient)


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
