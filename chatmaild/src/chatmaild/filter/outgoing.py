"""The role for what the relay's own users submit."""

from aiosmtpd import smtp

from ..limits.rate_limit import RateLimiter
from ..message import mime
from ..smtp import replies
from ..smtp.client import Destination, Envelope
from .role import Filter, Run
from .rules import OutgoingSettings, delivery_address, outgoing_rules


class OutgoingFilter(Filter):
    """The role for submission: senders are limited in rate."""

    def __init__(self, config: OutgoingSettings, destination: Destination) -> None:
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

    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: Run) -> None:
        """Postfix knows by the login whose envelope sender it is, and `outgoing_rules` compares the author with it."""

    def _account(self, sender: str) -> str:
        """What the rate of `sender` is counted by: other spellings of an address have no rate of their own."""
        try:
            return delivery_address(self._config, sender)
        except ValueError:
            return sender.lower()
