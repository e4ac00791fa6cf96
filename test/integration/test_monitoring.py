"""Metrics of a relay: counted from its journal, told by Dovecot; rules and dashboard that name only what exists."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from test.integration.conftest import PERMISSIVE
from test.integration.test_https_delivery import until_known
from test.integration.test_sandbox import too_exposed
from test.lab import Host, Lab
from test.relay.delivery import new_user
from test.salt.minion import CHECKOUT
from test.support import messages
from test.support.mailing import by_smtp_alone, deliver, inbox, submit
from test.support.waiting import wait_until

MTAIL, DOVECOT = 3903, 3904
RULES = CHECKOUT / "chatmail/monitoring/prometheus/alerts.yml"
DASHBOARD = CHECKOUT / "chatmail/monitoring/grafana/chatmail.json"
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"


@pytest.fixture(scope="module")
def measured(lab: Lab, one, one_host: Host) -> Iterator[Host]:
    """The first relay with metrics on loopback."""
    usual = {"mail_domain": one.domain, **PERMISSIVE}
    lab.pillar(one.domain, {"chatmail": usual | {"mtail_address": "127.0.0.1"}})
    lab.salt_ssh(one.domain, "state.apply", "chatmail")
    again = lab.salt_ssh(one.domain, "state.apply", "chatmail")
    assert not [state for state in again.values() if state["changes"]]
    yield one_host
    lab.pillar(one.domain, {"chatmail": usual})
    lab.salt_ssh(one.domain, "state.apply", "chatmail")
    assert one_host.run(["systemctl", "is-active", "mtail"], check=False).stdout.strip() == "inactive"
    assert not one_host.run(["ss", "-Htln", f"sport = {MTAIL} or sport = {DOVECOT}"]).stdout


def metrics(host: Host, port: int) -> dict[str, float]:
    """Samples by name with labels, without the label of mtail's program."""
    page = host.run(["python3", "-c", FETCH, f"http://127.0.0.1:{port}/metrics"]).stdout
    samples = re.findall(r"(?m)^(\w+(?:\{.*\})?) ([\d.e+-]+)$", page.replace('{prog="chatmail.mtail"}', ""))
    return {name: float(value) for name, value in samples}


def grown(host: Host, port: int, before: dict[str, float], expected: dict[str, int]) -> dict[str, float]:
    """How much the named counters have grown; waits a little for the journal."""
    deadline = time.monotonic() + 20
    while True:
        now = metrics(host, port)
        growth = {name: now[name] - before.get(name, 0) for name in expected}
        if growth == expected or time.monotonic() > deadline:
            return growth
        time.sleep(0.2)


def test_what_happens_is_counted(measured: Host, one, two, foreign):
    before, dovecot_before = metrics(measured, MTAIL), metrics(measured, DOVECOT)
    alice, bob, carol, dave = new_user(one), new_user(one), new_user(two), new_user(two)
    assert submit(alice, bob.address, messages.encrypted(alice.address, bob.address)) is None
    plain = messages.plain(alice.address, bob.address)
    assert submit(alice, bob.address, plain)[0] == 523
    sender = f"x@{foreign.name}"
    assert deliver(one.address, sender, bob.address, foreign.signed(messages.encrypted(sender, bob.address))) is None
    bounce = messages.bounce(f"MAILER-DAEMON@{foreign.name}", bob.address)
    assert deliver(one.address, "", bob.address, foreign.signed(bounce)) is None
    inbox(bob, minimum=3)
    with by_smtp_alone(measured):
        assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
        inbox(carol)
    until_known(measured, two.domain)
    assert submit(alice, dave.address, messages.encrypted(alice.address, dave.address)) is None
    inbox(dave)
    expected = {
        "created_accounts": 2,
        "created_nonci_accounts": 2,
        "created_ci_accounts": 0,
        "delivered_mail": 3,
        "filtered_outgoing_mail_count": 4,
        "outgoing_encrypted_mail_count": 3,
        "postfix_sent_smtp": 1,
        "postfix_sent_https": 1,
        "outgoing_unencrypted_mail_count": 1,
        "filtered_incoming_mail_count": 2,
        "incoming_encrypted_mail_count": 1,
        "incoming_unencrypted_mail_count": 0,
        "incoming_mailer_daemon_mail_count": 1,
        "rejected_unencrypted_mail_count": 1,
    }
    assert grown(measured, MTAIL, before, expected) == expected
    delivered = {"dovecot_mail_delivery_total": 3}
    assert grown(measured, DOVECOT, dovecot_before, delivered) == delivered


def test_mtail_is_in_a_sandbox(measured: Host):
    assert too_exposed(measured) == {}


def test_mtail_comes_back_when_the_journal_s_reader_ends(measured: Host, one):
    reader = measured.run(["pgrep", "-f", "^journalctl --follow"]).stdout.split()
    measured.run(["kill", *reader])
    readers = ["pgrep", "-f", "^journalctl --follow"]
    wait_until(lambda: measured.run(readers, check=False).stdout.split() not in ([], reader))
    wait_until(lambda: measured.run(["ss", "-Htln", f"sport = {MTAIL}"]).stdout)
    new_user(one)
    assert grown(measured, MTAIL, {}, {"created_accounts": 1}) == {"created_accounts": 1}


def names_in(expressions: list[str]) -> set[str]:
    """The metrics in PromQL expressions: the words that are followed by a selector."""
    return {
        name
        for text in expressions
        for name in re.findall(r"([a-z_]+)(?:\{[^}]*\})?\[|([a-z_]+)\{", text)
        for name in name
        if name
    }


def test_rules_and_dashboard_name_metrics_that_the_relay_has(measured: Host):
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    panels = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    existing = {name.split("{")[0] for port in (MTAIL, DOVECOT) for name in metrics(measured, port)} | {"up"}
    # Appears with the first one.
    existing.add("dovecot_imap_command_slow_count")
    named = names_in(rules + panels)
    assert len(named) > 20
    assert named <= existing


def test_each_rule_fires_when_it_should_and_not_on_an_ordinary_day(tmp_path: Path):
    """By Debian's promtool, taken out of its package: the daemon beside it is not wanted here."""
    subprocess.run(["apt-get", "-qq", "download", "prometheus"], cwd=tmp_path, check=True, timeout=120)
    (package,) = tmp_path.glob("prometheus*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path / "package")], check=True, timeout=60)
    for file in ("alerts.yml", "alerts_test.yml"):
        shutil.copy(RULES.parent / file, tmp_path)
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [str(tmp_path / "package/usr/bin/promtool"), *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
