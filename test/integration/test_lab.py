"""The lab itself, in labs beside the usual one, so that nobody's hosts go down with these tests."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import dns.message
import dns.query
import dns.rcode
import pytest

from test.lab import Lab, LabError, machine, processes
from test.lab.layout import CHECKOUT, Layout, layout_from_environment
from test.lab.saltconf import SaltFailed
from test.support.waiting import wait_until


@pytest.fixture(scope="module")
def lab():
    lab = Lab(replace(layout_from_environment(), name="t"))
    lab.up(["_one.test", "_two.test"])
    yield lab
    lab.down()


def numbers_of_processes(lab: Lab) -> set[int]:
    return {process.pid for process in processes.find(lab.layout)}


def traces(layout: Layout) -> list[str]:
    """Whatever of a lab is there: processes, interfaces, mounts, cgroups, directories."""
    found = [f"process {process}" for process in processes.find(layout)]
    found += machine.links_left(layout)
    for directory in (layout.state, layout.run):
        found += [str(path) for path in (directory, *machine.mounts_below(directory)) if path.exists()]
    return found + [str(group) for root in machine.cgroup_roots() for group in root.glob(f"{layout.bridge}-*")]


def test_a_host_is_bare_debian_12_with_everything_started(lab):
    host = lab.host("_one.test")
    assert 'VERSION_ID="12"' in host.read("/etc/os-release")
    assert host.run(["systemctl", "is-system-running", "--wait"], check=False).stdout == "running\n"
    assert host.run(["dpkg-query", "--show", "postfix"], check=False).returncode != 0


def test_hosts_of_both_releases_stand_side_by_side(lab):
    host = lab.add("new.test", "trixie")
    assert 'VERSION_ID="13"' in host.read("/etc/os-release")
    assert lab.host("new.test").release == "trixie"
    assert host.run(["systemctl", "is-system-running", "--wait"], check=False).stdout == "running\n"
    assert lab.salt_ssh("new.test", "grains.get", "osmajorrelease") == 13
    lab.remove("new.test")


def test_a_relays_packages_can_be_there_from_the_start_and_none_of_their_daemons_runs_before_a_boot(lab):
    host = lab.add("new.test", packages=True)
    daemons = ["dovecot", "nginx", "opendkim", "postfix", "unbound"]
    assert host.run(["systemctl", "is-enabled", *daemons]).stdout.split() == ["enabled"] * len(daemons)
    assert set(host.run(["systemctl", "is-active", *daemons], check=False).stdout.split()) == {"inactive"}
    assert host.run(["systemctl", "is-system-running", "--wait"], check=False).stdout == "running\n"
    assert host.run(["ls", "/usr/sbin/policy-rc.d", "/etc/postfix/main.cf"], check=False).stdout == ""
    for process in host.own_processes():
        if not process.is_init:
            os.kill(process.pid, signal.SIGKILL)
    lab.up(())
    served = ["systemctl", "is-active", "dovecot", "nginx"]
    wait_until(lambda: host.run(served, check=False).stdout.split() == ["active"] * 2)
    lab.remove("new.test")


def test_a_second_up_starts_nothing(lab):
    before = numbers_of_processes(lab)
    lab.up(["_one.test", "_two.test"])
    assert numbers_of_processes(lab) == before


def test_up_starts_what_has_died_and_keeps_its_files(lab):
    host = lab.host("_two.test")
    host.write("/root/kept", "text")
    (nspawn,) = (process for process in host.own_processes() if not process.is_init)
    os.kill(nspawn.pid, signal.SIGKILL)
    other = lab.host("_one.test").init()
    lab.up(["_one.test", "_two.test"])
    assert host.read("/root/kept") == "text"
    assert lab.host("_one.test").init() == other


def test_hosts_log_in_by_ssh_with_keys_known_before(lab):
    done = subprocess.run(lab.host("_one.test").ssh_argv("hostname"), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("one.test\n", "")


def test_hosts_reach_each_other_by_name_and_nothing_else(lab):
    host = lab.host("_one.test")
    other = lab.host("_two.test")
    assert host.run(["getent", "ahostsv4", "_two.test"]).stdout.startswith(f"{other.ipv4} ")
    assert host.run(["getent", "ahostsv6", "_two.test"]).stdout.startswith(f"{other.ipv6} ")
    assert host.run(["getent", "hosts", str(other.ipv4)]).stdout.split()[1] == "_two.test"
    assert host.run(["ip", "route", "get", "192.0.2.1"], check=False).returncode != 0


def test_commands_on_the_machine_can_use_the_labs_names(lab):
    argv = lab.resolver_argv(["getent", "ahostsv4", "_two.test"])
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.startswith("198.18.")


def ask(lab: Lab, name: str, rdtype: str) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, rdtype), str(lab.name_server.ipv4), timeout=5)


def test_published_records_are_served_at_once_and_withdrawn_at_once(lab):
    for values in (['"first"', '"second"'], ['"third"']):
        lab.publish("key._one.test", "TXT", values)
        (answer,) = ask(lab, "key._one.test", "TXT").answer
        assert sorted(record.to_text() for record in answer) == values
    lab.withdraw("key._one.test", "TXT")
    assert ask(lab, "key._one.test", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_names_outside_the_lab_are_refused(lab):
    assert ask(lab, "www.example.org", "A").rcode() == dns.rcode.REFUSED


def test_updates_without_the_secret_are_refused(lab, tmp_path):
    stranger = replace(lab.layout, checkout=tmp_path)
    stranger.state.mkdir(parents=True)
    stranger.tsig_secret.write_text("c3RyYW5nZXI=")
    with pytest.raises(LabError, match=r"no update of x\.test A|refused the update of x\.test"):
        Lab(stranger).publish("x.test", "A", ["198.18.0.99"])


def test_a_host_is_added_and_removed_with_all_its_traces(lab):
    before = traces(lab.layout)
    host = lab.add("three.test")
    assert lab.salt_ssh("three.test", "test.ping") is True
    with pytest.raises(LabError, match=r"has a host three\.test already"):
        lab.add("three.test")
    lab.remove("three.test")
    with pytest.raises(LabError, match=r"no host 'three\.test'"):
        lab.host("three.test")
    assert ask(lab, "three.test", "A").rcode() == dns.rcode.NXDOMAIN
    assert ask(lab, host.ipv4.reverse_pointer, "PTR").rcode() == dns.rcode.NXDOMAIN
    # Beside it there is now the master of salt-ssh's connection, which ends with it.
    assert [trace for trace in traces(lab.layout) if trace not in before and "role='ssh'" not in trace] == []


def test_salt_reads_the_pillar_that_a_test_has_set(lab):
    lab.pillar("_one.test", {"chatmail": {"mail_domain": "_one.test", "max_message_size": 1000}})
    assert lab.salt_ssh("_one.test", "pillar.get", "chatmail:max_message_size") == 1000


def test_a_failing_state_is_an_error_with_its_comment(lab):
    with pytest.raises(SaltFailed, match="/no/such/directory"):
        lab.salt_ssh("_one.test", "state.single", "file.managed", "/no/such/directory/file", "contents=x")


def test_files_and_commands_go_to_the_host_unchanged(lab):
    host = lab.host("_one.test")
    text = "$HOME 'quoted'\n\ttrailing\n\n"
    host.write("/root/new directory/file", text, mode="0600")
    assert host.read("/root/new directory/file") == text
    assert host.run(["stat", "--format=%a", "/root/new directory/file"]).stdout == "600\n"
    with pytest.raises(LabError, match=r"_one\.test: `sh -c 'echo why >&2; exit 3'` ended with code 3:\nwhy"):
        host.run(["sh", "-c", "echo why >&2; exit 3"])


def test_services_of_one_host_survive_the_end_of_anothers(lab):
    """Systemds in one cgroup would kill each other's processes."""
    one, two = lab.host("_one.test"), lab.host("_two.test")
    for host in (one, two):
        host.run(["systemd-run", "--unit=same-name", "sleep", "1000"])
    one.run(["systemctl", "stop", "same-name"])
    assert two.run(["systemctl", "is-active", "same-name"]).stdout == "active\n"


@pytest.fixture
def disposable():
    lab = Lab(replace(layout_from_environment(), name="u"))
    yield lab
    lab.down()


def test_down_leaves_nothing_also_of_hosts_whose_nspawn_was_killed(disposable):
    disposable.up(["_one.test"])
    for process in processes.find(disposable.layout):
        if process.command == "systemd-nspawn":
            os.kill(process.pid, signal.SIGKILL)
    assert traces(disposable.layout) != []
    disposable.down()
    assert traces(disposable.layout) == []


def test_down_leaves_nothing_without_the_record(disposable):
    disposable.up(["_one.test"])
    disposable.layout.record.unlink()
    disposable.down()
    assert traces(disposable.layout) == []


@pytest.mark.parametrize("last", ["bridge", "mount", "host"])
def test_down_leaves_nothing_of_an_up_that_was_killed(disposable, last):
    layout = disposable.layout
    reached = {
        "bridge": lambda: machine.links_left(layout),
        "mount": lambda: machine.mounts_below(layout.state),
        "host": lambda: any(process.is_init for process in processes.find(layout)),
    }[last]
    argv = [sys.executable, "-m", "test.lab", "up", "_one.test"]
    up = subprocess.Popen(argv, cwd=CHECKOUT, env=os.environ | {"LAB_NAME": layout.name}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, f"up never got to its {last}"
    up.kill()
    up.wait()
    disposable.down()
    assert traces(layout) == []


def test_down_leaves_the_lab_of_another_checkout_alone(lab, tmp_path):
    elsewhere = Lab(replace(lab.layout, checkout=tmp_path))
    before = traces(lab.layout)
    with pytest.raises(LabError, match="belongs to the lab in"):
        elsewhere.up(["_one.test"])
    elsewhere.down()
    assert traces(lab.layout) == before
