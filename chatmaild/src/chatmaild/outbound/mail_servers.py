"""Which servers take the mail of a domain (RFC 5321 section 5), and which names their certificates have to have."""

import ipaddress
import re
from dataclasses import dataclass

from .. import ip_address, socketmap
from ..smtp import replies

SERVERS_MAX = 5  # that are tried, of a domain
ADDRESSES_MAX = 4  # that are tried, of a server
DOMAIN_MAX = 253  # octets
# Postfix asks them too (smtp_tls_policy_maps).
DNS = "127.0.0.1", 8462
MTA_STS = "127.0.0.1", 8461
NULL_MX = "."

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class Undeliverable(Exception):
    """Mail to the domain is returned to its sender; the text is an SMTP reply, 5xx."""


class NotNow(Exception):
    """No server of the domain takes mail by HTTPS now; the text says why."""


@dataclass(frozen=True)
class Server:
    """A mail server: its name, or the address of a domain literal, and whether its certificate has to be for that."""

    name: str
    addresses: tuple[ip_address.Address, ...]
    verified: bool = True


def is_domain(domain: str) -> bool:
    """Whether `domain`, in lower case, is a name that can be looked up, or the literal of an address."""
    if domain.startswith("["):
        return ip_address.of_literal(domain) is not None
    return len(domain) <= DOMAIN_MAX and bool(_NAME.fullmatch(domain))


def needs_certificate(domain: str) -> bool:
    """Whether the mail servers of `domain` need a certificate of a public authority.

    Those cannot have one whom Postfix's smtp_tls_policy_map gives the level "encrypt": literals, and relays with a
    self-signed certificate, whose names begin with an underscore.
    """
    return not domain.startswith(("[", "_"))


def is_elsewhere(address: ip_address.Address) -> bool:
    """Whether an MX record may lead there: not to this host's loopback, and not to what is no host.

    This host's other addresses are known when a connection is there (`connecting`).
    """
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local)


def is_allowed(server: Server, names: list[str] | None) -> bool:
    """Whether a policy allows a server; see `Directory.policy`."""
    return names is None or any(_matches(server.name, pattern) for pattern in names)


def _matches(name: str, pattern: str) -> bool:
    """Whether a name is one that the match list of a policy allows: the same, or one label more than ``.parent``."""
    return name.partition(".")[2] == pattern[1:] if pattern.startswith(".") else name == pattern


@dataclass(frozen=True)
class Directory:
    """Knows the mail servers of all domains: by the daemon that looks in the DNS, and by the one that knows MTA-STS."""

    dns: tuple[str, int] = DNS
    mta_sts: tuple[str, int] = MTA_STS

    async def servers(self, domain: str) -> list[Server]:
        """The mail servers of `domain`, in the order in which they are to be tried.

        :param domain: see `is_domain`.
        :raises Undeliverable: it has none.
        :raises NotNow: it cannot be told, or its policy allows none of them.
        """
        found = await self.look_up(domain)
        allowed = await self.policy(domain)
        servers = [server for server in found if is_allowed(server, allowed)]
        if not servers:
            raise NotNow(f"none of the mail servers of {domain} may be used, by its MTA-STS policy (RFC 8461)")
        return servers

    async def look_up(self, domain: str) -> list[Server]:
        """The mail servers of `domain`, also those that its policy does not allow; see `servers`, and `lookup`."""
        if literal := ip_address.of_literal(domain):
            return [Server(str(literal), (literal,) if is_elsewhere(literal) else (), verified=False)]
        answer = await _ask(self.dns, "servers", domain)
        if answer.strip() == socketmap.NOT_FOUND.strip():
            raise Undeliverable(replies.no_mail_server(domain))
        kind, _, text = answer.partition(" ")
        if kind != "OK":
            raise NotNow(f"the mail servers of {domain} cannot be found: {text}")
        if text == NULL_MX:
            raise Undeliverable(replies.null_mx(domain))
        verified = needs_certificate(domain)
        entries = [entry.split() for entry in text.split(";")]
        return [Server(name, tuple(map(ipaddress.ip_address, addresses)), verified) for name, *addresses in entries]

    async def policy(self, domain: str) -> list[str] | None:
        """The names that mail servers of `domain` may have by its MTA-STS policy; None where it has no policy.

        :raises NotNow: it cannot be told.
        """
        if not needs_certificate(domain):
            return None
        answer = await _ask(self.mta_sts, "postfix", domain)
        if answer.strip() == socketmap.NOT_FOUND.strip():
            return None
        match = re.fullmatch(r"OK secure match=(\S+)(?: .*)?", answer)
        if not match:
            raise NotNow(f"the MTA-STS policy of {domain} cannot be told: {answer}")
        return match[1].lower().split(":")


async def _ask(daemon: tuple[str, int], table: str, key: str) -> str:
    try:
        return await socketmap.ask(*daemon, table, key)
    except OSError as error:
        why = str(error) or "it is silent"
        raise NotNow(f"the daemon at {daemon[0]}:{daemon[1]} does not answer: {why}") from error
