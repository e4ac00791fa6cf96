"""Whatever is wrong is said with what to do, the exit code is not 0, and a next apply fixes what is half-done."""

import subprocess
import time

import pytest

from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.support.waiting import wait_until


def refused(lab: Lab, host: Host, **pillar) -> str:
    """Apply with ``pillar``; returns the failed states and their comments, a line each."""
    lab.pillar(host.name, {"chatmail": pillar})
    with pytest.raises(SaltFailed) as failure:
        lab.salt_ssh(host.name, "state.apply", "chatmail")
    return str(failure.value)


def is_bare(host: Host) -> bool:
    """Whether nothing of ours is on the host."""
    there = host.run(["ls", "/etc/chatmail", "/etc/postfix", "/home/vmail", "/usr/local/lib/chatmaild"], check=False)
    return there.stdout == ""


def test_wrong_settings_are_all_named_and_nothing_is_touched(lab, bare_host):
    said = refused(lab, bare_host, mail_domain=bare_host.name, max_user_send_per_minut=3, delete_mails_after="soon")
    assert "max_user_send_per_minut" in said
    assert "max_user_send_per_minute" in said
    assert "delete_mails_after" in said
    assert "soon" in said
    assert is_bare(bare_host)

    said = refused(lab, bare_host, max_mailbox_size="1G")
    assert "mail_domain" in said
    assert is_bare(bare_host)


def test_taken_ports_are_named_with_process_and_next_step(lab, bare_host):
    for port in (25, 993):
        server = f"import socket,time; s=socket.create_server(('0.0.0.0',{port})); time.sleep(600)"
        bare_host.run(["systemd-run", f"--unit=squatter-{port}", "/usr/bin/python3", "-c", server])
    wait_until(lambda: "993" in bare_host.run(["ss", "-Hltn"]).stdout)
    said = refused(lab, bare_host, mail_domain=bare_host.name)
    for word in ("25", "993", "squatter-25", "squatter-993", "python3"):
        assert word in said
    assert is_bare(bare_host)


def test_another_release_of_debian_is_refused(lab, bare_host):
    release = bare_host.read("/etc/os-release")
    bare_host.write("/etc/os-release", release.replace("bookworm", "bullseye").replace("12", "11"))
    said = refused(lab, bare_host, mail_domain=bare_host.name)
    assert "11" in said
    assert "Debian 13" in said
    assert is_bare(bare_host)


def test_a_host_without_ssh_is_an_error(lab, bare_host):
    bare_host.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    done = subprocess.run(
        lab.salt_ssh_argv(bare_host.name, "state.apply", "chatmail"),
        cwd=lab.layout.checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "refused" in done.stdout + done.stderr


def test_a_foreign_postfix_is_refused_unless_taken_over(lab, bare_host):
    bare_host.write("/etc/postfix/main.cf", "myhostname = keep.example\n")
    said = refused(lab, bare_host, mail_domain=bare_host.name)
    assert "/etc/postfix" in said
    assert "takeover" in said
    assert bare_host.read("/etc/postfix/main.cf") == "myhostname = keep.example\n"

    lab.pillar(bare_host.name, {"chatmail": {"mail_domain": bare_host.name, "takeover": True, "iroh_relay": ""}})
    lab.salt_ssh(bare_host.name, "state.apply", "chatmail.preflight")
    kept = bare_host.run(["grep", "-rl", "keep.example", "/var/backups/chatmail"]).stdout
    assert kept.strip().endswith("main.cf")


def begun(lab: Lab, host: Host) -> subprocess.Popen:
    """An apply that is under way."""
    return subprocess.Popen(
        lab.salt_ssh_argv(host.name, "state.apply", "chatmail"),
        cwd=lab.layout.checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_second_apply_is_refused_and_one_that_is_killed_is_completed_by_the_next(lab, bare_host):
    """The worst moments: while apt unpacks, and while our files are written."""
    for seconds in (0, 10):
        first = begun(lab, bare_host)
        wait_until(lambda: bare_host.run(["pgrep", "-f", "state.pkg"], check=False).stdout)
        if not seconds:
            with pytest.raises(SaltFailed, match=r"(?i)another apply"):
                lab.salt_ssh(bare_host.name, "state.apply", "chatmail")
            assert first.poll() is None
        time.sleep(seconds)
        bare_host.run(["pkill", "-KILL", "-f", "salt-call"], check=False)
        bare_host.run(["pkill", "-KILL", "apt-get|dpkg"], check=False)
        first.wait(timeout=120)
    states = lab.salt_ssh(bare_host.name, "state.apply", "chatmail")
    assert all(state["result"] for state in states.values())
    assert bare_host.run(["ls", "/usr/sbin/policy-rc.d"], check=False).stdout == ""
