"""Every delivery is announced to an idle client, whatever Dovecot is doing with the client's session at that moment."""

import time

import pytest

from test.lab import Host
from test.relay.delivery import LOST_AFTER_S, Relay, User, lost_notifications
from test.support.mail_clients import ImapClient, send, submission
from test.support.messages import encrypted
from test.support.waiting import wait_until

ON_BOTH_RELEASES = True
# Dovecot hands an idle session to imap-hibernate a second after its last change; mail needs some 20 to 80 ms to arrive.
AROUND_HIBERNATION_S = tuple(0.9 + 0.01 * number for number in range(14))


def mail(sender: User, reader: User, count: int = 1, pause_s: float = 0.0) -> None:
    """Send ``count`` messages in one session, ``pause_s`` seconds apart."""
    with submission(sender.relay.address, sender.address, sender.password) as client:
        for _ in range(count):
            send(client, sender.address, [reader.address], encrypted(sender.address, reader.address))
            time.sleep(pause_s)


def hibernated(host: Host, user: User) -> bool:
    """Whether no imap process serves ``user``'s sessions: imap-hibernate has them."""
    return user.address not in host.run(["ps", "-eo", "args"]).stdout


def wait_until_hibernated(host: Host, user: User) -> None:
    wait_until(lambda: hibernated(host, user), f"the session of {user.address} does not hibernate", 10)


def idling(user: User) -> ImapClient:
    client = user.imap()
    client.idle()
    return client


def test_deliveries_at_14_moments_after_idle_are_announced(one: Relay):
    lost, sent = lost_notifications(one, rounds=5)
    assert (lost, sent) == (0, 70)


def test_deliveries_around_the_moment_of_hibernation_are_announced(one: Relay):
    lost, sent = lost_notifications(one, rounds=10, moments_s=AROUND_HIBERNATION_S)
    assert (lost, sent) == (0, 140)


@pytest.mark.parametrize("pause_s", [0.0, 0.3, 1.5], ids=["at once", "never hibernated", "hibernated in between"])
def test_a_row_of_deliveries_in_one_idle_is_announced(alice, bob, pause_s):
    with idling(bob) as client:
        mail(alice, bob, count=8, pause_s=pause_s)
        assert client.wait_exists(8, LOST_AFTER_S)


def test_an_idle_session_hibernates_and_comes_back_for_a_message_and_for_its_client(one_host, alice, bob):
    with idling(bob) as client:
        wait_until_hibernated(one_host, bob)
        mail(alice, bob)
        assert client.wait_exists(1, LOST_AFTER_S)
        wait_until_hibernated(one_host, bob)
        client.done()
        assert len(client.fetch()) == 1


def test_all_devices_of_a_user_are_told(one_host, alice, bob):
    """Sessions that wait, sleep, and wait in another folder; none leaves anything but messages in the mailbox."""
    with idling(bob) as asleep, bob.imap() as elsewhere:
        elsewhere.command('CREATE "DeltaChat"')
        elsewhere.select("DeltaChat")
        elsewhere.idle()
        wait_until_hibernated(one_host, bob)
        with idling(bob) as awake:
            mail(alice, bob)
            assert awake.wait_exists(1, LOST_AFTER_S)
            assert asleep.wait_exists(1, LOST_AFTER_S)
        asleep.done()
        asleep.command('MOVE 1 "DeltaChat"')
        assert elsewhere.wait_exists(1, LOST_AFTER_S)
    found = one_host.run(["find", "/home/vmail/mail", "-path", f"*/{bob.address}/*", "-name", ".imap-instant.*"])
    assert found.stdout == ""


def test_sessions_neither_crash_nor_complain(one_host, alice, bob):
    cursor = one_host.run(["journalctl", "-n", "0", "--show-cursor", "-o", "cat"]).stdout.split("cursor: ")[1].strip()
    with idling(bob) as client:
        mail(alice, bob)
        assert client.wait_exists(1, LOST_AFTER_S)
        wait_until_hibernated(one_host, bob)
        client.done()
        client.expunge()
        client.command("LOGOUT")
    log = one_host.run(["journalctl", f"--after-cursor={cursor}", "-u", "dovecot", "-o", "cat"]).stdout
    assert [line for line in log.splitlines() if any(w in line for w in ("Error", "Panic", "Fatal", "Warning"))] == []
