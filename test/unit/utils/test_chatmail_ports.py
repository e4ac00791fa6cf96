"""Listeners are found with process and unit; who is in the way is data, and a sentence for people."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

import chatmail_ports

PROXY = "docker-proxy"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/ssh.service", "ssh.service"),
        ("0::/system.slice/system-postfix.slice/postfix@-.service", "postfix@-.service"),
        ("12:pids:/other.service\n1:name=systemd:/system.slice/ssh.service\n0::/", "ssh.service"),
        ("0::/machine.slice/box.service/payload/system.slice/exim4.service", "exim4.service"),
        ("0::/machine.slice/box.service/payload/init.scope", "init.scope"),
        ("0::/user.slice/user-0.slice/session-3.scope", "session-3.scope"),
        ("0::/system.slice/docker-0123abc.scope/app", "docker-0123abc.scope"),
        ("0::/", None),
        ("", None),
        ("no colons here", None),
    ],
)
def test_the_unit_of_a_process_is_the_innermost(cgroup, unit):
    assert chatmail_ports.unit(cgroup) == unit


def test_a_real_socket_is_found():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"{server.getsockname()[1]}/tcp"
        (found,) = chatmail_ports.listeners([port])
    assert found["port"] == port
    assert found["pid"] == os.getpid()
    assert found["process"] == Path("/proc/self/comm").read_text().strip()


def test_a_conflict_has_port_process_and_remedy_and_reads_as_a_sentence():
    exim = {"port": "25/tcp", "process": "exim4", "pid": 812, "unit": "exim4.service"}
    postfix = {"port": "465/tcp", "process": "master", "pid": 7, "unit": "postfix@-.service"}
    ports = {"25/tcp": ["postfix"], "465/tcp": ["postfix"]}
    (found,) = chatmail_ports.conflicts([exim, postfix], ports)
    assert found == exim | {
        "daemon": "postfix",
        "remedy": "if it is not needed: `systemctl stop exim4.service && systemctl disable exim4.service`",
    }
    said = "port 25/tcp is needed by postfix, but taken by exim4 (process 812, exim4.service)"
    assert chatmail_ports.sentence(found) == said


@pytest.mark.parametrize(
    ("process", "unit", "systemd", "remedy"),
    [
        ("apache2", "apache2.service", "", "`systemctl stop apache2.service && systemctl disable apache2.service`"),
        # certbot alone on port 80, started by a timer; a unit without a file of its own.
        (
            "certbot",
            "certbot.service",
            "TriggeredBy=certbot.timer\nUnitFileState=static\n",
            "`systemctl stop certbot.timer certbot.service && systemctl disable certbot.timer certbot.service`",
        ),
        ("python3", "run-r1.service", "TriggeredBy=\nUnitFileState=transient\n", "`systemctl stop run-r1.service`"),
        ("nginx", "docker-0123456789abcdef.scope", "", "`docker stop 0123456789ab && docker update --restart=no"),
        (PROXY, "docker.service", "", "`docker ps --filter publish=80` names the container"),
        ("python3", "session-3.scope", "", "see what it is with `ps -fp 7`"),
    ],
)
def test_each_kind_of_listener_has_a_remedy_of_its_own(monkeypatch, *, process, unit, systemd, remedy):
    monkeypatch.setattr(chatmail_ports, "run", lambda argv: subprocess.CompletedProcess(argv, 0, systemd, ""))
    listener = {"port": "80/tcp", "process": process, "pid": 7, "unit": unit}
    (found,) = chatmail_ports.conflicts([listener], {"80/tcp": ["nginx"]})
    assert remedy in found["remedy"]
    assert bool(chatmail_ports.removal(listener)) == ("systemctl" in remedy)
