"""Answers Dovecot's questions about addresses, and creates an address when someone first logs in to it.

Dovecot compares passwords itself: both databases give out the stored hash. The keys are those of
``/etc/dovecot/auth.lua``: ``shared/userdb/USER`` and ``shared/passdb/PASSWORD"USER"CLIENT``, with a backslash
before ``"``, ``'`` and ``\\`` in the first two. CLIENT is the IP address that logs in; it
limits how many addresses come from one place, is kept in memory alone and is never logged. Where nobody has logged in
to the address from there yet, the password is compared here first, so that guesses can be counted (`guesses`).
"""

import asyncio
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from . import invites
from .config import bot_password
from .dovecot import dict_server
from .dovecot.dict_server import DictError, Dictionary, TryLater
from .invites import Invites
from .limits.guesses import GuessLimiter, RefusalLog
from .limits.machine import Limits, exceeded_limit
from .limits.rate_limit import Place, SourceLimiter, place_of
from .mailboxes import password_hash
from .mailboxes.mailbox import Mailbox, read_hash

NOCREATE_PATH = Path("/etc/chatmail-nocreate")  # the operator's emergency brake
LOCK_TIMEOUT = 5.0  # seconds
LOCK_RETRY = 0.01  # seconds

# Names by which people expect to reach whoever runs a domain (RFC 2142), or that pass for the system itself.
RESERVED_LOCAL_PARTS = frozenset(
    [
        "abuse",
        "admin",
        "administrator",
        "dmarc",
        "double-bounce",  # Postfix discards mail to its own probes' sender
        "hostmaster",
        "info",
        "mailer-daemon",
        "mailerdaemon",
        "marketing",
        "news",
        "no-reply",
        "nobody",
        "noc",
        "noreply",
        "operator",
        "postmaster",
        "root",
        "sales",
        "security",
        "ssladmin",
        "ssladministrator",
        "sslwebmaster",
        "support",
        "sysadmin",
        "usenet",
        "uucp",
        "vmail",
        "webmaster",
        "www",
    ]
)
PROBES = ("status-probe-1", "status-probe-2")  # those of the addresses between which a status sends a message

# A dot-string (RFC 5321 section 4.1.2) of the characters that we allow. Postfix takes no address that begins with a
# hyphen (allow_min_user), as programs might take it for an option.
_LOCAL_PART = re.compile(r"(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(Limits):
    """What this service reads."""

    username_min_length: int
    username_max_length: int
    password_min_length: int
    max_creations_per_hour: int
    invite_only: bool
    bots: tuple[str, ...]  # addresses of the relay's own bots that run
    invites_dir: Path = invites.DIRECTORY


def split_fields(text: str) -> list[str]:
    """Split at double quotes; a backslash makes the character behind it an ordinary one.

    :raises DictError: a backslash ends the text.
    """
    if "\\" not in text:
        return text.split('"')
    fields = [""]
    characters = iter(text)
    for character in characters:
        if character == '"':
            fields.append("")
        elif character != "\\":
            fields[-1] += character
        elif escaped := next(characters, ""):
            fields[-1] += escaped
        else:
            raise DictError("a backslash at the end of the key escapes nothing")
    return fields


def refusal(config: Settings, address: str, password: str) -> str | None:
    """Say why `address` cannot be created with `password`, None if it can; the machine's limits stand apart."""
    if NOCREATE_PATH.exists():
        return f"{NOCREATE_PATH} exists"
    if len(password) < config.password_min_length:
        return f"the password is shorter than {config.password_min_length} characters"
    if len(_to_bytes(password)) > password_hash.PASSWORD_MAX or "\0" in password:
        return f"the password is longer than {password_hash.PASSWORD_MAX} bytes or holds a NUL"
    if address.count("@") != 1:
        return "the address does not have exactly one @"
    local_part = address.partition("@")[0]
    if not config.username_min_length <= len(local_part) <= config.username_max_length:
        return f"the local part does not have {config.username_min_length} to {config.username_max_length} characters"
    if not _LOCAL_PART.fullmatch(local_part):
        return "the local part is not made of a-z 0-9 _ - with single dots between them, or begins with -"
    if local_part in RESERVED_LOCAL_PARTS or local_part in PROBES:
        return "the local part is reserved"
    return None


class AddressBook(Dictionary):
    """The addresses of one relay, which are the directories of its mailboxes."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.suffix = "@" + config.mail_domain
        self._invites = Invites(config.invites_dir)
        self._creations = SourceLimiter(config.max_creations_per_hour)
        self._guesses = GuessLimiter()
        self._refusals = RefusalLog()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aexit__(self, *_: object) -> None:
        self._refusals.report()

    async def lookup(self, key: str, user: str) -> str | None:
        """Return what Dovecot wants to know of an address, a JSON object, or None for a failed login.

        :raises DictError: the key is not one of the two known forms, or creating the address takes too long.
        :raises TryLater: there were too many wrong passwords.
        """
        match key.split("/", 2):
            case ["shared", "userdb", rest]:
                match split_fields(rest):
                    case [address]:
                        return self._userdb(address)
            case ["shared", "passdb", rest]:
                match split_fields(rest):
                    case [password, address]:
                        return await self._passdb(address, password, None)
                    case [password, address, client]:
                        return await self._passdb(address, password, place_of(client))
        raise DictError('known keys are shared/userdb/USER and shared/passdb/PASSWORD"USER"CLIENT')

    async def iterate(self, path: str, user: str) -> Mapping[str, str]:
        """Return a key with an empty value for each address, if `path` is ``shared/userdb/``."""
        if path != "shared/userdb/":
            return {}
        try:
            names = await asyncio.to_thread(os.listdir, self.config.mailboxes_dir)
        except FileNotFoundError:
            return {}
        return {path + name: "" for name in names if "@" in name}

    def _mailbox(self, address: str) -> Mailbox | None:
        if not address.endswith(self.suffix):
            return None
        try:
            return self.config.mailbox(address)
        except ValueError:
            return None

    def _userdb(self, address: str) -> str | None:
        mailbox = self._mailbox(address)
        stored = mailbox and self._stored(mailbox)
        return stored and _to_json(mailbox, stored)

    def _stored(self, mailbox: Mailbox) -> str | None:
        """The hash of an address, None where nobody has created it.

        :raises DictError: it is a bot's, which has not started yet: mail to it is not refused, it waits.
        """
        path = bot_password(mailbox.address)
        if path is None:
            return mailbox.read_password()
        if mailbox.address not in self.config.bots:
            return None
        if stored := read_hash(path):
            return stored
        unit = path.parent.name
        raise DictError(f"{mailbox.address} has no password yet; see `systemctl status {unit}`")

    async def _passdb(self, address: str, password: str, place: Place | None) -> str | None:
        mailbox = self._mailbox(address)
        if mailbox is None or mailbox.is_disabled():
            return None
        stored = self._stored(mailbox)
        if stored is None:
            stored = await self._create(mailbox, password, place)
        elif place:
            await self._count_guesses(address, stored, password, place)
        return stored and _to_json(mailbox, stored)

    async def _count_guesses(self, address: str, stored: str, password: str, place: Place) -> None:
        """Compare a stranger's password with what is stored; who has it right is no stranger from then on.

        :raises TryLater: there were too many wrong ones.
        """
        turn = self._turns.setdefault(address, asyncio.Lock())
        async with turn:  # so that each sees what came of those before it
            if self._guesses.knows(address, place):
                return
            if refusal := self._guesses.refusal(address, place):
                self._refusals.count(refusal)
                raise TryLater("too many wrong passwords")
            if await asyncio.to_thread(password_hash.matches, _to_bytes(password), stored):
                self._guesses.succeeded(address, place)
            else:
                self._guesses.failed(address, place)

    async def _create(self, mailbox: Mailbox, password: str, place: Place | None) -> str | None:
        """Create the address unless something speaks against it; return its hash."""
        if bot_password(mailbox.address):
            return None
        if reason := refusal(self.config, mailbox.address, password):
            logger.warning("refused to create %a: %s", mailbox.address, reason)
            return None
        if reason := exceeded_limit(self.config):
            logger.warning("registration rejected: %s", reason)
            return None
        token = ""
        if self.config.invite_only:
            invite = self._invites.find(password)
            if invite is None or len(password) < len(invite.token) + self.config.password_min_length:
                logger.warning("refused to create %a: no valid invite", mailbox.address)
                return None
            token = invite.token
        if place and not self._creations.allow(place):
            logger.warning("registration rejected: too many new addresses from one place")
            return None
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT
        while asyncio.get_running_loop().time() < deadline:
            with mailbox.try_lock() as locked:
                if locked:
                    if stored := mailbox.read_password():
                        return stored
                    if token and not self._invites.use(token):
                        logger.warning("refused to create %a: the invite was used up meanwhile", mailbox.address)
                        return None
                    return await asyncio.to_thread(_store, mailbox, password)
            await asyncio.sleep(LOCK_RETRY)
        raise DictError(f"{mailbox.lock_path} is locked for more than {LOCK_TIMEOUT:.0f} s")


def _store(mailbox: Mailbox, password: str) -> str:
    stored = "{SHA512-CRYPT}" + password_hash.sha512_crypt(_to_bytes(password), password_hash.make_salt())
    mailbox.create(stored)
    logger.info("Created address: %s", mailbox.address)
    return stored


def _to_bytes(password: str) -> bytes:
    return password.encode(errors="surrogateescape")


def _to_json(mailbox: Mailbox, password: str) -> str:
    return json.dumps(
        {
            "addr": mailbox.address,
            "home": str(mailbox.path),
            "uid": "vmail",
            "gid": "vmail",
            "password": password,
        }
    )


def main() -> None:
    """Run the service; see `dict_server.run`."""
    dict_server.run(
        "Tell Dovecot about the relay's addresses; create an address at its first login.", Settings, AddressBook
    )


if __name__ == "__main__":
    main()
