"""Sends back what it is sent: with it people try out whether mail works, and operators whether their relay does.

It is a client like any other. What a Delta Chat client does, Delta Chat's own core does here too: deltachat-rpc-server,
a process of its own, which is asked by JSON-RPC 2.0, a line for each request and each answer.
https://github.com/chatmail/core/tree/main/deltachat-rpc-server
"""

import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, service
from .config import ECHOBOT_PASSWORD, ConfigError, read_config
from .mailboxes import password_hash

PROGRAM = "deltachat-rpc-server"
HELP = "Send me any message and I will echo it back"
# Both servers are on this host, so there is nobody to hide a connection from, nor a name to check.
SERVER = "127.0.0.1"

SETTINGS = {
    "bot": "1",
    "displayname": "Echo",
    # Seconds after which it forgets what it has sent back.
    "delete_device_after": "3600",
    # Bytes; larger messages stay on the server without an answer, until they expire: the core takes ten times as much
    # memory for a moment.
    "download_limit": "5000000",
    # Who reads for nobody sends no receipts and has nothing to say by other ways.
    "mdns_enabled": "0",
    "webxdc_realtime_enabled": "0",
}

logger = logging.getLogger(__name__)


class CoreError(Exception):
    """The core cannot do what it was asked; the text says why."""


class CoreGone(Exception):
    """The core has ended."""


class Core:
    """Delta Chat's core. It is asked one thing at a time; events wait in it until they are asked for."""

    def __init__(self, program: str, accounts: Path) -> None:
        self._process = subprocess.Popen(
            [program],
            env=os.environ | {"DC_ACCOUNTS_PATH": str(accounts)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._calls = 0

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what the core answers.

        :raises CoreError: it answers with an error.
        :raises CoreGone: it has ended.
        """
        self._calls += 1
        request = {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": arguments}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise CoreError(f"{method}: {answer['error'].get('message')}")
                return answer.get("result")
        raise CoreGone(f"{PROGRAM} has ended")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the bot reads."""

    echobot_address: str
    echobot_password_path: Path = ECHOBOT_PASSWORD


class Echobot:
    """The relay's own bot, with one account."""

    def __init__(self, config: Settings, core: Core) -> None:
        self._config = config
        self._core = core
        self._account = (core.call("get_all_account_ids") or [core.call("add_account")])[0]

    def log_in(self) -> None:
        """Log in, by a password that is made again at each start and kept by the core alone.

        :raises CoreError: Dovecot or Postfix does not let it in.
        """
        password = secrets.token_urlsafe(24)
        publish_hash(self._config.echobot_password_path, password)
        server = {
            "addr": self._config.echobot_address,
            "password": password,
            "certificateChecks": "acceptInvalidCertificates",
        }
        for protocol, port in (("imap", 993), ("smtp", 465)):
            server |= {f"{protocol}Server": SERVER, f"{protocol}Port": port, f"{protocol}Security": "ssl"}
        self._core.call("batch_set_config", self._account, SETTINGS)
        self._core.call("add_or_update_transport", self._account, server)
        self._core.call("start_io", self._account)

    def invite_link(self) -> str:
        """The link by which a client begins a chat: without it there is no key to encrypt to."""
        return self._core.call("get_chat_securejoin_qr_code", self._account, None)

    def serve(self) -> None:
        """Answer until the core ends.

        :raises CoreGone: it has ended.
        """
        # Those to which an earlier process had no time to answer.
        for number in self._core.call("get_fresh_msgs", self._account):
            self._answer(number)
        while True:
            for event in self._core.call("get_next_event_batch"):
                match event["event"]:
                    case {"kind": "IncomingMsg", "msgId": number}:
                        self._answer(number)
                    case {"kind": "Warning" | "Error", "msg": text}:
                        logger.warning("%s", text)

    def _answer(self, number: int) -> None:
        try:
            if answer := answer_to(message := self._core.call("get_message", self._account, number)):
                self._core.call("send_msg", self._account, message["chatId"], answer)
            # First the answer: better twice than never.
            self._core.call("markseen_msgs", self._account, [number])
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


def publish_hash(path: Path, password: str) -> None:
    """Let doveauth know the password's hash; its directory decides whose group may read it.

    :raises OSError: the file system refused.
    """
    hashed = "{SHA512-CRYPT}" + password_hash.sha512_crypt(password.encode(), password_hash.make_salt())
    files.replace(path, hashed.encode("ascii"), 0o640)


def main() -> None:
    """Run the bot; in the working directory it keeps its account and its invite link."""
    parser = service.parser(
        "Send back what is sent to the relay's address `echo`, as a client of Delta Chat.", config=True
    )
    parser.add_argument("--program", default=PROGRAM, help="Delta Chat's core (%(default)s)")
    arguments = parser.parse_args()
    service.log_to_journal()
    try:
        bot = Echobot(read_config(arguments.config, Settings), Core(arguments.program, Path("accounts").absolute()))
        bot.log_in()
        link = Path("invite-link.txt")
        link.write_text(bot.invite_link() + "\n")
        logger.info("%s has the invite link", link.absolute())
        service.notify("READY=1")
        bot.serve()
    except (ConfigError, CoreError, CoreGone) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot use {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
