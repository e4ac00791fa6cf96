"""
An upgrade goes back by itself where the relay gets worse, also after its controller was killed, and by hand. The tests
tell one story, in order.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from test.lab import Host, Lab
from test.lab.layout import CHECKOUT
from test.relay.delivery import User, new_user
from test.support import messages
from test.support.mailing import inbox, submit
from test.support.waiting import wait_until

MAIN_CF = "/etc/postfix/main.cf"
KEPT = "/var/lib/chatmail-upgrade"
# What Postfix takes for a configuration, but does not start with.
BROKEN = "daemon_directory = /nonexistent\n"
# These states change in the test, and take less time than all.
PART = "--sls=chatmail.postfix"


@pytest.fixture(scope="module")
def formula(lab: Lab, one_host: Host, tmp_path_factory) -> Iterator[Path]:
    """A further checkout, whose Salt knows the lab's hosts: `main.cf` is to be changed in it."""
    checkout = tmp_path_factory.mktemp("formula")
    for path in (CHECKOUT / "etc", *CHECKOUT.glob("chatmail*/"), *CHECKOUT.glob("_*/")):
        # Links lead from one of them to the other.
        shutil.copytree(path, checkout / path.name, symlinks=True)
    master = yaml.safe_load((lab.layout.salt / "etc/master").read_text()) | {
        "root_dir": str(checkout / "run"),
        "file_roots": {"base": [str(checkout / "etc/roots")]},
        "module_dirs": [str(checkout / "etc/ext")],
    }
    (checkout / "etc/master").write_text(yaml.safe_dump(master))
    yield checkout
    one_host.run(["rm", "-rf", KEPT])


@pytest.fixture(scope="module")
def original(one_host: Host, formula: Path) -> str:
    return one_host.read(MAIN_CF)


def write(formula: Path, more: str) -> None:
    source = "chatmail/postfix/files/etc/postfix/main.cf.j2"
    (formula / source).write_text((CHECKOUT / source).read_text() + more)


def begin(formula: Path, host: Host, *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tools.upgrade", "-c", str(formula / "etc"), host.name, *options]
    return subprocess.Popen(
        argv, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def upgrade(formula: Path, host: Host, *options: str) -> tuple[int, str]:
    """Run the command as an operator does; returns its exit code and what it says."""
    with begin(formula, host, *options) as process:
        told, _ = process.communicate(timeout=600)
    print(told)
    return process.returncode, told


def assert_mail_flows(writer: User, reader: User, count: int) -> None:
    assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address)) is None
    assert len(inbox(reader, minimum=count)) == count


@pytest.fixture(scope="module")
def people(one) -> tuple[User, User]:
    return new_user(one), new_user(one)


def test_a_good_upgrade_says_what_changes_and_how_to_go_back(formula, original, one_host):
    write(formula, "# better\n")
    code, told = upgrade(formula, one_host, PART)
    assert code == 0
    assert "postfix-main-cf" in told
    assert "+# better" in told
    assert f"The way back: ./relay {one_host.name} rollback" in told
    assert one_host.read(MAIN_CF).endswith("# better\n")


def test_mail_that_has_come_since_stays_when_it_is_taken_back(formula, original, one_host, people):
    assert_mail_flows(*people, 1)
    code, told = upgrade(formula, one_host, "--back")
    assert code == 0
    assert MAIN_CF in told
    assert one_host.read(MAIN_CF) == original
    assert_mail_flows(*people, 2)


def test_one_whose_controller_is_killed_leaves_the_relay_in_between(formula, original, one_host):
    write(formula, BROKEN)
    killed = begin(formula, one_host, PART)
    try:
        wait_until(lambda: BROKEN in one_host.read(MAIN_CF), patience_s=240)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    assert one_host.run(["ls", KEPT]).stdout.split()


def test_the_next_one_puts_back_what_was_before_the_killed_one(formula, original, one_host, people):
    code, told = upgrade(formula, one_host, PART)
    assert code == 1
    assert "An upgrade was interrupted here" in told
    assert "worse than before" in told or "The apply has failed" in told
    assert one_host.read(MAIN_CF) == original
    assert one_host.run(["ls", KEPT]).stdout == ""
    assert_mail_flows(*people, 3)
