"""Where a lab keeps its files and which names and addresses it uses.

Everything derives from the lab's name, so that two labs never share a path, an interface or an address.
"""

import os
import re
import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from test.lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]

# The network for benchmarks of interconnected devices (RFC 2544, RFC 6890): no site routes it, so it collides
# with nobody's. The IPv6 prefix is a unique local one (RFC 4193).
BENCHMARK_NETWORK = IPv4Network("198.18.0.0/16")
LOCAL_NETWORK = IPv6Network("fdc4:a71e:1ab0::/48")

BRIDGE_NUMBER = 1
NAME_SERVER_NUMBER = 2
HOST_NUMBERS = range(11, 250)

# Debian's releases that a host can have, by code name.
RELEASES = {"bookworm": "12", "trixie": "13"}
RELEASE = "bookworm"
# Hosts whose name decides.
HOST_RELEASES = {"_two.test": "trixie"}

NAME_SERVER = "ns"
ZONE = "test."
# DNSSEC-signed, which hosts do not know until they are given its trust anchor.
SIGNED_ZONE = "signed.test."


@dataclass(frozen=True)
class Layout:
    """The paths, names and addresses of one lab.

    Arguments: ``name`` is empty for the usual lab, or the suffix of an alternate one; ``checkout`` is the
    repository's root; ``cache`` is the directory that survives ``down``.
    """

    name: str
    checkout: Path
    cache: Path

    @property
    def bridge(self) -> str:
        return f"cmlab{self.name}"

    @property
    def state(self) -> Path:
        return self.checkout / "build" / (f"lab-{self.name}" if self.name else "lab")

    @property
    def run(self) -> Path:
        """Holds ssh's control sockets, whose paths have at most 107 bytes (unix(7)), unlike a checkout's."""
        return Path("/run") / f"{self.bridge}-{zlib.crc32(bytes(self.state)):08x}"

    @property
    def images(self) -> Path:
        """The root file systems; closed to the machine's other users, who could run set-user-ID programs in them."""
        return self.cache / "roots"

    @property
    def lock(self) -> Path:
        return self.cache / f"lock{self.name}"

    @property
    def inotify_record(self) -> Path:
        """The machine's inotify limits before a lab raised them; one file for all labs."""
        return self.cache / "inotify.json"

    @property
    def record(self) -> Path:
        return self.state / "lab.json"

    @property
    def roster(self) -> Path:
        return self.salt / "etc" / "roster"

    @property
    def salt(self) -> Path:
        return self.state / "salt"

    @property
    def ssh_key(self) -> Path:
        return self.state / "ssh" / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh" / "config"

    @property
    def known_hosts(self) -> Path:
        return self.state / "ssh" / "known_hosts"

    @property
    def tsig_secret(self) -> Path:
        return self.state / "tsig"

    @property
    def authority_cert(self) -> Path:
        return self.state / "authority" / "cert.pem"

    @property
    def authority_key(self) -> Path:
        return self.authority_cert.with_name("key.pem")

    @property
    def tsig_key_file(self) -> Path:
        """The same secret as an operator has it from tsig-keygen(8)."""
        return self.state / "tsig.key"

    @property
    def resolv_conf(self) -> Path:
        return self.state / "resolv.conf"

    def host_dir(self, number: int) -> Path:
        return self.state / "hosts" / str(number)

    def machine(self, number: int) -> str:
        """The nspawn machine's name; systemd-nspawn names the host's end of its cable ``vb-`` and this."""
        return f"{self.bridge}-{number}"

    @property
    def cable_pattern(self) -> re.Pattern[str]:
        return re.compile(rf"vb-{self.bridge}-\d+")

    @property
    def ipv4_network(self) -> IPv4Network:
        third = zlib.crc32(self.name.encode()) % 255 + 1 if self.name else 0
        return IPv4Network((int(BENCHMARK_NETWORK.network_address) + 256 * third, 24))

    @property
    def ipv6_network(self) -> IPv6Network:
        subnet = int(self.ipv4_network.network_address) >> 8 & 0xFF
        return IPv6Network((int(LOCAL_NETWORK.network_address) + (subnet << 64), 64))

    def ipv4(self, number: int) -> IPv4Address:
        return self.ipv4_network[number]

    def ipv6(self, number: int) -> IPv6Address:
        """The address that shows the same digits as the IPv4 one's last part."""
        return self.ipv6_network[int(str(number), 16)]

    @property
    def reverse_zones(self) -> list[str]:
        """The zones of the lab's PTR records (RFC 1035 3.5, RFC 3596 2.5), absolute."""
        octets = str(self.ipv4_network.network_address).split(".")[:3]
        nibbles = self.ipv6_network.network_address.exploded.replace(":", "")[:16]
        return [f"{'.'.join(reversed(octets))}.in-addr.arpa.", f"{'.'.join(reversed(nibbles))}.ip6.arpa."]

    @property
    def zones(self) -> list[str]:
        return [SIGNED_ZONE, ZONE, *self.reverse_zones]


def layout_from_environment(environ: os._Environ[str] | dict[str, str] = os.environ) -> Layout:
    """The lab that ``LAB_NAME`` (default: the usual one) and ``LAB_CACHE`` choose.

    Raises LabError for a name that does not fit into the name of a network interface.
    """
    name = environ.get("LAB_NAME", "")
    if not re.fullmatch(r"[a-z]{0,3}", name):
        raise LabError(f"LAB_NAME={name!r}: a lab's name is up to three lower-case letters")
    return Layout(name, CHECKOUT, Path(environ.get("LAB_CACHE", "/var/cache/chatmail-lab")))


def release_of(host: str, environ: os._Environ[str] | dict[str, str] = os.environ) -> str:
    """The release of a new host: what ``RELEASE`` says, by code name or number, else what the host's name decides.

    Raises LabError for a release that there is not.
    """
    wanted = environ.get("RELEASE") or HOST_RELEASES.get(host, RELEASE)
    for name, number in RELEASES.items():
        if wanted in (name, number):
            return name
    known = ", ".join(f"{name} ({number})" for name, number in RELEASES.items())
    raise LabError(f"RELEASE={wanted!r}: hosts can have Debian {known}")


def dns_name(host: str) -> str:
    """The absolute DNS name of a host of the lab."""
    return f"{host}.{ZONE}" if host == NAME_SERVER else f"{host}."


def check_host_name(host: str) -> str:
    """Returns the name of a relay host if it is one that the lab can make, else raises LabError."""
    label = "[a-z0-9_]([a-z0-9-]{0,30}[a-z0-9])?"
    if len(host) <= 64 and re.fullmatch(rf"({label}\.)+test", host):
        return host
    raise LabError(f"{host!r} is no name for a lab host: use lower-case labels under .test, such as three.test")
