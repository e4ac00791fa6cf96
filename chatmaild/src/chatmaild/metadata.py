"""Keeps what clients set and ask by IMAP METADATA (RFC 5464), and has devices notified of new messages.

Dovecot's attribute dictionary: ``priv/GUID/...`` are entries of an address' INBOX, ``shared/GUID/vendor/...`` those of
the server. The GUID is the mailbox'; who asks is told beside the key.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from .config import Config
from .dovecot import dict_server
from .dovecot.dict_server import DictError, Dictionary
from .mailboxes.mailbox import PENDING_NOTIFICATIONS
from .push.client import PushClient
from .push.device_tokens import DeviceTokens
from .push.notifier import Notifier
from .service import StartError

# RFC 5464 has server entries below /shared; Dovecot keeps them with those of INBOX, below this.
SERVER_PREFIX = "vendor/vendor.dovecot/pvt/server/vendor/deltachat/"
RECIPIENTS_MAX = 1000  # smtpd_recipient_limit of Postfix, whose default main.cf keeps
APP_VERSIONS_PATH = Path("/etc/chatmail/appversions.json")  # the setting app_versions; read again for each client
TURN_PORT = 3478
TURN_TIMEOUT = 5.0  # seconds

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


async def turn_credentials(socket_path: Path) -> str:
    """Ask the TURN server's credential service for ``USERNAME:PASSWORD``.

    :raises OSError: there is no answer, none within `TURN_TIMEOUT`, or half of one.
    """
    async with asyncio.timeout(TURN_TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(socket_path, limit=4096)
        try:
            line = await reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("it sent no complete line") from error
        finally:
            writer.close()
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        raise ConnectionError("it sent no UTF-8") from error


def app_versions(path: Path) -> str | None:
    """The JSON in the file at `path` on one line; None where there is none."""
    try:
        return json.dumps(json.loads(path.read_bytes()), separators=(",", ":"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("cannot read %s, so clients are told of no versions: %s", path, error)
        return None


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What this service reads."""

    mail_domain_bare: str  # a literal without its brackets
    notification_url: str  # empty where no device is notified
    turn_socket_path: Path
    iroh_relay_url: str | None = None  # clients then use their own default


class Metadata(Dictionary):
    """The entries of one relay."""

    def __init__(self, config: Settings) -> None:
        """:raises StartError: the mailboxes directory is not there."""
        if not config.mailboxes_dir.is_dir():
            raise StartError(f"mailboxes_dir is {config.mailboxes_dir}, which is no directory; make it, owned by vmail")
        self.config = config
        self._notifier: Notifier | None = None
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self.config.notification_url:
            client = PushClient(self.config.notification_url)
            notifier = Notifier(self.config.mailboxes_dir / PENDING_NOTIFICATIONS, client, self._tokens_of)
            self._notifier = await self._exit.enter_async_context(notifier)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    def _tokens_of(self, address: str) -> DeviceTokens:
        """:raises ValueError: no mailbox can have that address."""
        return DeviceTokens(self.config.mailbox(address))

    async def lookup(self, key: str, user: str) -> str | None:
        """Return a device's tokens, joined by spaces, or what the server says under ``vendor/deltachat``.

        :raises DictError: no mailbox can belong to `user`, or the tokens cannot be read.
        """
        match key.split("/", 2):
            case ["priv", _, "devicetoken"]:
                return " ".join(await self._with_tokens(user, DeviceTokens.read))
            case ["shared", _, entry] if entry.startswith(SERVER_PREFIX):
                match entry.removeprefix(SERVER_PREFIX):
                    case "irohrelay":
                        return self.config.iroh_relay_url
                    case "turn":
                        return await self._turn()
                    case "maxsmtprecipients":
                        return str(RECIPIENTS_MAX)
                    case "appversions":
                        return app_versions(APP_VERSIONS_PATH)
        logger.info("ignoring a lookup of %a", key[:200])
        return None

    async def set(self, key: str, value: str, user: str) -> None:
        """Remember a device's token, or have all devices of `user` notified.

        :raises DictError: it is no such entry, `value` is no token, or the file system refused.
        """
        match key.split("/", 2):
            case ["priv", _, "devicetoken"]:
                if value:
                    await self._with_tokens(user, lambda tokens: tokens.add(value))
                return
            case ["priv", _, "messagenew"]:
                try:
                    if self._notifier:
                        await self._notifier.new_message(user)
                except (ValueError, OSError, BufferError) as error:
                    raise DictError(f"nobody is notified: {error}") from error
                return
        raise DictError("the only entries that can be set are devicetoken and messagenew")

    async def unset(self, key: str, user: str) -> None:
        """Do nothing: a token ends by age, or when the push server does not know it any more, and no other entry is
        kept. Dovecot removes entries that were never set, as of a mailbox with IMAP's DELETE, and clients may
        (RFC 5464 section 4.3).

        :raises DictError: it is what the server says.
        """
        match key.split("/", 2):
            case ["shared", _, entry] if entry.startswith(SERVER_PREFIX):
                raise DictError("what the server tells cannot be removed")

    async def _turn(self) -> str | None:
        try:
            credentials = await turn_credentials(self.config.turn_socket_path)
        except OSError as error:
            logger.error("no TURN credentials from %s: %s", self.config.turn_socket_path, error or "no answer in time")
            return None
        # Without the brackets of a domain literal: clients take it for a host name or an address.
        return f"{self.config.mail_domain_bare}:{TURN_PORT}:{credentials}"

    async def _with_tokens(self, address: str, work: Callable[[DeviceTokens], Result]) -> Result:
        try:
            return await asyncio.to_thread(work, self._tokens_of(address))
        except (ValueError, OSError) as error:
            raise DictError(f"device tokens: {error}") from error


def main() -> None:
    """Run the service; see `dict_server.run`."""
    dict_server.run(
        "Keep device tokens and server information for clients; notify devices of new messages.", Settings, Metadata
    )


if __name__ == "__main__":
    main()
