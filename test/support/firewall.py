"""Firewalls of lab hosts: ports that give no answer, as a provider's firewall leaves them."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from test.lab import Host

TABLE = "inet closed"


def _nft(host: Host, commands: str) -> None:
    """nft(8) of this machine in the host's network namespace, which may not have one."""
    argv = ["nsenter", f"--target={host.init().pid}", "--net", "nft", "--file", "-"]
    subprocess.run(argv, input=commands, text=True, check=True, timeout=30)


@contextlib.contextmanager
def closed(host: Host, tcp: Sequence[int] = (), udp: Sequence[int] = (), *, out_25: bool = False) -> Iterator[None]:
    """Drop what comes to these ports from elsewhere, and what the host sends to others' port 25."""
    rules = [f"iif != lo tcp dport {port} drop" for port in tcp] + [f"iif != lo udp dport {port} drop" for port in udp]
    chains = {"in": ("input", rules), "out": ("output", ["oif != lo tcp dport 25 drop"] if out_25 else [])}
    text = f"add table {TABLE}\n"
    for chain, (hook, lines) in chains.items():
        text += f"add chain {TABLE} {chain} {{ type filter hook {hook} priority 0; }}\n"
        text += "".join(f"add rule {TABLE} {chain} {line}\n" for line in lines)
    _nft(host, text)
    try:
        yield
    finally:
        _nft(host, f"delete table {TABLE}\n")
