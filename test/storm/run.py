"""Mail between two relays while daemons and hosts are killed, and while a calamity lasts."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from test.lab import Lab
from test.lab.hosts import Host
from test.relay.delivery import Relay, User
from test.relay.errors import RelayError
from test.relay.steps import Steps
from test.storm import calamities, disorder, mail
from test.support.mail_clients import ImapError

WORKERS = 12
READERS = 20
# How long a writer goes on with one message, and everybody waits for what was accepted: a host boots in 10 s, and a
# relay tries again after 30, 60 and 120 s.
PATIENCE_S = 240


def kill_while_sending(
    lab: Lab, hosts: Sequence[Host], steps: Steps, *, count: int, crashes: int, seed: int, over_s: float = 0
) -> tuple[mail.Outcome, Counter]:
    """Send `count` messages while daemons are killed at random, and hosts so many times.

    :param over_s: for how long at least, in which the messages are spread evenly.
    :returns: the outcome and what was killed.
    """
    daemons = {host: disorder.units(host) for host in hosts}
    relays = [Relay(host.name, str(host.ipv4)) for host in hosts]
    readers = mail.people(relays, READERS)
    outgoing = mail.written(relays, count, readers)
    storm = disorder.Disorder(lab, daemons, seed)
    done, begun = 0, time.monotonic()
    crash_at = {count * (n + 1) // (crashes + 1) for n in range(crashes)}
    crashing = threading.Semaphore(0)

    def on_accepted() -> None:
        nonlocal done
        done += 1
        if done in crash_at:
            crashing.release()
        if done % max(1, count // 10) == 0:
            steps.note(f"{done} of {count} accepted, {storm.kills.total()} kills, {time.monotonic() - begun:.0f} s")

    def crash() -> None:
        for _ in range(crashes):
            crashing.acquire()
            storm.crash()

    with ThreadPoolExecutor(2) as pool:
        killer, crasher = pool.submit(storm.run), pool.submit(crash)
        try:
            mail.send_all(outgoing, WORKERS, on_accepted, over_s=over_s, patience_s=PATIENCE_S)
        finally:
            seconds = time.monotonic() - begun
            storm.stop()
            for _ in range(crashes):
                crashing.release()
        killer.result()
        crasher.result()
    found = _settle(outgoing, readers, daemons, hurry=True)
    return mail.Outcome(outgoing, seconds, found, _bounces(outgoing), storm.last_kill), storm.kills


def calamity(name: str, hosts: Sequence[Host], count: int, seconds: float, *, hurry: bool = False) -> mail.Outcome:
    """Let one calamity happen to the first host for `seconds`; messages are sent before, within and behind it.

    The host has queue and mailboxes on `calamities.own_file_system`.

    :param hurry: the queues are flushed afterwards, so that the relays' own pace need not be waited for.
    """
    daemons = {host: disorder.units(host) for host in hosts}
    relays = [Relay(host.name, str(host.ipv4)) for host in hosts]
    readers = mail.people(relays, 4)
    outgoing = mail.written(relays, count, readers)
    flowing = threading.Semaphore(0)
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(
            mail.send_all, outgoing, WORKERS, flowing.release, over_s=seconds * 1.5, patience_s=PATIENCE_S
        )
        for _ in range(count // 6):
            flowing.acquire(timeout=PATIENCE_S)
        with calamities.ALL[name](hosts[0]) as kills:
            time.sleep(seconds)
        over = time.monotonic()
        sending.result()
    sent = time.monotonic() - begun
    found = _settle(outgoing, readers, daemons, hurry=hurry)
    well = time.monotonic() - over
    return mail.Outcome(outgoing, sent, found, _bounces(outgoing), over if kills else None, well)


def _settle(outgoing: Sequence[mail.Message], readers: Sequence[User], daemons, *, hurry: bool) -> Counter:
    """Wait until all daemons run, the queues are empty, and what was accepted is in the mailboxes; returns what is."""
    deadline = time.monotonic() + PATIENCE_S
    wanted = set(mail.accepted_tries(outgoing))
    while True:
        if away := disorder.away(daemons):
            found = Counter()
        else:
            if hurry:
                disorder.flush(daemons)
            empty = not disorder.queued(daemons)
            try:
                found = mail.arrived(readers)
            except (OSError, ImapError):  # just killed
                found = Counter()
            if empty and wanted <= found.keys():
                return found
        if time.monotonic() > deadline:
            if away:
                raise RelayError(f"not back by themselves: {', '.join(away)}", "systemctl status says why")
            return found
        time.sleep(1)


def _bounces(outgoing: Sequence[mail.Message]) -> int:
    return mail.bounces({item.writer.address: item.writer for item in outgoing if item.tries}.values())


def judge(outcome: mail.Outcome) -> list[str]:
    """What went wrong, a line each; nothing if all is as it has to be."""
    faults = {
        "accepted and lost": outcome.lost,
        "twice, though each try got an answer and nothing was killed": outcome.twice_without_reason,
        "refused for good": outcome.refusals,
        "never accepted": outcome.never_accepted,
    }
    found = [
        f"{what}: {len(items)} ({', '.join(sorted({str(item) for item in items})[:3])})"
        for what, items in faults.items()
        if items
    ]
    return found + ([f"bounces: {outcome.bounces}"] if outcome.bounces else [])
