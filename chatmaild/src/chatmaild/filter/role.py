"""What the filter's roles share: a message is examined, and handed on."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from aiosmtpd import smtp

from ..message import mime
from ..smtp import client as smtp_client
from ..smtp import replies
from ..smtp.client import Envelope
from ..smtp.server import Handler
from .rules import Refused, Rules, Settings, examine

IN_PLACE_MAX = 256 * 1024  # octets of a message that is examined without a thread, within about a millisecond

Run = Callable[..., Awaitable]  # calls a function

logger = logging.getLogger(__name__)


class Filter(Handler, ABC):
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

    @abstractmethod
    async def _authenticate(self, message: mime.Entity, envelope: Envelope, run: Run) -> None:
        """Return if the author sent `message`.

        :param run: calls a function in a way that is fit for the size of the message.
        :raises Refused: that is not known.
        """
