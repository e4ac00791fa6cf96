"""The files of the relay's services in a mailbox directory, ``<mailboxes_dir>/<address>``.

This is the one module that knows their names. Dovecot keeps its Maildir in the same directory.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import files

DAY = 86400  # seconds
NAME_MAX = 255  # bytes in one file name, pathname(7)
INDEX_DIR = Path("/dev/shm/chatmail")  # noqa: S108, vmail's alone; Dovecot's index files, where `tmpfs_index` keeps them in memory
REMOVED_PREFIX = "removed-"  # a mailbox on its way out; without @, so no address

# Beside the mailboxes; without an @ it cannot be taken for one.
PENDING_NOTIFICATIONS = "pending_notifications"

logger = logging.getLogger(__name__)


def without_detail(address: str) -> str:
    """The address whose mailbox takes mail for `address`: ``User+x@d`` is delivered to ``user@d``.

    Postfix and Dovecot run with ``recipient_delimiter = +`` and compare addresses in lower case. A
    local part that begins with the delimiter has no detail (as in Postfix's split_addr).
    """
    local_part, at, domain = address.lower().rpartition("@")
    end = local_part.find("+", 1)
    return (local_part if end == -1 else local_part[:end]) + at + domain


class Mailbox:
    """One address' directory, which need not exist."""

    __slots__ = ("address", "path")

    def __init__(self, mailboxes_dir: Path, address: str) -> None:
        """Find the mailbox of `address` below `mailboxes_dir`; nothing is created.

        :raises ValueError: `address` has no @ or cannot be one file name.
        """
        if not address or "@" not in address or "/" in address or "\0" in address:
            raise ValueError("a mailbox needs an address with an @ and without / and NUL")
        if len(os.fsencode(address)) > NAME_MAX:
            raise ValueError(f"a mailbox needs an address of at most {NAME_MAX} bytes")
        self.address = address
        self.path = mailboxes_dir / address

    @property
    def password_path(self) -> Path:
        """Holds the password's hash with its scheme; its modification time is the day of the last login."""
        return self.path / "password"

    @property
    def lock_path(self) -> Path:
        """Locked by whoever creates the address; it stays when the lock is given up."""
        return self.path / "password.lock"

    @property
    def enforce_e2ee_path(self) -> Path:
        """While it exists, incoming cleartext is refused."""
        return self.path / "enforceE2EEincoming"

    @property
    def disabled_path(self) -> Path:
        """Made by the operator: while it exists, mail to and from the address is dropped."""
        return self.path / "DISABLED"

    @property
    def quota_cache_path(self) -> Path:
        """Dovecot's sum of the messages' sizes; without it, Dovecot counts again."""
        return self.path / "maildirsize"

    @property
    def index_path(self) -> Path:
        """Dovecot's index files of this address, if they are kept in memory."""
        return INDEX_DIR / self.address

    @property
    def metadata_path(self) -> Path:
        """Holds the tokens of the address' devices."""
        return self.path / "metadata.json"

    @property
    def metadata_lock_path(self) -> Path:
        """Locked by whoever changes `metadata_path`; it stays when the lock is given up."""
        return self.path / "metadata.json.lock"

    def read_password(self) -> str | None:
        """The stored hash with its scheme, or None where nobody has created the address."""
        return read_hash(self.password_path)

    def create(self, password: str) -> None:
        """Store the address' hash, and make it refuse incoming cleartext.

        The flag comes first: a crash in between must not leave an address that takes cleartext. Readers see no hash
        or all of it.

        :param password: hash with its scheme, such as ``{SHA512-CRYPT}$6$...``.
        :raises OSError: the file system refused; nothing but the flag is left behind.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.enforce_e2ee_path.touch(mode=0o600)
        files.replace(self.password_path, password.encode("ascii"))

    @contextlib.contextmanager
    def try_lock(self) -> Iterator[bool]:
        """Take the lock for creating the address if it is free; yields whether it was.

        The directory is made if need be. The lock ends with the block.

        :raises OSError: the file system refused.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.lock_path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def last_login(self) -> int | None:
        """The day of the last login in Unix seconds; None if the address was not created, which counts as a login."""
        try:
            return int(self.password_path.stat().st_mtime)
        except FileNotFoundError:
            return None

    def set_last_login(self, timestamp: int) -> None:
        """Remember a login, by day: that is all expiry needs, less to know about users, and fewer writes.

        :param timestamp: Unix seconds.
        :raises FileNotFoundError: the address was not created.
        :raises OSError: the file system refused.
        """
        day = timestamp - timestamp % DAY
        if self.password_path.stat().st_mtime != day:
            os.utime(self.password_path, (day, day))

    def enforces_e2ee(self) -> bool:
        """Whether incoming cleartext is refused; not so where there is no mailbox directory."""
        return self.enforce_e2ee_path.exists()

    def exists(self) -> bool:
        """Whether somebody has logged in to the address."""
        return self.path.is_dir()

    def is_disabled(self) -> bool:
        """Whether the operator has shut the address off."""
        return self.disabled_path.exists()

    def remove(self) -> None:
        """Remove the directory with all that is in it, and the index files in memory.

        It loses its name first: whoever creates the address again finds nothing of the old one, whatever happens to
        this process. `remove_leftovers` fixes what a crash left.

        :raises OSError: the file system refused.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.index_path)
        nameless = tempfile.mkdtemp(prefix=REMOVED_PREFIX, dir=self.path.parent)
        try:
            self.path.rename(nameless)  # an empty directory may be replaced, rename(2)
        finally:
            shutil.rmtree(nameless)


def read_hash(path: Path) -> str | None:
    """The hash of a password with its scheme, or None where there is no such file."""
    try:
        # What someone wrote by hand may end with a newline, or match no password at all: it is no reason to fail.
        password = path.read_bytes().decode("ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not password:
        logger.error("%s is empty, so the address counts as not created", path)
        return None
    return password


def remove_leftovers(mailboxes_dir: Path) -> None:
    """Finish removals of mailboxes that were cut short.

    :raises OSError: the file system refused.
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(mailboxes_dir) as entries:
        for entry in entries:
            if entry.name.startswith(REMOVED_PREFIX) and "@" not in entry.name:
                shutil.rmtree(entry.path)
