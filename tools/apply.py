"""
Apply the formula to relays over salt-ssh, showing how far it is: ``python -m tools.apply relay``.

It is ``salt-ssh TARGET state.apply chatmail`` with three differences. It shows each host's progress, which it reads
through one further ssh session a host from the log that salt writes on the target. It treats an empty answer and an
unknown target as the failures that they are. And it refuses a host on which another apply still runs.

It is no Salt runner: ``salt-run`` needs two seconds to start and loads a master's event system that nothing here uses.
"""

import argparse
import contextlib
import fnmatch
import multiprocessing
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import salt.client.ssh
import salt.config
from rich.console import Console

from tools.apply_display import Display, summary, table
from tools.apply_progress import Progress, parse_lowstate, printable
from tools.apply_result import HostResult, parse_return
from tools.errors import ApplyError
from tools.ssh import LOG, Target, client

READY_TIMEOUT_S = 30
MAX_LINE_BYTES = 16 << 20
"""A low state is one line, some hundred kilobytes of it; a host that sends more than this is not followed further."""

GLOB = frozenset("*?[")
WAVE = 5
"""How many hosts are applied to at once, after the first."""

FOLLOW = "".join(Path(__file__).with_name(f"apply_{part}.sh").read_text() for part in ("running", "follow"))


class _Host:
    """One target: how to reach it, and the session that follows its log."""

    def __init__(self, target: Target):
        self.name = target.name
        self.progress = Progress(started=time.monotonic())
        self._target = target
        log = f"{target.thin_dir}/running_data/{LOG}"
        self._session = subprocess.Popen(
            target.command(FOLLOW, log, target.thin_dir),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._buffer = b""
        self._lowstate_seen = False

    def refusal(self) -> HostResult | None:
        """Wait for the target's first answer; return why no apply can begin there, or None if one can."""
        readable, _, _ = select.select([self._session.stdout], [], [], READY_TIMEOUT_S)
        if not readable:
            return self._unreachable(f"connected, but no answer within {READY_TIMEOUT_S} s")
        answer = printable(self._session.stdout.readline().decode(errors="replace").strip())
        if answer == "ready":
            os.set_blocking(self._session.stdout.fileno(), False)
            return None
        if answer.startswith("busy "):
            _, process, since = answer.split(" ", 2)
            error = (
                f"An apply runs there already (process {process}, since {since} by its clock). "
                "Wait until it has ended, then apply again. An apply that was interrupted here goes on there."
            )
            return HostResult(self.name, (), (error,), self._elapsed_s, busy=True)
        return self._unreachable(self._session.stderr.read().decode(errors="replace").strip() or "no answer")

    def _unreachable(self, error: str) -> HostResult:
        # Of a host key that has changed ssh has much to say before.
        last = printable(error.splitlines()[-1])
        where = f"ssh to {self._target.user}@{self._target.address}, port {self._target.port}, failed: {last}"
        return HostResult(self.name, (), (where, self._target.next_step(error)), self._elapsed_s)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self.progress.started

    def fileno(self) -> int:
        return self._session.stdout.fileno()

    def read_lines(self) -> Iterator[str] | None:
        """Return the log lines that have come since the last call, or None once the session has ended."""
        chunk = self._session.stdout.read()
        if chunk == b"" or len(self._buffer) > MAX_LINE_BYTES:
            return None
        *lines, self._buffer = (self._buffer + (chunk or b"")).split(b"\n")
        return (line.decode(errors="replace") for line in lines)

    def feed(self, line: str, display: Display) -> None:
        """Take a line of the session: the low state first, then the log."""
        if not self._lowstate_seen:
            self._lowstate_seen = True
            with contextlib.suppress(ValueError):
                self.progress.steps = parse_lowstate(line)
            return
        waited = self.progress.waits
        if ended := self.progress.feed(line, time.monotonic()):
            display.slow(self.name, *ended)
        if self.progress.waits != waited:
            display.waits(self.name, self.progress.waits)

    def close(self) -> None:
        self._session.kill()
        self._session.communicate()


def apply(
    config_dir: Path,
    targets: Sequence[str],
    sls: Sequence[str],
    console: Console,
    settings: Mapping | None = None,
    *,
    test: bool = False,
) -> list[HostResult]:
    """
    Apply SLS to targets, all at once, and show the progress.

    Arguments:
        config_dir: Salt's configuration: ``master``, which names the roster.
        targets: names or globs of the roster.
        sls: what to apply, ``["chatmail"]`` for all of a relay.
        console: where the progress goes.
        settings: goes before what the pillar says below ``chatmail:``.
        test: only find out what would change.

    Returns one result a host, also for those that cannot be reached. Raises ``ApplyError`` where none could begin.
    """
    with ExitStack() as stack:
        with console.status("packing Salt for the hosts, and connecting"):
            ssh = client(config_dir, targets, sls, settings, test=test)
            stack.callback(ssh.fsclient.destroy)
            hosts = [_Host(Target.of(ssh, name)) for name in ssh.targets]
            for host in hosts:
                stack.callback(host.close)
            refused = {host.name: refusal for host in hosts if (refusal := host.refusal())}
        for name in refused:
            del ssh.targets[name]
        ready = [host for host in hosts if host.name not in refused]
        results = refused | (_run(ssh, ready, console) if ready else {})
        return [results[host.name] for host in hosts]


def waves(config_dir: Path, targets: Sequence[str], sls: Sequence[str]) -> list[list[str]]:
    """
    Return the hosts that match ``targets``, names or globs of the roster, by the wave in which their turn is.

    The first goes alone: where a new version does not work, the others keep theirs. Raises ``ApplyError`` as ``apply``.
    """
    if len(targets) == 1 and not GLOB.intersection(targets[0]):
        return [list(targets)]
    ssh = client(config_dir, targets, sls)
    try:
        order = dict.fromkeys(name for target in targets for name in fnmatch.filter(ssh.targets, target))
        # What is wrong in the roster is said before anything is applied.
        for name in order:
            Target.of(ssh, name)
    finally:
        ssh.fsclient.destroy()
    first, *others = order
    return [[first], *(others[begin : begin + WAVE] for begin in range(0, len(others), WAVE))]


def _run(ssh: salt.client.ssh.SSH, hosts: Sequence[_Host], console: Console) -> dict[str, HostResult]:
    """Run salt-ssh in a process of its own, and follow the hosts until each has its result."""
    # This process is single-threaded here: salt forks once more for every host.
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    worker = fork.Process(target=_work, args=(ssh, receiver, sender))
    worker.start()
    # A group of its own: an interrupt at the terminal reaches this process alone, which then ends the group as a whole.
    os.setpgid(worker.pid, worker.pid)
    sender.close()
    results: dict[str, HostResult] = {}
    following = {host.name: host.progress for host in hosts}
    selector = selectors.DefaultSelector()
    selector.register(receiver, selectors.EVENT_READ)
    for host in hosts:
        selector.register(host, selectors.EVENT_READ, host)
    try:
        with Display(console, [host.name for host in hosts]) as display:
            while len(results) < len(hosts):
                for key, _ in selector.select(timeout=0.2):
                    if key.data:
                        _follow(key.data, selector, display)
                        continue
                    try:
                        name, returned, retcode = receiver.recv()
                    except EOFError:
                        return results | _lost(hosts, results)
                    results[name] = parse_return(name, returned, retcode, time.monotonic() - following[name].started)
                    del following[name]
                display.refresh(following, time.monotonic())
    finally:
        selector.close()
        if worker.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGTERM)
        worker.join()
    return results


def _follow(host: _Host, selector: selectors.BaseSelector, display: Display) -> None:
    lines = host.read_lines()
    if lines is None:
        selector.unregister(host)
        return
    for line in lines:
        host.feed(line, display)


def _lost(hosts: Sequence[_Host], results: dict[str, HostResult]) -> dict[str, HostResult]:
    now = time.monotonic()
    error = "salt-ssh ended without a result for this host; .salt/ssh.log has the reason."
    return {
        host.name: HostResult(host.name, (), (error,), now - host.progress.started)
        for host in hosts
        if host.name not in results
    }


def _work(ssh: salt.client.ssh.SSH, receiver: Connection, sender: Connection) -> None:
    """Send each host's outcome: name, what came back, exit code."""
    # Else sending would wait for ever once nobody else reads.
    receiver.close()
    for returned, retcode in ssh.handle_ssh():
        ((name, value),) = returned.items()
        sender.send((name, value, retcode))
    sender.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 only if every state succeeded on every host."""
    parser = argparse.ArgumentParser(prog="python -m tools.apply", description="Apply the formula, with progress.")
    parser.add_argument("target", nargs="+", help="names or a glob of the roster")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    parser.add_argument("--sls", action="append", help="what to apply (chatmail)")
    options = parser.parse_args(arguments)
    sls = options.sls or ["chatmail"]
    console = Console(highlight=False)
    results: list[HostResult] = []
    try:
        left = waves(options.config_dir, options.target, sls)
        while left and all(result.succeeded for result in results):
            results += (wave := apply(options.config_dir, left.pop(0), sls, console))
            for result in wave:
                for line in summary(result, console.width):
                    console.print(line, soft_wrap=True)
    except ApplyError as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted here. The host goes on until its states are done; then apply again: that is safe.")
        return 130
    untouched = [name for wave in left for name in wave]
    if len(results) + len(untouched) > 1:
        console.print(table(results, untouched))
    if all(result.succeeded for result in results):
        return 0
    console.print("Fix what is named above, then apply again: what is right already stays as it is.", soft_wrap=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
