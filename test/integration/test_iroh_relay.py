"""The real-time relay: installed from a pinned source, used by endpoints, and gone where it is not wanted.

The program is built by ``make lab-iroh``, once and outside of CI's critical path.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from test.lab import Lab
from test.lab.commands import run
from test.lab.saltconf import SaltFailed

ENDPOINTS = Path(__file__).parents[1] / "support/iroh_endpoints.py"
# A path on the host, as an operator without a way to the download has it.
SOURCE = "/root/iroh-relay"
URL = "http://127.0.0.1:3340"


def built_program(lab: Lab) -> Path:
    program = lab.layout.cache / "iroh" / "bin" / "iroh-relay"
    if not program.exists():
        pytest.skip(f"{program} is not there; `make lab-iroh` builds it with cargo in some ten minutes")
    return program


def apply(lab: Lab, name: str, **settings) -> dict:
    lab.pillar(name, {"chatmail": {"mail_domain": name, **settings}})
    return lab.salt_ssh(name, "state.apply", "chatmail.iroh_relay")


def exchange(host):
    """Two endpoints in the host's network, where alone the relay is to be reached without nginx."""
    network = ["nsenter", f"--target={host.init().pid}", "--net"]
    run([*network, sys.executable, str(ENDPOINTS), URL], timeout=60)


def test_the_built_program_serves_endpoints_until_it_is_not_wanted(lab, bare_host):
    program = built_program(lab)
    pytest.importorskip("iroh", reason="the PyPI package iroh has no wheel for this machine")
    wanted = hashlib.sha256(program.read_bytes()).hexdigest()
    with program.open("rb") as file:
        subprocess.run(bare_host.ssh_argv(f"cat > {SOURCE}"), stdin=file, check=True, timeout=60)
    apply(lab, bare_host.name, iroh_relay_source=SOURCE, iroh_relay_sha256=wanted)
    exchange(bare_host)
    listeners = [line.split()[4] for line in bare_host.run(["ss", "-Hlntup"]).stdout.splitlines() if "iroh" in line]
    assert listeners == ["127.0.0.1:3340"]

    # Nothing is fetched again: the source is gone.
    bare_host.run(["rm", SOURCE])
    states = apply(lab, bare_host.name, iroh_relay_source=SOURCE, iroh_relay_sha256=wanted)
    assert [name for name, state in states.items() if state["changes"]] == []

    apply(lab, bare_host.name, iroh_relay="")
    assert bare_host.run(["systemctl", "is-active", "iroh-relay"], check=False).stdout == "inactive\n"
    assert bare_host.run(["systemctl", "is-enabled", "iroh-relay"], check=False).stdout == "disabled\n"


def test_a_download_that_fails_says_what_to_do(lab, bare_host):
    with pytest.raises(SaltFailed) as failure:
        apply(lab, bare_host.name, iroh_relay_source="https://mirror.test/iroh-relay")
    assert "/usr/local/bin/iroh-relay is still missing" in str(failure.value)
    assert "iroh_relay: ''" in str(failure.value)
