"""What leaves is signed, says an independent verifier; while OpenDKIM is away it waits, and none leaves unsigned."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from itertools import count

import dkim
import dns.resolver
import pytest

from test.integration.conftest import PERMISSIVE, peculiar
from test.lab.saltconf import SaltFailed
from test.relay.delivery import new_user
from test.relay.deploy import quoted_strings
from test.support import messages
from test.support.mailing import deliver, inbox, submit
from test.support.waiting import wait_until


@pytest.fixture
def unreachable(lab, one_host):
    """A domain whose mail server shows a certificate for another name: what goes there stays in the queue."""
    lab.publish("unreachable.test.", "MX", ["10 _two.test."])
    yield "unreachable.test"
    lab.withdraw("unreachable.test.", "MX")
    one_host.run(["postsuper", "-d", "ALL"])


@pytest.fixture
def bounces_wait(lab, one_host, foreign):
    """The foreign domain takes no mail for now."""
    lab.publish(f"{foreign.name}.", "MX", ["10 _two.test."])
    yield
    lab.withdraw(f"{foreign.name}.", "MX")
    one_host.run(["postsuper", "-d", "ALL"])


@pytest.fixture
def published_key(lab) -> Callable:
    """What dkimpy asks for a key: the lab's name server."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [str(lab.name_server.ipv4)]

    def look_up(name: bytes, timeout: float = 5) -> bytes:
        return b"".join(resolver.resolve(name.decode(), "TXT", lifetime=timeout)[0].strings)

    return look_up


def queued(host, sender: str) -> list[bytes]:
    """The messages in ``host``'s queue with this envelope sender, as they will be sent."""
    lines = host.run(["postqueue", "-j"]).stdout.splitlines()
    names = [line.split('"queue_id": "')[1].split('"')[0] for line in lines if f'"sender": "{sender}"' in line]
    texts = [host.run(["postcat", "-bhq", name], check=False).stdout for name in names]
    return [text.replace("\n", "\r\n").encode() for text in texts if text]


def test_an_independent_verifier_accepts_what_leaves(one_host, alice, unreachable, published_key):
    recipient = f"someone@{unreachable}"
    assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None
    [message] = wait_until(lambda: queued(one_host, alice.address), "the message is not in the queue")
    verifier = dkim.DKIM(message)
    assert verifier.verify(dnsfunc=published_key)
    assert (verifier.domain, verifier.selector) == (b"_one.test", b"opendkim")
    # One more From, Subject or Autocrypt than was signed breaks the signature.
    for field in (b"From: <other@elsewhere.test>", b"Subject: other", b"Autocrypt: addr=other@elsewhere.test"):
        assert not dkim.verify(field + b"\r\n" + message, dnsfunc=published_key), field
    assert not dkim.verify(message + b"more\r\n", dnsfunc=published_key)


def test_an_independent_verifier_accepts_a_bounce(one, one_host, foreign, bounces_wait, published_key):
    author = f"someone@{foreign.name}"
    message = foreign.signed(messages.encrypted(author, "nobody999@_one.test"))
    assert deliver(one.address, author, "nobody999@_one.test", message) is None
    [bounce] = wait_until(lambda: queued(one_host, "MAILER-DAEMON"), "there is no bounce in the queue")
    verifier = dkim.DKIM(bounce)
    assert verifier.verify(dnsfunc=published_key)
    assert verifier.domain == b"_one.test"


def test_opendkim_testkey_finds_the_published_key_right(one_host):
    one_host.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "opendkim-tools"])
    preload = one_host.run(["systemctl", "show", "--property=Environment", "--value", "opendkim"]).stdout.split()
    key = "/etc/dkimkeys/opendkim.private"
    testkey = ["opendkim-testkey", "-d", "_one.test", "-s", "opendkim", "-k", key, "-vv"]
    checked = one_host.run(["env", *preload, *testkey], check=False)
    assert checked.returncode == 0, checked.stderr
    assert "checking key 'opendkim._domainkey._one.test'" in checked.stderr


@pytest.fixture
def without_opendkim(one_host):
    one_host.run(["systemctl", "stop", "opendkim"])
    yield
    one_host.run(["systemctl", "start", "opendkim"])


def test_without_opendkim_nothing_leaves_and_what_arrives_is_verified(one, alice, bob, foreign, without_opendkim):
    author = f"someone@{foreign.name}"
    refusals = [
        submit(alice, bob.address, messages.encrypted(alice.address, bob.address)),
        deliver(one.address, author, bob.address, foreign.signed(messages.encrypted(author, bob.address))),
        deliver(one.address, author, bob.address, messages.encrypted(author, bob.address)),
    ]
    assert [refusal and refusal[0] // 100 for refusal in refusals] == [4, None, 5], refusals


def test_without_opendkim_a_bounce_waits_until_it_can_be_signed(one_host, lab, alice, unreachable):
    recipient = f"someone@{unreachable}"
    assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None
    wait_until(lambda: "not verified" in one_host.run(["postqueue", "-j"]).stdout, "the message is not deferred")
    one_host.run(["systemctl", "stop", "opendkim"])
    # RFC 7505: from now on the message cannot be delivered.
    lab.publish(f"{unreachable}.", "MX", ["0 ."])
    try:
        one_host.run(["postqueue", "-f"])
        tried = ["journalctl", f"--unit={peculiar(one_host)['postfix_unit']}", "--grep=status=deferred .bounce failed"]
        wait_until(lambda: one_host.run(tried, check=False).returncode == 0, "no bounce was tried")
        assert queued(one_host, alice.address)
        assert not queued(one_host, "MAILER-DAEMON")
    finally:
        one_host.run(["systemctl", "start", "opendkim"])
    one_host.run(["postqueue", "-f"])
    assert recipient.encode() in inbox(alice)[0]


@pytest.mark.parametrize("unit", ["opendkim", "filtermail-incoming"])
def test_a_restart_in_the_middle_of_traffic_loses_nothing(one, one_host, bob, *, foreign, unit):
    author = f"someone@{foreign.name}"
    senders = [new_user(one) for _ in range(4)]
    outcomes = []
    done = False

    def send_until_done(worker: int) -> None:
        for number in count():
            if done or number >= 200:
                return
            sender = senders[worker].address if unit == "opendkim" else author
            message = messages.encrypted(sender, bob.address)
            if unit == "opendkim":
                refusal = submit(senders[worker], bob.address, message)
            else:
                refusal = deliver(one.address, sender, bob.address, foreign.signed(message))
            outcomes.append((message_id(message), refusal))

    def accepted() -> set[str]:
        return {name for name, refusal in outcomes if refusal is None}

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(send_until_done, worker) for worker in range(4)]
        for _ in range(3):
            seen = len(outcomes)
            wait_until(lambda seen=seen: len(outcomes) > seen + 4, "no traffic")
            one_host.run(["systemctl", "kill", "--signal=KILL", unit])
        seen = len(accepted())
        wait_until(lambda: len(accepted()) > seen + 4, "no mail passes after the restart")
        done = True
        for worker in workers:
            worker.result()
    assert {refusal[0] // 100 for _, refusal in outcomes if refusal} <= {4}
    arrived = [message_id(message) for message in inbox(bob, len(accepted()))]
    assert len(set(arrived)) == len(arrived)
    assert accepted() <= set(arrived)
    # The filter may be killed when Postfix has the message and its client no answer: that one is tried again.
    unanswered = set(arrived) - accepted()
    assert unanswered <= {name for name, refusal in outcomes if refusal}
    assert not (unanswered and unit == "opendkim")


def test_only_the_signer_can_read_the_keys(one_host):
    listed = one_host.run(["stat", "--format=%U:%G %a", "/etc/dkimkeys", "/etc/dkimkeys/opendkim.private"]).stdout
    assert listed == "opendkim:opendkim 700\nopendkim:opendkim 600\n"


def test_memory_is_bounded_by_a_start_each_day(one_host):
    show = ["systemctl", "show", "--property=RuntimeMaxUSec,Restart", "opendkim"]
    assert one_host.run(show).stdout.splitlines() == ["Restart=always", "RuntimeMaxUSec=1d"]


@pytest.fixture(scope="module")
def pillar(lab, one_host):
    """Changes the relay's pillar; gives it, its keys and its records back afterwards."""
    usual = {"mail_domain": one_host.name, **PERMISSIVE}
    one_host.run(["cp", "--archive", "/etc/dkimkeys", "/root/dkimkeys"])
    yield lambda **changes: lab.pillar(one_host.name, {"chatmail": usual | changes})
    one_host.run(["sh", "-c", "rm -r /etc/dkimkeys && mv /root/dkimkeys /etc && systemctl restart opendkim"])
    lab.pillar(one_host.name, {"chatmail": usual})
    for number in (2, 3):
        lab.withdraw(f"opendkim{number}._domainkey.{one_host.name}", "TXT")
    lab.salt_ssh(one_host.name, "chatmail_dns.publish")


def call(lab, host, function: str) -> str:
    """What a function says; its success is salt-ssh's exit code."""
    try:
        answer, succeeded = lab.salt_ssh(host.name, function), True
    except SaltFailed as error:
        answer, succeeded = error.result, False
    assert answer["success"] is succeeded
    return answer["result"]


def message_id(message: bytes) -> str:
    return message_from_bytes(message)["Message-ID"]


def leave(user, domain: str) -> None:
    recipient = f"someone@{domain}"
    assert submit(user, recipient, messages.encrypted(user.address, recipient)) is None


def selectors(host, user, published_key) -> set[bytes]:
    """Selectors of the user's messages that wait in the queue; the signature of each is verified."""
    found = set()
    for message in queued(host, user.address):
        verifier = dkim.DKIM(message)
        assert verifier.verify(dnsfunc=published_key)
        found.add(verifier.selector)
    return found


def test_keys_are_rotated_and_what_was_signed_before_during_and_after_verifies(
    lab, one_host, alice, *, unreachable, published_key, pillar
):
    with ThreadPoolExecutor(1) as pool:
        rotation = pool.submit(call, lab, one_host, "chatmail_dkim.rotate")
        for _ in range(5):
            leave(alice, unreachable)
            time.sleep(1)
        said = rotation.result()
    assert said.startswith("opendkim2._domainkey._one.test. signs.\nopendkim._domainkey._one.test. stays")
    leave(alice, unreachable)
    assert selectors(one_host, alice, published_key) == {b"opendkim", b"opendkim2"}
    assert "opendkim2._domainkey._one.test. is published, and verifies" in call(lab, one_host, "chatmail_dkim.check")
    states = lab.salt_ssh(one_host.name, "state.apply", "chatmail.opendkim,chatmail.dns")
    assert [state["__id__"] for state in states.values() if state["changes"]] == []
    # The last key is not removed for the asking.
    assert call(lab, one_host, "chatmail_dkim.rotate") == said


@pytest.mark.parametrize(
    ("spoil", "repair"),
    [
        ("chmod 0 {key} && chown root {key}", "chown opendkim {key} && chmod 600 {key}"),
        (
            "chmod 0 /etc/dkimkeys && chown root /etc/dkimkeys",
            "chown opendkim /etc/dkimkeys && chmod 700 /etc/dkimkeys",
        ),
        ("chmod 0 /var/spool/postfix/opendkim", "chmod 750 /var/spool/postfix/opendkim"),
        ("systemctl stop opendkim", "systemctl start opendkim"),
    ],
    ids=["key", "directory", "socket", "daemon"],
)
def test_check_asks_whether_opendkim_signs(lab, one_host, spoil, repair):
    """Not whether root could."""
    keys = "/etc/dkimkeys"
    key = one_host.read(f"{keys}/KeyTable").strip().rpartition(":")[2]
    assert "verifies what the relay signs" in call(lab, one_host, "chatmail_dkim.check")
    one_host.run(["sh", "-c", spoil.format(key=key, keys=keys)])
    try:
        assert "OpenDKIM does not sign" in call(lab, one_host, "chatmail_dkim.check")
    finally:
        one_host.run(["sh", "-c", repair.format(key=key, keys=keys)])


def test_where_records_are_entered_by_hand_a_rotation_says_which_and_goes_on(
    lab, one_host, alice, *, unreachable, published_key, pillar
):
    pillar(dns_update_server=None, dns_update_key_file=None)
    # A week passes.
    one_host.run(["touch", "--date=8 days ago", "/etc/dkimkeys/KeyTable"])
    assert "opendkim._domainkey._one.test. is wrong: its time is over.\nRemove it.\n\nThen rotate again" in (
        call(lab, one_host, "chatmail_dkim.rotate")
    )
    lab.withdraw("opendkim._domainkey._one.test", "TXT")
    assert "are gone" in call(lab, one_host, "chatmail_dkim.rotate")
    assert "opendkim.private" not in one_host.run(["ls", "/etc/dkimkeys"]).stdout.split()

    said = call(lab, one_host, "chatmail_dkim.rotate")
    assert "opendkim3._domainkey._one.test. is missing.\nEnter it." in said
    leave(alice, unreachable)
    (text,) = re.findall("in one piece: (.*)", said)
    lab.publish("opendkim3._domainkey._one.test", "TXT", [quoted_strings(text)])
    assert call(lab, one_host, "chatmail_dkim.rotate").startswith("opendkim3._domainkey._one.test. signs.")
    leave(alice, unreachable)
    assert selectors(one_host, alice, published_key) == {b"opendkim2", b"opendkim3"}
