"""The tokens by which an address' devices are reached for push notifications, in ``metadata.json`` of its mailbox.

The file is a JSON object; its key ``devicetoken`` maps each token to the Unix time at which it was last set. Relays of
2024 had a list of tokens there. Tokens are opaque: devices encrypt them to the push server.
"""

import contextlib
import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterator

from .. import files
from ..mailboxes.mailbox import DAY, Mailbox

KEY = "devicetoken"
TOKEN_MAX = 8192  # bytes
TOKENS_MAX = 20  # for an address
LIFETIME = 90 * DAY  # seconds; devices set their token again at each start
CLOCK_SKEW = 60  # seconds; a later time was set while the clock was wrong
LOCK_TIMEOUT = 5.0  # seconds
LOCK_RETRY = 0.01  # seconds

logger = logging.getLogger(__name__)


class DeviceTokens:
    """The tokens of one address. Its methods wait for the file system and for other writers' locks."""

    def __init__(self, mailbox: Mailbox, clock: Callable[[], float] = time.time) -> None:
        self.mailbox = mailbox
        self.clock = clock

    def read(self) -> list[str]:
        """The valid tokens, in the order in which each was first set. What is out of date is removed from the file.

        :raises OSError: the file system refused.
        """
        stored = self._load().get(KEY)
        valid = self._valid(stored)
        if stored is not None and valid != stored:
            valid = self._update(lambda tokens: None)
        return list(valid)

    def add(self, token: str) -> None:
        """Remember `token`, or that it was set again; beyond `TOKENS_MAX` the one set longest ago goes.

        The mailbox directory is made if need be: a device may be faster than Dovecot's first folder.

        :raises ValueError: no token can look like that.
        :raises OSError: the file system refused.
        """
        if not token or "\n" in token or "\r" in token or len(to_bytes(token)) > TOKEN_MAX:
            raise ValueError(f"a device token has 1 to {TOKEN_MAX} bytes and no line breaks")
        self.mailbox.path.mkdir(mode=0o700, parents=True, exist_ok=True)

        def change(tokens: dict[str, int]) -> None:
            tokens[token] = int(self.clock())
            while len(tokens) > TOKENS_MAX:
                del tokens[min(tokens, key=tokens.__getitem__)]

        self._update(change)

    def remove(self, token: str) -> None:
        """Forget `token`; nothing happens if it is unknown or the mailbox is gone.

        :raises OSError: the file system refused.
        """
        self._update(lambda tokens: tokens.pop(token, None))

    def _update(self, change: Callable[[dict[str, int]], object]) -> dict[str, int]:
        """Let `change` change the valid tokens, store and return them. A mailbox that is gone stays so."""
        try:
            with self._locked():
                content = self._load()
                tokens = self._valid(content.get(KEY))
                change(tokens)
                if tokens != content.get(KEY, {}):
                    files.replace(self.mailbox.metadata_path, json.dumps(content | {KEY: tokens}).encode("ascii"))
        except FileNotFoundError:
            return {}
        return tokens

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_TIMEOUT
        with self.mailbox.metadata_lock_path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{file.name} is locked for more than {LOCK_TIMEOUT:.0f} s") from None
                    time.sleep(LOCK_RETRY)
            yield

    def _load(self) -> dict:
        """The content of the file; empty where there is none, or none that can be understood."""
        path = self.mailbox.metadata_path
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            logger.warning("%s is corrupt and counts as empty", path)
            return {}
        return content

    def _valid(self, stored: object) -> dict[str, int]:
        now = int(self.clock())
        if isinstance(stored, list):
            return {token: now for token in stored if isinstance(token, str) and token}
        if not isinstance(stored, dict):
            return {}
        return {
            token: set_at
            for token, set_at in stored.items()
            if type(set_at) in (int, float) and now - LIFETIME < set_at < now + CLOCK_SKEW
        }


def to_bytes(token: str) -> bytes:
    """The bytes that the client set; those that are not UTF-8 are lone surrogates in `token` (PEP 383)."""
    return token.encode(errors="surrogateescape")
