"""The lab's name server: Knot DNS on the host `ns`, authoritative for the lab's zones and refusing all else."""

import base64
import secrets
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import dns.exception
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.tsigkeyring
import dns.update

from test.lab.errors import LabError
from test.lab.layout import NAME_SERVER, NAME_SERVER_NUMBER, SIGNED_ZONE, Layout, dns_name

KEY_NAME = "lab"


def make_secret(layout: Layout) -> None:
    """Make the TSIG secret (RFC 8945) of this lab, if it has none, and its key file."""
    if not layout.tsig_secret.exists():
        layout.tsig_secret.touch(mode=0o600)
        layout.tsig_secret.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    layout.tsig_key_file.touch(mode=0o600)
    layout.tsig_key_file.write_text(
        f'key "{KEY_NAME}" {{\n\talgorithm hmac-sha256;\n\tsecret "{layout.tsig_secret.read_text()}";\n}};\n'
    )


def relay_settings(layout: Layout) -> dict:
    """What a relay's pillar says so that its records are published here, and looked up from here on."""
    address = str(layout.ipv4(NAME_SERVER_NUMBER))
    return {
        "dns_root_servers": [address],
        "dns_update_server": address,
        "dns_update_key_file": str(layout.tsig_key_file),
        # Of the usual two relays each has the other.
        "port_25_targets": ["_one.test", "_two.test"],
    }


def server_files(layout: Layout) -> dict[str, str]:
    """Knot's configuration (knot.conf(5)) and its first zone files, by path on the host."""
    signing = {SIGNED_ZONE: "    dnssec-signing: on\n"}
    zones = "".join(f"  - domain: {zone}\n{signing.get(zone, '')}" for zone in layout.zones)
    config = f"""\
server:
    listen: [0.0.0.0@53, "::@53"]
log:
  - target: syslog
    any: info
database:
    storage: /var/lib/knot
key:
  - id: {KEY_NAME}
    algorithm: hmac-sha256
    secret: {layout.tsig_secret.read_text()}
acl:
  - id: lab
    key: {KEY_NAME}
    action: [update, transfer]
template:
  - id: default
    storage: /var/lib/knot
    file: "%s.zone"
    acl: lab
    # Updates are kept in the journal alone.
    zonefile-sync: -1
zone:
{zones}"""
    server = dns_name(NAME_SERVER)
    # Nothing is cached, neither records nor their absence (RFC 2308 5): a test sees immediately what it has published.
    zone_file = f"@ 0 SOA {server} hostmaster.test. 1 3600 600 86400 0\n@ 0 NS {server}\n"
    files = {f"var/lib/knot/{zone.removesuffix('.')}.zone": zone_file for zone in layout.zones}
    return {"etc/knot/knot.conf": config, **files}


def resolver_config(layout: Layout) -> str:
    """What a host's unbound must know of the lab: its zones are served by `ns` and, but for one, not signed."""
    addresses = [layout.ipv4(NAME_SERVER_NUMBER), layout.ipv6(NAME_SERVER_NUMBER)]
    # unbound answers for these by itself (RFC 6303) unless told not to.
    own_zones = ["test.", "d.f.ip6.arpa."]
    lines = ["# The lab's name server is the only one there is.", "server:"]
    lines += [f'  local-zone: "{zone}" nodefault' for zone in own_zones]
    lines += [f'  domain-insecure: "{zone}"' for zone in layout.zones if zone != SIGNED_ZONE]
    # unbound's default is never to send queries to loopback; the lab's networks are none, so nothing more is needed.
    for zone in layout.zones:
        lines += ["stub-zone:", f'  name: "{zone}"', *(f"  stub-addr: {address}" for address in addresses)]
    # Everything else is refused there immediately, where the silence of the root servers would cost seconds.
    lines += ["forward-zone:", '  name: "."', *(f"  forward-addr: {address}" for address in addresses)]
    return "".join(f"{line}\n" for line in lines)


def publish(layout: Layout, name: str, rdtype: str, values: Sequence[str], ttl: int = 0) -> None:
    """Make `values` the only records of that name and type, by dynamic update (RFC 2136).

    Arguments: ``name`` with or without the final dot, in one of the lab's zones; ``rdtype`` as ``"TXT"``;
    ``values`` in the presentation format of zone files (RFC 1035 5.1), names in them absolute; ``ttl`` in seconds.
    Raises LabError if the name is in no zone of the lab, a value is malformed, or the server refuses or is silent.
    """
    _update(layout, name, rdtype, values, ttl)


def withdraw(layout: Layout, name: str, rdtype: str | None = None) -> None:
    """Remove the records of that name, of one type or of all. Raises LabError as `publish` does."""
    _update(layout, name, rdtype, (), 0)


def _update(layout: Layout, name: str, rdtype: str | None, values: Sequence[str], ttl: int) -> None:
    absolute = dns.name.from_text(name)
    zone = next((zone for zone in layout.zones if absolute.is_subdomain(dns.name.from_text(zone))), None)
    if zone is None:
        raise LabError(f"{name} is in none of the lab's zones: {', '.join(layout.zones)}")
    keyring = dns.tsigkeyring.from_text({KEY_NAME: layout.tsig_secret.read_text()})
    message = dns.update.UpdateMessage(zone, keyring=keyring, keyname=KEY_NAME, keyalgorithm="hmac-sha256")
    try:
        if values:
            message.replace(absolute, ttl, rdtype, *values)
        elif rdtype:
            message.delete(absolute, rdtype)
        else:
            message.delete(absolute)
        answer = dns.query.tcp(message, str(layout.ipv4(NAME_SERVER_NUMBER)), timeout=5)
    except (dns.exception.DNSException, OSError) as error:
        raise LabError(f"no update of {name} {rdtype or ''}: {error}") from error
    if answer.rcode() != dns.rcode.NOERROR:
        raise LabError(f"the name server refused the update of {name}: {dns.rcode.to_text(answer.rcode())}")


def register(layout: Layout, host: str, ipv4: IPv4Address, ipv6: IPv6Address) -> None:
    """Publish a host's addresses and its name in the reverse zones."""
    name = dns_name(host)
    publish(layout, name, "A", [str(ipv4)])
    publish(layout, name, "AAAA", [str(ipv6)])
    for address in (ipv4, ipv6):
        publish(layout, address.reverse_pointer, "PTR", [name])


def unregister(layout: Layout, host: str, ipv4: IPv4Address, ipv6: IPv6Address) -> None:
    """Withdraw what `register` has published."""
    for name in (dns_name(host), ipv4.reverse_pointer, ipv6.reverse_pointer):
        withdraw(layout, name)


def wait_until_ready(layout: Layout, *, patience: float = 30) -> None:
    """Wait until the server takes updates, at most `patience` seconds; raises LabError after that."""
    deadline = time.monotonic() + patience
    address = layout.ipv4(NAME_SERVER_NUMBER)
    while True:
        try:
            return register(layout, NAME_SERVER, address, layout.ipv6(NAME_SERVER_NUMBER))
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
