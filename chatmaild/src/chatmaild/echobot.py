"""Sends back what it is sent: with it people try out whether mail works, and operators whether their relay does.

It is a client like any other, by Delta Chat's own core.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from . import service
from .config import BOTS, ConfigError, read_config
from .core import PROGRAM, Account, Core, CoreError, CoreGone

HELP = "Send me any message and I will echo it back"
SETTINGS = {
    "displayname": "Echo",
    # Seconds after which it forgets what it has sent back.
    "delete_device_after": "3600",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the bot reads."""

    echobot_address: str
    echobot_password_path: Path = BOTS["echo"]


def serve(core: Core, account: Account) -> None:
    """Answer until the core ends.

    :raises CoreGone: it has ended.
    """
    # Those to which an earlier process had no time to answer.
    for number in account.call("get_fresh_msgs"):
        _answer(account, number)
    for event in core.events():
        match event:
            case {"kind": "IncomingMsg", "msgId": number}:
                _answer(account, number)
            case {"kind": "Warning" | "Error", "msg": text}:
                logger.warning("%s", text)


def _answer(account: Account, number: int) -> None:
    try:
        if answer := answer_to(message := account.call("get_message", number)):
            account.call("send_msg", message["chatId"], answer)
        # First the answer: better twice than never.
        account.call("markseen_msgs", [number])
    except CoreError as error:
        logger.warning("a message stays without answer: %s", error)


def answer_to(message: dict) -> dict | None:
    """What to send back, None for nothing: to other bots it says nothing, else two echobots would never end.

    :param message: the core's ``Message``; the answer is its ``MessageData``.
    """
    text = message["text"]
    if message["isInfo"] or message["isBot"]:
        return None
    if text == "/help":
        return {"text": HELP}
    if text.startswith("/") or not (text or message["file"]):
        return None
    if not message["file"]:
        return {"text": text}
    return {
        "text": text,
        "file": message["file"],
        "filename": message["fileName"],
        "viewtype": message["viewType"],
    }


def main() -> None:
    """Run the bot; in the working directory it keeps its account and its invite link."""
    parser = service.parser(
        "Send back what is sent to the relay's address `echo`, as a client of Delta Chat.", config=True
    )
    parser.add_argument("--program", default=PROGRAM, help="Delta Chat's core (%(default)s)")
    arguments = parser.parse_args()
    service.log_to_journal()
    try:
        config = read_config(arguments.config, Settings)
        core = Core(arguments.program, Path("accounts").absolute())
        account = Account(core)
        account.log_in(config.echobot_address, config.echobot_password_path, SETTINGS)
        link = Path("invite-link.txt")
        link.write_text(account.invite_link() + "\n")
        logger.info("%s has the invite link", link.absolute())
        service.notify("READY=1")
        serve(core, account)
    except (ConfigError, CoreError, CoreGone) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot use {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
