"""Reports how many addresses are in use, and what their mailboxes take on disk."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import files
from .config import Config, read_config_or_exit
from .expire import natural
from .mailboxes import scanner
from .mailboxes.mailbox import DAY, Mailbox
from .metrics import PUBLIC, Gauge, account_metrics

CONFIG = Path("/etc/chatmail/fsreport.toml")
CI_PREFIX = "ci-"  # of addresses that test runs make
ACTIVE_DAYS = (1, 10, 30, 40, 80, 100, 150)
MIN_SIZES = (0, 102_400, 524_288, 1_048_576, 2_097_152, 5_242_880, 10_485_760)  # bytes
TEXTFILE = "fsreport.prom"
LEGACY_METRICS = Path("/var/www/html/metrics")


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What fsreport reads."""

    tmpfs_index: bool


class Report:
    """What one pass over the mailboxes finds."""

    def __init__(self, now: float, *, min_login_age: int = 0, mdir: str | None = None) -> None:
        """Begin with nothing.

        :param now: Unix seconds.
        :param min_login_age: days; only mailboxes not used for so long count in the table of message sizes.
        :param mdir: cur, new or tmp, if only messages there count in that table.
        """
        self.now = now
        self.min_login_age = min_login_age
        self.mdir = mdir
        self.logins = self.ci_logins = 0
        self.active = dict.fromkeys(ACTIVE_DAYS, 0)
        self.message_counts = dict.fromkeys(MIN_SIZES, 0)
        self.message_sums = dict.fromkeys(MIN_SIZES, 0)  # bytes
        self.message_bytes = self.extra_bytes = 0

    def add(self, box: Mailbox, *, index_in_memory: bool = False) -> None:
        """Count one mailbox.

        :param index_in_memory: whether its index files lie elsewhere (`tmpfs_index`).
        :raises OSError: something in it cannot be looked at.
        """
        content = scanner.scan(box.path)
        if index_in_memory:
            content.extra.extend(scanner.scan(box.index_path).extra)
        sizes = {message: scanner.size(message) for message in content.messages}
        self.message_bytes += sum(sizes.values())
        self.extra_bytes += sum(map(scanner.size, content.extra))
        last_login = box.last_login()
        if last_login is None:
            return
        self._add_login(box, last_login)
        if last_login <= self.now - self.min_login_age * DAY:
            for message, size in sizes.items():
                if self.mdir in (None, scanner.folder(message)):
                    self._add_message(size)

    def _add_login(self, box: Mailbox, last_login: int) -> None:
        self.logins += 1
        if box.address.startswith(CI_PREFIX):
            self.ci_logins += 1
            return
        for days in ACTIVE_DAYS:
            self.active[days] += last_login >= self.now - days * DAY

    def _add_message(self, size: int) -> None:
        for minimum in MIN_SIZES:
            if size < minimum:
                return
            self.message_counts[minimum] += 1
            self.message_sums[minimum] += size

    def text(self) -> str:
        """The report for people."""
        total = self.message_bytes + self.extra_bytes
        of_extra = f" ({100 * self.extra_bytes / total:.1f} %)" if total else ""
        users = self.logins - self.ci_logins
        which = f" in {self.mdir}" if self.mdir else ""
        idle = f" of mailboxes not used for {self.min_login_age} days" if self.min_login_age else ""
        lines = [
            f"addresses: {self.logins}, of test runs: {self.ci_logins}, others: {users}",
            *(f"others active within {days} days: {count}" for days, count in self.active.items()),
            *(
                f"messages{which}{idle} from {short(minimum)}: {count}, {short(self.message_sums[minimum])}"
                for minimum, count in self.message_counts.items()
            ),
            f"all messages: {short(self.message_bytes)}",
            f"other files: {short(self.extra_bytes)}{of_extra}",
        ]
        return "".join(f"{line}\n" for line in lines)

    def prometheus(self) -> str:
        """The report for node_exporter's textfile collector."""
        storage = {
            "messages": self.message_bytes,
            "extra": self.extra_bytes,
            "total": self.message_bytes + self.extra_bytes,
        }
        accounts = {"all": self.logins, "ci": self.ci_logins, "user": self.logins - self.ci_logins}
        gauges = (
            Gauge("chatmail_storage_bytes", "Bytes on disk in mailboxes.", _labelled("kind", storage)),
            Gauge("chatmail_messages_bytes", "Bytes in messages from a size on.", self._by_size(self.message_sums)),
            Gauge("chatmail_messages_count", "Messages from a size on.", self._by_size(self.message_counts)),
            Gauge("chatmail_accounts", "Addresses with a known last login.", _labelled("kind", accounts)),
            Gauge("chatmail_accounts_active", "Users' addresses by last login.", _labelled("days", self.active)),
        )
        return "".join(gauge.lines() for gauge in gauges)

    @staticmethod
    def _by_size(values: dict[int, int]) -> list[tuple[str, int]]:
        return _labelled("min_size", values)


def _labelled(label: str, values: dict) -> list[tuple[str, int]]:
    return [(f'{{{label}="{key}"}}', value) for key, value in values.items()]


def short(size: int) -> str:
    """A number of bytes in decimal units, such as 1.5M."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f}{unit}"
    return str(size)


def make_report(config: Settings, report: Report, maxnum: int | None = None) -> int:
    """Count the mailboxes, `maxnum` at most; return how many could not be read, each named on standard error."""
    failures = 0
    for box in scanner.mailboxes(config, maxnum):
        try:
            report.add(box, index_in_memory=config.tmpfs_index)
        except OSError as error:
            failures += 1
            print(f"fsreport: {error}", file=sys.stderr)
    return failures


def main() -> None:
    """The command line of fsreport; with a file option it prints nothing."""
    parser = argparse.ArgumentParser(description="Report how many addresses are in use, and what they take on disk.")
    parser.add_argument("config", nargs="?", type=Path, default=CONFIG, help="settings file (default: %(default)s)")
    parser.add_argument("--days", type=natural, default=0, metavar="N", help="as if today were N days earlier")
    parser.add_argument(
        "--min-login-age", type=natural, default=0, metavar="DAYS", help="sizes of mailboxes not used for so long"
    )
    parser.add_argument("--mdir", choices=sorted(scanner.MAILDIR_FOLDERS), help="sizes of messages in this one alone")
    parser.add_argument("--maxnum", type=natural, metavar="N", help="look at N mailboxes at most")
    parser.add_argument(
        "--textfile", type=Path, metavar="PATH", help=f"write Prometheus text to this file, or {TEXTFILE} in it"
    )
    parser.add_argument(
        "--legacy-metrics", type=Path, nargs="?", const=LEGACY_METRICS, metavar="FILE",
        help=f"write the numbers of accounts (default: {LEGACY_METRICS})",
    )  # fmt: skip
    arguments = parser.parse_args()
    config = read_config_or_exit(arguments.config, Settings)
    now = time.time() - arguments.days * DAY
    report = Report(now, min_login_age=arguments.min_login_age, mdir=arguments.mdir)
    failures = make_report(config, report, arguments.maxnum)
    try:
        if arguments.textfile:
            textfile = arguments.textfile
            path = textfile / TEXTFILE if textfile.is_dir() else textfile
            files.replace(path, report.prometheus().encode("ascii"), PUBLIC)
        if arguments.legacy_metrics:
            files.replace(arguments.legacy_metrics, account_metrics(config.mailboxes_dir).encode("ascii"), PUBLIC)
    except OSError as error:
        sys.exit(f"fsreport: {error}")
    if not (arguments.textfile or arguments.legacy_metrics):
        sys.stdout.write(report.text())
    if failures:
        sys.exit(f"fsreport: {failures} mailbox(es) could not be read, see above")


if __name__ == "__main__":
    main()
