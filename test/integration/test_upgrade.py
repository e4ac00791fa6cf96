"""A relay on Debian 12 becomes one on Debian 13, as docs/upgrade.md says. The tests tell one story, in order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from test.integration.conftest import PERMISSIVE
from test.integration.test_apply import changed
from test.lab import Host, Lab
from test.lab.layout import CHECKOUT
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mailing import imap_login, inbox, metadata_entry, submit
from test.support.waiting import wait_until

# Two applies and Debian's upgrade, all in the first test.
pytestmark = pytest.mark.timeout(1800)
NAME = "_upgrade.test"
SECRETS = "find /etc/dkimkeys/*.private /etc/ssl/private/mailserver.key -type f -exec sha256sum {} + | sort"
TOKEN = "a device token"


def command(beginning: str) -> str:
    """The command of docs/upgrade.md that begins so: what it says is what is tried. Nobody is there to answer apt."""
    page = (CHECKOUT / "docs/upgrade.md").read_text()
    found = re.findall(rf"^ *# ({re.escape(beginning)}.*)$", page, re.MULTILINE)[0]
    return re.sub("^apt ", "DEBIAN_FRONTEND=noninteractive apt-get --quiet --assume-yes ", found)


@dataclass
class Story:
    """What was on the relay before."""

    reader: User
    secrets: str
    uid_validity: bytes
    messages: list[bytes]


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    host = lab.add(NAME, "bookworm", packages=True)
    lab.pillar(NAME, {"chatmail": {"mail_domain": NAME, **PERMISSIVE}})
    lab.salt_ssh(NAME, "state.apply", "chatmail")
    yield host
    lab.remove(NAME)


def mailbox(reader: User) -> tuple[bytes, list[bytes]]:
    """UIDVALIDITY, and UID and flags of each message."""
    with reader.imap() as client:
        (validity,) = [response.line for response in client.command("SELECT INBOX") if b"UIDVALIDITY" in response.line]
        return validity, [response.line for response in client.command("UID FETCH 1:* (FLAGS)")]


@pytest.fixture(scope="module")
def carol(two: Relay) -> User:
    """An address on a relay that stays as it is."""
    return new_user(two)


@pytest.fixture(scope="module")
def story(lab: Lab, host: Host, carol: User) -> Story:
    relay = Relay(NAME, str(host.ipv4))
    reader, writer = new_user(relay), new_user(relay)
    for _ in range(2):
        assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address)) is None
    inbox(reader, minimum=2)
    with reader.imap() as client:
        client.command(f'SETMETADATA INBOX (/private/devicetoken "{TOKEN}")')
        client.select()
        client.command(r"STORE 1 +FLAGS (\Seen)")
    before = Story(reader, host.run(["sh", "-c", SECRETS]).stdout, *mailbox(reader))

    host.run(["sh", "-c", command("systemctl mask")])
    # The other relay accepts it, finds nobody here, and keeps it.
    assert submit(carol, reader.address, messages.encrypted(carol.address, reader.address)) is None
    for step in (command("grep -rl"), command("apt update"), command("apt -o")):
        host.run(["sh", "-c", step], timeout=1800)
    host.run(["systemctl", "--no-block", "poweroff"])
    wait_until(lambda: not host.own_processes())
    lab.up(())
    lab.salt_ssh(NAME, "state.apply", "chatmail")
    return before


def test_the_host_is_debian_13_and_no_unit_has_failed(host, story):
    assert 'VERSION_ID="13"' in host.read("/etc/os-release")
    assert host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""


def test_the_second_apply_changes_nothing(lab, story):
    assert changed(lab.salt_ssh(NAME, "state.apply", "chatmail")) == {}


def test_keys_and_certificate_are_the_same(host, story):
    assert host.run(["sh", "-c", SECRETS]).stdout == story.secrets


def test_the_address_has_its_password_and_its_mail_as_it_was(host, story):
    assert imap_login(story.reader)
    assert not imap_login(replace(story.reader, password=story.reader.password + "x"))
    with story.reader.imap() as client:
        assert metadata_entry(client, "INBOX", "/private/devicetoken") == TOKEN
    uid_validity, now = mailbox(story.reader)
    assert (uid_validity, now[:2]) == (story.uid_validity, story.messages)


def test_what_was_sent_meanwhile_arrives(two_host, story):
    two_host.run(["postqueue", "-f"])
    assert len(inbox(story.reader, minimum=3)) == 3
