"""What lies in the mailboxes: one pass, symbolic links never followed, files that vanish meanwhile passed over."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .config import Config
from .mailbox import Mailbox

MAILDIR_FOLDERS = frozenset(("cur", "new", "tmp"))


class File(NamedTuple):
    """A regular file."""

    path: str
    size: int  # bytes on disk
    mtime: float  # Unix seconds


class Content(NamedTuple):
    """All files of one directory tree."""

    messages: list[File]  # those directly in a directory cur, new or tmp, at any depth
    extra: list[File]  # all others, the largest first


def folder(message: File) -> str:
    """Which part of a Maildir `message` is in: ``cur`` (seen), ``new`` or ``tmp``."""
    return os.path.basename(os.path.dirname(message.path))


def stat_file(path: str | Path) -> File | None:
    """The file at `path`, or None if there is none or it is no regular file."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return File(str(path), status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None


def list_names(path: str | Path) -> list[str]:
    """The names in a directory; none where there is no such directory."""
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def scan(path: str | Path) -> Content:
    """Find all regular files below `path`; none where there is no such directory.

    Directories inside cur, new and tmp are no folders of Dovecot's and are left alone.

    :raises OSError: something cannot be looked at.
    """
    content = Content([], [])
    pending = [os.fspath(path)]
    while pending:
        directory = pending.pop()
        holds_messages = os.path.basename(directory) in MAILDIR_FOLDERS
        files = content.messages if holds_messages else content.extra
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    files.append(File(entry.path, status.st_size, status.st_mtime))
                elif not holds_messages and entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    content.extra.sort(key=lambda file: file.size, reverse=True)
    return content


def mailboxes(config: Config, maxnum: int | None = None) -> Iterator[Mailbox]:
    """The mailboxes of the relay in the directory's order; a notice on standard error if there is no directory.

    :param maxnum: how many at most; None for all.
    """
    try:
        entries = os.scandir(config.mailboxes_dir)
    except FileNotFoundError:
        print(f"no mailboxes: {config.mailboxes_dir} does not exist", file=sys.stderr)
        return
    with entries:
        for entry in entries:
            if maxnum is not None and maxnum <= 0:
                return
            if "@" in entry.name and entry.is_dir(follow_symlinks=False):
                yield config.mailbox(entry.name)
                maxnum = None if maxnum is None else maxnum - 1
