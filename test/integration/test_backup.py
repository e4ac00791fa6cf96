"""
A relay is saved to another host, lost, and made again on a bare one. The tests tell one story, in order.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mailing import imap_login, inbox, metadata_entry, submit

NAME = "_saved.test"
PLACE = "/srv/backups"
MAILBOXES = f"/home/vmail/mail/{NAME}"
PASSWORD_FILE = "/root/chatmail-backup-password"
TOKEN = "a device token"
SECRETS = (
    "find /etc/dkimkeys/*.private /etc/ssl/private/mailserver.key /etc/chatmail/turn-secret -type f "
    "-exec sha256sum {} + | sort"
)
# Files, users and packages of a relay's.
LEFT = """
grep -rlIs 'Managed by chatmail-formula' /etc /usr/local /var/lib
find / -xdev \\( -path /proc -o -path /var/tmp -o -path /root -o -path /var/lib/dpkg \\) -prune \\
  -o \\( -name '*chatmail*' -o -name '*doveauth*' -o -name '*filtermail*' -o -nouser \\) -print
getent passwd vmail iroh echobot operator-bot
dpkg-query -W -f '${db:Status-Abbrev}${Package}\\n' postfix dovecot-core nginx unbound opendkim coturn | grep -v '^un'
"""
pytestmark = pytest.mark.timeout(1200)


@dataclass
class Saved:
    """What the relay was, and where its backup is."""

    host: Host
    repository: str
    password_file: Path
    reader: User
    writer: User
    secrets: str
    invites: str


def set_pillar(lab: Lab, repository: str) -> None:
    settings = {"mail_domain": NAME, "backup_repository": repository, "backup_mail": True, **PERMISSIVE}
    lab.pillar(NAME, {"chatmail": settings})


def put(host: Host, path: str, data: bytes) -> None:
    subprocess.run(host.ssh_argv(f"umask 077; cat > {path}"), input=data, check=True)


def allow_sftp(host: Host, place: Host) -> None:
    """Let root of `host` write to `place`, as an operator does by hand."""
    host.run(["sh", "-c", "test -e ~/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519"])
    key = host.read("/root/.ssh/id_ed25519.pub")
    put(place, "/root/backup-key", key.encode())
    place.run(["sh", "-c", "cat /root/backup-key >> /root/.ssh/authorized_keys; rm /root/backup-key"])
    known = place.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    put(host, "/root/.ssh/known_hosts", f"{place.ipv4} {' '.join(known)}\n".encode())


@pytest.fixture(scope="module")
def saved(lab: Lab, two_host: Host, tmp_path_factory) -> Iterator[Saved]:
    """A relay on Debian 12 with people, mail, a device and an invite, after one backup."""
    host = lab.add(NAME, "bookworm", packages=True)
    repository = f"sftp:root@{two_host.ipv4}:{PLACE}"
    set_pillar(lab, repository)
    allow_sftp(host, two_host)
    password_file = tmp_path_factory.mktemp("operator") / "backup-password"
    password_file.write_text(secrets.token_hex(16))
    put(host, PASSWORD_FILE, password_file.read_bytes())
    lab.salt_ssh(NAME, "state.apply", "chatmail")
    relay = Relay(NAME, str(host.ipv4))
    reader, writer = new_user(relay), new_user(relay)
    assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address)) is None
    inbox(reader)
    with reader.imap() as client:
        client.command(f'SETMETADATA INBOX (/private/devicetoken "{TOKEN}")')
    lab.salt_ssh(NAME, "chatmail_account.ban", writer.address)
    lab.salt_ssh(NAME, "chatmail_account.invite")
    invites = json.dumps(lab.salt_ssh(NAME, "chatmail_account.invites"))
    assert "saved" in lab.salt_ssh(NAME, "chatmail_backup.save")
    made = Saved(host, repository, password_file, reader, writer, host.run(["sh", "-c", SECRETS]).stdout, invites)
    yield made
    two_host.run(["rm", "-rf", PLACE])
    lab.remove(NAME)


def restore(lab: Lab, saved: Saved, *, password_file: Path | None = None, repository: str | None = None):
    """Run the command as an operator does."""
    argv = [sys.executable, "-m", "tools.restore", "-c", str(lab.layout.salt / "etc"), NAME]
    argv += ["--from", repository or saved.repository, "--password-file", str(password_file or saved.password_file)]
    return subprocess.run(argv, cwd=lab.layout.checkout, capture_output=True, text=True, timeout=600, check=False)


def test_without_a_password_an_apply_says_how_to_make_one(lab, saved):
    saved.host.run(["mv", PASSWORD_FILE, f"{PASSWORD_FILE}.away"])
    with pytest.raises(SaltFailed, match="openssl rand -hex 32 > backup-password"):
        lab.salt_ssh(NAME, "state.apply", "chatmail.backup")
    saved.host.run(["mv", f"{PASSWORD_FILE}.away", PASSWORD_FILE])
    assert all(state["result"] for state in lab.salt_ssh(NAME, "state.apply", "chatmail.backup").values())


def test_what_was_saved_can_be_read(lab, saved):
    assert "can be read" in lab.salt_ssh(NAME, "chatmail_backup.check")
    (check,) = (
        one for one in lab.salt_ssh(NAME, "chatmail_relay.examine", "probe=False")["checks"] if one["check"] == "backup"
    )
    assert check["level"] == "ok"


def test_a_damaged_backup_is_found(lab, saved, two_host):
    pack = two_host.run(["sh", "-c", f"find {PLACE}/data -type f | head -1"]).stdout.strip()
    two_host.run(["cp", "-p", pack, "/root/pack"])
    two_host.run(["sh", "-c", f"chmod u+w {pack}; truncate -s -10 {pack}"])
    with pytest.raises(SaltFailed):
        lab.salt_ssh(NAME, "chatmail_backup.check")
    found = lab.salt_ssh(NAME, "chatmail_relay.examine", "probe=False")["findings"]
    assert [one["kind"] for one in found if one["check"] == "backup"] == ["backup-check-failed"]
    two_host.run(["cp", "-p", "/root/pack", pack])
    lab.salt_ssh(NAME, "chatmail_backup.check")


def test_a_second_backup_forgets_what_is_too_old(lab, saved):
    """Mail is kept for a day, the rest for a week."""
    restic = f"restic -q -r {saved.repository} -p {PASSWORD_FILE} --cache-dir /var/cache/chatmail-backup"
    listed = json.loads(saved.host.run(["sh", "-c", f"{restic} snapshots --json"]).stdout)
    for days, tag in ((2, "mail"), (2, "chatmail"), (9, "chatmail")):
        command = f"{restic} backup --time '2026-01-01 00:00:00' --host {NAME} --tag {tag} /etc/hostname"
        then = saved.host.run(["date", "-d", f"-{days} days", "+%Y-%m-%d %H:%M:%S"]).stdout.strip()
        saved.host.run(["sh", "-c", command.replace("2026-01-01 00:00:00", then)])
    lab.salt_ssh(NAME, "chatmail_backup.save")
    after = json.loads(saved.host.run(["sh", "-c", f"{restic} snapshots --json"]).stdout)
    assert sorted(one["tags"][0] for one in after) == ["chatmail"] * 3 + ["mail"] * 2
    assert {one["id"] for one in listed} <= {one["id"] for one in after}


def test_a_relay_with_people_is_not_overwritten(lab, saved):
    done = restore(lab, saved)
    assert done.returncode == 1
    assert f"{NAME} has 2 mailboxes" in done.stdout


def test_a_relay_is_removed_once_its_domain_was_typed_and_leaves_a_clean_host(lab, saved):
    def remove(*arguments: str, typed: str = "") -> subprocess.CompletedProcess:
        argv = [sys.executable, "-m", "tools.remove", "-c", str(lab.layout.salt / "etc"), NAME, *arguments]
        return subprocess.run(
            argv, cwd=lab.layout.checkout, input=typed, capture_output=True, text=True, timeout=300, check=False
        )

    host = saved.host
    shown = remove("--dry-run")
    assert shown.returncode == 0
    for word in (NAME, "/home/vmail", "/etc/dkimkeys", "doveauth.service", "dovecot-core", "/etc/nginx", "vmail"):
        assert word in shown.stdout
    assert host.run(["systemctl", "is-active", "dovecot", "nginx", "doveauth.socket"]).stdout == "active\n" * 3

    done = remove(typed=f"{NAME}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.run(["sh", "-c", LEFT], check=False).stdout == ""
    assert {line.split()[3].rpartition(":")[2] for line in host.run(["ss", "-Hltn"]).stdout.splitlines()} == {"22"}
    assert host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""
    assert "127.0.0.1" not in host.read("/etc/resolv.conf")


def test_the_host_is_lost_and_what_does_not_fit_is_refused(lab, saved, two_host, tmp_path):
    lab.remove(NAME)
    saved.host = lab.add(NAME, "trixie")
    set_pillar(lab, saved.repository)
    allow_sftp(saved.host, two_host)
    wrong = tmp_path / "wrong"
    wrong.write_text("another")
    for options, said in (
        ({"password_file": wrong}, "wrong password or no key found"),
        ({"repository": f"{saved.repository}-none"}, "unable to open config file"),
        ({"password_file": tmp_path / "none"}, "none cannot be read: No such file"),
    ):
        done = restore(lab, saved, **options)
        assert done.returncode == 1
        assert said in done.stdout, done.stdout
    assert saved.host.run(["ls", MAILBOXES]).stdout == ""


def test_while_a_backup_is_not_complete_no_apply_lets_anybody_in(lab, saved, two_host):
    pack = two_host.run(
        ["sh", "-c", f"find {PLACE}/data -type f -printf '%s %p\\n' | sort -n | tail -1"]
    ).stdout.split()[1]
    two_host.run(["mv", pack, "/root/pack"])
    done = restore(lab, saved)
    assert done.returncode == 1
    assert "it begins from the start" in done.stdout, done.stdout
    with pytest.raises(SaltFailed, match="a backup is being restored"):
        lab.salt_ssh(NAME, "state.apply", "chatmail")
    two_host.run(["mv", "/root/pack", pack])


def test_the_relay_is_there_again(lab, saved):
    done = restore(lab, saved)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 addresses are there" in done.stdout
    assert saved.host.run(["sh", "-c", SECRETS]).stdout == saved.secrets


def test_people_go_on_with_their_passwords_mail_and_devices(lab, saved, two):
    relay = Relay(NAME, str(saved.host.ipv4))
    reader = User(relay, saved.reader.address, saved.reader.password)
    assert imap_login(reader)
    assert not imap_login(User(relay, reader.address, reader.password + "x"))
    assert len(inbox(reader)) == 1
    with reader.imap() as client:
        assert metadata_entry(client, "INBOX", "/private/devicetoken") == TOKEN
    other = new_user(two)
    assert submit(reader, other.address, messages.encrypted(reader.address, other.address)) is None
    assert len(inbox(other)) == 1
    assert submit(other, reader.address, messages.encrypted(other.address, reader.address)) is None
    assert len(inbox(reader, minimum=2)) == 2


def test_who_was_banned_is_and_invites_are_good(lab, saved):
    assert lab.salt_ssh(NAME, "chatmail_account.info", saved.writer.address)["banned"]
    assert json.dumps(lab.salt_ssh(NAME, "chatmail_account.invites")) == saved.invites


def test_nothing_of_the_restore_stays(saved):
    for path in ("/etc/chatmail/restoring", "/var/lib/chatmail-restore"):
        assert saved.host.run(["test", "-e", path], check=False).returncode
    strangers = ["find", MAILBOXES, "-not", "(", "-user", "vmail", "-group", "vmail", ")"]
    assert saved.host.run(strangers).stdout == ""
