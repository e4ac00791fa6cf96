"""Tells the relay's operators in a chat what got worse or is well again, and does what they write (docs/bot.md).

It is a client of this relay like any other, by Delta Chat's own core. An operator is who has opened a link that root on
this host has asked for; each lets one person in. Nobody else gets an answer.

The bot has no rights on the host. Root asks it by one socket: to tell something, for a link, who the operators are.
It asks root by another, where four requests are known (``chatmail_operator``); what it gets back is a text.
"""

import contextlib
import json
import logging
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import service
from .config import BOTS, ConfigError, read_config
from .core import PROGRAM, Account, Core, CoreError, CoreGone

SETTINGS = {
    # Seconds after which it forgets what was said.
    "delete_device_after": "86400",
    # Bytes, the least that the core takes: commands are short, and strangers may send what they like.
    "download_limit": "163840",
}
LINK_LASTS_S = 24 * 3600
HELP = """status: is the relay well, and if not, what to do
queue: mail that waits, and why
accounts: how many addresses there are, and the largest
ban ADDRESS: shut an address off"""
COMMAND_MAX = 400  # characters; an address has 254 at most (RFC 5321)
REQUEST_MAX = 64 * 1024  # bytes
# A look at the whole relay takes a minute at worst, one of our own programs two.
HOST_PATIENCE_S = 240
CONTROL_PATIENCE_S = 10
# Commands that wait for the one that is being done.
COMMANDS_WAITING = 20

logger = logging.getLogger(__name__)


class RequestError(Exception):
    """What root asked for cannot be done; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the bot reads."""

    mail_domain: str
    operator_bot_address: str
    operator_bot_password_path: Path = BOTS["operator-bot"]
    host_socket: Path = Path("/run/chatmail-operator/host.socket")


def command_of(text: str) -> list[str] | None:
    """The request to the host that a message asks for, None where it is no command: a word, for ``ban`` an address.

    A slash before the word, with which other bots' commands begin, is taken for nothing.
    """
    if len(text) > COMMAND_MAX:
        return None
    match text.split():
        case [word] if (name := word.removeprefix("/").lower()) in ("status", "queue", "accounts"):
            return [name]
        case [word, address] if word.removeprefix("/").lower() == "ban" and re.fullmatch(r"[^@]+@[^@]+", address):
            return ["ban", address]
    return None


def ask_host(path: Path, request: list[str]) -> str:
    """What the host's program answers.

    :raises OSError: it cannot be reached, or does not answer in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(HOST_PATIENCE_S)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("r", encoding="utf-8", errors="replace") as answer:
            return answer.read(REQUEST_MAX) or "it did not work: see journalctl -u 'operator-bot-host@*' -n 30"


class Operators:
    """Who may command: those who have opened a link of ours while it was valid.

    They are contacts of the core's, each of which is one key. What is known of them is kept beside them, in the core's
    settings, so that neither can be there without the other.
    """

    def __init__(self, account: Account, now: Callable[[], float] = time.time) -> None:
        self._account = account
        self._now = now
        self._lock = threading.RLock()

    def _read(self, key: str) -> Any:
        return json.loads(self._account.call("get_config", f"ui.{key}") or "null")

    def _write(self, key: str, value: Any) -> None:
        self._account.call("set_config", f"ui.{key}", json.dumps(value))

    def contacts(self) -> list[int]:
        """The operators, as the core numbers its contacts."""
        return self._read("operators") or []

    def _valid_link(self) -> str | None:
        invite = self._read("invite")
        return invite["link"] if invite and self._now() < invite["until"] else None

    def new_link(self) -> str:
        """A link that lets one person in within a day; the one before is worth nothing any more."""
        with self._lock:
            self._withdraw()
            link = self._account.invite_link()
            self._write("invite", {"link": link, "until": int(self._now()) + LINK_LASTS_S})
            return link

    def first_link(self) -> str | None:
        """A link while there is no operator: the valid one, or a new one."""
        with self._lock:
            return None if self.contacts() else self._valid_link() or self.new_link()

    def _withdraw(self) -> None:
        """Have the core forget the secrets of the last link."""
        invite = self._read("invite")
        # A link that was withdrawn before would become valid again.
        if invite and self._account.call("check_qr", invite["link"])["kind"] == "withdrawVerifyContact":
            self._account.call("set_config_from_qr", invite["link"])
        self._write("invite", None)

    def let_in(self, contact: int) -> bool:
        """Take someone who has opened a link for an operator, or say that the link was not valid any more."""
        with self._lock:
            if contact in self.contacts():
                return True
            if not self._valid_link():
                return False
            # First the link: better nobody than two.
            self._withdraw()
            self._write("operators", [*self.contacts(), contact])
            return True

    def remove(self, address: str) -> None:
        """End the rights of everybody with this address.

        :raises RequestError: no operator has it.
        """
        with self._lock:
            left = [contact for contact in self.contacts() if self.address(contact) != address.lower()]
            if len(left) == len(self.contacts()):
                raise RequestError(f"no operator has the address {address}")
            self._write("operators", left)

    def address(self, contact: int) -> str:
        """The address of a contact of the core's, in lower case."""
        return self._account.call("get_contact", contact)["address"].lower()

    def may_command(self, message: dict) -> bool:
        """Whether a message, the core's ``Message``, is an operator's own, encrypted, and for nobody else's eyes."""
        if message["isInfo"] or message["isBot"] or message["isForwarded"] or not message["showPadlock"]:
            return False
        sender = message["fromId"]
        # Others would read the answer in a group, where somebody else may have added the operator.
        return sender in self.contacts() and message["chatId"] == self._account.call(
            "get_chat_id_by_contact_id", sender
        )


class OperatorBot:
    """What the bot does with the core's events, and with what root asks."""

    def __init__(self, domain: str, account: Account, ask: Callable[[list[str]], str]) -> None:
        self._domain = domain
        self._account = account
        self._ask = ask
        self.operators = Operators(account)
        self._commands: queue.Queue[tuple[int, list[str]]] = queue.Queue(COMMANDS_WAITING)

    def serve(self, core: Core, listener: socket.socket) -> None:
        """Work until the core ends.

        :raises CoreGone: it has ended.
        """
        for work in (self._work, lambda: self._listen(listener)):
            threading.Thread(target=work, daemon=True).start()
        # Commands that came while no bot was there.
        for number in self._account.call("get_fresh_msgs"):
            self._receive(number)
        for event in core.events():
            match event:
                case {"kind": "IncomingMsg", "msgId": number}:
                    self._receive(number)
                case {"kind": "SecurejoinInviterProgress", "contactId": contact, "progress": 1000}:
                    self._join(contact)
                case {"kind": "Warning" | "Error", "msg": text}:
                    logger.warning("%s", text)

    def _receive(self, number: int) -> None:
        try:
            message = self._account.call("get_message", number)
            if not self.operators.may_command(message):
                # Nothing of strangers is kept, here or on the server.
                self._account.call("delete_messages", [number])
                return
            self._obey(message["fromId"], message["text"])
            self._account.call("markseen_msgs", [number])
        except CoreError as error:
            logger.warning("a message stays without answer: %s", error)

    def _obey(self, contact: int, text: str) -> None:
        if not (command := command_of(text)):
            self._say(contact, HELP)
            return
        try:
            self._commands.put_nowait((contact, command))
        except queue.Full:
            self._say(contact, "too many commands are waiting; try again later")

    def _join(self, contact: int) -> None:
        try:
            known = self.operators.contacts()
            address = self.operators.address(contact)
            if contact in known:
                return
            if not self.operators.let_in(contact):
                self.tell(f"{address} has opened a link that was used before or is too old, and was not let in.")
                return
            logger.info("an operator has joined")
            for other in known:
                self._say(other, f"{address} is an operator of this relay now.")
            self._say(contact, f"You are an operator of {self._domain} now. What you can write:\n\n{HELP}")
            self._obey(contact, "status")
        except CoreError as error:
            logger.warning("somebody could not join: %s", error)

    def _work(self) -> None:
        while True:
            contact, command = self._commands.get()
            try:
                answer = self._ask(command)
            except OSError as error:
                answer = f"the host does not answer: {error.strerror or error}"
            with contextlib.suppress(CoreError, CoreGone):
                # Nothing for who was an operator when the command came.
                if contact in self.operators.contacts():
                    self._say(contact, answer)

    def _say(self, contact: int, text: str) -> None:
        chat = self._account.call("create_chat_by_contact_id", contact)
        self._account.call("misc_send_text_message", chat, text)

    def tell(self, text: str) -> int:
        """Write to all operators; returns how many there are. The core sends it as soon as it can."""
        contacts = self.operators.contacts()
        for contact in contacts:
            self._say(contact, text)
        return len(contacts)

    def _listen(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(CONTROL_PATIENCE_S)
                with connection.makefile("rb") as file:
                    answer = self.answer_root(file.readline(REQUEST_MAX))
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def answer_root(self, line: bytes) -> dict[str, Any]:
        """The answer to a request of root's, a JSON list of text: ``result``, or ``error`` with a reason."""
        try:
            match json.loads(line):
                case ["tell", str(text)]:
                    return {"result": self.tell(text)}
                case ["new-link"]:
                    return {"result": self.operators.new_link()}
                case ["first-link"]:
                    return {"result": self.operators.first_link()}
                case ["operators"]:
                    return {"result": [self.operators.address(one) for one in self.operators.contacts()]}
                case ["remove", str(address)]:
                    return {"result": self.operators.remove(address)}
        except (ValueError, RecursionError):
            pass
        except (CoreError, CoreGone, RequestError) as error:
            return {"error": str(error)}
        return {"error": "there is no such request"}


def main() -> None:
    """Run the bot; in the working directory it keeps its account, with all that it knows of its operators."""
    parser = service.parser("Tell the operators of the relay how it is, as a client of Delta Chat.", config=True)
    parser.add_argument("--program", default=PROGRAM, help="Delta Chat's core (%(default)s)")
    arguments = parser.parse_args()
    service.log_to_journal()
    try:
        config = read_config(arguments.config, Settings)
        (listener,) = service.listening_sockets(1)
        core = Core(arguments.program, Path("accounts").absolute())
        account = Account(core)
        name = {"displayname": config.mail_domain}
        account.log_in(config.operator_bot_address, config.operator_bot_password_path, SETTINGS | name)
        bot = OperatorBot(config.mail_domain, account, lambda request: ask_host(config.host_socket, request))
        service.notify("READY=1")
        bot.serve(core, listener)
    except (ConfigError, CoreError, CoreGone, service.StartError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot use {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
