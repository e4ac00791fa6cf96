"""Counts the accounts, for the page ``/metrics`` of the web site."""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from . import files

CI_PREFIXES = ("ci-", "ac_")  # of accounts that test runs make

PUBLIC = 0o644  # permissions of files that the web server or a monitoring agent reads


class Gauge(NamedTuple):
    """One metric of Prometheus' text format; each of its values has the labels given with it, often none."""

    name: str
    meaning: str
    values: Iterable[tuple[str, int]]  # labels such as {kind="ci"}, value

    def lines(self) -> str:
        """The metric as it is published."""
        head = f"# HELP {self.name} {self.meaning}\n# TYPE {self.name} gauge\n"
        return head + "".join(f"{self.name}{labels} {value}\n" for labels, value in self.values)


def account_metrics(mailboxes_dir: Path) -> str:
    """Count the accounts, which are the directories that hold a directory cur, and return the text of the page.

    :raises OSError: the directory cannot be read.
    """
    accounts = ci_accounts = 0
    with os.scandir(mailboxes_dir) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and os.path.isdir(f"{entry.path}/cur"):
                accounts += 1
                ci_accounts += entry.name.startswith(CI_PREFIXES)
    gauges = (
        Gauge("accounts", "Addresses that have been used.", [("", accounts)]),
        Gauge("ci_accounts", "Those of them that test runs made.", [("", ci_accounts)]),
        Gauge("nonci_accounts", "All others of them.", [("", accounts - ci_accounts)]),
    )
    return "".join(gauge.lines() for gauge in gauges)


def main() -> None:
    """The command line of metrics: ``MAILBOXES_DIR [FILE]``."""
    parser = argparse.ArgumentParser(description="Count the accounts of a relay, as Prometheus text.")
    parser.add_argument("mailboxes_dir", type=Path, metavar="MAILBOXES_DIR", help="directory of the mailboxes")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to (default: standard output)")
    arguments = parser.parse_args()
    try:
        text = account_metrics(arguments.mailboxes_dir)
        if arguments.file:
            files.replace(arguments.file, text.encode("ascii"), PUBLIC)
        else:
            sys.stdout.write(text)
    except OSError as error:
        sys.exit(f"metrics: {error}")


if __name__ == "__main__":
    main()
