"""What leaves is signed, says an independent verifier; while OpenDKIM is away mail waits, and none passes."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import dkim
import dns.resolver
import pytest

from test import messages
from test.integration.mailing import deliver, inbox, submit

WAIT_S = 30.0


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


def until(look: Callable, reason: str):
    """Return what ``look`` returns once it is true; fails after half a minute."""
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline, reason
        time.sleep(0.2)
    return found


def queued(host, sender: str) -> list[bytes]:
    """The messages in ``host``'s queue with this envelope sender, as they will be sent."""
    lines = host.run(["postqueue", "-j"]).stdout.splitlines()
    names = [line.split('"queue_id": "')[1].split('"')[0] for line in lines if f'"sender": "{sender}"' in line]
    texts = [host.run(["postcat", "-bhq", name], check=False).stdout for name in names]
    return [text.replace("\n", "\r\n").encode() for text in texts if text]


def test_an_independent_verifier_accepts_what_leaves(one_host, alice, unreachable, published_key):
    recipient = f"someone@{unreachable}"
    assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None
    [message] = until(lambda: queued(one_host, alice.address), "the message is not in the queue")
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
    [bounce] = until(lambda: queued(one_host, "MAILER-DAEMON"), "there is no bounce in the queue")
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


def test_without_opendkim_nothing_leaves_or_arrives(one, alice, bob, foreign, without_opendkim):
    author = f"someone@{foreign.name}"
    refusals = [
        submit(alice, bob.address, messages.encrypted(alice.address, bob.address)),
        deliver(one.address, author, bob.address, foreign.signed(messages.encrypted(author, bob.address))),
        deliver(one.address, author, bob.address, messages.encrypted(author, bob.address)),
    ]
    assert [refusal and refusal[0] // 100 for refusal in refusals] == [4, 4, 4], refusals


def test_without_opendkim_a_bounce_waits_until_it_can_be_signed(one_host, lab, alice, unreachable):
    recipient = f"someone@{unreachable}"
    assert submit(alice, recipient, messages.encrypted(alice.address, recipient)) is None
    until(lambda: "not verified" in one_host.run(["postqueue", "-j"]).stdout, "the message is not deferred")
    one_host.run(["systemctl", "stop", "opendkim"])
    # RFC 7505: from now on the message cannot be delivered.
    lab.publish(f"{unreachable}.", "MX", ["0 ."])
    try:
        one_host.run(["postqueue", "-f"])
        tried = ["journalctl", "--unit=postfix@-", "--grep=status=deferred .bounce failed"]
        until(lambda: one_host.run(tried, check=False).returncode == 0, "no bounce was tried")
        assert queued(one_host, alice.address)
        assert not queued(one_host, "MAILER-DAEMON")
    finally:
        one_host.run(["systemctl", "start", "opendkim"])
    one_host.run(["postqueue", "-f"])
    assert recipient.encode() in inbox(alice)[0]


def test_a_restart_in_the_middle_of_traffic_loses_nothing(one, one_host, bob, foreign):
    author = f"someone@{foreign.name}"
    outcomes = []
    done = False

    def send_until_done(worker: int) -> None:
        for number in count():
            if done or number >= 200:
                return
            message = messages.encrypted(author, bob.address)
            outcomes.append(deliver(one.address, author, bob.address, foreign.signed(message)))

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(send_until_done, worker) for worker in range(4)]
        for _ in range(3):
            seen = len(outcomes)
            until(lambda seen=seen: len(outcomes) > seen + 4, "no traffic")
            one_host.run(["systemctl", "kill", "--signal=KILL", "opendkim"])
        seen = outcomes.count(None)
        until(lambda: outcomes.count(None) > seen + 4, "no mail passes after the restart")
        done = True
        for worker in workers:
            worker.result()
    accepted = outcomes.count(None)
    assert {refusal[0] // 100 for refusal in outcomes if refusal} <= {4}
    assert len(inbox(bob, accepted)) == accepted


def test_memory_is_bounded_by_a_start_each_day(one_host):
    show = ["systemctl", "show", "--property=RuntimeMaxUSec,Restart", "opendkim"]
    assert one_host.run(show).stdout.splitlines() == ["Restart=always", "RuntimeMaxUSec=1d"]
