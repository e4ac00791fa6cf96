"""One command makes a relay, the second run changes nothing, and what was changed by hand is fixed."""

import json
import subprocess

import pytest

from test.integration.conftest import peculiar
from test.lab import Host, Lab

ON_BOTH_RELEASES = True
SERVICES = ["unbound", "opendkim", "doveauth", "lastlogin", "filtermail", "filtermail-incoming", "dovecot"]


def changed(states: dict) -> dict:
    """The states that changed something, or would in test mode: {ID: comment}."""
    return {state["__id__"]: state["comment"] for state in states.values() if state["changes"]}


def services(host: Host) -> list[str]:
    return [*SERVICES, peculiar(host)["postfix_unit"]]


def activity(host: Host) -> dict[str, str]:
    """What systemd says of each service."""
    names = services(host)
    return dict(zip(names, host.run(["systemctl", "is-active", *names], check=False).stdout.split(), strict=True))


def managed_files(host: Host) -> list[str]:
    """Every file on the host that says in its first line that the formula manages it."""
    found = host.run(
        ["grep", "-rlI", "--max-count=1", "Managed by chatmail-formula", "/etc", "/usr/local"], check=False
    ).stdout.split()
    return [path for path in found if not path.startswith(("/etc/ssl/", "/var/backups/"))]


def test_the_first_apply_ends_with_every_daemon_running(applied, one_host):
    assert all(state["result"] for state in applied[one_host.name].states.values())
    assert set(activity(one_host).values()) == {"active"}


def test_no_unit_has_failed(one_host):
    assert one_host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""


def test_the_second_apply_changes_nothing(lab: Lab, one_host):
    assert changed(lab.salt_ssh(one_host.name, "state.apply", "chatmail")) == {}


def test_nothing_is_pending_in_test_mode(lab: Lab, one_host):
    states = lab.salt_ssh(one_host.name, "state.apply", "chatmail", "test=True")
    assert {state["__id__"]: state["comment"] for state in states.values() if state["result"] is not True} == {}


def test_a_bare_host_can_be_asked_what_would_change(lab: Lab, bare_host):
    states = lab.salt_ssh(bare_host.name, "state.apply", "chatmail", "test=True")
    results = {state["__id__"]: state["result"] for state in states.values()}
    assert results["postfix-packages"] is results["tls-certificate"] is None
    assert False not in results.values()
    assert bare_host.run(["ls", "/etc/chatmail", "/etc/postfix"], check=False).stdout == ""


def test_ssh_uses_the_keys_of_whoever_calls_it(lab: Lab, applied):
    """Otherwise Salt makes a key of its own, which no host knows, and uses that alone."""
    assert list(lab.layout.salt.rglob("salt-ssh.rsa")) == []


@pytest.mark.parametrize("component", ["system", "unbound", "tls", "opendkim", "chatmaild", "dovecot", "postfix"])
def test_each_component_can_be_applied_alone(lab: Lab, one_host, component):
    states = lab.salt_ssh(one_host.name, "state.apply", f"chatmail.{component}")
    assert changed(states) == {}
    assert "settings-valid" in {state["__id__"] for state in states.values()}


def test_drift_in_every_managed_file_is_found_and_mended(lab: Lab, one_host):
    files = managed_files(one_host)
    assert len(files) > 20
    before = {path: one_host.read(path) for path in files}
    for path in files:
        one_host.write(path, before[path] + "# by hand\n", mode=one_host.run(["stat", "-c", "%a", path]).stdout.strip())
    found = lab.salt_ssh(one_host.name, "state.apply", "chatmail", "test=True")
    pending = {str(state["name"]) for state in found.values() if state["result"] is None}
    for path in files:
        # Our Python source is one state for the whole directory.
        assert path in pending or any(path.startswith(f"{name}/") for name in pending), path
    lab.salt_ssh(one_host.name, "state.apply", "chatmail")
    assert {path for path in files if one_host.read(path) != before[path]} == set()
    assert changed(lab.salt_ssh(one_host.name, "state.apply", "chatmail")) == {}


def test_stopped_services_are_started_again(lab: Lab, one_host):
    one_host.run(["systemctl", "stop", *services(one_host)])
    lab.salt_ssh(one_host.name, "state.apply", "chatmail")
    assert set(activity(one_host).values()) == {"active"}


def test_an_apply_of_all_states_needs_one_ssh_connection_at_most(lab: Lab, one_host):
    cursor = one_host.run(["journalctl", "-n", "0", "--show-cursor", "-o", "cat"]).stdout.split("cursor: ")[1]
    assert len(lab.salt_ssh(one_host.name, "state.apply", "chatmail")) > 50
    log = one_host.run(["journalctl", f"--after-cursor={cursor.strip()}", "-u", "ssh", "-o", "cat"]).stdout
    assert log.count("Accepted publickey") <= 1


def test_the_apply_works_on_the_host_itself_without_ssh_options(lab: Lab, one_host):
    """The roster's ControlMaster is a matter of speed; plain ssh must do."""
    done = subprocess.run(
        [*lab.salt_ssh_argv(one_host.name, "test.ping"), "--ssh-option=ControlMaster=no"],
        cwd=lab.layout.checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert json.loads(done.stdout) == {one_host.name: True}
