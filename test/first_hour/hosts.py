"""The hosts that an operator may come with: bare, with other servers, behind firewalls and address translation."""

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from test.lab import Host, nameserver
from test.support import firewall

USER = "admin"
# Of a host behind address translation, on its only interface.
INNER_ADDRESS = "10.77.7.7"
SITE = "server { listen 80; server_name shop.test; location / { return 200 sold; } }\n"


@dataclass
class Kind:
    """A kind of host: what ``prepare`` makes of a bare one, and the ``--user`` of ./relay init.

    Firewalls that ``prepare`` closes are entered into ``provider``, whose end opens them.
    """

    prepare: Callable[[Host, contextlib.ExitStack], None] = lambda host, provider: None
    user: str = "root"
    # The code name of its Debian release, by default that of the lab.
    release: str | None = None
    knows_its_addresses: bool = True
    provider: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


def _apt_install(host: Host, *packages: str) -> None:
    host.run(["apt-get", "-qq", "update"], timeout=120)
    host.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qqy", "install", *packages], timeout=300)


def _nginx(host: Host, provider: contextlib.ExitStack) -> None:
    _apt_install(host, "nginx")
    host.write("/etc/nginx/sites-enabled/shop", SITE)
    host.run(["systemctl", "reload", "nginx"])


def _apache(host: Host, provider: contextlib.ExitStack) -> None:
    _apt_install(host, "apache2")


def _exim(host: Host, provider: contextlib.ExitStack) -> None:
    _apt_install(host, "exim4-daemon-light")


def _sudo(host: Host, provider: contextlib.ExitStack) -> None:
    _apt_install(host, "sudo")
    host.run(["useradd", "--create-home", "--shell", "/bin/bash", USER])
    host.write(f"/etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n", mode="0440")
    host.run(["install", "-d", "-o", USER, "-m", "0700", f"/home/{USER}/.ssh"])
    host.run(["install", "-o", USER, "/root/.ssh/authorized_keys", f"/home/{USER}/.ssh/authorized_keys"])


def _translated(host: Host, provider: contextlib.ExitStack) -> None:
    """IPv4 by address translation, as cloud providers have it, and no IPv6: the host does not know its address.

    The kernel of the host plays the provider's router: it answers for the public address, which no interface has.
    """
    enter = ["nsenter", f"--target={host.init().pid}", "--net"]
    network = host.layout.ipv4_network
    commands = [
        f"address add {INNER_ADDRESS}/24 dev host0",
        f"address del {host.ipv4}/{network.prefixlen} dev host0",
        f"address del {host.ipv6}/{host.layout.ipv6_network.prefixlen} dev host0",
        f"route add {network} dev host0 src {INNER_ADDRESS}",
        f"route add {host.ipv4}/32 dev lo",
        f"neighbour add proxy {host.ipv4} dev host0",
    ]
    translation = (
        "table ip provider {\n"
        f"chain in {{ type nat hook prerouting priority dstnat; ip daddr {host.ipv4} dnat to {INNER_ADDRESS}; }}\n"
        f"chain own {{ type nat hook output priority -100; ip daddr {host.ipv4} dnat to {INNER_ADDRESS}; }}\n"
        f"chain out {{ type nat hook postrouting priority srcnat; ip saddr {INNER_ADDRESS} snat to {host.ipv4}; }}\n"
        "}\n"
    )
    nameserver.withdraw(host.layout, f"{host.name}.", "AAAA")
    host.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/host0/forwarding"])
    subprocess.run([*enter, "nft", "--file", "-"], input=translation, text=True, check=True, timeout=30)
    batch = "".join(f"{command}\n" for command in commands)
    subprocess.run([*enter, "ip", "-batch", "-"], input=batch, text=True, check=True, timeout=30)


def _closed_80(host: Host, provider: contextlib.ExitStack) -> None:
    provider.enter_context(firewall.closed(host, tcp=[80]))


def _closed_25(host: Host, provider: contextlib.ExitStack) -> None:
    provider.enter_context(firewall.closed(host, tcp=[25], out_25=True))


def kinds() -> dict[str, Kind]:
    """Return each kind of host by its name, with firewalls of its own."""
    return {
        "bare": Kind(),
        "bare-13": Kind(release="trixie"),
        "nginx": Kind(_nginx),
        "apache2": Kind(_apache),
        "exim4": Kind(_exim),
        "sudo": Kind(_sudo, user=USER),
        "translated": Kind(_translated, knows_its_addresses=False),
        "closed-80": Kind(_closed_80),
        "closed-25": Kind(_closed_25),
    }
