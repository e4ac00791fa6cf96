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
import json
import logging
import multiprocessing
import os
import re
import select
import selectors
import shlex
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
from salt.exceptions import SaltException, SaltSystemExit

from tools.apply_display import Display, summary
from tools.apply_progress import Progress, parse_lowstate
from tools.apply_result import HostResult, parse_return

LOG = "chatmail-apply.log"
"""Where salt logs on the target, under the root that salt-ssh gives it there."""
CONNECT_TIMEOUT_S = 10
READY_TIMEOUT_S = 30
MAX_LINE_BYTES = 16 << 20
"""A low state is one line, some hundred kilobytes of it; a host that sends more than this is not followed further."""

# Runs on the target until its standard input is closed. Says `busy` where another apply still runs there (one that was
# interrupted on the controller goes on; one inside a container of this host does not count), then `ready`; the low
# state when the first state starts; then the log's lines about states. The loop and tail end with this shell, whose
# process number they watch.
FOLLOW = """
umask 077
for found in $(grep -szlx 'state[.]pkg' /proc/[0-9]*/cmdline); do
  process=${{found%/cmdline}}
  if [ "$(readlink "$process/ns/pid")" = "$(readlink /proc/self/ns/pid)" ]; then
    echo "busy ${{process#/proc/}} $(date -d "@$(stat -c %Y "$process")" +%T)"
    exit
  fi
done
if [ -e {log} ]; then : > {log}; fi
echo ready
{{
  while [ ! -e {log} ] && kill -0 $$; do sleep 0.2; done
  exec tail --pid=$$ -n +1 -F {log}
}} 2> /dev/null | grep --line-buffered -E '(Executing|Completed) state ' | {{
  IFS= read -r first
  tar -xOzf {thin}/salt_state.tgz lowstate.json | tr -d '\\n'
  printf '\\n%s\\n' "$first"
  exec cat
}} &
cat > /dev/null
kill $! 2> /dev/null
"""

NEXT_STEPS = (
    (r"Connection refused", "Is the host up, and does sshd listen on that port (`port:` in the roster)?"),
    (
        r"timed out|No route to host|Network is unreachable",
        "Is the address right, and does a firewall let port {port} through?",
    ),
    (r"Could not resolve hostname|Name or service not known", "Correct `host:` in the roster, or give an address."),
    (
        r"Host key verification failed",
        "Log in once by hand and compare the key with the host's: ssh -p {port} {user}@{address}",
    ),
    (
        r"Permission denied",
        "Give {user} there your public key (ssh-copy-id -p {port} {user}@{address}), or set `priv:` in the roster.",
    ),
)


class ApplyError(Exception):
    """An apply that could not begin; the message says what is wrong and what to do."""


class _Host:
    """One target: how to reach it, and the session that follows its log."""

    def __init__(self, ssh: salt.client.ssh.SSH, name: str, target: dict):
        for key, value in ssh.defaults.items():
            target.setdefault(key, value)
        self.name = name
        self.progress = Progress(started=time.monotonic())
        if target["passwd"]:
            raise ApplyError(f"{name}: the roster has a password (`passwd:`). Use a key (`priv:`), or plain salt-ssh.")
        self.address, self.port, self.user = target["host"], target["port"] or 22, target["user"]
        single = salt.client.ssh.Single(
            ssh.opts, ["state.apply"], name, mods=ssh.mods, fsclient=ssh.fsclient, thin=ssh.thin, **target
        )
        thin = shlex.quote(single.thin_dir)
        script = FOLLOW.format(log=f"{thin}/running_data/{LOG}", thin=thin)
        command = shlex.join([*(["sudo", "-n"] if target["sudo"] else []), "sh", "-c", script])
        base = shlex.split(single.shell._cmd_str(""))
        self._session = subprocess.Popen(
            [base[0], "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}", *base[1:], command],
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
        answer = self._session.stdout.readline().decode(errors="replace").strip()
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
        where = f"ssh to {self.user}@{self.address}, port {self.port}, failed: {error}"
        return HostResult(
            self.name, (), (where, _next_step(error, self.address, self.port, self.user)), self._elapsed_s
        )

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
        elif ended := self.progress.feed(line, time.monotonic()):
            display.slow(self.name, *ended)

    def close(self) -> None:
        self._session.kill()
        self._session.communicate()


def _next_step(error: str, address: str, port: int, user: str) -> str:
    """Return what an operator does about an error of ssh."""
    for pattern, advice in NEXT_STEPS:
        if re.search(pattern, error):
            return advice.format(address=address, port=port, user=user)
    return f"Try it by hand: ssh -p {port} {user}@{address}"


def apply(
    config_dir: Path,
    targets: Sequence[str],
    sls: Sequence[str],
    console: Console,
    settings: Mapping | None = None,
) -> list[HostResult]:
    """
    Apply SLS to targets, all at once, and show the progress.

    Arguments:
        config_dir: Salt's configuration: ``master``, which names the roster.
        targets: names or globs of the roster.
        sls: what to apply, ``["chatmail"]`` for all of a relay.
        console: where the progress goes.
        settings: goes before what the pillar says below ``chatmail:``.

    Returns one result a host, also for those that cannot be reached. Raises ``ApplyError`` where none could begin.
    """
    with ExitStack() as stack:
        with console.status("packing Salt for the hosts, and connecting"):
            ssh = salt_ssh(config_dir, targets, sls, settings)
            stack.callback(ssh.fsclient.destroy)
            hosts = [_Host(ssh, name, target) for name, target in ssh.targets.items()]
            for host in hosts:
                stack.callback(host.close)
            refused = {host.name: refusal for host in hosts if (refusal := host.refusal())}
        for name in refused:
            del ssh.targets[name]
        ready = [host for host in hosts if host.name not in refused]
        results = refused | (_run(ssh, ready, console) if ready else {})
        return [results[host.name] for host in hosts]


def salt_ssh(
    config_dir: Path, targets: Sequence[str], sls: Sequence[str], settings: Mapping | None = None
) -> salt.client.ssh.SSH:
    """Return Salt's own client for the targets, about to apply SLS to them. Raises ``ApplyError`` as ``apply`` does."""
    if not (config_dir / "master").is_file():
        raise ApplyError(f"{config_dir}/master does not exist. Run this in the checkout.")
    opts = salt.config.master_config(str(config_dir / "master"))
    roster = Path(opts.get("roster_file") or config_dir / "roster")
    if not roster.is_file():
        raise ApplyError(f"There is no roster at {roster}. Copy etc/roster.example there and enter your relay.")
    minion_opts = opts.get("ssh_minion_opts", {}) | {"log_file": LOG, "log_level_logfile": "info"}
    pillar = [f"pillar={json.dumps({'chatmail': settings})}"] if settings else []
    opts.update(
        argv=["state.apply", ",".join(sls), *pillar],
        tgt="*",
        selected_target_option="glob",
        ssh_minion_opts=minion_opts,
        config_dir=str(config_dir),
    )
    # What salt logs stays out of the display; force removes the handlers that importing salt has set.
    Path(opts["ssh_log_file"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    logging.basicConfig(filename=opts["ssh_log_file"], level=logging.WARNING, force=True)
    try:
        ssh = salt.client.ssh.SSH(opts)
    except (SaltException, SaltSystemExit) as error:
        raise ApplyError(f"Salt cannot start: {error}") from error
    for target in targets:
        if not fnmatch.filter(ssh.targets, target):
            raise ApplyError(
                f"No host in {roster} matches {target}; it has: {', '.join(sorted(ssh.targets)) or 'none'}."
            )
    ssh.targets = {
        name: entry
        for name, entry in ssh.targets.items()
        if any(fnmatch.fnmatchcase(name, target) for target in targets)
    }
    return ssh


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
    console = Console(highlight=False)
    try:
        results = apply(options.config_dir, options.target, options.sls or ["chatmail"], console)
    except ApplyError as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted here. The host goes on until its states are done; then apply again: that is safe.")
        return 130
    for result in results:
        for line in summary(result, console.width):
            console.print(line, soft_wrap=True)
    if all(result.succeeded for result in results):
        return 0
    console.print("Mend what is named above, then apply again: what is right already stays as it is.", soft_wrap=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
