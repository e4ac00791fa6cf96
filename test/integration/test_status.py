"""``chatmail_relay.status`` names the cause and the next step, for one fault at a time, and nothing besides."""

import base64
import contextlib
import dataclasses
import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from chatmail_services import PUBLIC
from test.integration.conftest import peculiar
from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.salt.minion import CHECKOUT
from test.support.firewall import closed
from test.support.status_faults import FAULTS, FIRST, FIRST_POSTFIX, MAILBOXES, Fault, dead

DRIVER = Path(__file__).parents[1] / "support/status_on_host.py"
DIRECTORY = "/root/status"
ON_BOTH_RELEASES = True
SETTLE_S = 20

LISTS = "/var/lib/apt/lists"
# What other tests left in the queue, and what upgrades Debian has today, is no matter here.
ASIDE = (
    f"postsuper -d ALL; systemctl reset-failed; mv {LISTS} {LISTS}.kept && mkdir {LISTS} && touch {LISTS}/none_Packages"
)
BACK = f"rm -r {DIRECTORY} {LISTS} && mv {LISTS}.kept {LISTS}"

LIMITED = next(
    dataclasses.replace(fault, inject=fault.inject.replace("128", "1"))
    for fault in FAULTS
    if fault.name == "inotify-low"
)


@pytest.fixture(scope="module")
def examine(lab: Lab, one_host: Host) -> Iterator[Callable[..., dict]]:
    """What status finds on the relay now. At the end of all tests nothing is found."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(CHECKOUT / "_modules", "extensions/modules")
        tar.add(CHECKOUT / "_utils", "extensions/utils")
        tar.add(DRIVER, "driver.py")
    text = base64.b64encode(archive.getvalue()).decode()
    one_host.run(["sh", "-c", f"mkdir -p {DIRECTORY} && base64 -d | tar -x -C {DIRECTORY}"], input=text)

    def examine(clock_s: float = 0) -> dict:
        argv = ["python3", f"{DIRECTORY}/driver.py", f"{DIRECTORY}/extensions", library, str(clock_s)]
        return json.loads(one_host.run(argv).stdout)

    library = one_host.run(["sh", "-c", "ls -d /var/tmp/.root_*_salt/pyall"]).stdout.split()[0]
    one_host.run(["sh", "-c", ASIDE])
    if examine()["findings"]:
        # What other tests changed.
        lab.salt_ssh(one_host.name, "state.apply", "chatmail")
    assert examine()["findings"] == []
    yield examine
    # A daemon that was started a moment ago may not listen yet.
    deadline = time.monotonic() + SETTLE_S
    while (found := examine()["findings"]) and time.monotonic() < deadline:
        time.sleep(1)
    assert found == []
    assert "status-probe" not in one_host.run(["ls", fitted(MAILBOXES, one_host)]).stdout
    one_host.run(["sh", "-c", BACK])


def fitted(text: str, host: Host) -> str:
    return text.replace(FIRST, host.name).replace(FIRST_POSTFIX, peculiar(host)["postfix_unit"])


@contextlib.contextmanager
def broken(host: Host, fault: Fault) -> Iterator[None]:
    inject, undo = fitted(fault.inject, host), fitted(fault.undo, host)
    host.run(["sh", "-c", inject], check=False)
    try:
        yield
    finally:
        host.run(["sh", "-c", undo])


def only(found: dict) -> dict:
    """The one finding that there is."""
    assert len(found["findings"]) == 1, found["findings"]
    return found["findings"][0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_alone_with_what_to_do(one_host: Host, examine, fault: Fault):
    with broken(one_host, fault):
        found = examine(fault.clock_s)
    finding = only(found)
    assert (finding["check"], finding["level"]) == (fault.check, fault.level)
    assert re.search(fitted(fault.what, one_host), finding["what"])
    assert re.search(fitted(fault.do, one_host), finding["do"])
    assert found["level"] == fault.level


def test_a_base_that_is_down_is_not_asked_twice(one_host: Host, examine):
    with broken(one_host, dead("dovecot.service")):
        levels = {line["check"]: line["level"] for line in examine()["checks"]}
    skipped = {name for name, level in levels.items() if level == "skipped"}
    assert skipped == {"plugin", "queue", "clients", "probe"}
    assert levels["sockets"] == levels["served"] == "ok"


OTHER_KEY = ['"v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKZ"']


@pytest.mark.parametrize(
    ("record", "values", "what"),
    [
        (f"{FIRST}. MX", [], "is missing"),
        (f"opendkim._domainkey.{FIRST}. TXT", OTHER_KEY, "is wrong: it is not the key with which this host signs"),
    ],
    ids=["gone", "other-key"],
)
def test_a_record_that_is_not_as_wanted_is_named(lab: Lab, one_host: Host, examine, *, record, values, what):
    record = fitted(record, one_host)
    question = dns.message.make_query(*record.split())
    served = [rdata.to_text() for rdata in dns.query.tcp(question, str(lab.name_server.ipv4), timeout=20).answer[0]]
    lab.withdraw(*record.split())
    if values:
        lab.publish(*record.split(), values)
    try:
        finding = only(examine())
    finally:
        lab.withdraw(*record.split())
        lab.publish(*record.split(), served)
    assert (finding["check"], finding["level"]) == ("names", "error")
    assert finding["what"] == f"the DNS record {record} {what}"
    assert finding["do"] == "salt-ssh relay chatmail_dns.publish"


def test_inotify_instances_that_are_used_up_are_told(one_host: Host, examine, alice):
    with alice.imap() as client, broken(one_host, LIMITED):
        client.idle()
        finding = only(examine())
    assert (finding["check"], finding["level"]) == ("clients", "error")
    assert re.search("^[12] of 1 inotify instances are in use: notices .* late", finding["what"])


def test_a_dead_destination_is_named_tried_and_dropped(lab: Lab, one_host: Host, examine):
    """Nobody listens on the name server's port 25. With its mail goes what waits for it alone."""
    lab.publish("dead.test", "A", [str(lab.name_server.ipv4)])
    send = (
        "for n in $(seq 100); do echo | sendmail -f '<>' a@dead.test; done;"
        " echo | sendmail -f '<>' b@dead.test,c@other.test"
    )
    lab.publish("other.test", "A", [str(lab.name_server.ipv4)])
    try:
        one_host.run(["sh", "-c", send])
        deadline = time.monotonic() + 60
        while (lines := queue(lab, one_host))[0]["deferred"] < 101 and time.monotonic() < deadline:
            time.sleep(1)
        assert [(line["destination"], line["messages"]) for line in lines] == [("dead.test", 101), ("other.test", 1)]
        assert "Connection refused" in lines[0]["reason"]

        finding = only(examine())
        assert (finding["check"], finding["level"]) == ("queue", "warning")
        assert re.search("^101 messages wait for dead.test, since .*: .*Connection refused", finding["what"])
        assert re.search("^salt-ssh relay chatmail_queue.retry dead.test once", finding["do"])

        assert lab.salt_ssh(one_host.name, "chatmail_queue.retry", "other.test") == {"tried": 1}
        assert lab.salt_ssh(one_host.name, "chatmail_queue.drop", "dead.test") == {"dropped": 100, "kept": 1}
        assert [line["messages"] for line in queue(lab, one_host)] == [1, 1]
        with pytest.raises(SaltFailed, match=r"nothing waits for nobody\.test"):
            lab.salt_ssh(one_host.name, "chatmail_queue.drop", "nobody.test")
    finally:
        one_host.run(["postsuper", "-d", "ALL"])
        lab.withdraw("dead.test", "A")
        lab.withdraw("other.test", "A")


def queue(lab: Lab, host: Host) -> list[dict]:
    return lab.salt_ssh(host.name, "chatmail_queue.list")


def test_a_killed_probe_leaves_nothing_for_the_next(one_host: Host, examine):
    make = "PYTHONPATH=/usr/local/lib/chatmaild exec runuser -u vmail -- python3 -P -m chatmaild.accounts make-probes"
    one_host.run(["sh", "-c", make])
    assert "status-probe-1@" in one_host.run(["ls", fitted(MAILBOXES, one_host)]).stdout
    assert examine()["findings"] == []
    assert "status-probe" not in one_host.run(["ls", fitted(MAILBOXES, one_host)]).stdout


def as_operator(lab: Lab, host: Host, *options: str) -> subprocess.CompletedProcess:
    """The status as somebody sees it who calls salt-ssh."""
    program, config, *_ = lab.salt_ssh_argv(host.name)
    argv = [program, config, *options, host.name, "chatmail_relay.status"]
    return subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, timeout=120, check=False)


def test_people_see_lines_machines_json_and_both_an_exit_code(lab: Lab, one_host: Host, examine):
    well = as_operator(lab, one_host)
    assert (well.returncode, well.stderr) == (0, "")
    assert well.stdout.startswith(f"{one_host.name}: all is well")
    assert re.search(r"ok +probe +a message took \d\.\d\d s", well.stdout)
    assert re.search(r"ok +outside +16 ports answer at [0-9.]+, [0-9a-f:]+", " ".join(well.stdout.split()))
    assert "open in the firewall TCP 25 80 143 443 465 587 993; UDP 3478 49152-65535" in well.stdout
    with broken(one_host, dead("filtermail.service")):
        ill = as_operator(lab, one_host, "--out=json")
        seen = as_operator(lab, one_host)
    assert ill.returncode == seen.returncode == 20
    assert only(json.loads(ill.stdout)[one_host.name])["what"] == "filtermail is stopped: nobody can send"
    assert "FAULT    services    filtermail is stopped: nobody can send" in seen.stdout
    assert "do  systemctl restart filtermail" in seen.stdout
    assert max(map(len, seen.stdout.splitlines())) <= 80


def test_the_watch_tells_once_what_got_worse_and_once_that_it_is_well_again(lab, one_host, examine, tmp_path):
    config = next(word for word in lab.salt_ssh_argv(one_host.name) if word.startswith("--config-dir"))
    argv = [sys.executable, "-m", "tools.watch", one_host.name, config, f"--state={tmp_path}/state.json"]

    def watch() -> str:
        return subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, timeout=200, check=True).stdout

    with broken(one_host, dead("filtermail.service")):
        worse = watch()
        assert watch() == ""
    assert worse.startswith(f"{one_host.name}: error: filtermail is stopped: nobody can send. systemctl restart")
    assert watch() == worse.replace(": error: ", ": well again: error: ")


def test_a_firewall_that_closes_everything_is_seen_from_outside_and_from_the_host(lab: Lab, one_host: Host, examine):
    numbers = {kind: [int(port[:-4]) for port in PUBLIC if port.endswith(kind)] for kind in ("tcp", "udp")}
    with closed(one_host, **numbers, out_25=True):
        seen = as_operator(lab, one_host, "--out=json")
    assert seen.returncode == 20
    found = json.loads(seen.stdout)[one_host.name]["findings"]
    kinds = sorted((one["check"], one["level"], one["kind"]) for one in found)
    mute = ("outside", "error", "address-mute")
    assert kinds == [("outgoing", "warning", "port-25-closed"), mute, mute]
    for address in (one_host.ipv4, one_host.ipv6):
        (what,) = [one["what"] for one in found if f" {address}," in one["what"]]
        assert "(TCP 25 80 143 443 465 587 993, UDP 3478)" in what
