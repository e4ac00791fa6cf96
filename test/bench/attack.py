"""
How honest mail fares while others hold connections: ``make bench-attack [QUICK=1] [BEFORE=COMMIT]``

A relay in the lab gets honest messages of all sizes by port 25, submission and /mxdeliv, first alone, then while
attackers of all sorts (``test/bench/attackers.py``) from four networks hold what they can, and at last fifty large ones
at a time. With BEFORE another relay is deployed from that commit of this repository, for comparison. Prints a table;
the figures go to build/bench-attack.json.
"""

import argparse
import contextlib
import http.client
import json
import shutil
import smtplib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from test.lab import Host, Lab
from test.lab.commands import run
from test.lab.errors import LabError
from test.lab.networks import elsewhere
from test.relay.delivery import Relay, User, new_user
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.steps import Steps
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import attempt, foreign_domain
from test.support.signing import ForeignDomain

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "build" / "bench-attack.json"
# Both on Debian 12, which every commit knows.
NOW, BEFORE = "_one.test", "before.test"
NETWORKS, ADDRESSES_EACH = 4, 4
SIZES = {"1 KB": 700, "600 KB": 440_000, "5 MB": 3_700_000, "28 MB": 21_000_000}
# A mail server waits ten minutes for the answer to a message (RFC 5321 section 4.5.3.2.6), and sends it again else.
PATIENCE_S = 120
CROWD_PATIENCE_S = 600
# Attackers have what they can get when nothing has changed for a while.
STEADY_S, GATHER_S = 15, 180


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    attackers: int
    rounds: int
    sizes: tuple[str, ...]
    crowd: int


FULL = Plan(attackers=200, rounds=5, sizes=tuple(SIZES), crowd=50)
QUICK = Plan(attackers=50, rounds=3, sizes=("1 KB", "600 KB", "5 MB"), crowd=10)


@dataclass(frozen=True)
class Honest:
    """Who sends honest mail, and who gets it."""

    relay: Relay
    foreign: ForeignDomain
    user: User
    patience_s: float = PATIENCE_S

    def message(self, size: int, author: str) -> bytes:
        return messages.encrypted(author, self.user.address, payload=messages.encrypted_payload(size))

    @property
    def stranger(self) -> str:
        return f"someone@{self.foreign.name}"

    def port_25(self, message: bytes) -> str:
        with smtplib.SMTP(self.relay.address, 25, timeout=self.patience_s) as client:
            client.starttls(context=unchecked_tls())
            return reply(attempt(client, self.stranger, self.user.address, message))

    def submission(self, message: bytes) -> str:
        with smtplib.SMTP_SSL(self.relay.address, 465, timeout=self.patience_s, context=unchecked_tls()) as client:
            client.login(self.user.address, self.user.password)
            return reply(attempt(client, self.user.address, self.user.address, message))

    def mxdeliv(self, message: bytes) -> str:
        client = http.client.HTTPSConnection(self.relay.address, context=unchecked_tls(), timeout=self.patience_s)
        with contextlib.closing(client):
            fields = {"X-MAIL-FROM": self.stranger, "X-MAIL-TO": self.user.address}
            client.request("POST", "/mxdeliv", message, fields)
            response = client.getresponse()
            return "" if response.status == 200 else f"{response.status} {response.read().decode()[:60]}"

    def messages(self, size: int) -> dict[str, tuple[Callable[[bytes], str], bytes]]:
        """How a message of `size` octets of payload goes each way; what others send is signed."""
        signed = self.foreign.signed(self.message(size, self.stranger))
        return {
            "port 25": (self.port_25, signed),
            "submission": (self.submission, self.message(size, self.user.address)),
            "/mxdeliv": (self.mxdeliv, signed),
        }


def reply(refusal: tuple[int, str] | None) -> str:
    return f"{refusal[0]} {refusal[1]}"[:60] if refusal else ""


def timed(send: Callable[[bytes], str], message: bytes) -> tuple[float, str]:
    """Seconds until the relay has answered, and why it refused the message, or ``""``."""
    begun = time.monotonic()
    try:
        refusal = send(message)
    except (OSError, smtplib.SMTPException, http.client.HTTPException) as error:
        refusal = f"{type(error).__name__}: {error}"[:60]
    return time.monotonic() - begun, refusal


def honest_mail(honest: Honest, plan: Plan) -> dict[str, dict]:
    """Median seconds and refusals of honest mail, by way and size."""
    found = {}
    for size in plan.sizes:
        for way, (send, message) in honest.messages(SIZES[size]).items():
            samples = [timed(send, message)]
            while not samples[0][1] and len(samples) < plan.rounds:
                samples.append(timed(send, message))
            found[f"{way}, {size}"] = {
                "seconds": statistics.median(seconds for seconds, _ in samples),
                "refusals": [refusal for _, refusal in samples if refusal],
            }
    return found


def crowd(honest: Honest, count: int) -> dict:
    """Many messages of 28 MB at a time on port 25."""
    _, message = honest.messages(SIZES["28 MB"])["port 25"]
    begun = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        samples = list(pool.map(lambda _: timed(honest.port_25, message), range(count)))
    return {
        "count": count,
        "seconds": time.monotonic() - begun,
        "slowest": max(seconds for seconds, _ in samples),
        "refusals": [refusal for _, refusal in samples if refusal],
    }


@contextlib.contextmanager
def attack(relay: Relay, count: int, sources: list[str]) -> Iterator[Callable[[], dict[str, int]]]:
    """Attackers of all sorts; yields what says how many connections they hold."""
    users = new_user(relay)
    command = [sys.executable, "-m", "test.bench.attackers", "--"]
    arguments = [relay.address, relay.domain, users.address, users.password, str(count), *sources]
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=output, cwd=ROOT) as process,
    ):

        def held() -> dict[str, int]:
            output.seek(0)
            lines = output.read().splitlines()
            return json.loads(lines[-2]) if len(lines) > 1 else {}

        try:
            yield held
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def gather(held: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Wait until the number of connections that attackers hold is steady; returns it."""
    ending = time.monotonic() + GATHER_S
    known, since = held(), time.monotonic()
    while time.monotonic() < (min(ending, since + STEADY_S) if known else ending):
        time.sleep(1)
        now = held()
        if sum(now.values()) > sum(known.values()):
            known, since = now, time.monotonic()
    return held()


def memory_mb(host: Host) -> dict[str, float]:
    """Memory of the filters in MB."""
    units = ("filtermail", "filtermail-incoming")
    pids = [host.run(["systemctl", "show", "-PMainPID", unit]).stdout.strip() for unit in units]
    status = {unit: host.read(f"/proc/{pid}/status") for unit, pid in zip(units, pids, strict=True)}
    return {unit: int(text.partition("VmRSS:")[2].split()[0]) / 1024 for unit, text in status.items()}


def measure(lab: Lab, name: str, plan: Plan, steps: Steps) -> dict:
    """All figures of one relay."""
    host = lab.host(name)
    relay = Relay(name, str(host.ipv4))
    with tempfile.TemporaryDirectory() as directory, foreign_domain(lab, Path(directory)) as foreign:
        honest = Honest(relay, foreign, new_user(relay))
        with steps.step(f"{name}: honest mail alone"):
            found = {"alone": honest_mail(honest, plan), "memory_at_rest": memory_mb(host)}
        with elsewhere([host], NETWORKS, ADDRESSES_EACH) as sources, attack(relay, plan.attackers, sources) as held:
            with steps.step(f"{name}: {plan.attackers} attackers of each sort from {NETWORKS} networks"):
                found["held"] = gather(held)
            with steps.step(f"{name}: honest mail beside them"):
                found["attacked"] = honest_mail(honest, plan)
                found["memory_attacked"] = memory_mb(host)
        with steps.step(f"{name}: {plan.crowd} messages of 28 MB at a time"):
            found["crowd"] = crowd(Honest(relay, foreign, new_user(relay), CROWD_PATIENCE_S), plan.crowd)
            found["memory_crowd"] = memory_mb(host)
    return found


def deploy_commit(lab: Lab, commit: str, name: str, console: Console) -> None:
    """Deploy a relay from another commit of this repository."""
    checkout = ROOT / "build" / "before"
    run(["git", "-C", str(ROOT), "worktree", "add", "--force", "--detach", str(checkout), commit])
    try:
        usual, its_own = lab.layout.salt / "etc", lab.layout.salt / "etc-before"
        shutil.copytree(usual, its_own, dirs_exist_ok=True)
        text = (usual / "master").read_text()
        for directory in ("roots", "ext"):
            text = text.replace(str(ROOT / "etc" / directory), str(checkout / "etc" / directory))
        (its_own / "master").write_text(text.replace(f"{lab.layout.salt}/run", f"{lab.layout.salt}/run-before"))
        (lab.layout.salt / "run-before").mkdir(exist_ok=True)
        deploy(its_own, [name], console)
    finally:
        run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(checkout)])


def cell(measured: dict | None) -> str:
    if measured is None:
        return ""
    if measured["refusals"]:
        return f"[red]{measured['refusals'][0][:34]}"
    return f"{measured['seconds']:.2f} s"


def ratio(found: dict, what: str) -> str:
    alone, attacked = found["alone"][what], found["attacked"][what]
    if attacked["refusals"] or alone["refusals"]:
        return ""
    return f"{attacked['seconds'] / alone['seconds']:.1f}"


def table(results: dict[str, dict], plan: Plan) -> Table:
    """All relays side by side."""
    made = Table(box=None, padding=(0, 2), header_style="bold")
    made.add_column(f"{plan.attackers} attackers of each sort")
    for name in results:
        for column in (f"{name}: alone", "attacked", "ratio"):
            made.add_column(column, justify="right")
    first = next(iter(results.values()))
    for what in first["alone"]:
        cells = []
        for found in results.values():
            cells += [cell(found["alone"][what]), cell(found["attacked"][what]), ratio(found, what)]
        made.add_row(what, *cells)
    made.add_section()
    refused = [f"{len(found['crowd']['refusals'])} refused" for found in results.values()]
    seconds = [f"{found['crowd']['seconds']:.0f} s" for found in results.values()]
    pairs = zip(seconds, refused, strict=True)
    made.add_row(f"{plan.crowd} x 28 MB at a time", *(item for one, other in pairs for item in (one, other, "")))
    for key, label in (("memory_at_rest", "at rest"), ("memory_attacked", "attacked"), ("memory_crowd", "after crowd")):
        cells = [f"{max(found[key].values()):.0f} MB" for found in results.values()]
        made.add_row(f"larger filter, {label}", *(item for one in cells for item in (one, "", "")))
    for sort in sorted({sort for found in results.values() for sort in found["held"]}):
        cells = [str(found["held"].get(sort, 0)) for found in results.values()]
        made.add_row(f"held: {sort}", *(item for one in cells for item in ("", one, "")))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-attack", description="Honest mail beside slow attackers.")
    parser.add_argument("--quick", action="store_true", help="fewer attackers, messages and sizes")
    parser.add_argument("--before", metavar="COMMIT", help="measure a relay of that commit, too")
    parser.add_argument("--deployed", action="store_true", help="the relays are there already; deploy nothing")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    steps = Steps(Console())
    lab = Lab()
    relays = {"now": NOW} | ({f"before ({arguments.before})": BEFORE} if arguments.before else {})
    try:
        with steps.step("The relays"):
            lab.up(list(relays.values()))
            if not arguments.deployed:
                configure(lab, list(relays.values()))
                deploy(lab.layout.salt / "etc", [NOW], steps.console)
                if arguments.before:
                    deploy_commit(lab, arguments.before, BEFORE, steps.console)
        results = {title: measure(lab, name, plan, steps) for title, name in relays.items()}
    except (RelayError, LabError) as error:
        steps.console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(results, indent=2) + "\n")
    steps.console.print()
    Console(width=max(steps.console.width, 150 if len(results) > 1 else 90)).print(table(results, plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
