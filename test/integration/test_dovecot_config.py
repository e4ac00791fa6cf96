"""The installed Dovecot takes what the formula writes, stores as it should, and keeps its sessions through a change."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from test.integration.conftest import PERMISSIVE, peculiar
from test.lab import Host, Lab
from test.relay.delivery import User
from test.render.conftest import PILLARS, Renderer
from test.salt.minion import CHECKOUT
from test.support.mail_clients import ImapClient, ImapError
from test.support.mailing import ARRIVAL_TIMEOUT_S, inbox, submit
from test.support.messages import encrypted, encrypted_payload
from test.support.readers import wait_until

ON_BOTH_RELEASES = True


@pytest.fixture(scope="module")
def renderer(tmp_path_factory) -> Renderer:
    return Renderer(tmp_path_factory.mktemp("render"))


@pytest.mark.parametrize("pillar", PILLARS)
@pytest.mark.parametrize("name", ["dovecot.conf", "imap-instant.conf"])
def test_dovecot_takes_the_configuration_of_every_pillar(renderer: Renderer, one_host: Host, pillar, name):
    settings = renderer.settings(renderer.pillar(PILLARS[pillar]))
    # doveconf -n reads no certificate, so those of other pillars need not be here.
    settings["release"] = peculiar(one_host)
    file = CHECKOUT / f"chatmail/dovecot/files-{settings['release']['dovecot']}/etc/dovecot/{name}.j2"
    one_host.write("/run/trial-dovecot.conf", renderer.template(file.read_text(), settings=settings, login_places=1000))
    checked = one_host.run(["doveconf", "-n", "-c", "/run/trial-dovecot.conf"])
    assert checked.stderr == ""


def test_messages_are_stored_compressed_and_read_unchanged(one_host: Host, alice: User, bob: User):
    message = encrypted(alice.address, bob.address, payload=encrypted_payload(100_000))
    assert submit(alice, bob.address, message) is None
    (stored,) = inbox(bob)
    assert message.partition(b"\r\n\r\n")[2] == stored.partition(b"\r\n\r\n")[2]
    (file,) = one_host.run(
        ["find", f"/home/vmail/mail/{bob.relay.domain}/{bob.address}", "-path", "*/cur/*", "-type", "f"]
    ).stdout.split()
    one_host.run(["sh", "-c", 'gzip --test < "$1"', "sh", file])
    assert one_host.run(["stat", "-c", "%U %a", file]).stdout == "vmail 600\n"


@pytest.fixture
def small_quota(lab: Lab, two_host: Host) -> Iterator[Callable[[], dict]]:
    """Applies a quota of 1 MB to the second relay, which has its own again after the test."""
    pillar = {"mail_domain": two_host.name, **PERMISSIVE}
    lab.pillar(two_host.name, {"chatmail": pillar | {"max_mailbox_size": 1}})
    yield lambda: lab.salt_ssh(two_host.name, "state.apply", "chatmail.dovecot")
    lab.pillar(two_host.name, {"chatmail": pillar})
    lab.salt_ssh(two_host.name, "state.apply", "chatmail.dovecot")


@pytest.fixture
def few_places(one_host: Host, alice: User) -> Iterator[None]:
    """Dovecot has two places, whether logged in or not, in each process that takes connections."""
    usual = one_host.read("/etc/dovecot/dovecot.conf")
    reload_dovecot(one_host, re.sub(r"(?m)^  client_limit = \d+$", "  client_limit = 2", usual), alice)
    yield
    reload_dovecot(one_host, usual, alice)


def reload_dovecot(host: Host, configuration: str, user: User) -> None:
    """Have Dovecot take another configuration; for a moment it cannot say whether a password is right."""
    host.write("/etc/dovecot/dovecot.conf", configuration)
    host.run(["doveadm", "reload"])

    def lets_in() -> bool:
        with contextlib.suppress(ImapError), user.imap():
            return True
        return False

    wait_until(lets_in)


def test_who_does_not_log_in_makes_room_for_who_does(few_places, alice: User):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(ImapClient(alice.relay.address)) for _ in range(30)]
        with alice.imap() as client:
            client.select()
        with pytest.raises(ImapError):
            silent[0].login(alice.address, alice.password)


def test_a_changed_quota_holds_at_once_and_no_session_is_lost(two_host: Host, small_quota, carol: User):
    with carol.imap() as client:
        client.idle()
        states = small_quota()
        assert not [state for state in states.values() if state["__id__"] == "dovecot-current" and state["changes"]]
        assert submit(carol, carol.address, encrypted(carol.address, carol.address)) is None
        assert client.wait_exists(1, ARRIVAL_TIMEOUT_S)
        client.done()
        client.expunge()
    with carol.imap() as client:
        quota = b" ".join(response.line for response in client.command("GETQUOTAROOT INBOX"))
    assert b"(STORAGE 0 1024 MESSAGE 0 64)" in quota

    message = encrypted(carol.address, carol.address, payload=encrypted_payload(1_500_000))
    delivery = two_host.run(["doveadm", "save", "-u", carol.address], input=message.decode(), check=False)
    assert delivery.returncode != 0
    assert "Quota exceeded" in delivery.stderr

    # What a name says of its message counts, not what is on disk; it counts from the next recount on.
    assert "Quota exceeded" in delivery_beside(two_host, carol, ["S=1048576,W=1048576"])


def delivery_beside(host: Host, user: User, sizes: list[str]) -> str:
    """What a delivery says while there are messages whose names claim such sizes."""
    directory = f"/home/vmail/mail/{host.name}/{user.address}/cur"
    files = [f"{directory}/{int(time.time())}.M{number}P1.test,{size}:2,S" for number, size in enumerate(sizes)]
    host.run(["runuser", "-u", "vmail", "--", "truncate", "--size=100", *files])
    host.run(["doveadm", "quota", "recalc", "-u", user.address])
    message = encrypted(user.address, user.address)
    delivery = host.run(["doveadm", "save", "-u", user.address], input=message.decode(), check=False)
    host.run(["rm", *files])
    return delivery.stderr


def test_messages_are_counted_however_small_they_are(two_host: Host, small_quota, carol: User):
    small_quota()
    assert delivery_beside(two_host, carol, ["S=3,W=3"] * 63) == ""
    assert "Quota exceeded" in delivery_beside(two_host, carol, ["S=3,W=3"] * 64)


def test_a_client_makes_a_hundred_folders(alice: User):
    with alice.imap() as client:
        for number in range(99):  # beside INBOX
            client.command(f"CREATE f{number}")
        with pytest.raises(ImapError, match="LIMIT"):
            client.command("CREATE f99")
        client.command("RENAME f0 another")
        assert client.select("another") == 0
