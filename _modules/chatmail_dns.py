"""
The relay's DNS records: which must exist and which should, how they are served, and what to do about a difference.

Look-ups go to the authoritative servers, found by following the delegation from the root (RFC 1034 section 5.3.3): no
cache is asked, and of a hidden primary nothing needs to be known. Under salt-ssh all functions run on the controller
(``_wrapper/chatmail_dns.py``); only the DKIM record is asked from the host.
"""

import contextlib
import dataclasses
import errno
import hashlib
import ipaddress
import json
import os
import re
import select
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import RLock

from salt.exceptions import CommandExecutionError

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.query
    import dns.rcode
    import dns.rdatatype
    import dns.tsigkeyring
    import dns.update

    HAS_DNSPYTHON = True
except ImportError:
    HAS_DNSPYTHON = False

# Some of the root servers, https://www.iana.org/domains/root/servers; any one of them is enough.
ROOT_SERVERS = (
    "193.0.14.129",
    "192.5.5.241",
    "2001:7fd::1",
    "199.7.83.42",
    "2001:500:9f::42",
    "202.12.27.33",
)
TTL_S = 3600
# A server gets as many queries as there are times here before it counts as silent.
PATIENCE_S = (1.0, 2.0, 3.0)
CHECK_S = 30.0
# Where a host asks the machine on which salt-ssh runs to publish; _wrapper/chatmail_dns.py makes it.
REQUESTS = Path("/run/chatmail-dns")
# Referrals and aliases that are followed for one name (RFC 1034 section 5.2.2 asks for a limit).
MAX_STEPS = 16
MAX_SERVERS = 16
# What does not fragment on the way: https://www.dnsflagday.net/2020/
UDP_PAYLOAD = 1232

_SETTINGS = '{% from "chatmail/map.jinja" import settings with context %}{{ settings | json }}'
_KEY_FILE = re.compile(
    r"""\s*key\s+"?(?P<name>[^\s"{]+)"?\s*\{(?=[^}]*\balgorithm\s+"?(?P<algorithm>[\w.-]+)"?\s*;)"""
    r"""(?=[^}]*\bsecret\s+"(?P<secret>[A-Za-z0-9+/=]+)"\s*;)[^}]*\}\s*;?\s*"""
)

# Under salt-ssh the wrapper says so.
__outputter__ = dict.fromkeys(("records", "zone", "check", "publish"), "chatmail")


def __virtual__():
    if not HAS_DNSPYTHON:
        return False, "Debian's python3-dnspython is not installed"
    return "chatmail_dns"


# --- What is wanted: from settings, addresses and keys alone ---


@dataclasses.dataclass(frozen=True)
class Record:
    """
    The records of one name and type that are wanted.

    ``name`` is absolute; ``values`` are in the presentation format of zone files (RFC 1035 section 5.1), but TXT in
    one piece and without quotes; None where they are not known. ``judge`` compares what is served. ``initial`` records
    are those that a certificate authority needs to find; ``signed`` ones are wanted only where the zone is signed.
    """

    name: str
    type: str
    values: tuple | None
    judge: Callable
    required: bool = True
    initial: bool = False
    signed: bool = False


def _public_addresses(settings, grains):
    """
    The relay's addresses (IPv4, IPv6), each a tuple of text, or None where the host does not know: those of the
    settings, or else the host's own that are global (RFC 6890).
    """
    listed = [ipaddress.ip_address(text) for text in settings["public_addresses"]]
    own = [ipaddress.ip_address(text) for text in grains.get("ipv4", []) + grains.get("ipv6", [])]
    addresses = listed or [address for address in own if address.is_global]
    ipv4, ipv6 = (tuple(sorted(str(one) for one in addresses if one.version == version)) for version in (4, 6))
    if settings["disable_ipv6"]:
        ipv6 = ()
    return (ipv4, ipv6) if addresses else (None, () if settings["disable_ipv6"] else None)


def mta_sts_policy(domain):
    """
    Return the text of the MTA-STS policy file of ``domain`` (RFC 8461 section 3.2), with its line ends.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.mta_sts_policy chat.example.org
    """
    return f"version: STSv1\r\nmode: enforce\r\nmx: {domain}\r\nmax_age: 2419200\r\n"


def _dkim_records(apex, keys):
    """The records of ``keys`` (``chatmail_dkim.records``): that of the key that signs is required."""
    if not keys:
        return [Record(f"opendkim._domainkey.{apex}", "TXT", None, _judge_dkim)]
    return [
        Record(one["name"], "TXT", (one["value"],), _judge_dkim, required=one["use"] == "now")
        if one["value"]
        else Record(one["name"], "TXT", (), _judge_withdrawn, required=False)
        for one in keys
    ]


def _wanted(settings, ipv4, ipv6, dkim, certificate=None):
    """
    Return the list of ``Record`` of a relay that has a name.

    settings
        Those of ``map.jinja``.
    ipv4, ipv6
        Tuples of addresses, or None where they are not known.
    dkim
        What ``chatmail_dkim.records`` returns, or nothing where the host has no key yet.
    certificate
        What ``chatmail_cert.facts`` returns, or None where nothing is known of it.
    """
    certificate = certificate or {"account_uri": None, "caa_issuers": [], "names": [], "public_key_sha256": None}
    domain = settings["mail_domain_bare"]
    apex = f"{domain}."
    acme = settings["tls_mode"] == "acme"
    # Changes with the policy, as RFC 8461 section 3.1 wants, and with nothing else.
    policy_id = hashlib.sha256(mta_sts_policy(domain).encode()).hexdigest()[:16]
    wanted = [
        Record(apex, "A", ipv4, _judge_addresses, initial=True),
        Record(apex, "AAAA", ipv6, _judge_addresses, initial=True),
        Record(apex, "MX", (f"10 {apex}",), _judge_mx),
        Record(f"www.{apex}", "CNAME", (apex,), _judge_alias, initial=acme),
    ]
    if acme or (settings["tls_mode"] == "external" and f"mta-sts.{domain}" in certificate["names"]):
        wanted += [
            Record(f"mta-sts.{apex}", "CNAME", (apex,), _judge_alias, initial=acme),
            Record(f"_mta-sts.{apex}", "TXT", (f"v=STSv1; id={policy_id}",), _judge_mta_sts),
        ]
    wanted += [
        *_dkim_records(apex, dkim),
        Record(apex, "TXT", ("v=spf1 a ~all",), _judge_spf, required=False),
        Record(f"_dmarc.{apex}", "TXT", ("v=DMARC1;p=reject;adkim=s;aspf=s",), _judge_tags, required=False),
        Record(f"_adsp._domainkey.{apex}", "TXT", ("dkim=discardable",), _judge_tags, required=False),
    ]
    if acme and certificate["account_uri"] and certificate["caa_issuers"]:
        # RFC 8659 section 4.2, RFC 8657 section 3. Any of an authority's names will do.
        value = f'0 issue "{certificate["caa_issuers"][0]};accounturi={certificate["account_uri"]}"'
        wanted.append(Record(apex, "CAA", (value,), _judge_caa, required=False))
    if settings["tls_mode"] != "external" and certificate["public_key_sha256"]:
        # DANE-EE, the public key, SHA-256 (RFC 7672 section 3.1): it stays over renewals, unlike an operator's own.
        value = f"3 1 1 {certificate['public_key_sha256']}"
        wanted.append(Record(f"_25._tcp.{apex}", "TLSA", (value,), _judge_tlsa, required=False, signed=True))
    # RFC 8314 section 5.1, RFC 6186.
    for service, port in (("submission", 587), ("submissions", 465), ("imap", 143), ("imaps", 993)):
        wanted.append(Record(f"_{service}._tcp.{apex}", "SRV", (f"0 1 {port} {apex}",), _judge_srv, required=False))
    operator = settings["privacy_mail"]
    # RFC 8460 section 3. The relay itself would refuse reports: they are not encrypted.
    if operator and not operator.endswith(f"@{domain}"):
        value = f"v=TLSRPTv1;rua=mailto:{operator}"
        wanted.append(Record(f"_smtp._tls.{apex}", "TXT", (value,), _judge_tags, required=False))
    return wanted


def _strings(text):
    """Cut ``text`` into quoted strings of at most 255 octets (RFC 1035 section 3.3.14); an escape is one octet."""
    octets = re.findall(r"\\\d{3}|\\.|.", text)
    return " ".join('"' + "".join(octets[start : start + 255]) + '"' for start in range(0, len(octets) or 1, 255))


def _data(record, value):
    return _strings(value) if record.type == "TXT" else value


def _zone_lines(record):
    """The lines of a zone file (RFC 1035 section 5.1) for ``record``; a comment where its values are not known."""
    if record.values is None:
        return [f"; {record.name} {record.type}: {_UNKNOWN[record.judge]}"]
    return [
        f"{record.name:<40} {TTL_S:<6} IN {record.type:<5} {_data(record, value)}".rstrip() for value in record.values
    ]


def _zone(wanted):
    lines = []
    for title, group in (
        ("Required DNS entries", [record for record in wanted if record.required]),
        ("Recommended DNS entries", [record for record in wanted if not record.required and not record.signed]),
        ("Recommended where the zone is signed (DNSSEC)", [record for record in wanted if record.signed]),
    ):
        if group:
            lines += [f"; {title}", *(line for record in group for line in _zone_lines(record))]
    return "".join(f"{line}\n" for line in lines)


# --- What is served, compared with what is wanted ---


@dataclasses.dataclass(frozen=True)
class Answer:
    """
    What a server says to one question: ``aliases`` are the names that CNAME records led to, ``values`` as in
    ``Record``; ``problem`` says why there is no answer.
    """

    values: tuple = ()
    aliases: tuple = ()
    problem: str = ""


_BAD = ("missing", "wrong", "unknown")


def _judge_addresses(record, answer, addresses):
    if not answer.values:
        return "missing", ""
    if record.values is None:
        return "ok", "not compared with the host, which does not know it (public_addresses)"
    if foreign := sorted(set(answer.values) - set(record.values)):
        return "wrong", f"{', '.join(foreign)} is no public address of the relay (see the setting public_addresses)"
    if absent := sorted(set(record.values) - set(answer.values)):
        return "differs", f"the relay also has {', '.join(absent)}"
    return "ok", ""


def _judge_alias(record, answer, addresses):
    """A name that must lead to the relay: by CNAME as wanted, or by addresses or other names that end there."""
    if record.values[0] in answer.aliases:
        return "ok", ""
    if not answer.values:
        if answer.aliases:
            return "wrong", f"it leads to {answer.aliases[-1]}, which has no address"
        return "missing", ""
    if set(answer.values) <= addresses.get(record.values[0], set()):
        return "ok", "by its addresses"
    return "wrong", f"it leads to addresses other than those of {record.values[0]}"


def _judge_mx(record, answer, addresses):
    if not answer.values:
        return "missing", ""
    apex = record.name
    found = [(int(preference), target) for preference, target in (value.split() for value in answer.values)]
    best = min(preference for preference, _ in found)
    elsewhere = [
        (preference, target)
        for preference, target in found
        if target != apex and not (addresses.get(target) and addresses[target] <= addresses.get(apex, set()))
    ]
    if any(preference == best for preference, _ in elsewhere):
        return "wrong", "mail goes to another host"
    if elsewhere:
        names = ", ".join(target for _, target in elsewhere)
        return "differs", f"while the relay is down, mail goes to {names}, which must pass it on unchanged"
    return "ok", ""


def _tags(text):
    """Return the tags of ``text`` (RFC 6376 section 3.2) by name; empty if it is no tag list."""
    tags = {}
    for item in text.strip().rstrip(";").split(";"):
        name, equals, value = item.partition("=")
        if not equals or name.strip() in tags:
            return {}
        tags[name.strip()] = value.strip()
    return tags


def _judge_tags(record, answer, addresses):
    """One text whose tags say at least what is wanted; the first tag tells it from texts of other purposes."""
    wanted = _tags(record.values[0])
    marker = next(iter(wanted))
    found = [tags for text in answer.values if marker in (tags := _tags(text))]
    if marker == "v":
        found = [tags for tags in found if tags["v"].casefold() == wanted["v"].casefold()]
    if not found:
        return "missing", ""
    if len(found) > 1:
        return "wrong", "there must be one only: with several, all are ignored"
    other = [name for name, value in wanted.items() if found[0].get(name, "").casefold() != value.casefold()]
    if other:
        return "wrong", f"{', '.join(other)} should be as wanted"
    extra = [name for name in found[0] if name not in wanted]
    return ("differs", f"further tags: {', '.join(extra)}") if extra else ("ok", "")


def _judge_mta_sts(record, answer, addresses):
    found = [tags for text in answer.values if (tags := _tags(text)).get("v") == "STSv1"]
    if not found:
        return "missing", ""
    if len(found) > 1:
        return "wrong", "there must be one only: with several, all are ignored"
    published = found[0].get("id", "")
    if not re.fullmatch(r"[A-Za-z0-9]{1,32}", published):
        return "wrong", "id must be 1 to 32 letters and digits"
    if published != _tags(record.values[0])["id"]:
        return "differs", "if the policy was changed since, other servers do not notice before the id changes"
    return "ok", ""


def _judge_dkim(record, answer, addresses):
    """The key that signs is published (RFC 6376 section 3.6.1), in whatever spelling."""
    found = [tags for text in answer.values if "p" in (tags := _tags(text))]
    if not found:
        return ("wrong", "it is no DKIM key") if answer.values else ("missing", "")
    if len(answer.values) > 1:
        return "wrong", "there must be one only: verifiers take any one of them"
    tags = {name: re.sub(r"\s", "", value) for name, value in found[0].items()}
    wanted = _tags(record.values[0])
    if tags["p"] != wanted["p"]:
        return "wrong", "it is not the key with which this host signs" if tags["p"] else "the key is revoked"
    if tags.get("v", "DKIM1") != "DKIM1" or tags.get("k", "rsa").casefold() != "rsa":
        return "wrong", "v must be DKIM1 and k rsa"
    if not {"*", "email"} & set(tags.get("s", "*").split(":")) or "sha256" not in tags.get("h", "sha256").split(":"):
        return "wrong", "it does not allow e-mail (s=email) or sha256 (h=sha256)"
    if "y" in tags.get("t", "").split(":"):
        return "differs", "t=y tells others that signatures are a test"
    return "ok", ""


def _judge_withdrawn(record, answer, addresses):
    return ("wrong", "its time is over") if answer.values else ("ok", "")


def _judge_spf(record, answer, addresses):
    """RFC 7208. The mechanisms that can let this host through are not evaluated beyond ``a``."""
    found = [text.casefold().split() for text in answer.values if re.match(r"v=spf1( |$)", text, re.IGNORECASE)]
    if not found:
        return "missing", ""
    if len(found) > 1:
        return "wrong", "there must be one only: with several, all are in error (RFC 7208 section 4.5)"
    terms = [term.removeprefix("+") for term in found[0][1:]]
    if terms == record.values[0].split()[1:]:
        return "ok", ""
    permits = ("a", "mx", "ip4:", "ip6:", "include:", "exists:", "redirect=", "all")
    if not any(term == one or (one[-1] in ":=" and term.startswith(one)) for term in terms for one in permits) and (
        f"a:{record.name.rstrip('.')}" not in terms
    ):
        return "wrong", "it does not let this host send"
    return "differs", "fine if it lets this host send"


def _issuer(value):
    """Issuer domain and parameters of the value of a CAA record (RFC 8659 section 4.2), or None for other tags."""
    match = re.fullmatch(r'\d+ issue "(.*)"', value, re.IGNORECASE)
    if match is None:
        return None
    domain, *parameters = (part.strip() for part in match[1].split(";"))
    return domain.casefold(), frozenset(part for part in parameters if part)


def _judge_caa(record, answer, addresses):
    wanted = _issuer(record.values[0])
    found = [issuer for value in answer.values if (issuer := _issuer(value))]
    if not found:
        return "missing", ""
    if wanted not in found:
        return "wrong", "the certificate authority would refuse to issue to this host's account"
    if len(found) > 1:
        return "differs", "other authorities or accounts may issue for this domain too"
    return "ok", ""


def _judge_srv(record, answer, addresses):
    if not answer.values:
        return "missing", ""
    if record.values == answer.values:
        return "ok", ""
    # Port and target.
    if {tuple(value.split()[2:]) for value in answer.values} == {tuple(record.values[0].split()[2:])}:
        return "ok", "with another priority or weight"
    return "wrong", "it leads elsewhere"


def _judge_tlsa(record, answer, addresses):
    """RFC 7672: any one association that matches is enough for a sender."""
    if not answer.values:
        return "missing", ""
    if record.values[0].casefold() in {value.casefold() for value in answer.values}:
        return "ok", ""
    return "wrong", "senders that use DANE refuse to deliver: it is not this host's key"


_UNKNOWN = {
    _judge_addresses: "the public address of the host; it does not know it (setting public_addresses)",
    _judge_dkim: "the host has no key yet; an apply of chatmail.opendkim makes it",
}


def _enter(record):
    """What to enter at the provider: lines of a zone file, a long text also in one piece, for forms that want it so."""
    lines = _zone_lines(record)
    if record.type == "TXT":
        lines += [f"; in one piece: {value}" for value in record.values if _strings(value) != f'"{value}"']
    return "\n".join(lines)


_DO = {"missing": "Enter it.", "wrong": "Replace it."}


def _shown(record, answer):
    values = [*(f"CNAME {name}" for name in answer.aliases), *(_data(record, value) for value in answer.values)]
    return ", ".join(values) or "nothing"


def _line(record, answers, addresses):
    """
    Compare what all servers say (``answers``: ``Answer`` by server) with ``record``.

    Returns a mapping: ``record``, ``status`` (ok, differs, missing, wrong, unknown), ``wanted``, ``found``, and where
    something is to be said or done, ``remark`` and ``do``, and what to ``enter`` at the provider.
    """
    wanted = ", ".join(_data(record, value) for value in record.values or ()) or "none"
    line = {"record": f"{record.name} {record.type}", "status": "unknown", "wanted": wanted, "found": "nothing"}
    served = {server: answer for server, answer in answers.items() if not answer.problem}
    if record.values is None:
        line["wanted"] = _UNKNOWN[record.judge]
        if record.judge is not _judge_addresses:
            return line | {"do": f"Not compared: {_UNKNOWN[record.judge]}."}
    if not served:
        problems = "; ".join(f"{server} {answer.problem}" for server, answer in answers.items())
        return line | {"remark": problems, "do": "See that the zone's name servers answer, then check again."}
    verdicts = {answer: record.judge(record, answer, addresses) for answer in served.values()}
    ranked = ("missing", "wrong", "differs", "ok")
    answer = min(verdicts, key=lambda one: ranked.index(verdicts[one][0]))
    status, remark = verdicts[answer]
    line |= {"status": status, "found": _shown(record, answer)}
    if len({(verdict[0], _shown(record, one)) for one, verdict in verdicts.items()}) > 1:
        said = "; ".join(f"{server} has {_shown(record, one)}" for server, one in served.items())
        remark = f"the servers disagree: {said}"
    if remark:
        line["remark"] = remark
    if status in ("missing", "wrong"):
        line["do"] = _DO[status] if record.values else "Remove it."
        if status == "missing" and record.values is None:
            line["do"] = f"Enter {_UNKNOWN[record.judge]}."
        if record.values:
            line["enter"] = _enter(record)
        if len(verdicts) > 1 and "ok" in {verdict[0] for verdict in verdicts.values()}:
            line["do"] = f"Wait until all servers have it. If that takes longer than an hour: {line['do']}"
    return line


def _judged(wanted, answers, addresses):
    """
    Return the lines about required and about recommended records, two lists.

    One address is required, of either family. A family that the relay does not have and nobody published is no line.
    """
    lines = {True: [], False: []}
    families = [record for record in wanted if record.type in ("A", "AAAA") and record.judge is _judge_addresses]
    reachable = any(_line(record, answers[record], addresses)["status"] in ("ok", "differs") for record in families)
    for record in wanted:
        line = _line(record, answers[record], addresses)
        required = record.required
        if record in families and line["status"] == "missing":
            other_family = next(family for family in families if family is not record)
            if record.values == () or (record.values is None and reachable):
                continue
            required = not reachable or not other_family.values
        lines[required].append(line)
    return lines[True], lines[False]


# --- Look-ups ---


class _Unanswered(Exception):
    """No answer; its text is a predicate for the server or name: "does not answer"."""


@dataclasses.dataclass(frozen=True)
class Server:
    """An address of a name server."""

    name: str
    address: str

    def __str__(self):
        return f"{self.name} ({self.address})" if self.name else self.address


@dataclasses.dataclass(frozen=True)
class Zone:
    """A zone's name (text, absolute) and its servers, as its parent and the zone itself name them."""

    apex: str
    servers: tuple


def _printable(data):
    """``data`` (bytes) as text, with the escapes of RFC 1035 section 5.1: nothing in it steers a terminal."""
    text = "".join(chr(byte) if 32 <= byte < 127 else f"\0{byte:03}" for byte in data)
    return re.sub(r'(["\\])', r"\\\1", text).replace("\0", "\\")


def _values(rrset):
    """The data of ``rrset`` as ``Record`` has it, sorted."""
    if rrset.rdtype == dns.rdatatype.TXT:
        return tuple(sorted(_printable(b"".join(rdata.strings)) for rdata in rrset))
    if rrset.rdtype in (dns.rdatatype.MX, dns.rdatatype.SRV):
        return tuple(sorted(rdata.to_text().lower() for rdata in rrset))
    return tuple(sorted(rdata.to_text() for rdata in rrset))


class _Walk:
    """
    Look-ups at authoritative servers, from ``start`` (addresses of root servers) down; what was learned is kept.

    All together end after ``seconds``. A server that was silent for all of ``PATIENCE_S`` is not asked again.
    """

    def __init__(self, start, seconds, port):
        self._end = time.monotonic() + seconds
        self._port = port
        self._slow = set()
        self._silent = {}
        self._zones = {dns.name.root: Zone(".", tuple(Server("", address) for address in start))}
        self._complete = set()
        # One walk at a time: the next one finds what this one has learned.
        self._walking = RLock()

    def _ask(self, server, name, rdtype, patience=None):
        """
        Ask one server one question and return its response (``dns.message.Message``).

        Raises ``_Unanswered`` where it stays silent for the times in ``patience`` (s; by default PATIENCE_S), cannot
        be reached, or refuses.
        """
        if server.address in self._silent:
            raise _Unanswered(self._silent[server.address])
        query = dns.message.make_query(name, rdtype, use_edns=0, payload=UDP_PAYLOAD)
        query.flags &= ~dns.flags.RD
        problem = "was not asked: time is up"
        for seconds in patience or PATIENCE_S:
            timeout = min(seconds, self._end - time.monotonic())
            if timeout <= 0:
                break
            try:
                response, _ = dns.query.udp_with_fallback(
                    query, server.address, timeout, self._port, ignore_unexpected=True
                )
            except dns.exception.Timeout:
                problem = "does not answer"
                self._slow.add(server.address)
                continue
            except OSError as error:
                problem = f"cannot be reached: {error.strerror or error}"
                break
            except (dns.exception.DNSException, EOFError) as error:
                problem = f"answers nonsense: {error}"
                continue
            if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return response
            problem = f"answers {dns.rcode.to_text(response.rcode())}"
        if problem == "does not answer" and patience is None:
            self._silent[server.address] = problem
        raise _Unanswered(problem)

    def _quick_first(self, servers):
        return sorted(servers, key=lambda server: server.address in self._slow)

    def _first(self, servers, name, rdtype):
        """The first useful response of ``servers``, and who gave it; each is asked briefly, then with more patience."""
        problems = {}
        for patience in PATIENCE_S[:2]:
            for server in self._quick_first(servers):
                try:
                    response = self._ask(server, name, rdtype, (patience,))
                except _Unanswered as error:
                    problems[server] = f"{server} {error}"
                else:
                    if response.flags & dns.flags.AA or response.authority:
                        return response, server
                    problems[server] = f"{server} is not responsible for {name}"
        raise _Unanswered("; ".join(problems.values()) or "none has an address")

    def _servers(self, names, additional, depth):
        """The servers ``names`` with their addresses: from ``additional`` (RRsets), or looked up."""
        glue = {}
        for rrset in additional:
            if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                glue.setdefault(rrset.name, []).extend(_values(rrset))
        servers = []
        for name in sorted(names)[:MAX_SERVERS]:
            found = glue.get(name) or self._addresses(name, depth + 1)
            servers += [Server(name.to_text().lower(), address) for address in found]
        return tuple(servers[:MAX_SERVERS])

    def _addresses(self, name, depth):
        try:
            return [value for rdtype in ("A", "AAAA") for value in self.lookup(name, rdtype, depth).values]
        except _Unanswered:
            return []

    def zone(self, name, depth=0):
        """
        Return the ``Zone`` that holds ``name`` (``dns.name.Name``), by following the delegation.

        Raises ``_Unanswered`` where it leads to no server that answers.
        """
        with self._walking:
            known = [apex for apex in self._zones if name.is_subdomain(apex)]
            apex = max(known, key=len)
            for _ in range(MAX_STEPS - depth):
                zone = self._zones[apex]
                try:
                    response, server = self._first(zone.servers, name, "SOA")
                except _Unanswered as error:
                    raise _Unanswered(f"of the servers of {zone.apex} none answers: {error}") from error
                sets = {rrset.rdtype: rrset for rrset in response.authority + response.answer}
                if response.flags & dns.flags.AA:
                    soa = sets.get(dns.rdatatype.SOA)
                    # A server may serve the child beside the parent, and then does not refer to it.
                    own = soa.name if soa is not None and name.is_subdomain(soa.name) else apex
                    if own not in self._complete:
                        self._complete.add(own)
                        self._zones[own] = self._with_own_servers(own, zone, server, depth)
                    return self._zones[own]
                referral = sets.get(dns.rdatatype.NS)
                if (
                    referral is None
                    or referral.name == apex
                    or not (name.is_subdomain(referral.name) and referral.name.is_subdomain(apex))
                ):
                    raise _Unanswered(f"{server} neither knows {name} nor who does")
                names = {rdata.target for rdata in referral}
                apex = referral.name
                self._zones[apex] = Zone(apex.to_text().lower(), self._servers(names, response.additional, depth))
            raise _Unanswered("the delegation leads nowhere")

    def _with_own_servers(self, apex, delegated, server, depth):
        """The zone ``apex`` with the servers that it names itself (asked at ``server``) beside those of its parent."""
        text = apex.to_text().lower()
        parents = delegated.servers if delegated.apex == text else ()
        self._zones[apex] = Zone(text, parents or (server,))
        try:
            response = self._ask(server, apex, "NS")
        except _Unanswered:
            return self._zones[apex]
        names = {rdata.target for rrset in response.answer if rrset.rdtype == dns.rdatatype.NS for rdata in rrset}
        own = self._servers(names, response.additional, depth)
        addresses = {one.address for one in own}
        servers = own + tuple(one for one in parents if one.address not in addresses)
        return Zone(text, servers[:MAX_SERVERS] or (server,))

    def _answer(self, server, name, rdtype, depth):
        """What ``server`` says to one question, aliases followed to other zones' servers (RFC 1034 section 5.3.3)."""
        try:
            response = self._ask(server, name, rdtype)
        except _Unanswered as error:
            return Answer(problem=str(error))
        if not response.flags & dns.flags.AA:
            return Answer(problem="is not responsible for the zone that it should serve")
        try:
            chain = response.resolve_chaining()
        except dns.message.AnswerForNXDOMAIN:
            return Answer(problem="says both that the name exists and that it does not")
        except (dns.message.ChainTooLong, dns.message.NotQueryResponse) as error:
            return Answer(problem=f"answers nonsense: {error}")
        aliases = tuple(rdata.target.to_text().lower() for rrset in chain.cnames for rdata in rrset)
        if chain.answer is not None:
            return Answer(_values(chain.answer), aliases)
        if not aliases:
            return Answer()
        try:
            rest = self.lookup(chain.canonical_name, rdtype, depth + 1)
        except _Unanswered as error:
            return Answer(problem=f"leads to {aliases[-1]}, but {error}")
        return Answer(rest.values, aliases + rest.aliases)

    def everywhere(self, name, rdtype):
        """Ask all servers of the zone of ``name`` at the same time. Returns ``Answer`` by ``Server``."""
        servers = self.zone(name).servers
        with ThreadPoolExecutor(len(servers)) as pool:
            answers = pool.map(lambda server: self._answer(server, name, rdtype, 0), servers)
            return dict(zip(servers, answers, strict=True))

    def lookup(self, name, rdtype, depth=0):
        """The ``Answer`` of any server of the zone of ``name``. Raises ``_Unanswered`` if none has one."""
        if depth >= MAX_STEPS:
            raise _Unanswered("there are too many aliases")
        problems = []
        for server in self._quick_first(self.zone(name, depth).servers):
            answer = self._answer(server, name, rdtype, depth)
            if not answer.problem:
                return answer
            problems.append(f"{server} {answer.problem}")
        raise _Unanswered("; ".join(problems))

    def signed(self, name):
        """
        Whether a chain of signatures can lead to ``name``: each parent, up to the root, has a DS record for the zone
        below it (RFC 4035 section 5). The signatures are for resolvers to verify.
        """
        apex = self.zone(name).apex
        while (child := dns.name.from_text(apex)) != dns.name.root:
            parent = self.zone(child.parent())
            response, _ = self._first(parent.servers, child, "DS")
            if not any(rrset.rdtype == dns.rdatatype.DS for rrset in response.answer):
                return False
            apex = parent.apex
        return True


def _answers(walk, record):
    """What each server says to ``record``; that an alias leads to the relay shows in its addresses."""
    name = dns.name.from_text(record.name)
    try:
        if record.type != "CNAME":
            return walk.everywhere(name, record.type)
        both = [walk.everywhere(name, rdtype) for rdtype in ("A", "AAAA")]
    except _Unanswered as error:
        return {"the delegation": Answer(problem=f"was not followed to its end: {error}")}
    return {
        server: Answer(ipv4.values + ipv6.values, ipv4.aliases or ipv6.aliases, ipv4.problem or ipv6.problem)
        for server, ipv4, ipv6 in ((server, answer, both[1][server]) for server, answer in both[0].items())
    }


def _found_addresses(walk, wanted, answers):
    """Published addresses, by name: those of the relay, and of other hosts that receive its mail."""
    addresses = {}
    for record in wanted:
        for answer in answers[record].values():
            if record.type in ("A", "AAAA"):
                addresses.setdefault(record.name, set()).update(answer.values)
            if record.type == "MX":
                for value in answer.values:
                    target = value.split()[1]
                    if target not in (record.name, ".") and target not in addresses:
                        addresses[target] = set(walk._addresses(dns.name.from_text(target), 0))
    return addresses


# What a terminal has at least, less what `make apply` indents by.
WIDTH = 80 - 6


def _cut(text):
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _told(line, bad_mark, name_width):
    """The lines of text about one record (see :func:`_line`): one where all is well or nothing is there."""
    name, rdtype = line["record"].split()
    head = f"{'✓' if line['status'] not in _BAD else bad_mark} {rdtype:<5} {name:<{name_width}}  "
    remark = line.get("remark", "")
    if line["status"] not in _BAD:
        return [_cut(head + line["found"]), *([_wrapped(_INDENT + remark)] if remark else [])]
    if line["status"] == "missing" and not remark:
        return [_cut(f"{head}missing: {line['wanted']}")]
    texts = [_wrapped(f"{head}{line['status']}{': ' if remark else ''}{remark}")]
    texts += [_cut(f"{_INDENT}{what:<7} {line[what]}") for what in ("wanted", "found") if line["status"] != "unknown"]
    return [*texts, _wrapped(_INDENT + line["do"])]


_INDENT = " " * len("✓ CNAME ")


def _wrapped(text):
    return textwrap.fill(text, WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)


def _report(required, recommended, publishable):
    """
    The text about all lines (see :func:`_line`), for people: data that is too long for a line of a terminal is cut, and
    what is to be entered follows as a whole, unless the records are ``publishable`` from here.
    """
    lines = required + recommended
    if not lines:
        return ""
    width = max(len(line["record"].split()[0]) for line in lines)
    parts = []
    for title, mark, group in (("Required", "✗", required), ("Recommended", "!", recommended)):
        if group:
            parts.append("\n".join([title, *(text for line in group for text in _told(line, mark, width))]))
    entries = [line["enter"] for line in lines if "enter" in line]
    if entries and publishable:
        parts.append("An apply publishes what is missing or wrong, and so does chatmail_dns.publish.")
    elif entries:
        instead = ", in place of what is wrong" if any(line["status"] == "wrong" for line in lines) else ""
        parts += [f"Enter at the provider of the domain{instead}:", "\n".join(entries)]
    return "\n\n".join(parts)


def _by_record(lines):
    return {line["record"]: {key: text for key, text in line.items() if key != "record"} for line in lines}


class _Survey:
    """
    What all authoritative servers say to all of ``wanted``, asked at the same time.

    start
        Addresses of the servers with which to begin; a domain is asked there and where they refer to.
    port
        Port of all servers.
    seconds
        Time for everything.
    """

    NOTHING = {"success": True, "servers": {}, "required": {}, "recommended": {}, "unpublished": []}

    def __init__(self, wanted, start, port=53, seconds=CHECK_S):
        self.walk = _Walk(start, seconds, port)
        wanted = [record for record in wanted if not record.signed or self._is_signed(record)]
        with ThreadPoolExecutor(len(wanted)) as pool:
            answers = pool.map(lambda record: _answers(self.walk, record), wanted)
            self.answers = dict(zip(wanted, answers, strict=True))
        addresses = _found_addresses(self.walk, wanted, self.answers)
        self.required, self.recommended = _judged(wanted, self.answers, addresses)

    def _is_signed(self, record):
        try:
            return self.walk.signed(dns.name.from_text(record.name))
        except _Unanswered:
            # The lines about the zone's other records tell.
            return False

    def servers(self):
        """State of each server, by name."""
        states = {}
        for answers in self.answers.values():
            for server, answer in answers.items():
                if answer.problem or str(server) not in states:
                    states[str(server)] = answer.problem or "answers"
        return states

    def unpublished(self):
        """The records that are to be published, by their line."""
        records = {f"{record.name} {record.type}": record for record in self.answers}
        return [
            (line, record)
            for line in self.required + self.recommended
            if (record := records[line["record"]]).values is not None
            and (
                line["status"] in ("missing", "wrong")
                or (line["status"] == "differs" and record.judge is _judge_mta_sts)
            )
        ]

    def as_result(self, publishable=False):
        """What ``check`` returns; ``publishable`` where the records can be published from here."""
        bad = sum(line["status"] in _BAD for line in self.required)
        result = "All required records are right."
        if bad:
            result = f"{bad} of {len(self.required)} required records {'is' if bad == 1 else 'are'} not right."
        return {
            "success": not bad,
            "result": result,
            "report": f"{_report(self.required, self.recommended, publishable)}\n\n{result}",
            "servers": self.servers(),
            "required": _by_record(self.required),
            "recommended": _by_record(self.recommended),
            "unpublished": [line["record"] for line, _ in self.unpublished()],
        }


# --- Publication (RFC 2136, signed as of RFC 8945) ---


def _read_key(path):
    """
    Return (key name, algorithm, secret) of a TSIG key file as tsig-keygen(8) writes it.

    Raises ``CommandExecutionError``, never with the content of the file.
    """
    try:
        if Path(path).stat().st_mode & 0o077:
            raise CommandExecutionError(f"{path} is open to other users of this machine: chmod 600 {path}")
        match = _KEY_FILE.fullmatch(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandExecutionError(f"cannot read the TSIG key file {path}: {error}") from None
    if match is None:
        raise CommandExecutionError(
            f"{path} is no TSIG key file. It must hold one key as tsig-keygen writes it: "
            'key "name" { algorithm hmac-sha256; secret "..."; };'
        )
    return match["name"], match["algorithm"], match["secret"]


def _kept(record, values):
    """Those of the published ``values`` of the same name and type that have another purpose."""
    if record.type == "CAA":
        issuer = _issuer(record.values[0])[0]
        return [value for value in values if (_issuer(value) or ("",))[0] != issuer]
    if record.judge is _judge_spf:
        return [value for value in values if not re.match(r"v=spf1( |$)", value, re.IGNORECASE)]
    return []


def _change(message, record, answers):
    """Add to ``message`` (``dns.update.UpdateMessage``) what makes ``record`` served instead of ``answers``."""
    name = dns.name.from_text(record.name)
    if record.type == "CNAME":
        # Beside an alias there can be nothing else (RFC 1034 section 3.6.2).
        message.delete(name, "A")
        message.delete(name, "AAAA")
    values = [*record.values, *_kept(record, sorted({value for answer in answers for value in answer.values}))]
    if values:
        message.replace(name, TTL_S, record.type, *(_data(record, value) for value in values))
    else:
        message.delete(name, record.type)


def _send_updates(survey, changes, server, key_file, port):
    """Send the update for each zone. Raises ``CommandExecutionError`` where ``server`` (address) does not take it."""
    name, algorithm, secret = _read_key(key_file)
    try:
        keyring = dns.tsigkeyring.from_text({name: secret})
        messages = {}
        for _, record in changes:
            apex = survey.walk.zone(dns.name.from_text(record.name)).apex
            if apex not in messages:
                messages[apex] = dns.update.UpdateMessage(apex, keyring=keyring, keyalgorithm=algorithm)
            _change(messages[apex], record, survey.answers[record].values())
    except ValueError as error:
        raise CommandExecutionError(f"the secret in {key_file} is no base64 text") from error
    except _Unanswered as error:
        raise CommandExecutionError(f"cannot tell in which zone to publish: {error}") from error
    for apex, message in messages.items():
        try:
            rcode = dns.query.tcp(message, server, timeout=PATIENCE_S[-1], port=port).rcode()
        # dnspython raises NotImplementedError for a key file with a TSIG algorithm that it does not know.
        except (dns.exception.DNSException, OSError, EOFError, NotImplementedError) as error:
            raise CommandExecutionError(
                f"the DNS server {server} took no update of {apex} with the key {name}: {error or type(error).__name__}"
            ) from error
        if rcode != dns.rcode.NOERROR:
            raise CommandExecutionError(
                f"the DNS server {server} refused the update of {apex}: {dns.rcode.to_text(rcode)}. "
                f"Does it let the key {name} change this zone?"
            )


def _publish(wanted, start, server, key_file, *, seconds, port=53):
    """
    Publish those of ``wanted`` that are not served as they should, and wait until all authoritative servers do.

    Returns changes, ``{"old": ..., "new": ...}`` by record. Raises ``CommandExecutionError``.
    """
    survey = _Survey(wanted, start, port)
    changes = survey.unpublished()
    if not changes:
        return {}
    _send_updates(survey, changes, server, key_file, port)
    end = time.monotonic() + seconds
    published = [record for _, record in changes]
    # What others are compared with: which addresses are the relay's.
    watched = [record for record in wanted if record in published or record.judge is _judge_addresses]
    pause = 0.5
    while left := _Survey(watched, start, port).unpublished():
        if time.monotonic() + pause > end:
            lines = [f"{line['record']}: {line.get('remark') or line['status']}" for line, _ in left]
            raise CommandExecutionError(
                f"{server} took the update, but after {seconds} s the authoritative servers do not serve it:\n"
                + "\n".join(lines)
                + "\nDoes the server notify them (RFC 1996)? Check again with chatmail_dns.check."
            )
        time.sleep(pause)
        pause = min(2 * pause, 8)
    return {
        line["record"]: {"old": line["found"], "new": ", ".join(_data(record, value) for value in record.values)}
        for line, record in changes
    }


# --- A host's request to the machine that has the key ---


def _request(facts, initial, seconds):
    """
    Have the records published by the salt-ssh that applies states to this host, and return the changes by record.

    Raises ``CommandExecutionError`` where none listens, it could not publish, or gives no answer in ``seconds``.
    """
    with contextlib.ExitStack() as stack:
        try:
            # Opening a FIFO so fails where nobody reads it (fifo(7)): what an ended salt-ssh left is no listener.
            request = os.open(REQUESTS / "request", os.O_WRONLY | os.O_NONBLOCK)
            stack.callback(os.close, request)
            answer = os.open(REQUESTS / "answer", os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, answer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                raise CommandExecutionError(
                    "the TSIG key (dns_update_key_file) is not on this machine, "
                    "and no salt-ssh that could publish is connected"
                ) from None
            raise CommandExecutionError(f"cannot ask for publication: {error}") from error
        os.write(request, json.dumps({"facts": facts, "initial": initial}).encode() + b"\n")
        end = time.monotonic() + seconds
        text = b""
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([answer], [], [], max(0, end - time.monotonic()))
            if not readable:
                raise CommandExecutionError(f"the machine on which salt-ssh runs gave no answer in {seconds} s")
            try:
                chunk = os.read(answer, 65536)
            except BlockingIOError:
                continue
            if not chunk:
                raise CommandExecutionError("the connection to the machine on which salt-ssh runs has ended")
            text += chunk
    result = json.loads(text)
    if "error" in result:
        raise CommandExecutionError(result["error"])
    return result["published"]


# --- What operators call ---


def _settings():
    """What ``map.jinja`` makes of the pillar."""
    return __salt__["slsutil.renderer"](string=_SETTINGS, default_renderer="jinja|json")


def facts(settings=None):
    """
    Return what only the host knows of its records: ``ipv4`` and ``ipv6`` addresses, the ``dkim`` records and, of its
    ``certificate``, what ``chatmail_cert.facts`` returns; each none where it is not known.

    settings
        Those of ``map.jinja``; by default, what it makes of this host's pillar.

    CLI Example:

    .. code-block:: bash

        salt-call --local chatmail_dns.facts
    """
    settings = settings or _settings()
    try:
        dkim = __salt__["chatmail_dkim.records"]()
    except (CommandExecutionError, KeyError):
        # Before the first apply there is neither a key nor what reads it.
        dkim = None
    try:
        certificate = __salt__["chatmail_cert.facts"](settings["tls_cert_path"])
    except (CommandExecutionError, KeyError):
        certificate = None
    ipv4, ipv6 = _public_addresses(settings, {key: __salt__["grains.get"](key, []) for key in ("ipv4", "ipv6")})
    return {"ipv4": ipv4, "ipv6": ipv6, "dkim": dkim, "certificate": certificate}


def _relay(settings, known=None, initial=False):
    """
    Return the settings (the pillar's, unless they are given) and the records that are wanted; for a relay whose mail
    domain is an address, none.

    ``known`` are :func:`facts`, as they are or as JSON has them.
    """
    settings = settings or _settings()
    if settings["ipv4_relay"]:
        return settings, []
    known = known or facts(settings)
    ipv4, ipv6 = (None if known[family] is None else tuple(known[family]) for family in ("ipv4", "ipv6"))
    wanted = _wanted(settings, ipv4, ipv6, known["dkim"], known["certificate"])
    return settings, [record for record in wanted if record.initial or not initial]


def _nothing(settings):
    return f"The mail domain is the address {settings['ipv4_relay']}: it needs no DNS records."


def _start(settings):
    return settings["dns_root_servers"] or ROOT_SERVERS


def _publishable(settings):
    return bool(settings["dns_update_server"] and settings["dns_update_key_file"])


def records(settings=None):
    """
    Return the records that a relay must have (``required``) and should have, each a mapping: ``name``, ``type``,
    ``values`` (TXT in one piece; none where they are not known) and ``required``.

    settings
        Those of ``map.jinja``; by default, what it makes of this host's pillar.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.records
    """
    return [
        {"name": one.name, "type": one.type, "values": list(one.values or ()), "required": one.required}
        for one in _relay(settings)[1]
    ]


def zone(settings=None, file=None):
    """
    Return the records as text of a zone file (RFC 1035 section 5.1), to be imported at a provider.

    settings
        As in :func:`records`.
    file
        Path of a file to which the text is written; by default, none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.zone file=relay.zone
    """
    settings, wanted = _relay(settings)
    text = _zone(wanted) if wanted else f"; {_nothing(settings)}\n"
    if file:
        Path(file).write_text(text)
    return text


def check(settings=None, known=None, initial=False):
    """
    Compare what the domain's authoritative servers say, all of them, with what is wanted.

    settings
        As in :func:`records`.
    known
        Result of :func:`facts`; by default, this host's.
    initial
        Only what a certificate authority needs to find.

    Returns a mapping: ``success``, whether all required records are right; ``result``, the same in words; ``report``,
    the text for people; ``servers``, which answer; ``required`` and ``recommended``, by record mappings with
    ``status``, ``wanted``, ``found``, and where there is something to say or to do, ``remark``, ``do`` and the lines to
    ``enter``; ``unpublished``, the records that :func:`publish` would change. A ``status`` is ok, differs (works, in
    another way), missing, wrong, or unknown. The exit code is 1 unless all required records are right. It takes 30 s at
    most.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.check
    """
    settings, wanted = _relay(settings, known, initial)
    if not wanted:
        return _Survey.NOTHING | {"result": _nothing(settings), "report": _nothing(settings)}
    return _Survey(wanted, _start(settings)).as_result(_publishable(settings))


def publish(settings=None, known=None, initial=False, seconds=120):
    """
    Publish by dynamic update (RFC 2136) the records that are missing or wrong, and wait until all authoritative servers
    serve them. Records of the same name that serve other purposes stay.

    The pillar names the server (``dns_update_server``) and a key file (``dns_update_key_file``). Where the file is not
    on this host, the salt-ssh that applies states to it is asked: the key stays on that machine.

    settings, known, initial
        As in :func:`check`.
    seconds
        How long to wait.

    Returns a mapping: ``success``; ``result`` in words: without a server, what to enter at the provider; ``published``,
    old and new by record. Raises ``CommandExecutionError`` where the update is refused or not served in time.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.publish
    """
    settings = settings or _settings()
    if settings["ipv4_relay"]:
        return {"success": True, "result": _nothing(settings), "published": {}}
    known = known or facts(settings)
    settings, wanted = _relay(settings, known, initial)
    if not _publishable(settings):
        result = _Survey(wanted, _start(settings)).as_result()
        return {"success": result["success"], "result": result["report"], "published": {}}
    server, key_file = settings["dns_update_server"], settings["dns_update_key_file"]
    if Path(key_file).exists():
        published = _publish(wanted, _start(settings), server, key_file, seconds=seconds)
    else:
        published = _request(known, initial, seconds + CHECK_S)
    after = _Survey(wanted, _start(settings)).as_result(publishable=True)
    lines = [f"Published: {', '.join(published)}." if published else "There was nothing to publish."]
    lines.append(after["result"] if after["success"] else after["report"])
    return {"success": after["success"], "result": "\n".join(lines), "published": published}
