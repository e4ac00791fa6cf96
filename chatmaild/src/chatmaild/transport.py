"""Delivery to other relays over HTTPS, beside Postfix's SMTP client, which does all the rest.

Two sockets of loopback. By the first the queue manager asks for each recipient which way a message goes
(transport_maps), and is answered from memory, for it waits for that. By the second, Postfix's clients hand over
messages: its LMTP client those that go by HTTPS, its SMTP client those of which nobody knows whether they do, where it
cannot reach the destination (smtp_fallback_relay). Postfix keeps the queue: it hears 250 when the destination has said
so.
"""

import asyncio
import contextlib
import gc
import logging
import re
import socket
from dataclasses import dataclass

from aiosmtpd import smtp

from . import service, socketmap
from .config import read_config_or_exit
from .outbound.connecting import Connector
from .outbound.destinations import Destinations, Mail, Way
from .outbound.mail_servers import DOMAIN_MAX, Directory, is_domain
from .smtp import replies
from .smtp.data import unstuff
from .smtp.server import MISSING, Handler, Server

TIDY_S = 5  # seconds between two looks at the kept connections
PATIENCE_S = 40  # for which large messages wait for memory

# Seconds for one message to all its recipients. With the wait for memory it is less than Postfix waits (master.cf,
# lmtp_data_done_timeout), which would take those who have their mail by then for undelivered, and send it again.
ANSWER_S = 130

# Below this name all names are this host (RFC 6761 section 6.3). Postfix counts by name what is under way to a
# destination, so each has one, and a slow one does not take the places of the others.
HERE = "localhost"


@dataclass(frozen=True)
class Settings:
    """What it reads."""

    mail_domain: str
    max_message_size: int


def alias(domain: str) -> str | None:
    """The name of this host by which Postfix knows `domain`; None where that would be too long."""
    name = re.sub("[^a-z0-9._-]", "-", domain.strip("[]")).strip("-") + f".{HERE}"
    return name if len(name) <= DOMAIN_MAX else None


def domain_of(recipient: str) -> str:
    """What follows the @, in lower case."""
    return recipient.rpartition("@")[2].lower()


class Routes:
    """Answers the queue manager."""

    def __init__(self, destinations: Destinations, port: int) -> None:
        """:param port: where messages are handed over."""
        self._destinations = destinations
        self._port = port

    async def __call__(self, recipient: str) -> str:
        """The transport for an address, the first key of each; any other key has none (transport(5))."""
        if "@" not in recipient:
            return socketmap.NOT_FOUND
        domain = domain_of(recipient)
        name = alias(domain)
        way = self._destinations.way(domain) if name and is_domain(domain) else Way.SMTP
        if way is Way.HTTPS:
            return f"OK https:[{name}]:{self._port}"
        return f"OK {way.value}:"


def tables(destinations: Destinations, port: int) -> socketmap.Tables:
    """What it is asked: which way a message goes, by the queue manager, and what is known of a domain, by `reach`."""

    async def known(domain: str) -> str:
        found = destinations.known(domain)
        return f"OK {found.way.value} {found.seconds:.0f} {found.why_not_https}"

    return {"route": Routes(destinations, port), "known": known}


class Delivery(Handler):
    """Takes messages from Postfix, over LMTP or SMTP, and has them delivered."""

    def __init__(self, mail_domain: str, destinations: Destinations) -> None:
        self._mail_domain = mail_domain
        self._destinations = destinations

    async def handle_EHLO(
        self, server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """The replies to EHLO and LHLO."""
        return [f"250-transport\r\n250-PIPELINING\r\n250-8BITMIME\r\n{replies.OK}"]

    async def handle_RCPT(
        self, server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope, recipient: str, options: list[str]
    ) -> object:
        """Refuse who is not to be delivered to, before the message comes."""
        domain = domain_of(recipient)
        if "@" not in recipient or not is_domain(domain):
            return replies.no_domain(recipient)
        if domain == self._mail_domain:
            return replies.of_this_relay(recipient)
        if envelope.rcpt_tos and domain_of(envelope.rcpt_tos[0]) != domain:
            return replies.ONE_DOMAIN
        if self._destinations.is_busy(domain):
            return replies.busy(domain)
        return MISSING

    async def handle_DATA(self, server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope) -> str | list[str]:
        """Deliver a message; the reply, or with LMTP one for each recipient.

        Where a relay refuses a message for several recipients, each of them is asked for alone; for whom there is no
        time left, Postfix tries again.
        """
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        recipients = envelope.rcpt_tos
        domain = domain_of(recipients[0])
        message = unstuff(envelope.content)

        async def deliver(*some: str) -> str:
            return await self._destinations.deliver(domain, Mail(envelope.mail_from, some, message))

        reply = await deliver(*recipients)
        if len(recipients) == 1 or not reply.startswith("5"):
            return reply
        answers = [replies.EACH_ALONE] * len(recipients)
        if not session.speaks_lmtp:
            return answers[0]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for place, recipient in enumerate(recipients):
                    answers[place] = await deliver(recipient)
        return answers


async def run(settings: Settings, routes: socket.socket, deliveries: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT.

    :param routes: the socket by which it is asked for the way.
    :param deliveries: the one by which it gets messages.
    """
    stop = service.stop_signal()
    destinations = Destinations(Directory(), Connector())
    server = Server(Delivery(settings.mail_domain, destinations), settings.max_message_size, PATIENCE_S)
    tidying = asyncio.create_task(_tidy(destinations))
    service.notify("READY=1")
    await asyncio.gather(
        socketmap.serve(tables(destinations, deliveries.getsockname()[1]), routes, stop),
        server.serve(deliveries, stop),
    )
    tidying.cancel()


async def _tidy(destinations: Destinations) -> None:
    """Close idle connections, and tell systemd's watchdog that this is alive, for as long as it is."""
    while True:
        await asyncio.sleep(TIDY_S)
        destinations.close_idle()
        service.notify("WATCHDOG=1")


def main() -> None:
    """Run the service; see `service.run`."""
    parser = service.parser("Deliver mail to other relays over HTTPS.", config=True)
    settings = read_config_or_exit(parser.parse_args().config, Settings)
    # aiosmtpd logs what clients send, addresses included.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    # Its connections are reference cycles; collected early, they do not pile up to megabytes.
    gc.set_threshold(200, 5, 5)
    service.run(lambda *sockets: run(settings, *sockets), sockets=2)


if __name__ == "__main__":
    main()
