"""Addresses of this machine in networks beside the lab's own, for clients that come from elsewhere."""

import contextlib
from collections.abc import Iterator, Sequence

from test.lab.commands import run
from test.lab.hosts import Host

# The half of RFC 2544's network that labs do not use.
NETWORK = "198.19.0.0/16"


@contextlib.contextmanager
def elsewhere(hosts: Sequence[Host], networks: int, each: int = 1) -> Iterator[list[str]]:
    """Give this machine addresses in /24s of their own, to which the hosts, of one lab, have a way.

    Yields the addresses, of all networks in turn.
    """
    found = [f"198.19.{network}.{number}" for number in range(1, each + 1) for network in range(1, networks + 1)]
    bridge = hosts[0].layout.bridge
    for address in found:
        run(["ip", "address", "replace", f"{address}/32", "dev", bridge])
    for host in hosts:
        host.run(["ip", "route", "replace", NETWORK, "dev", "host0"])
    try:
        yield found
    finally:
        for host in hosts:
            host.run(["ip", "route", "del", NETWORK, "dev", "host0"])
        for address in found:
            run(["ip", "address", "del", f"{address}/32", "dev", bridge])
