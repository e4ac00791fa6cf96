"""`make online` and `make bench`, as somebody runs them who has nothing but a relay's name, against the lab."""

import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

from test.bench import relay as bench
from test.lab import Host, Lab
from test.salt.minion import CHECKOUT
from test.support.firewall import closed


def outside(lab: Lab, *command: str, timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout, with the lab's name server."""
    return subprocess.run(
        lab.resolver_argv([sys.executable, *command]),
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_relay_keeps_what_it_promises_and_is_left_clean(lab: Lab, one_host: Host, two_host: Host):
    mailboxes = f"/home/vmail/mail/{one_host.name}"
    before = one_host.run(["ls", mailboxes]).stdout
    given = {"RELAY": one_host.name, "RELAY2": two_host.name, "SSH": one_host.name}
    options = {"SSH_OPTIONS": f"-F {lab.layout.ssh_config}"}
    done = outside(lab, "-m", "pytest", "-q", "test/online", timeout=280, **given, **options)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40
    # The certificate's name and age, on three ports: a name with an underscore has a self-signed one.
    assert re.search(r"(\d+) skipped", done.stdout)[1] == "3"
    assert one_host.run(["ls", mailboxes]).stdout == before


def test_without_a_relay_it_says_what_to_give(lab: Lab):
    done = outside(lab, "-m", "pytest", "-q", "test/online", timeout=60, RELAY="")
    assert done.returncode == 2
    assert "make online RELAY=" in done.stdout


def test_all_closed_ports_are_named(lab: Lab, one_host: Host):
    with closed(one_host, tcp=[25, 993], udp=[3478]):
        done = outside(lab, "-m", "pytest", "-q", "test/online", timeout=60, RELAY=one_host.name)
    assert done.returncode == 2
    for address in (one_host.ipv4, one_host.ipv6):
        assert f"closed from outside at {address}: TCP 25 993, UDP 3478" in done.stdout


def test_the_benchmark_ends_with_figures_and_a_picture(lab: Lab, one_host: Host, two_host: Host):
    done = outside(lab, "-m", "test.bench.relay", "--rounds=4", one_host.name, two_host.name, timeout=280)
    assert done.returncode == 0, done.stdout
    figures = json.loads((bench.OUTPUT / f"{one_host.name}.json").read_text())["milliseconds"]
    assert all(0 < row["p50"] <= row["p95"] <= row["p99"] for row in figures)
    for row in figures:
        assert row["what"] in done.stdout
    picture = ElementTree.parse(bench.OUTPUT / f"{one_host.name}.svg")  # noqa: S314
    circles = picture.iter("{http://www.w3.org/2000/svg}circle")
    assert sum(1 for _ in circles) == sum(row["n"] for row in figures)
