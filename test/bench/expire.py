"""Mailboxes a second of expire, beside plain walks of the tree: python -m test.bench.expire [MAILBOXES] [DIRECTORY]

One walk names the files alone; the other asks for the size and time of each, without which nothing can expire. The tree
has 10 messages in each mailbox; it is made below DIRECTORY (default: /dev/shm) and removed at the end.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "chatmaild/src"
DOMAIN = "chat.example.org"
MESSAGES = 10
ROUNDS = 3
INODES = MESSAGES + 5  # a mailbox, cur, new, tmp, password


def make_tree(mailboxes_dir: Path, count: int) -> None:
    now = int(time.time())
    for number in range(count):
        mailbox = f"{mailboxes_dir}/u{number:08}@{DOMAIN}"
        for folder in ("", "/cur", "/new", "/tmp"):
            Path(mailbox + folder).mkdir()
        names = [f"/cur/{now}.M{message}P1.host,S=3235,W=3305:2,S" for message in range(MESSAGES)]
        for name in ["/password", *names]:
            os.close(os.open(mailbox + name, os.O_CREAT | os.O_WRONLY))


def walk(directory: str) -> int:
    """Count the files: what every walk has to do, no more."""
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            count += walk(entry.path) if entry.is_dir(follow_symlinks=False) else 1
    return count


def walk_and_stat(directory: str) -> int:
    """Add up the sizes of the files."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += walk_and_stat(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total


def seconds_of(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare expire with a plain walk of the same tree.")
    parser.add_argument("mailboxes", nargs="?", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("directory", nargs="?", type=Path, default=Path("/dev/shm"), help="default: %(default)s")
    arguments = parser.parse_args()
    if os.statvfs(arguments.directory).f_favail < arguments.mailboxes * INODES:
        parser.error(f"{arguments.directory} has not enough inodes (df -i); name fewer mailboxes or another directory")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        mail = Path(scratch) / "mail"
        mail.mkdir()
        make_tree(mail, arguments.mailboxes)
        ini = Path(scratch) / "chatmail.ini"
        ini.write_text(f"[params]\nmail_domain = {DOMAIN}\nmailboxes_dir = {mail}\n")
        command = [sys.executable, "-m", "chatmaild.expire", "--remove", ini]
        environment = os.environ | {"PYTHONPATH": str(SOURCE)}
        for _ in range(ROUNDS):
            names = seconds_of(lambda: walk(str(mail)))
            sizes = seconds_of(lambda: walk_and_stat(str(mail)))
            expire = seconds_of(lambda: subprocess.run(command, env=environment, check=True))
            print(f"walk, names alone      {arguments.mailboxes / names:8.0f} mailboxes/s")
            print(f"walk, size and time    {arguments.mailboxes / sizes:8.0f} mailboxes/s")
            print(
                f"expire                 {arguments.mailboxes / expire:8.0f} mailboxes/s:"
                f" {names / expire:.2f} of the first, {sizes / expire:.2f} of the second"
            )
        print(f"largest memory of expire {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
