"""`python -m tools.apply`: progress, outcome, exit code."""

import subprocess
import sys
import time

import yaml

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.salt.minion import CHECKOUT


def apply(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tool(lab, "tools.apply", *arguments)


def tool(lab: Lab, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, "-c", str(lab.layout.salt / "etc"), *arguments],
        cwd=lab.layout.checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def test_progress_and_outcome_of_every_host_are_shown(lab: Lab, one_host: Host, two_host: Host):
    done = apply(lab, "_one.test", "_two.test")
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    for host in ("_one.test", "_two.test"):
        outcome, of_all = [line for line in lines if line[:2] == ["✓", host]]
        assert outcome[3:8] == ["succeeded,", "0", "changed,", "0", "failed,"]
        assert of_all[2:4] == ["0", "changed"]
        # Such as: _one.test 3 s 42/68 chatmail.opendkim: opendkim-conf
        progress = [line for line in lines if line[0] == host and "/" in " ".join(line)]
        assert len(progress) <= 12


def test_a_failed_state_is_told_with_its_own_words(lab: Lab, one_host: Host):
    pillar = {"chatmail": {"mail_domain": one_host.name, "max_user_send_per_minut": 3}}
    lab.pillar(one_host.name, pillar)
    try:
        done = apply(lab, one_host.name)
    finally:
        lab.pillar(one_host.name, {"chatmail": {"mail_domain": one_host.name, **PERMISSIVE}})
    assert done.returncode == 1
    assert "settings-valid (chatmail_settings.valid)" in done.stdout
    assert "max_user_send_per_minut" in done.stdout


def test_an_apply_that_goes_on_there_is_not_disturbed(lab: Lab, one_host: Host):
    one_host.run(["systemd-run", "--unit=earlier-apply", "sh", "-c", "sleep 300; exit", "salt-call", "state.pkg"])
    try:
        done = apply(lab, one_host.name)
    finally:
        one_host.run(["systemctl", "stop", "earlier-apply"])
    assert done.returncode == 1
    assert "An apply runs there already" in done.stdout


def test_nothing_of_the_command_stays_on_the_host(lab: Lab, one_host: Host):
    assert apply(lab, one_host.name, "--sls", "chatmail.preflight").returncode == 0
    deadline = time.monotonic() + 10
    while (
        left := one_host.run(["pgrep", "-x", "tail|sh|cat|grep"], check=False).stdout
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == ""


def test_how_all_relays_are_is_told_in_a_table(lab: Lab, one_host: Host, two_host: Host):
    version = yaml.safe_load((CHECKOUT / "FORMULA").read_text())["version"]
    lines = [line.split() for line in tool(lab, "tools.fleet", "_*.test").stdout.splitlines()]
    told = {line[0]: line[1:3] for line in lines if line}
    for host in (one_host, two_host):
        level, its_version = told[host.name]
        assert level in ("ok", "note", "warning", "error")
        assert its_version == version
