"""Hosts of the roster: Salt's own client for them, and plain ssh with the same keys and options."""

import fnmatch
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import salt.client.ssh
import salt.config
from salt.exceptions import SaltException, SaltSystemExit

import chatmail_pillar
from tools.apply_progress import printable
from tools.errors import ApplyError

LOG = "chatmail-apply.log"
"""Where salt logs on the target, under the root that salt-ssh gives it there."""
CONNECT_TIMEOUT_S = 10
SALT_SSH = Path(sys.executable).with_name("salt-ssh")

NEXT_STEPS = (
    (r"Connection refused", "Is the host up, and does sshd listen on that port (`port:` in the roster)?"),
    (
        r"timed out|No route to host|Network is unreachable",
        "Is the address right, and does a firewall let port {port} through?",
    ),
    (r"Could not resolve hostname|Name or service not known", "Correct `host:` in the roster, or give an address."),
    (
        r"IDENTIFICATION HAS CHANGED",
        "The host has another key than it had. If it was installed again, forget the old one: "
        "ssh-keygen -R '{known}'. If it was not, somebody may be in between.",
    ),
    (
        r"Host key verification failed",
        "Log in once by hand and compare the key with the host's: ssh -p {port} {user}@{address}",
    ),
    (
        r"cannot create",
        "Earlier commands ran as root there: set `sudo: True` in the roster, or `user: root`.",
    ),
    (
        r"Permission denied",
        "Give {user} there your public key (ssh-copy-id -p {port} {user}@{address}), or set `priv:` in the roster.",
    ),
)


@dataclass(frozen=True)
class Target:
    """A host of the roster, how ssh reaches it, and where salt-ssh keeps itself there."""

    name: str
    address: str
    port: int
    user: str
    sudo: bool
    thin_dir: str
    argv: tuple[str, ...]

    @classmethod
    def of(cls, ssh: salt.client.ssh.SSH, name: str) -> "Target":
        """Return the host called ``name``. Raises ``ApplyError`` where the roster does not know it, or its password."""
        if name not in ssh.targets:
            raise ApplyError(f"The roster has no {name}; it has: {', '.join(sorted(ssh.targets))}.")
        entry = ssh.defaults | ssh.targets[name]
        if entry["passwd"]:
            raise ApplyError(f"{name}: the roster has a password (`passwd:`). Use a key (`priv:`), or plain salt-ssh.")
        single = salt.client.ssh.Single(
            ssh.opts, ["state.apply"], name, mods=ssh.mods, fsclient=ssh.fsclient, thin=ssh.thin, **entry
        )
        program, *options = shlex.split(single.shell._cmd_str(""))
        return cls(
            name=name,
            address=entry["host"],
            port=int(entry["port"] or 22),
            user=entry["user"] or "root",
            sudo=bool(entry["sudo"]),
            thin_dir=single.thin_dir,
            argv=(program, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}", *options),
        )

    def next_step(self, error: str) -> str:
        """Return what an operator does about an error of ssh."""
        for pattern, advice in NEXT_STEPS:
            if re.search(pattern, error):
                # Its name in known_hosts (sshd(8)).
                known = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
                return advice.format(address=self.address, port=self.port, user=self.user, known=known)
        return f"Try it by hand: ssh -p {self.port} {self.user}@{self.address}"

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return the command line that runs a shell script there as root; ``arguments`` are its ``$1`` and so on."""
        return [*self.argv, shlex.join([*(["sudo", "-n"] if self.sudo else []), "sh", "-c", script, "sh", *arguments])]


def client(
    config_dir: Path,
    targets: Sequence[str],
    sls: Sequence[str],
    settings: Mapping | None = None,
    *,
    test: bool = False,
) -> salt.client.ssh.SSH:
    """Return Salt's own client for the targets, about to apply SLS to them.

    ``settings`` goes before what the pillar says below ``chatmail:``; with ``test`` nothing is to change. Raises
    ``ApplyError`` where there is no roster, or no such host in it.
    """
    if not (config_dir / "master").is_file():
        raise ApplyError(f"{config_dir}/master does not exist. Run this in the checkout.")
    opts = salt.config.master_config(str(config_dir / "master"))
    roster = Path(opts.get("roster_file") or config_dir / "roster")
    if not roster.is_file():
        raise ApplyError(f"There is no roster at {roster}. Copy etc/roster.example there and enter your relay.")
    if problem := chatmail_pillar.unreadable(roster):
        raise ApplyError(problem)
    minion_opts = opts.get("ssh_minion_opts", {}) | {"log_file": LOG, "log_level_logfile": "info"}
    pillar = [f"pillar={json.dumps({'chatmail': settings})}"] if settings else []
    opts.update(
        argv=["state.apply", ",".join(sls), *pillar, *(["test=True"] if test else [])],
        tgt="*",
        selected_target_option="glob",
        ssh_minion_opts=minion_opts,
        config_dir=str(config_dir),
        # For chatmail_apply.lock.
        shows_progress=True,
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
    roots = opts["pillar_roots"].get("base", [])
    names = [] if opts.get("ext_pillar") else ssh.targets
    if found := [problem for name in names for problem in chatmail_pillar.problems(roots, name)]:
        raise ApplyError("\n".join(dict.fromkeys(found)))
    return ssh


class NoEnd(ApplyError):
    """salt-ssh has not ended in time."""


def answers(
    config_dir: Path, relays: str, function: str, *arguments: str, seconds: float | None = None
) -> tuple[dict[str, object], int]:
    """
    Return what a function of Salt returns on each of ``relays`` by its name, and salt-ssh's exit code.

    ``relays`` is a name of the roster or a glob. Where the function fails, or a host is not reached, salt-ssh says so
    in the place of what it returns. Raises NoEnd after ``seconds``, ApplyError where there is no such answer at all.
    """
    options = [f"--config-dir={config_dir}", "--out=json", "--no-color", "--static"]
    process = subprocess.Popen(
        [SALT_SSH, *options, relays, function, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # With a process for each host, which would wait for that host ever after.
        process_group=0 if seconds else None,
    )
    with process:
        try:
            out, errors = process.communicate(timeout=seconds)
        except BaseException as error:
            if seconds:
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NoEnd(f"salt-ssh has not ended after {seconds:.0f} s.") from error
            raise
    try:
        said = json.loads(out[out.index("{") :])
    except ValueError as error:
        raise ApplyError(printable(f"salt-ssh: {(errors or out).strip()[-2000:]}")) from error
    return said, process.returncode
