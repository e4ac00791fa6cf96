"""Listeners are found with process and unit; who is in the way is data, and a sentence for people."""

import os
import socket
from pathlib import Path

import pytest

import chatmail_ports


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
        "remedy": "if it is not needed: `systemctl disable --now exim4.service`",
    }
    said = "port 25/tcp is needed by postfix, but taken by exim4 (process 812, exim4.service)"
    assert chatmail_ports.sentence(found) == said
