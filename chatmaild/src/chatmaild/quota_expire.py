"""Makes room in a mailbox that fills up: the oldest messages of its INBOX go.

Dovecot runs it when the mailbox passes a part of its quota (``quota_warning``), with what it is to come down to.
"""

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .mailboxes.mailbox import DAY, Mailbox

TARGET_PERCENT = 70  # of the quota; clients warn at 80
MIB = 1024 * 1024
# Messages are files, of which a file system has a limited number: a mailbox may have as large a part of them as of the
# bytes, where there is one for each 16 KiB (mke2fs(8), inode_ratio). dovecot.conf has the same.
MESSAGES_PER_MIB = 64

# Seconds, a unique part, and the size before compression, which is what the quota counts (Dovecot's Maildir format).
_NAME = re.compile(r"([0-9]{1,11})\.[^/]*,S=([0-9]{1,15})(?=[,:]|\Z)[^/]*", re.DOTALL)

_SIZE = re.compile(r",S=([0-9]{1,15})")


class StoredMessage(NamedTuple):
    """A message as its file name describes it."""

    time: int  # of delivery, Unix seconds
    size: int  # bytes, not compressed
    path: str


def parse_name(path: str) -> StoredMessage | None:
    """Read the name of a message file, such as ``1775324677.M448P30.host,S=3235,W=3305:2,S``; None for other forms."""
    match = _NAME.fullmatch(path, path.rfind("/") + 1)
    return StoredMessage(int(match[1]), int(match[2]), path) if match else None


def size_at_most(names: Iterable[str]) -> int:
    """What the messages with these names take at most, in bytes: any size in a name counts. It is quicker than
    `parse_name` for each."""
    return sum(map(int, _SIZE.findall("/".join(names))))


def most_messages(target: int) -> int:
    """How many messages may take `target` bytes."""
    return target * MESSAGES_PER_MIB // MIB


def excess(messages: Iterable[StoredMessage], target: int, now: float) -> list[StoredMessage]:
    """The messages to remove, oldest first, so that the others take at most `target` bytes and are not too many.

    None is younger than a day: if that is not enough, it is not enough.

    :param target: bytes.
    :param now: Unix seconds.
    """
    messages = list(messages)
    total = sum(message.size for message in messages)
    surplus = len(messages) - most_messages(target)
    if total <= target and surplus <= 0:
        return []
    removed = []
    for message in sorted(messages):
        if (total <= target and len(removed) >= surplus) or message.time > now - DAY:
            break
        removed.append(message)
        total -= message.size
    return removed


def inbox(mailbox: Mailbox) -> Iterable[str]:
    """The paths of all files in cur and new of the INBOX; none where there is no such directory."""
    for directory in (mailbox.path / "cur", mailbox.path / "new"):
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            yield from (entry.path for entry in entries if entry.is_file(follow_symlinks=False))


def expire_to_target(mailbox: Mailbox, target: int, now: float) -> int:
    """Remove the oldest messages of the INBOX until the rest is at most what `excess` leaves; return how many went.

    :raises OSError: the file system refused.
    """
    messages = filter(None, map(parse_name, inbox(mailbox)))
    count = 0
    for message in excess(messages, target, now):
        with contextlib.suppress(FileNotFoundError):  # its user was quicker
            os.unlink(message.path)
            count += 1
    if count:
        mailbox.quota_cache_path.unlink(missing_ok=True)
        report(mailbox, count)
    return count


def report(mailbox: Mailbox, count: int) -> None:
    """Say how many messages went, in the words that the log metrics count."""
    print(f"quota-expire: removed {count} message(s) from {mailbox.address}", file=sys.stderr)


def main() -> None:
    """The command line of quota-expire: ``TARGET_MB MAILBOX_PATH``."""
    parser = argparse.ArgumentParser(
        description="Remove the oldest messages of a mailbox until the rest fits; none of the last 24 hours."
    )
    parser.add_argument("target", type=int, metavar="TARGET_MB", help="what the mailbox may take afterwards, in MB")
    parser.add_argument("path", type=Path, metavar="MAILBOX_PATH", help="directory of the mailbox")
    arguments = parser.parse_args()
    if arguments.target < 0:
        parser.error(f"TARGET_MB is {arguments.target}; allowed is a whole number from 0")
    try:
        mailbox = Mailbox(arguments.path.parent, arguments.path.name)
        expire_to_target(mailbox, arguments.target * MIB, time.time())
    except ValueError as error:
        parser.error(f"MAILBOX_PATH is {str(arguments.path)!r}; {error}")
    except OSError as error:
        sys.exit(f"quota-expire: cannot empty {arguments.path}: {error}")


if __name__ == "__main__":
    main()
