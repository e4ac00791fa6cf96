"""A lab of the tests' own, beside the one of ``make lab-up``; two relays in it, deployed once."""

import dataclasses
import os
import string
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import deltachat_rpc_server
import pytest
import yaml

from test.lab import Host, Lab
from test.lab.commands import run
from test.lab.layout import CHECKOUT, RELEASES, layout_from_environment, release_of
from test.relay.delivery import Relay, User, new_user
from test.support.mailing import by_smtp_alone, foreign_domain
from test.support.signing import ForeignDomain

# Of Debian 12 and 13.
RELAYS = ("_one.test", "_two.test")
# Creation of addresses must not depend on how busy the machine is.
PERMISSIVE = {
    "max_load_1m": 1000,
    "min_available_memory": 0,
    "min_free_disk_space": 0,
    # The lab has no way to its download.
    "iroh_relay": "",
    "max_creations_per_hour": 100_000,
}


# Where a host has Delta Chat's core from.
CORE = "/root/deltachat-rpc-server"

# The modules that take minutes, in whose order it matters (`make integration`): a worker that began one of them at the
# end would work alone.
LONGEST = (
    "test_ways_to_apply",
    "test_migration",
    "test_upgrade",
    "test_status",
    "test_backup",
    "test_rollback",
    "test_bad_input",
    "test_certificates",
    "test_apply",
    "test_disable_mail",
    "test_dkim",
    "test_login",
    "test_provider_hosts",
    "test_ipv4_relay",
    "test_ipv6",
    "test_load",
    "test_taken_hosts",
    "test_tls_scan",
    "test_dns",
)


@dataclasses.dataclass(frozen=True)
class Applied:
    """The first apply on a bare host: what the states returned, and how long it took."""

    states: Mapping[str, dict]
    seconds: float


def with_echobot(host: Host) -> dict:
    """Settings by which a relay has an echobot.

    The core of the tests' clients is the release that the formula pins; the host is given it, as it cannot download it.
    """
    core = Path(deltachat_rpc_server.__file__).with_name("deltachat-rpc-server")
    with core.open("rb") as file:
        subprocess.run(host.ssh_argv(f"cat > {CORE}"), stdin=file, check=True, timeout=60)
    return {"echobot": True, "echobot_source": CORE}


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    environment = {"LAB_NAME": "it", **os.environ}
    # With pytest-xdist each worker has a lab of its own: gw0 the lab ita, gw1 itb, gw2 itc.
    if worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"):
        environment["LAB_NAME"] = environment["LAB_NAME"][:2] + string.ascii_lowercase[int(worker)]
    layout = layout_from_environment(environment)
    lab = Lab(layout)
    lab.up(RELAYS)
    for name in RELAYS:
        lab.pillar(name, {"chatmail": {"mail_domain": name, **PERMISSIVE}})
    yield lab
    # For looking at what a test left behind.
    if not os.environ.get("KEEP_LAB"):
        lab.down()


@pytest.fixture(scope="session")
def applied(lab: Lab) -> dict[str, Applied]:
    """Both relays deployed on bare hosts, at the same time; each apply publishes its relay's records."""

    def apply(name: str) -> Applied:
        begun = time.monotonic()
        # All labs begin at the same time.
        states = lab.salt_ssh(name, "state.apply", "chatmail", timeout=1200)
        return Applied(states, time.monotonic() - begun)

    # Salt's own archive for its targets is made by the first run; two at once would get in each other's way.
    lab.salt_ssh(RELAYS[0], "test.ping")
    with ThreadPoolExecutor(len(RELAYS)) as pool:
        return dict(zip(RELAYS, pool.map(apply, RELAYS), strict=True))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that take minutes come first, the longest of all at the beginning."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In a module with ``ON_BOTH_RELEASES`` each test has the relay of either release in the place of the first."""
    if getattr(metafunc.module, "ON_BOTH_RELEASES", False) and "one_host" in metafunc.fixturenames:
        ids = [release_of(name) for name in RELAYS]
        metafunc.parametrize("one_host", RELAYS, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def one_host(lab: Lab, applied, request: pytest.FixtureRequest) -> Host:
    return lab.host(getattr(request, "param", RELAYS[0]))


@pytest.fixture(scope="session")
def two_host(lab: Lab, applied, one_host: Host) -> Host:
    """The other one."""
    return lab.host(next(name for name in RELAYS if name != one_host.name))


def peculiar(host: Host) -> dict:
    """What the formula knows of the host's release."""
    releases = yaml.safe_load((CHECKOUT / "chatmail/releases.yaml").read_text())
    return releases[int(RELEASES[host.release])]


@pytest.fixture(scope="session")
def one(one_host: Host) -> Relay:
    return Relay(one_host.name, str(one_host.ipv4))


@pytest.fixture(scope="session")
def two(two_host: Host) -> Relay:
    return Relay(two_host.name, str(two_host.ipv4))


@pytest.fixture(scope="module")
def by_smtp(one_host: Host) -> Iterator[None]:
    """What the first relay sends goes by Postfix's SMTP client, for the tests of what that does."""
    with by_smtp_alone(one_host):
        yield


@pytest.fixture
def alice(one: Relay) -> User:
    """A fresh address on the first relay."""
    return new_user(one)


@pytest.fixture
def bob(one: Relay) -> User:
    """Another fresh address on the first relay."""
    return new_user(one)


@pytest.fixture
def carol(two: Relay) -> User:
    """A fresh address on the second relay."""
    return new_user(two)


@pytest.fixture(scope="session")
def foreign(lab: Lab, tmp_path_factory) -> Iterator[ForeignDomain]:
    """A domain with a published key; ``unsigned.test`` and the like have none."""
    with foreign_domain(lab, tmp_path_factory.mktemp("dkim")) as domain:
        yield domain


@pytest.fixture(scope="session")
def places(lab: Lab) -> Iterator[list[str]]:
    """IPv4 addresses from which clients come, beside the usual one; all are this machine's."""
    found = [str(lab.layout.ipv4_network[number]) for number in (231, 232, 233)]
    for place in found:
        run(["ip", "address", "replace", f"{place}/24", "dev", lab.layout.bridge])
    yield found
    for place in found:
        run(["ip", "address", "del", f"{place}/24", "dev", lab.layout.bridge])


@pytest.fixture
def bare_host(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host of the test's own, as bare as the lab makes it."""
    name = f"_{request.node.originalname.removeprefix('test_').replace('_', '-')[:20].strip('-')}.test"
    host = lab.add(name)
    yield host
    lab.remove(name)
