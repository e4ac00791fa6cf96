"""Addresses of a relay from before July 2024 keep their password and their day of last login."""

import contextlib
import sqlite3

import pytest

from chatmaild.config import read_config
from chatmaild.mailboxes.mailbox import DAY
from chatmaild.migrate_passdb import MigrationError, Settings, migrate

DOMAIN = "chat.example.org"
MODULE = "chatmaild.migrate_passdb"
LAST_LOGIN = 1_720_000_000 - 1_720_000_000 % DAY


@pytest.fixture
def database(tmp_path):
    return tmp_path / "passdb.sqlite"


@pytest.fixture
def config(write_config, database):
    return read_config(write_config(passdb_path=database), Settings)


def write(database, rows):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE users (addr TEXT PRIMARY KEY, password TEXT, last_login INTEGER)")
        connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
        connection.commit()


def test_a_thousand_addresses_keep_hash_and_last_login(config, database):
    write(
        database,
        [(f"with{n:05}@{DOMAIN}", f"{{SHA512-CRYPT}}hash{n}", LAST_LOGIN + n) for n in range(500)]
        + [(f"none{n:05}@{DOMAIN}", f"{{SHA512-CRYPT}}hash{n}", None) for n in range(500)],
    )
    assert migrate(config) == 1000
    for n in (0, 1, 499):
        mailbox = config.mailbox(f"with{n:05}@{DOMAIN}")
        assert mailbox.read_password() == f"{{SHA512-CRYPT}}hash{n}"
        assert mailbox.last_login() == LAST_LOGIN
        assert mailbox.enforces_e2ee()
        assert config.mailbox(f"none{n:05}@{DOMAIN}").read_password() == f"{{SHA512-CRYPT}}hash{n}"
    assert len(list(config.mailboxes_dir.iterdir())) == 1000
    assert not database.exists()
    assert (database.parent / "passdb.sqlite.old").exists()
    assert migrate(config) == 0


def test_progress_is_logged(config, database, caplog, monkeypatch):
    monkeypatch.setattr("chatmaild.migrate_passdb.PROGRESS", 2)
    write(database, [(f"user0000{n}@{DOMAIN}", "{X}hash", None) for n in range(5)])
    migrate(config)
    assert "migration: 4 rows read" in caplog.messages


def test_addresses_of_tests_and_of_others_are_left_out(config, database):
    names = [f"ci-123456@{DOMAIN}", f"ac_123456@{DOMAIN}", "user12345@other.test", f"../x@{DOMAIN}", "none", None]
    write(database, [(name, "{X}hash", None) for name in names] + [(f"empty1234@{DOMAIN}", "", None)])
    assert migrate(config) == 0
    assert not config.mailboxes_dir.exists()


def test_a_table_without_last_login(config, database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE users (addr TEXT, password TEXT)")
        connection.execute("INSERT INTO users VALUES (?, '{X}hash')", [f"user12345@{DOMAIN}"])
        connection.commit()
    assert migrate(config) == 1
    assert config.mailbox(f"user12345@{DOMAIN}").read_password() == "{X}hash"


def test_a_migration_that_was_interrupted_goes_on_and_overwrites_nothing(config, database):
    config.mailbox(f"user12345@{DOMAIN}").create("{X}newer")
    write(database, [(f"user{n}@{DOMAIN}", "{X}hash", None) for n in (12345, 54321)])
    assert migrate(config) == 2
    assert config.mailbox(f"user12345@{DOMAIN}").read_password() == "{X}newer"
    assert config.mailbox(f"user54321@{DOMAIN}").read_password() == "{X}hash"


def test_what_is_no_database_stays_and_is_named(config, database):
    database.write_bytes(b"x" * 5000)
    with pytest.raises(MigrationError, match=r"passdb\.sqlite.*backup"):
        migrate(config)
    assert database.exists()


def test_the_command(run_service, write_config, database):
    ini = write_config(passdb_path=database)
    assert run_service(MODULE, ini).returncode == 0
    database.write_bytes(b"x" * 5000)
    result = run_service(MODULE, ini)
    assert result.returncode == 1
    assert "restore it from a backup" in result.stderr
