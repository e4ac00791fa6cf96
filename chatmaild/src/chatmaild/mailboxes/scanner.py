"""What lies in the mailboxes: one pass, symbolic links never followed, files that vanish meanwhile passed over."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..config import Config
from .mailbox import Mailbox

MAILDIR_FOLDERS = frozenset(("cur", "new", "tmp"))


class Content(NamedTuple):
    """All regular files of one directory tree."""

    messages: list[os.DirEntry]  # those directly in a directory cur, new or tmp, at any depth
    extra: list[os.DirEntry]  # all others


def folder(message: os.DirEntry) -> str:
    """Which part of a Maildir `message` is in: ``cur`` (seen), ``new`` or ``tmp``."""
    return message.path.rsplit("/", 2)[-2]


def size(file: os.DirEntry) -> int:
    """Bytes on disk; 0 if it is gone."""
    try:
        return file.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def list_directory(path: str | Path) -> list[os.DirEntry]:
    """What is in a directory; nothing where there is no such directory."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def scan(path: str | Path) -> Content:
    """Find all regular files below `path`; none where there is no such directory.

    Directories inside cur, new and tmp are no folders of Dovecot's and are left alone.

    :raises OSError: something cannot be looked at.
    """
    messages, extra, pending = [], [], [path]
    while pending:
        for entry in list_directory(pending.pop()):
            if entry.is_file(follow_symlinks=False):
                extra.append(entry)
            elif entry.name in MAILDIR_FOLDERS and entry.is_dir(follow_symlinks=False):
                messages += [message for message in list_directory(entry) if message.is_file(follow_symlinks=False)]
            elif entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    return Content(messages, extra)


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
