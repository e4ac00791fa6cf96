"""No apply puts mailboxes out of everybody's reach, and a rename loses none."""

import json
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_mailboxes

OLD, NEW = "old.example.org", "new.example.org"
OLD_DIR, NEW_DIR = f"/home/vmail/mail/{OLD}", f"/home/vmail/mail/{NEW}"


@pytest.fixture
def host(tmp_path):
    """A host's files; add(ADDRESS, DIRECTORY) makes a mailbox."""

    class Host:
        root = tmp_path

        def add(self, address: str, directory: str = OLD_DIR) -> Path:
            path = tmp_path / directory.lstrip("/") / address
            path.mkdir(parents=True)
            (path / "password").write_text(address)
            return path

        def applied(self, mail_domain: str, mailboxes_dir: str) -> None:
            path = tmp_path / chatmail_mailboxes.RELAY
            path.parent.mkdir(parents=True, exist_ok=True)
            settings = {"mail_domain": mail_domain, "mailboxes_dir": mailboxes_dir}
            path.write_text(json.dumps({"settings": settings, "ports": {}}))

        def problems(self, mail_domain: str = NEW, mailboxes_dir: str = NEW_DIR, rename_from: str | None = None):
            return chatmail_mailboxes.problems(mail_domain, mailboxes_dir, rename_from, root=tmp_path)

    return Host()


def test_another_mail_domain_is_refused_with_the_number_of_mailboxes_and_what_to_do(host):
    host.applied(OLD, OLD_DIR)
    host.add(f"a@{OLD}")
    host.add(f"b@{OLD}")
    (message,) = host.problems()
    assert f"there are 2 mailboxes of {OLD}" in message
    assert f"write {OLD} again" in message
    assert f"`rename_from: {OLD}`" in message
    assert "docs/rename.md" in message


def test_mailboxes_in_a_directory_of_their_own_are_found_by_the_last_apply(host):
    host.applied(OLD, "/srv/mail")
    host.add(f"a@{OLD}", "/srv/mail")
    assert len(host.problems()) == 1


def test_a_relay_of_another_deployment_is_not_orphaned_either(host):
    host.add(f"a@{OLD}")
    assert len(host.problems()) == 1
    assert host.problems(OLD, OLD_DIR) == []


def test_leftovers_of_an_earlier_domain_do_not_count(host):
    host.applied(NEW, NEW_DIR)
    host.add(f"a@{OLD}")
    assert host.problems() == []


def test_a_relay_without_mailboxes_may_change_its_domain(host):
    host.applied(OLD, OLD_DIR)
    (host.root / OLD_DIR.lstrip("/") / "pending_notifications").mkdir(parents=True)
    host.add(f"echo@{OLD}")
    assert host.problems() == []


def test_a_bare_host_has_no_mailboxes(host):
    assert host.problems() == []


def test_only_the_domain_that_is_named_may_be_renamed(host):
    host.applied(OLD, OLD_DIR)
    host.add(f"a@{OLD}")
    assert host.problems(rename_from=OLD) == []
    assert len(host.problems(rename_from="other.example.org")) == 1


def test_a_literal_is_named_as_the_pillar_has_it(host):
    host.add("a@[192.0.2.7]", "/home/vmail/mail/192.0.2.7")
    assert "`rename_from: 192.0.2.7`" in host.problems()[0]
    assert host.problems(rename_from="[192.0.2.7]") == []


def test_settings_of_the_last_apply_that_cannot_be_read_count_as_none(host):
    (host.root / "etc/chatmail").mkdir(parents=True)
    (host.root / chatmail_mailboxes.RELAY).write_text("{")
    host.add(f"a@{OLD}")
    assert len(host.problems()) == 1


@pytest.fixture
def stopped(monkeypatch):
    """The units that were stopped."""
    units = []

    def run(command, **_):
        units.append(command[-1])
        return chatmail_mailboxes.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(chatmail_mailboxes.subprocess, "run", run)
    return units


def test_a_rename_moves_each_mailbox_with_its_password_while_nobody_reads_it(host, stopped):
    host.add(f"a@{OLD}")
    host.add("b@other.example.org", OLD_DIR)
    (host.root / NEW_DIR.lstrip("/")).mkdir()
    moves, taken = chatmail_mailboxes.to_rename(NEW, NEW_DIR, OLD, root=host.root)
    chatmail_mailboxes.rename(moves)
    assert taken == []
    assert (host.root / NEW_DIR.lstrip("/") / f"a@{NEW}/password").read_text() == f"a@{OLD}"
    assert (host.root / OLD_DIR.lstrip("/") / "b@other.example.org/password").exists()
    assert {"postfix.service", "dovecot.service"} <= set(stopped)
    assert chatmail_mailboxes.to_rename(NEW, NEW_DIR, OLD, root=host.root) == ({}, [])


def test_a_rename_overwrites_nobody(host):
    old = host.add(f"a@{OLD}")
    host.add(f"a@{NEW}", NEW_DIR)
    assert chatmail_mailboxes.to_rename(NEW, NEW_DIR, OLD, root=host.root) == ({}, [str(old)])


def test_two_mailboxes_of_one_name_do_not_become_one(host):
    host.applied(OLD, "/srv/mail")
    first, second = host.add(f"a@{OLD}", "/srv/mail"), host.add(f"a@{OLD}")
    moves, taken = chatmail_mailboxes.to_rename(NEW, NEW_DIR, OLD, root=host.root)
    assert (list(moves), taken) == ([str(first)], [str(second)])


def test_a_mailbox_that_cannot_be_moved_is_named_and_stays(host, stopped):
    old = host.add(f"a@{OLD}")
    moves, _ = chatmail_mailboxes.to_rename(NEW, "/home/vmail/mail/nowhere", OLD, root=host.root)
    with pytest.raises(CommandExecutionError, match=r"cannot be moved .* apply again"):
        chatmail_mailboxes.rename(moves)
    assert old.is_dir()
