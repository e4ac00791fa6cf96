"""Removes what has become too old: messages, and mailboxes that nobody uses."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import quota_expire
from .config import Config, bot_password, read_config_or_exit
from .mailboxes import mailbox, scanner
from .mailboxes.mailbox import DAY, Mailbox
from .mailboxes.scanner import Content
from .quota_expire import MIB, TARGET_PERCENT

CONFIG = Path("/etc/chatmail/expire.toml")
LARGE = 200_000  # bytes; a seen message above goes after `delete_large_after`
INDEX_MAX = 500 * 1024  # bytes; Dovecot makes a larger index file again, and smaller


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What expire reads."""

    delete_mails_after: int  # days, as the other two
    delete_large_after: int
    delete_inactive_users_after: int
    max_mailbox_size_mb: int
    tmpfs_index: bool


class Limits(NamedTuple):
    """What is older than these times, in Unix seconds, goes."""

    message: float
    large_message: float
    login: float

    @classmethod
    def of(cls, config: Settings, now: float) -> "Limits":
        """The limits at the time `now`, in Unix seconds."""
        return cls(
            now - config.delete_mails_after * DAY,
            now - config.delete_large_after * DAY,
            now - config.delete_inactive_users_after * DAY,
        )

    @property
    def any_message(self) -> float:
        """Nearly all messages are younger than this, and stay."""
        return max(self.message, self.large_message)


def is_expired(mtime: float, size: int, folder: str, limits: Limits) -> bool:
    """Whether a message is too old for anyone, or large, seen, and too old for that.

    :param mtime: Unix seconds.
    :param size: bytes on disk.
    :param folder: ``cur`` (seen), ``new`` or ``tmp``.
    """
    return mtime < limits.message or (mtime < limits.large_message and size > LARGE and folder == "cur")


def over_quota(home: str, messages: list[os.DirEntry], target: int, now: float) -> list[os.DirEntry]:
    """Those of `messages` that must go so that the INBOX in `home` is as `quota_expire.excess` leaves it."""
    if len(messages) <= quota_expire.most_messages(target) and (
        quota_expire.size_at_most([message.name for message in messages]) <= target
    ):
        return []
    inbox = (f"{home}/cur/", f"{home}/new/")
    paths = [message.path for message in messages if message.path.startswith(inbox)]
    stored = filter(None, map(quota_expire.parse_name, paths))
    excess = {message.path for message in quota_expire.excess(stored, target, now)}
    return [message for message in messages if message.path in excess]


@contextlib.contextmanager
def working_in(directory: Path) -> Iterator[None]:
    """Name files from `directory` on, if there is one: the kernel then has half as many directories to go through.

    The caller may be in a directory that is gone, or that is not for this user, such as root's own.
    """
    try:
        before = os.getcwd()
    except FileNotFoundError:
        before = "/"
    if directory.is_dir():
        os.chdir(directory)
    try:
        yield
    finally:
        try:
            os.chdir(before)
        except OSError:
            os.chdir("/")


class Expiry:
    """One run over the mailboxes, and what it has counted."""

    def __init__(self, config: Settings, now: float, *, remove: bool, verbose: bool) -> None:
        """Prepare a run.

        :param now: Unix seconds.
        :param remove: whether anything is removed; if not, it is only counted.
        :param verbose: whether all that goes is named on standard error.
        """
        self.config = config
        self.now = now
        self.limits = Limits.of(config, now)
        self.quota_target = config.max_mailbox_size_mb * TARGET_PERCENT // 100 * MIB  # bytes
        self.remove = remove
        self.verbose = verbose
        self.mailboxes_seen = self.mailboxes_removed = 0
        self.files_seen = self.files_removed = 0
        self.failures = 0

    def run(self, maxnum: int | None = None, expire: Callable[[Mailbox], object] | None = None) -> None:
        """Expire all mailboxes, `maxnum` at most. What fails with one mailbox is reported, and the next one follows.

        :param expire: what is done with each mailbox; `expire_mailbox` if left out.
        """
        if self.remove:
            self._attempt(mailbox.remove_leftovers, self.config.mailboxes_dir)
        with working_in(self.config.mailboxes_dir):
            for box in scanner.mailboxes(self.config, maxnum):
                self.mailboxes_seen += 1
                self._attempt(expire or self.expire_mailbox, box)

    def expire_mailbox(self, box: Mailbox) -> None:
        """Apply all rules to one mailbox.

        :raises OSError: the file system refused.
        """
        self._say("checking", box.path)
        # The relay's own bots have their passwords elsewhere and never count as inactive.
        if not bot_password(box.address):
            last_login = box.last_login()
            if last_login is None:
                self._remove_if_empty(box)
                return
            if last_login < self.limits.login:
                self._remove_mailbox(box, box.remove)
                return
        content = scanner.scan(box.address)
        self.files_seen += len(content.messages) + len(content.extra)
        self._expire_messages(box, content)
        self._expire_indexes(content)
        if self.config.tmpfs_index:
            self._expire_indexes(scanner.scan(box.index_path))

    def remove_if_inactive(self, box: Mailbox) -> None:
        """Remove the mailbox if nobody has logged in for too long, as the first rule of `expire_mailbox` does.

        :raises OSError: the file system refused.
        """
        last_login = box.last_login()
        if last_login is not None and last_login < self.limits.login:
            self._remove_mailbox(box, box.remove)

    def summary(self) -> str:
        """What was removed of what was seen."""
        would = "" if self.remove else "dry run, nothing was removed: "
        return (
            f"{would}mailboxes removed {self.mailboxes_removed} of {self.mailboxes_seen},"
            f" files removed {self.files_removed} of {self.files_seen}"
        )

    def _remove_if_empty(self, box: Mailbox) -> None:
        """A directory without password belongs to no address; what is in it, nobody knows."""
        if scanner.list_directory(box.path):
            print(f"{box.path} doesn't have last_login but isn't empty", file=sys.stderr)
        else:
            self._remove_mailbox(box, box.path.rmdir)

    def _expire_messages(self, box: Mailbox, content: Content) -> None:
        old, kept = [], []
        limit = self.limits.any_message
        for message in content.messages:
            try:
                status = message.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if status.st_mtime < limit and is_expired(
                status.st_mtime, status.st_size, scanner.folder(message), self.limits
            ):
                old.append(message)
            else:
                kept.append(message)
        excess = over_quota(box.address, kept, self.quota_target, self.now)
        for message in old + excess:
            self._remove_file(message)
        if excess and self.remove:
            quota_expire.report(box, len(excess))
        if old or excess:
            for file in content.extra:
                if file.path == f"{box.address}/{box.quota_cache_path.name}":
                    self._remove_file(file)

    def _expire_indexes(self, content: Content) -> None:
        for file in content.extra:
            if "dovecot.index" in file.name and scanner.size(file) > INDEX_MAX:
                self._remove_file(file)

    def _remove_mailbox(self, box: Mailbox, remove: Callable[[], None]) -> None:
        self._say("removing", box.path)
        if self.remove:
            try:
                remove()
            except FileNotFoundError:
                print(f"{box.path} was gone already", file=sys.stderr)
                return
        self.mailboxes_removed += 1

    def _remove_file(self, file: os.DirEntry) -> None:
        path = self.config.mailboxes_dir / file.path
        try:
            status = file.stat(follow_symlinks=False)
            self._say("removing", time.strftime("%Y-%m-%d", time.gmtime(status.st_mtime)), path)
            if self.remove:
                path.unlink()
        except FileNotFoundError:
            print(f"{path} was gone already", file=sys.stderr)
        else:
            self.files_removed += 1

    def _attempt(self, action: Callable, argument: Mailbox | Path) -> None:
        try:
            action(argument)
        except OSError as error:
            self.failures += 1
            print(f"expire: {error}; the next run tries again", file=sys.stderr)

    def _say(self, *words: str | Path) -> None:
        if self.verbose:
            print(*words, file=sys.stderr)


def natural(text: str) -> int:
    """A number from the command line that is 0 or more.

    :raises ValueError: it is not.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError
    return int(text)


natural.__name__ = "whole number from 0"  # argparse: invalid ... value


def _finish(expiry: Expiry, begun: float) -> None:
    print(f"{expiry.summary()}, {time.monotonic() - begun:.1f} seconds")
    if expiry.failures:
        sys.exit(f"expire: {expiry.failures} mailbox(es) could not be handled, see above")


def main() -> None:
    """The command line of expire; without ``--remove`` nothing is changed."""
    parser = argparse.ArgumentParser(description="Remove old messages, and mailboxes that nobody uses.")
    parser.add_argument("config", nargs="?", type=Path, default=CONFIG, help="settings file (default: %(default)s)")
    parser.add_argument("--days", type=natural, default=0, metavar="N", help="as if today were N days earlier")
    parser.add_argument("--maxnum", type=natural, metavar="N", help="look at N mailboxes at most")
    parser.add_argument("-v", "--verbose", action="store_true", help="name all that is removed on standard error")
    parser.add_argument("--remove", action="store_true", help="remove; without it nothing is changed, only counted")
    arguments = parser.parse_args()
    begun = time.monotonic()
    now = time.time() - arguments.days * DAY
    expiry = Expiry(
        read_config_or_exit(arguments.config, Settings), now, remove=arguments.remove, verbose=arguments.verbose
    )
    expiry.run(arguments.maxnum)
    _finish(expiry, begun)


def delete_inactive_users() -> None:
    """The command line of delete_inactive_users: of the rules of expire, the one for mailboxes alone."""
    parser = argparse.ArgumentParser(description="Remove mailboxes that nobody uses; expire does this and more.")
    parser.add_argument("config", type=Path, help="settings file, such as /etc/chatmail/expire.toml")
    begun = time.monotonic()
    expiry = Expiry(read_config_or_exit(parser.parse_args().config, Settings), time.time(), remove=True, verbose=False)
    expiry.run(expire=expiry.remove_if_inactive)
    _finish(expiry, begun)


if __name__ == "__main__":
    main()
