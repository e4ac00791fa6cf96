"""
The DNS records that a relay must have and should have, and what a served one is worth beside the wanted one.

There is a class for each kind of record. It knows which values are wanted, how to judge those that are served
(``judge``), and which values of the same name and type serve other purposes and stay when it is published (``kept``).
Nothing here asks the network.
"""

import dataclasses
import re

TTL_S = 3600


@dataclasses.dataclass(frozen=True)
class Answer:
    """
    What a server says to one question: ``aliases`` are the names that CNAME records led to, ``values`` as in
    ``Record``; ``problem`` says why there is no answer.
    """

    values: tuple = ()
    aliases: tuple = ()
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """
    The records of one name and type that are wanted.

    ``name`` is absolute; ``values`` are in the presentation format of zone files (RFC 1035 section 5.1), but TXT in
    one piece and without quotes; None where they are not known. ``initial`` records are those that a certificate
    authority needs to find; ``signed`` ones are wanted only where the zone is signed.
    """

    name: str
    type: str
    values: tuple | None
    required: bool = True
    initial: bool = False
    signed: bool = False

    # What is meant where ``values`` is None, and the statuses in which the record is published.
    unknown = ""
    published_when = ("missing", "wrong")

    def judge(self, answer, addresses):
        """
        Compare what a server says (``Answer``) with this record.

        addresses
            Published addresses (set of text) by name.

        Returns a status (ok, differs, missing, wrong) and a remark, which may be empty.
        """
        raise NotImplementedError

    def kept(self, values):
        """Return those of the published ``values`` of the same name and type that have another purpose."""
        return []

    def zone_lines(self):
        """Return the lines of a zone file (RFC 1035 section 5.1); a comment where the values are not known."""
        if self.values is None:
            return [f"; {self.name} {self.type}: {self.unknown}"]
        return [f"{self.name:<40} {TTL_S:<6} IN {self.type:<5} {self.data(value)}".rstrip() for value in self.values]

    def data(self, value):
        """Return ``value`` as a zone file has it: a text cut into quoted strings."""
        return strings(value) if self.type == "TXT" else value


class Addresses(Record):
    """A or AAAA: the relay's public addresses of one family."""

    unknown = "the public address of the host; it does not know it (setting public_addresses)"

    def judge(self, answer, addresses):
        if not answer.values:
            return "missing", ""
        if self.values is None:
            return "ok", "not compared with the host, which does not know it (public_addresses)"
        if foreign := sorted(set(answer.values) - set(self.values)):
            return "wrong", f"{', '.join(foreign)} is no public address of the relay (see the setting public_addresses)"
        if absent := sorted(set(self.values) - set(answer.values)):
            return "differs", f"the relay also has {', '.join(absent)}"
        return "ok", ""


class Alias(Record):
    """CNAME: a name that must lead to the relay, by an alias as wanted, or by addresses or names that end there."""

    def judge(self, answer, addresses):
        if self.values[0] in answer.aliases:
            return "ok", ""
        if not answer.values:
            if answer.aliases:
                return "wrong", f"it leads to {answer.aliases[-1]}, which has no address"
            return "missing", ""
        if set(answer.values) <= addresses.get(self.values[0], set()):
            return "ok", "by its addresses"
        return "wrong", f"it leads to addresses other than those of {self.values[0]}"


class MailExchange(Record):
    """MX: mail goes to the relay first."""

    def judge(self, answer, addresses):
        if not answer.values:
            return "missing", ""
        apex = self.name
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


class Tags(Record):
    """TXT, one text whose tags say at least what is wanted; the first tag tells it from texts of other purposes."""

    def judge(self, answer, addresses):
        wanted = tags(self.values[0])
        marker = next(iter(wanted))
        found = [said for text in answer.values if marker in (said := tags(text))]
        if marker == "v":
            found = [said for said in found if said["v"].casefold() == wanted["v"].casefold()]
        if not found:
            return "missing", ""
        if len(found) > 1:
            return "wrong", "there must be one only: with several, all are ignored"
        other = [name for name, value in wanted.items() if found[0].get(name, "").casefold() != value.casefold()]
        if other:
            return "wrong", f"{', '.join(other)} should be as wanted"
        extra = [name for name in found[0] if name not in wanted]
        return ("differs", f"further tags: {', '.join(extra)}") if extra else ("ok", "")


class MtaSts(Record):
    """TXT: the version of the MTA-STS policy (RFC 8461 section 3.1)."""

    # A policy of another version works, but nobody would notice that it has changed.
    published_when = ("missing", "wrong", "differs")

    def judge(self, answer, addresses):
        found = [said for text in answer.values if (said := tags(text)).get("v") == "STSv1"]
        if not found:
            return "missing", ""
        if len(found) > 1:
            return "wrong", "there must be one only: with several, all are ignored"
        published = found[0].get("id", "")
        if not re.fullmatch(r"[A-Za-z0-9]{1,32}", published):
            return "wrong", "id must be 1 to 32 letters and digits"
        if published != tags(self.values[0])["id"]:
            return "differs", "if the policy was changed since, other servers do not notice before the id changes"
        return "ok", ""


class DkimKey(Record):
    """TXT: the key that signs (RFC 6376 section 3.6.1), in whatever spelling."""

    unknown = "the host has no key yet; an apply of chatmail.opendkim makes it"

    def judge(self, answer, addresses):
        found = [said for text in answer.values if "p" in (said := tags(text))]
        if not found:
            return ("wrong", "it is not a DKIM key") if answer.values else ("missing", "")
        if len(answer.values) > 1:
            return "wrong", "there must be one only: verifiers take any one of them"
        said = {name: re.sub(r"\s", "", value) for name, value in found[0].items()}
        wanted = tags(self.values[0])
        if said["p"] != wanted["p"]:
            return "wrong", "it is not the key with which this host signs" if said["p"] else "the key is revoked"
        if said.get("v", "DKIM1") != "DKIM1" or said.get("k", "rsa").casefold() != "rsa":
            return "wrong", "v must be DKIM1 and k rsa"
        if not {"*", "email"} & set(said.get("s", "*").split(":")) or "sha256" not in said.get("h", "sha256").split(
            ":"
        ):
            return "wrong", "it does not allow e-mail (s=email) or sha256 (h=sha256)"
        if "y" in said.get("t", "").split(":"):
            return "differs", "t=y tells others that signatures are a test"
        return "ok", ""


class WithdrawnKey(Record):
    """TXT: a key whose signatures are no longer on their way; nothing is to be served."""

    def judge(self, answer, addresses):
        return ("wrong", "its time is over") if answer.values else ("ok", "")


class Spf(Record):
    """TXT: who may send (RFC 7208). The mechanisms that can let this host through are not evaluated beyond ``a``."""

    def judge(self, answer, addresses):
        found = [text.casefold().split() for text in answer.values if _is_spf(text)]
        if not found:
            return "missing", ""
        if len(found) > 1:
            return "wrong", "there must be one only: with several, all are in error (RFC 7208 section 4.5)"
        terms = [term.removeprefix("+") for term in found[0][1:]]
        if terms == self.values[0].split()[1:]:
            return "ok", ""
        permits = ("a", "mx", "ip4:", "ip6:", "include:", "exists:", "redirect=", "all")
        if not any(term == one or (one[-1] in ":=" and term.startswith(one)) for term in terms for one in permits) and (
            f"a:{self.name.rstrip('.')}" not in terms
        ):
            return "wrong", "it does not let this host send"
        return "differs", "fine if it lets this host send"

    def kept(self, values):
        return [value for value in values if not _is_spf(value)]


class Caa(Record):
    """CAA: which authority may issue certificates, and to which account (RFC 8659 section 4.2, RFC 8657 section 3)."""

    def judge(self, answer, addresses):
        wanted = _issuer(self.values[0])
        found = [issuer for value in answer.values if (issuer := _issuer(value))]
        if not found:
            return "missing", ""
        if wanted not in found:
            return "wrong", "the certificate authority would refuse to issue to this host's account"
        if len(found) > 1:
            return "differs", "other authorities or accounts may issue for this domain too"
        return "ok", ""

    def kept(self, values):
        issuer = _issuer(self.values[0])[0]
        return [value for value in values if (_issuer(value) or ("",))[0] != issuer]


class Service(Record):
    """SRV: where clients find a service (RFC 8314 section 5.1, RFC 6186)."""

    def judge(self, answer, addresses):
        if not answer.values:
            return "missing", ""
        if self.values == answer.values:
            return "ok", ""
        # Port and target.
        if {tuple(value.split()[2:]) for value in answer.values} == {tuple(self.values[0].split()[2:])}:
            return "ok", "with another priority or weight"
        return "wrong", "it leads elsewhere"


class Tlsa(Record):
    """TLSA: the host's key (RFC 7672); any one association that matches is enough for a sender."""

    def judge(self, answer, addresses):
        if not answer.values:
            return "missing", ""
        if self.values[0].casefold() in {value.casefold() for value in answer.values}:
            return "ok", ""
        return "wrong", "senders that use DANE refuse to deliver: it is not this host's key"


def tags(text):
    """Return the tags of ``text`` (RFC 6376 section 3.2) by name; empty if it is not a tag list."""
    found = {}
    for item in text.strip().rstrip(";").split(";"):
        name, equals, value = item.partition("=")
        if not equals or name.strip() in found:
            return {}
        found[name.strip()] = value.strip()
    return found


def strings(text):
    """Cut ``text`` into quoted strings of at most 255 octets (RFC 1035 section 3.3.14); an escape is one octet."""
    octets = re.findall(r"\\\d{3}|\\.|.", text)
    return " ".join('"' + "".join(octets[start : start + 255]) + '"' for start in range(0, len(octets) or 1, 255))


def _is_spf(text):
    return bool(re.match(r"v=spf1( |$)", text, re.IGNORECASE))


def _issuer(value):
    """Issuer domain and parameters of the value of a CAA record (RFC 8659 section 4.2), or None for other tags."""
    match = re.fullmatch(r'\d+ issue "(.*)"', value, re.IGNORECASE)
    if match is None:
        return None
    domain, *parameters = (part.strip() for part in match[1].split(";"))
    return domain.casefold(), frozenset(part for part in parameters if part)
