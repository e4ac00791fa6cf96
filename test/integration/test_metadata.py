"""IMAP METADATA and push notifications: real Dovecot, real deliveries, a push server of the lab."""

import json
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.lab.layout import BRIDGE_NUMBER
from test.relay.delivery import User, new_user
from test.support.mail_clients import ImapClient, ImapError
from test.support.mailing import inbox, metadata_entry, submit
from test.support.messages import encrypted
from test.support.push_server import PushServer
from test.support.waiting import wait_until

ON_BOTH_RELEASES = True
CA_FILE = "/usr/local/share/ca-certificates/push-server.crt"
QUEUE = "pending_notifications"


@pytest.fixture(scope="module")
def push_server(lab: Lab, two_host: Host, tmp_path_factory) -> Iterator[PushServer]:
    """A push server on this machine that the second relay uses and trusts."""
    with PushServer(tmp_path_factory.mktemp("push"), str(lab.layout.ipv4(BRIDGE_NUMBER))) as server:
        two_host.write(CA_FILE, server.certificate.read_text())
        two_host.run(["update-ca-certificates"])
        pillar = {"mail_domain": two_host.name, **PERMISSIVE}
        lab.pillar(two_host.name, {"chatmail": pillar | {"notification_url": server.url}})
        lab.salt_ssh(two_host.name, "state.apply", "chatmail.chatmaild")
        yield server
        lab.pillar(two_host.name, {"chatmail": pillar})
        two_host.run(["rm", CA_FILE])
        two_host.run(["update-ca-certificates", "--fresh"])
        lab.salt_ssh(two_host.name, "state.apply", "chatmail.chatmaild")


@pytest.fixture(autouse=True)
def _an_obliging_push_server(push_server: PushServer):
    push_server.bodies.clear()
    yield
    push_server.status_of = lambda body: 200


@pytest.fixture
def dora(two) -> User:
    """Another fresh address on the second relay."""
    return new_user(two)


def set_token(client: ImapClient, token: str) -> None:
    client.command(f'SETMETADATA INBOX (/private/devicetoken "{token}")')


def queue_of(host: Host) -> list[str]:
    return host.run(["ls", f"/home/vmail/mail/{host.name}/{QUEUE}"]).stdout.split()


def test_device_tokens_are_set_and_read(carol: User):
    with carol.imap() as client:
        assert metadata_entry(client, "INBOX", "/private/devicetoken") in (None, "")
        set_token(client, "1111")
        set_token(client, "2222")
        assert metadata_entry(client, "INBOX", "/private/devicetoken") == "1111 2222"
        with pytest.raises(ImapError):
            set_token(client, "x" * 9000)
        client.command("SETMETADATA INBOX (/private/devicetoken NIL)")
        assert metadata_entry(client, "INBOX", "/private/devicetoken") == "1111 2222"


def test_a_mailbox_is_deleted_and_an_entry_that_was_never_set_removed(carol: User):
    with carol.imap() as client:
        client.command("CREATE Friends")
        client.command("SETMETADATA Friends (/private/comment NIL)")
        client.command("DELETE Friends")
        assert not any(b"Friends" in response.line for response in client.command('LIST "" *'))


def test_what_the_server_tells_its_clients(two_host: Host, carol: User):
    with carol.imap() as client:
        answers = {
            name: metadata_entry(client, "", f"/shared/vendor/deltachat/{name}")
            for name in ("irohrelay", "maxsmtprecipients", "appversions", "unknown")
        }
    (client,) = json.loads(answers.pop("appversions"))["clients"]
    assert client["clientId"] == "deltachat"
    assert answers == {
        # The lab's relays run none, and announce none.
        "irohrelay": None,
        "maxsmtprecipients": "1000",
        "unknown": None,
    }


def test_a_delivery_wakes_the_recipients_devices_and_nobody_elses(push_server, two_host, carol: User, dora: User):
    for user, tokens in ((carol, ["1111", "2222"]), (dora, ["3333"])):
        with user.imap() as client:
            for token in tokens:
                set_token(client, token)
    # A sender's own copy is no news.
    assert submit(dora, dora.address, encrypted(dora.address, dora.address)) is None
    inbox(dora)
    assert submit(dora, carol.address, encrypted(dora.address, carol.address)) is None
    push_server.wait_for(2)
    wait_until(lambda: queue_of(two_host) == [])
    assert sorted(push_server.bodies) == [b"1111", b"2222"]


def test_a_restart_tries_again_and_a_device_that_is_gone_is_forgotten(push_server, two_host, carol: User, dora: User):
    with carol.imap() as client:
        set_token(client, "4444")
    push_server.status_of = lambda body: 500
    assert submit(dora, carol.address, encrypted(dora.address, carol.address)) is None
    push_server.wait_for(1)
    assert len(queue_of(two_host)) == 1
    push_server.status_of = lambda body: 410
    two_host.run(["systemctl", "kill", "--signal=KILL", "chatmail-metadata"])
    assert push_server.wait_for(2) == [b"4444"] * 2
    wait_until(lambda: queue_of(two_host) == [])
    with carol.imap() as client:
        assert metadata_entry(client, "INBOX", "/private/devicetoken") in (None, "")


def test_mail_arrives_without_the_service(push_server, two_host, carol: User, dora: User):
    two_host.run(["systemctl", "stop", "chatmail-metadata.socket"])
    try:
        assert submit(dora, carol.address, encrypted(dora.address, carol.address)) is None
        inbox(carol)
    finally:
        two_host.run(["systemctl", "start", "chatmail-metadata"])
