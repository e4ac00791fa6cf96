"""Salt for the lab: a configuration of its own with roster and pillar, and a salt-ssh that does not fail in silence."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from test.lab.commands import finish
from test.lab.errors import LabError
from test.lab.layout import Layout
from test.lab.nameserver import relay_settings


def master_config(layout: Layout, committed: str) -> dict:
    """The checkout's etc/master with this lab's paths in place of the operator's, all absolute."""
    config = yaml.safe_load(committed)
    return config | {
        "root_dir": str(layout.salt / "run"),
        "file_roots": {"base": [str(layout.checkout / "etc" / "roots")]},
        "module_dirs": [str(layout.checkout / "etc" / "ext")],
        "pillar_roots": {"base": [str(layout.salt / "pillar")]},
        "roster_file": str(layout.roster),
        "ssh_log_file": str(layout.salt / "run" / "ssh.log"),
    }


def roster(layout: Layout, numbers: Mapping[str, int]) -> dict:
    """The roster entries of the hosts, whose addresses follow from their numbers."""
    return {
        host: {
            "host": str(layout.ipv4(number)),
            "user": "root",
            "priv": str(layout.ssh_key),
            "ssh_options": [
                f"UserKnownHostsFile={layout.known_hosts}",
                "StrictHostKeyChecking=yes",
                "ControlMaster=auto",
                f"ControlPath={layout.run}/ssh/%C",
                "ControlPersist=60",
            ],
        }
        for host, number in numbers.items()
    }


def pillar_name(number: int) -> str:
    """The pillar SLS of a host; a host's own name has dots, which Salt would take for directories."""
    return f"host-{number}"


def write_config(layout: Layout, numbers: Mapping[str, int]) -> None:
    """Write configuration, roster and pillar top file for these hosts, and a first pillar for new ones."""
    committed = (layout.checkout / "etc" / "master").read_text()
    pillar_root = layout.salt / "pillar"
    for directory in (layout.roster.parent, pillar_root, layout.salt / "run"):
        directory.mkdir(parents=True, exist_ok=True)
    _write(layout.salt / "etc" / "master", master_config(layout, committed))
    _write(layout.roster, roster(layout, numbers))
    _write(pillar_root / "top.sls", {"base": {host: [pillar_name(number)] for host, number in numbers.items()}})
    for host, number in numbers.items():
        if not (pillar_root / f"{pillar_name(number)}.sls").exists():
            # The download of iroh-relay is out of the lab's reach.
            write_pillar(layout, number, {"chatmail": {"mail_domain": host, "iroh_relay": ""}})


def write_pillar(layout: Layout, number: int, pillar: Mapping) -> None:
    """Make `pillar` the whole pillar of a host, beside the lab's name server for its records; None takes that away."""
    ours = relay_settings(layout)
    relay = {key: value for key, value in (ours | pillar["chatmail"]).items() if key not in ours or value is not None}
    _write(layout.salt / "pillar" / f"{pillar_name(number)}.sls", {**pillar, "chatmail": relay})


def remove_pillar(layout: Layout, number: int) -> None:
    (layout.salt / "pillar" / f"{pillar_name(number)}.sls").unlink(missing_ok=True)


def _write(path: Path, data: dict) -> None:
    # By renaming, because a salt-ssh for another host may be reading it.
    new = path.with_name(f".{path.name}.new")
    new.write_text(yaml.safe_dump(data, sort_keys=False))
    new.replace(path)


def salt_ssh_argv(layout: Layout, host: str, args: tuple[str, ...]) -> list[str]:
    """The command line of salt-ssh, from the virtual environment that runs this."""
    program = str(Path(sys.executable).with_name("salt-ssh"))
    return [program, f"--config-dir={layout.salt / 'etc'}", "--out=json", "--no-color", "--static", host, *args]


def salt_ssh(layout: Layout, host: str, args: tuple[str, ...], *, timeout: float):
    """Run salt-ssh against one host; returns what the function returned.

    Raises LabError if it ends with an error, does not answer with JSON, or answers nothing: that is how salt-ssh tells
    of an unknown host and of another run at the same time, with exit code 0.
    """
    argv = salt_ssh_argv(layout, host, args)
    done = finish(argv, timeout=timeout, cwd=layout.checkout)
    return parse_result(host, args, done.returncode, done.stdout, done.stderr)


class SaltFailed(LabError):
    """A salt-ssh run that failed; ``result`` is what it returned all the same, or None."""

    def __init__(self, message: str, result) -> None:
        super().__init__(message)
        self.result = result


def parse_result(host: str, args: tuple[str, ...], code: int, stdout: str, stderr: str):
    """The result for `host` in salt-ssh's output; raises SaltFailed for exit codes, no JSON and empty results."""
    what = f"salt-ssh {host} {' '.join(args)}"
    start = re.search(r"^\{", stdout, re.MULTILINE)
    try:
        answer = json.loads(stdout[start.start() :]) if start else {}
    except json.JSONDecodeError as error:
        raise SaltFailed(
            f"{what}: the answer is not JSON ({error}):\n{stdout[-3000:]}{stderr[-3000:]}", None
        ) from error
    result = answer.get(host)
    if code:
        text = failures(result) or f"{stdout[-3000:]}{stderr[-3000:]}"
        raise SaltFailed(f"{what} ended with code {code}:\n{text}", result)
    if result in (None, {}, ""):
        raise SaltFailed(
            f"{what} returned nothing: an unknown host, or another run on it at the same time\n{stderr[-3000:]}", result
        )
    return result


def failures(result) -> str:
    """The failed states of a state.apply's result, a line each; nothing for other results."""
    if not isinstance(result, dict):
        return ""
    return "\n".join(
        f"{state.get('__sls__')}: {state.get('__id__')}: {state.get('comment')}"
        for state in result.values()
        if isinstance(state, dict) and state.get("result") is False
    )
