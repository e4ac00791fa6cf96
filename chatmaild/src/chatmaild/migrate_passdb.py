"""Takes over the addresses of a relay from before July 2024, which kept them in an SQLite database.

Each address gets its mailbox directory with the hash of its password and the day of its last login, if it has none yet.
Then the database is renamed, so that this is done once; until then it can be repeated without harm.
"""

import argparse
import contextlib
import logging
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .config import Config, ConfigError, read_config

TEST_ADDRESSES = ("ci-", "ac_")  # made by tests of clients; nobody misses them
PROGRESS = 10_000  # rows between two lines of the log

logger = logging.getLogger(__name__)


class MigrationError(Exception):
    """The database cannot be taken over; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What the migration reads."""

    passdb_path: Path


def migrate(config: Settings) -> int:
    """Take over the addresses in ``passdb_path``, if there is such a file.

    :returns: how many addresses were taken over.
    :raises MigrationError: the database cannot be read; it stays as it is.
    :raises OSError: the file system refused; the next start goes on from there.
    """
    database = config.passdb_path
    if not database.is_file():
        return 0
    taken = 0
    try:
        for number, (address, password, last_login) in enumerate(_users(database), 1):
            taken += _take_over(config, address, password, last_login)
            if number % PROGRESS == 0:
                logger.info("migration: %d rows read", number)
    except sqlite3.Error as error:
        raise MigrationError(
            f"cannot read {database}: {error}; restore it from a backup, or move it away to start without its addresses"
        ) from error
    database.rename(f"{database}.old")
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    logger.info("migration: %d addresses taken over, the database is now %s.old", taken, database)
    return taken


def _users(database: Path) -> Iterator[tuple]:
    """Address, hash and last login (None if it has none) of each user.

    :raises sqlite3.Error: it is no such database.
    """
    # Not read-only: a write-ahead log that an abrupt end left behind holds rows too.
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(users)")}
        if "last_login" in columns:
            yield from connection.execute("SELECT addr, password, last_login FROM users")
        else:
            yield from connection.execute("SELECT addr, password, NULL FROM users")


def _take_over(config: Settings, address: object, password: object, last_login: object) -> bool:
    if not isinstance(address, str) or not isinstance(password, str) or not password.isascii() or not password.strip():
        logger.warning("migration: a row without address or hash is left out")
        return False
    if address.startswith(TEST_ADDRESSES):
        return False
    try:
        mailbox = config.mailbox(address)
    except ValueError as error:
        logger.warning("migration: %a is left out: %s", address, error)
        return False
    if not address.endswith(f"@{config.mail_domain}"):
        logger.warning("migration: %a is left out: it is not of this relay", address)
        return False
    if mailbox.read_password() is None:
        mailbox.create(password)
    if isinstance(last_login, int | float) and 0 < last_login < 2**40:
        mailbox.set_last_login(int(last_login))
    return True


def main() -> None:
    """Run the migration; exit status 1 and a message say why it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="chatmail-migrate-passdb", description="Take over the addresses of a relay from before July 2024."
    )
    parser.add_argument("config", type=Path, help="settings file, such as /etc/chatmail/migrate-passdb.toml")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        migrate(read_config(arguments.config, Settings))
    except (ConfigError, MigrationError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(
            f"{error.filename}: {error.strerror}; it must be vmail's, `chown -R vmail: {error.filename}` makes it so"
        )


if __name__ == "__main__":
    main()
