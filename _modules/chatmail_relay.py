"""
Is the relay well, and if not, what to do next.

What is looked at, and how it is judged, is in ``_utils/chatmail_checks*.py``. What is compared with is what the last
apply left in ``/etc/chatmail/relay.json``: the settings, and who listens where.

Under salt-ssh ``status`` runs on the controller (``_wrapper/chatmail_relay.py``), which tells the host what time it is.
"""

import dataclasses
import json
import time
from pathlib import Path

import chatmail_checks_machine as machine
import chatmail_checks_mail as mail
import chatmail_checks_names as names
import chatmail_checks_services as services
import chatmail_ports
from chatmail_checks import LEVELS, Relay, survey, worst
from chatmail_checks_attacks import ATTACKS
from chatmail_checks_backup import BACKUP
from chatmail_checks_network import OUTGOING, addresses_of
from chatmail_errors import CommandExecutionError
from chatmail_reach import destination, judge
from chatmail_services import MAIL_UNITS, PUBLIC, ask, firewall

RELAY = Path("/etc/chatmail/relay.json")

# In this order: what others stand on comes first.
CHECKS = (
    machine.DISK,
    machine.MEMORY,
    machine.CLOCK,
    names.CERTIFICATE,
    services.SERVICES,
    services.SOCKETS_THERE,
    machine.RESOLVER,
    mail.MAILBOXES,
    mail.PLUGIN,
    names.SERVED,
    names.NAMES,
    names.REVERSE,
    OUTGOING,
    mail.QUEUE,
    mail.CLIENTS,
    ATTACKS,
    mail.CREATION,
    mail.EXPIRY,
    BACKUP,
    machine.PACKAGES,
    machine.PRIVACY,
    mail.PROBE,
)

__outputter__ = dict.fromkeys(("status", "reach"), "chatmail")


def __virtual__():
    return "chatmail_relay"


def examine(clock=None, probe=True):
    """
    Look at everything that the relay needs; return what ``status`` does, without an exit code.

    clock
        The time (Unix seconds) by which the host's clock is judged; by default it is not compared.
    probe
        Whether a trial message is sent.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.examine clock=1800000000
    """
    begun = time.monotonic()
    target = __opts__.get("id", "relay")
    try:
        relay = json.loads(RELAY.read_text())
    except (OSError, ValueError) as error:
        what = f"this host is not a relay yet: {RELAY}: {getattr(error, 'strerror', None) or error}"
        do = f"salt-ssh {target} state.apply chatmail"
        finding = {"check": "relay", "level": "error", "kind": "not-a-relay", "what": what, "do": do}
        lines = [{"check": "relay", "level": "error", "says": "", "figures": {}}]
        return _report("", lines, [finding], begun, firewall={}, outside={})
    settings = relay["settings"]
    # What is switched off is not looked at.
    off = set(MAIL_UNITS) if settings.get("disable_mail") else set()
    checks = [check for check in CHECKS if not check.units & off and (probe or check is not mail.PROBE)]
    lines, found = survey(checks, Relay(settings, relay["ports"], __salt__, clock, target))
    return _report(settings["mail_domain"], lines, found, begun, firewall=firewall(settings), outside=outside())


def outside():
    """
    Return what another machine needs to know to look at the relay from there: its ``name``, the ``addresses`` to which
    the DNS leads its clients, the public ``ports`` on which it listens now, and the SHA-256 of its ``certificate``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.outside
    """
    settings = json.loads(RELAY.read_text())["settings"]
    listening = {one["port"] for one in chatmail_ports.listeners(list(PUBLIC))}
    return {
        "name": settings["mail_domain_bare"],
        "addresses": addresses_of(settings["mail_domain_bare"]),
        "ports": [port for port in PUBLIC if port in listening],
        "certificate": __salt__["chatmail_cert.facts"](settings["tls_cert_path"])["sha256"],
    }


def outgoing():
    """
    Try whether mail can leave the host by port 25; return a line of text, and what is wrong (a list of mappings with
    ``level``, ``kind``, ``what`` and ``do``).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.outgoing
    """
    relay = Relay(json.loads(RELAY.read_text())["settings"], {}, __salt__)
    says, findings = OUTGOING.judge(OUTGOING.collect(relay), relay)
    return says, list(map(dataclasses.asdict, findings))


def _reach(*arguments):
    """What ``chatmaild.reach`` finds out; it runs as nobody."""
    return ask("reach", *arguments, user="nobody", group="nogroup")


def ways(destinations):
    """
    Return by which way mail goes now to ``destinations`` (list of what stands after the @ of addresses).

    Mappings by destination: the ``way``, which is ``https``, ``smtp``, or ``either`` (by SMTP, and where that cannot
    connect by HTTPS), for how many ``seconds`` more that is believed, and ``why_not_https`` (text); None where
    chatmail-transport does not answer.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.ways '[example.org]'
    """
    return _reach("known", *destinations) if destinations else {}


def reach(domain):
    """
    Say by which ways mail of this relay reaches a domain, or the domain literal of an address, and what to do where it
    does not: its mail servers are looked up and connected to, by SMTP and by HTTPS, as for a message, but none is sent.
    It takes a minute at most.

    Returns a mapping, as :func:`status` does: ``relay``, ``level``, ``checks`` (mail servers, policy, way, SMTP, HTTPS,
    signature), ``findings``, ``seconds``; and ``facts``, all that was found out.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.reach example.org
    """
    begun = time.monotonic()
    settings = json.loads(RELAY.read_text())["settings"]
    domain = destination(domain)
    if domain == settings["mail_domain"]:
        raise CommandExecutionError(f"{domain} is this relay itself; chatmail_relay.status says whether that is well")
    facts = _reach("look", "--", domain, settings["postfix_myhostname"], f"postmaster@{settings['mail_domain']}")
    unsigned = ""
    # A relay without a name signs nothing, and others know its mail by its address.
    if not settings["ipv4_relay"]:
        try:
            __salt__["chatmail_dkim.sample"]()
        except CommandExecutionError as error:
            unsigned = str(error)
    relay = Relay(settings, {}, __salt__, target=__opts__.get("id", "relay"))
    return _report(domain, *judge(facts, relay, unsigned), begun, firewall={}, facts=facts)


def _report(name, lines, found, begun, **more):
    return {
        "relay": name,
        "level": worst(one["level"] for one in found),
        "checks": lines,
        "findings": found,
        "seconds": round(time.monotonic() - begun, 1),
    } | more


def status(probe=True):
    """
    Say whether the relay is well, and if not, what to do next: services, ports, sockets, certificate, DNS, disk,
    memory, queue, limits, packages, clock, expiry, and a message from one throw-away address to another.

    probe
        Whether that message is sent.

    Returns a mapping: ``relay``; ``level``, the worst of all; ``checks`` in order, each with ``check``, ``level`` (ok,
    note, warning, error, or skipped where its base is down), ``says``, and ``figures``, the numbers (docs/trouble.md
    names them); ``findings``, the worst first, each with ``check``, ``level``, ``kind``, ``what``, ``do``,
    and where there are such ``unit``, what it is about, and ``data``, its numbers;
    ``firewall``, the ports that have to be open; ``seconds`` that it took.

    The exit code is 0 if all is well, 1 with warnings, 2 with errors; salt-ssh makes 20 of both.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.status
        salt-ssh --out=json relay chatmail_relay.status
    """
    found = examine(probe=probe)
    # Of use to another machine alone.
    del found["outside"]
    __context__["retcode"] = max(0, LEVELS.index(found["level"]) - 1)
    return found
