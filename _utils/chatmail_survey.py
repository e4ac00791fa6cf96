"""
What all authoritative servers serve, compared with the records that are wanted: a line for each, and what to do.
"""

from concurrent.futures import ThreadPoolExecutor

import dns.name

from chatmail_authoritative import Unanswered, Walk
from chatmail_records import Addresses, Answer, strings
from chatmail_words import records_text

# For all look-ups together.
CHECK_S = 30.0
# The statuses with which a required record is not right.
BAD = ("missing", "wrong", "unknown")
_DO = {"missing": "Enter it.", "wrong": "Replace it."}


def _enter(record):
    """What to enter at the provider: lines of a zone file, a long text also in one piece, for forms that want it so."""
    lines = record.zone_lines()
    if record.type == "TXT":
        lines += [f"; in one piece: {value}" for value in record.values if strings(value) != f'"{value}"']
    return "\n".join(lines)


def _shown(record, answer):
    values = [*(f"CNAME {name}" for name in answer.aliases), *(record.data(value) for value in answer.values)]
    return ", ".join(values) or "nothing"


def _line(record, answers, addresses):
    """
    Compare what all servers say (``answers``: ``Answer`` by server) with ``record``.

    Returns a mapping: ``record``, ``status`` (ok, differs, missing, wrong, unknown), ``wanted``, ``found``, its
    ``values`` (a text in one piece), and where something is to be said or done, ``remark`` and ``do``, and what to
    ``enter`` at the provider.
    """
    wanted = ", ".join(record.data(value) for value in record.values or ()) or "none"
    line = {"record": f"{record.name} {record.type}", "status": "unknown", "wanted": wanted}
    line |= {"found": "nothing", "values": []}
    served = {server: answer for server, answer in answers.items() if not answer.problem}
    if record.values is None:
        line["wanted"] = record.unknown
        if not isinstance(record, Addresses):
            return line | {"do": f"Not compared: {record.unknown}."}
    if not served:
        problems = "; ".join(f"{server} {answer.problem}" for server, answer in answers.items())
        return line | {"remark": problems, "do": "See that the zone's name servers answer, then check again."}
    verdicts = {answer: record.judge(answer, addresses) for answer in served.values()}
    ranked = ("missing", "wrong", "differs", "ok")
    answer = min(verdicts, key=lambda one: ranked.index(verdicts[one][0]))
    status, remark = verdicts[answer]
    line |= {"status": status, "found": _shown(record, answer), "values": list(answer.values)}
    if len({(verdict[0], _shown(record, one)) for one, verdict in verdicts.items()}) > 1:
        said = "; ".join(f"{server} has {_shown(record, one)}" for server, one in served.items())
        remark = f"the servers disagree: {said}"
    if remark:
        line["remark"] = remark
    if status in ("missing", "wrong"):
        line["do"] = _DO[status] if record.values else "Remove it."
        if status == "missing" and record.values is None:
            line["do"] = f"Enter {record.unknown}."
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
    families = [record for record in wanted if record.type in ("A", "AAAA")]
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


def _answers(walk, record):
    """What each server says to ``record``; that an alias leads to the relay shows in its addresses."""
    name = dns.name.from_text(record.name)
    try:
        if record.type != "CNAME":
            return walk.everywhere(name, record.type)
        both = [walk.everywhere(name, rdtype) for rdtype in ("A", "AAAA")]
    except Unanswered as error:
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
                        addresses[target] = set(walk.addresses(dns.name.from_text(target)))
    return addresses


def _by_record(lines):
    return {line["record"]: {key: text for key, text in line.items() if key != "record"} for line in lines}


class Survey:
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
        self.walk = Walk(start, seconds, port)
        wanted = [record for record in wanted if not record.signed or self._is_signed(record)]
        with ThreadPoolExecutor(len(wanted)) as pool:
            answers = pool.map(lambda record: _answers(self.walk, record), wanted)
            self.answers = dict(zip(wanted, answers, strict=True))
        addresses = _found_addresses(self.walk, wanted, self.answers)
        self.required, self.recommended = _judged(wanted, self.answers, addresses)

    def _is_signed(self, record):
        try:
            return self.walk.signed(dns.name.from_text(record.name))
        except Unanswered:
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
            if (record := records[line["record"]]).values is not None and line["status"] in record.published_when
        ]

    def as_result(self, publishable=False, initial=False):
        """
        What ``check`` returns; ``publishable`` where the records can be published from here, ``initial`` where only
        those that a certificate authority needs to find are missed.
        """
        needed = {f"{record.name} {record.type}" for record in self.answers if record.initial or not initial}
        bad = [line["record"] for line in self.required if line["status"] in BAD]
        result = "All required records are right."
        if bad:
            verb = "is" if len(bad) == 1 else "are"
            result = f"{len(bad)} of {len(self.required)} required records {verb} not right."
        return {
            "success": needed.isdisjoint(bad),
            "result": result,
            "report": f"{records_text(self.required, self.recommended, publishable)}\n\n{result}",
            "servers": self.servers(),
            "required": _by_record(self.required),
            "recommended": _by_record(self.recommended),
            "unpublished": [line["record"] for line, _ in self.unpublished()],
        }
