"""The notification plugin is built on the relay, fits its Dovecot, and never keeps Dovecot from working."""

import contextlib
from collections.abc import Iterator

import pytest

from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.relay.delivery import new_user
from test.support.waiting import wait_until

ON_BOTH_RELEASES = True
PLUGIN = "/usr/lib/dovecot/modules/lib20_imap_instant_plugin.so"
REBUILD = "chatmail-imap-instant"
COMPILER = ["gcc", "gcc-12", "gcc-14", "libc6-dev", "dovecot-dev", "binutils"]
# By release, with the one before.
ABI = {
    "bookworm": ("2.3.ABIv19(2.3.19.1)", "2.3.ABIv18(2.3.18.0)"),
    "trixie": ("2.4.ABIv1", "2.4.ABIv0"),
}
LEFTOVER = "hello"


def apply(lab: Lab, host: Host, *args: str) -> dict[str, dict]:
    """Apply Dovecot's component; returns its states by their IDs, also of a failed apply."""
    try:
        states = lab.salt_ssh(host.name, "state.apply", "chatmail.dovecot", *args)
    except SaltFailed as failed:
        assert isinstance(failed.result, dict), failed
        states = failed.result
    return {state["__id__"]: state for state in states.values()}


def installed(host: Host, packages: list[str]) -> set[str]:
    listing = host.run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n"]).stdout
    return {pkg for pkg in packages if f"{pkg} installed\n" in listing}


def instant(host: Host) -> bool:
    """Whether Dovecot's configuration names the plugin."""
    return "imap_instant" in host.run(["doveconf", "-n"]).stdout


@pytest.fixture
def relay(lab, one_host):
    """The relay; afterwards it is fixed, as an operator would do it."""
    yield one_host
    states = apply(lab, one_host)
    assert {name: state["comment"] for name, state in states.items() if not state["result"]} == {}
    assert instant(one_host)
    assert apply(lab, one_host)["dovecot-current"]["changes"] == {}


def test_no_compiler_stays_on_the_relay(one_host):
    assert installed(one_host, COMPILER) == set()
    assert one_host.run(["ls", "-A", "/var/lib/chatmail"], check=False).stdout.split() == []


def state(host: Host, name: str) -> str:
    """A property of the unit that builds the plugin for a new Dovecot."""
    return host.run(["systemctl", "show", "--value", f"--property={name}", REBUILD]).stdout.strip()


@contextlib.contextmanager
def apt_at_work(host: Host) -> Iterator[None]:
    """Hold the lock that apt holds while it installs packages."""
    lock = "f = open('/var/lib/dpkg/lock-frontend', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX)"
    ready = "subprocess.run(['systemd-notify', '--ready'])"
    code = f"import fcntl, subprocess, time; {lock}; {ready}; time.sleep(600)"
    host.run(
        ["systemd-run", "--unit=held", "--service-type=notify", "--property=NotifyAccess=all", "python3", "-c", code]
    )
    yield
    host.run(["systemctl", "stop", "held"])


def test_a_dovecot_of_another_abi_has_its_plugin_built_when_apt_has_ended(one_host, one):
    """As with a security upgrade: Dovecot restarts in the middle of it, and the plugin is for the one before."""
    fitting, other = ABI[one_host.release]
    one_host.run(["sed", "-i", f"s/{fitting}/{other}/", PLUGIN])
    with apt_at_work(one_host):
        one_host.run(["systemctl", "restart", "dovecot"])
        assert not instant(one_host)
        new_user(one)
        log = one_host.run(["journalctl", "-u", "dovecot", "-n", "50", "-o", "cat"]).stdout
        assert "no instant notifications" in log
        assert state(one_host, "ActiveState") == "activating"
    wait_until(lambda: state(one_host, "ActiveState") == "inactive", patience_s=180)
    assert instant(one_host)
    new_user(one)
    assert installed(one_host, COMPILER) == set()


def test_a_removed_plugin_is_built_again(lab, relay, one):
    relay.run(["rm", PLUGIN])
    assert apply(lab, relay)["dovecot-instant-plugin"]["result"] is True
    assert instant(relay)
    new_user(one)


def test_a_plugin_that_cannot_be_built_leaves_dovecot_working_and_no_compiler(lab, relay, one):
    relay.write("/usr/local/bin/gcc", "#!/bin/sh\necho 'internal compiler error' >&2\nexit 4\n", mode="0755")
    try:
        relay.run(["rm", PLUGIN])
        relay.run(["systemctl", "restart", "dovecot"])
        states = apply(lab, relay)
        wait_until(
            lambda: relay.run(["systemctl", "show", "-P", "SubState", REBUILD]).stdout.strip() == "auto-restart", 180
        )
        log = relay.run(["journalctl", "-u", REBUILD, "-n", "50", "-o", "cat"]).stdout
    finally:
        relay.run(["systemctl", "stop", REBUILD])
        relay.run(["rm", "/usr/local/bin/gcc"])
    assert "internal compiler error" in log
    failed = {name for name, state in states.items() if state["result"] is False}
    assert failed == {"dovecot-instant-plugin"}
    comment = states["dovecot-instant-plugin"]["comment"]
    assert "internal compiler error" in comment
    assert "apply again" in comment
    assert states["dovecot-instant-plugin"]["changes"] == {}
    assert installed(relay, COMPILER) == set()
    assert not instant(relay)
    new_user(one)


def test_a_drop_in_that_a_killed_apply_wrote_is_read_by_the_next(lab, one_host):
    def umask() -> str:
        return one_host.run(["systemctl", "show", "--property=UMask", "dovecot"]).stdout.strip()

    usual, drop_in = umask(), "/etc/systemd/system/dovecot.service.d/00-chatmail-sandbox.conf"
    ours = one_host.read(drop_in)
    one_host.write(drop_in, "[Service]\nUMask=0123\n")
    one_host.run(["systemctl", "daemon-reload"])
    one_host.write(drop_in, ours)
    assert umask() == "UMask=0123" != usual
    assert apply(lab, one_host)["dovecot-drop-ins"]["changes"]
    assert umask() == usual


def test_packages_that_a_killed_build_left_are_purged_and_no_others(lab, relay):
    relay.run(["apt-get", "-qq", "install", "--no-install-recommends", LEFTOVER], timeout=120)
    relay.write("/var/lib/chatmail/dovecot-build-packages", f"{LEFTOVER}\n")
    plugin = apply(lab, relay)["dovecot-instant-plugin"]
    assert plugin["result"] is True
    assert list(plugin["changes"]) == [LEFTOVER]
    assert installed(relay, [LEFTOVER, "dovecot-core"]) == {"dovecot-core"}


def test_a_limit_that_the_container_cannot_raise_is_a_warning_that_says_what_to_do(lab, one_host):
    """In the lab's hosts /proc/sys is read-only."""
    path = "/etc/sysctl.d/99-never-written.conf"
    (state,) = lab.salt_ssh(
        one_host.name, "state.single", "chatmail_dovecot.inotify_limits", f"name={path}", "minimum=2000000000"
    ).values()
    assert (state["result"], state["changes"]) == (True, {})
    assert "max_user_instances" in state["warnings"][0]
    assert "sysctl -w fs.inotify.max_user_instances=2000000000" in state["warnings"][0]
    assert one_host.run(["test", "-e", path], check=False).returncode == 1


def test_dovecots_limits_of_inotify_are_raised_or_missed_aloud(applied, one_host):
    (state,) = [s for s in applied[one_host.name].states.values() if s["__id__"] == "dovecot-inotify-limits"]
    limits = [int(word.rstrip(",;")) for word in state["comment"].split() if word.rstrip(",;").isdigit()][:-1]
    assert len(limits) == 2
    assert all(limit >= 65535 for limit in limits) is ("warnings" not in state)
