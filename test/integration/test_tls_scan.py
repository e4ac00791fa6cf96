"""An independent scanner (testssl.sh) finds nothing to complain of on any port with TLS."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from test.relay.delivery import Relay

# Port, how TLS begins there, and the oldest version that it takes.
PORTS = {443: ("", "TLS1_2"), 465: ("", "TLS1_3"), 993: ("", "TLS1_3"), 587: ("smtp", "TLS1_3"), 25: ("smtp", "TLS1_2")}
# Protocols, kinds of ciphers, forward secrecy, certificate, HTTP's header, and the known vulnerabilities; neither the
# order of ciphers nor what clients of all kinds would choose.
CHECKS = ["--protocols", "--std", "--pfs", "--server-defaults", "--headers", "--vulnerable"]
# A scan is thousands of short processes: a minute on two free cores, several where others use them, too.
TIMEOUT_S = 800
pytestmark = pytest.mark.timeout(TIMEOUT_S + 100)
SEVERE = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
# What the lab's self-signed certificates are, and are meant to be for names that begin with an underscore.
ACCEPTED = {
    "cert_chain_of_trust": "self-signed",
    "cert_revocation": "nobody has issued it who could revoke it",
    "cert_validityPeriod": "a hundred years: there is no renewal to forget",
}


def scan(relay: Relay, port: int, report: Path) -> dict[str, tuple[str, str]]:
    """Severity and finding of each check. Other exit codes than 0 only count what was found."""
    starttls = ["--starttls", PORTS[port][0]] if PORTS[port][0] else []
    where = [f"--ip={relay.address}", *starttls, f"{relay.domain}:{port}"]
    argv = ["testssl", "--quiet", "--warnings=batch", "--nodns=none", f"--jsonfile={report}", *CHECKS, *where]
    said = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert "Done" in said.stdout, said.stdout[-3000:]
    return {found["id"]: (found["severity"], found["finding"]) for found in json.loads(report.read_text())}


@pytest.fixture(scope="module")
def scans(one: Relay, tmp_path_factory) -> dict[int, dict[str, tuple[str, str]]]:
    reports = tmp_path_factory.mktemp("testssl")
    with ThreadPoolExecutor(len(PORTS)) as pool:
        found = pool.map(lambda port: scan(one, port, reports / f"{port}.json"), PORTS)
    return dict(zip(PORTS, found, strict=True))


@pytest.mark.parametrize("port", PORTS)
def test_nothing_severe_is_found(scans, port):
    severe = {name: found for name, found in scans[port].items() if found[0] in SEVERE and name not in ACCEPTED}
    assert severe == {}


@pytest.mark.parametrize("port", PORTS)
def test_protocols_are_as_new_as_they_should_be(scans, port):
    versions = ["SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3"]
    offered = [version for version in versions if scans[port][version][1].startswith("offered")]
    assert offered == versions[versions.index(PORTS[port][1]) :]
    assert scans[port]["PFS"] == ("OK", "offered")
