"""Mailboxes a second of expire, beside plain walks of the tree: python -m test.bench.expire [MAILBOXES] [DIRECTORY]

One walk names the files alone; the other asks for the size and time of each, which expire has to know of messages. The
tree has 10 messages in each mailbox, and the other files that Dovecot and our services make there. It is made below
DIRECTORY (default: /dev/shm) and removed at the end. All three use one core; what counts is processor time, the wall
clock tells what else the machine had to do.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from test.support.service_settings import write_settings

SOURCE = Path(__file__).parents[2] / "chatmaild/src"
DOMAIN = "chat.example.org"
MESSAGES = 10
OTHERS = (
    *("password", "password.lock", "enforceE2EEincoming", "maildirsize", "subscriptions", "dovecot-uidlist"),
    *("dovecot-uidvalidity", "dovecot-uidvalidity.6921b1d5", "dovecot.index.log", "dovecot.list.index.log"),
)
ROUNDS = 5
INODES = 4 + MESSAGES + len(OTHERS)


def make_tree(mailboxes_dir: Path, count: int) -> None:
    now = int(time.time())
    for number in range(count):
        mailbox = f"{mailboxes_dir}/u{number:08}@{DOMAIN}"
        for folder in ("", "/cur", "/new", "/tmp"):
            Path(mailbox + folder).mkdir()
        messages = [f"cur/{now}.M{message}P1.host,S=3235,W=3305:2,S" for message in range(MESSAGES)]
        for name in [*OTHERS, *messages]:
            os.close(os.open(f"{mailbox}/{name}", os.O_CREAT | os.O_WRONLY))


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


def processor_seconds() -> float:
    """What this process and those that it has waited for have used so far."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    used, begun = processor_seconds(), time.perf_counter()
    work()
    return processor_seconds() - used, time.perf_counter() - begun


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
        ini = write_settings(Path(scratch) / "expire.toml", mail_domain=DOMAIN, mailboxes_dir=mail)
        command = [sys.executable, "-m", "chatmaild.expire", "--remove", ini]
        environment = os.environ | {"PYTHONPATH": str(SOURCE)}
        works = {
            "walk, names alone": lambda: walk(str(mail)),
            "walk, size and time of each file": lambda: walk_and_stat(str(mail)),
            "expire": lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL),
        }
        rounds = [[measure(work) for work in works.values()] for _ in range(ROUNDS)]
        print(f"{arguments.mailboxes} mailboxes of {MESSAGES} messages, median of {ROUNDS} rounds")
        print(f"{'mailboxes a second of':34}{'processor':>10}{'clock':>8}{'expire beside it':>19}")
        for number, name in enumerate(works):
            processor, clock = (statistics.median(times[number][of] for times in rounds) for of in (0, 1))
            ratio = statistics.median(times[number][0] / times[-1][0] for times in rounds)
            print(f"{name:34}{arguments.mailboxes / processor:10.0f}{arguments.mailboxes / clock:8.0f}{ratio:19.2f}")
        print(f"expire took {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB of memory")


if __name__ == "__main__":
    main()
