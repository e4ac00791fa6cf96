"""
The relay's units of systemd: what does not work without each, where it listens, how its configuration is tried.
"""

import dataclasses
import json
import subprocess
from collections.abc import Callable

from chatmail_errors import CommandExecutionError

COMMAND_S = 30
# The slowest of our own ends by itself after a minute.
PROGRAM_S = 120


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of systemd that has to run: what does not work without, how bad that is, and by which settings."""

    name: str
    effect: str
    level: str = "error"
    wanted: Callable | None = None

    def is_wanted(self, settings):
        """Whether ``settings`` want it."""
        if settings.get("disable_mail") and self.name in MAIL_UNITS:
            return False
        return not self.wanted or bool(self.wanted(settings))


# Postfix's unit on the one release of Debian or the other.
POSTFIX_UNITS = ("postfix@-.service", "postfix.service")
MAIL_UNITS = (*POSTFIX_UNITS, "dovecot.service")
# Those that the probe's message goes through.
PROBE_PATH = frozenset(
    [*MAIL_UNITS, "opendkim.service", "doveauth.service", "chatmail-sasl.service", "filtermail.service"]
)
# A new component adds its units; a test compares with the states.
UNITS = (
    *(
        Unit(name, "no mail comes in or goes out", wanted=lambda settings, name=name: name == postfix_unit(settings))
        for name in POSTFIX_UNITS
    ),
    Unit("dovecot.service", "nobody can log in, and mail waits in the queue"),
    Unit("doveauth.service", "nobody can log in"),
    Unit("chatmail-sasl.service", "nobody can send"),
    Unit("filtermail.service", "nobody can send"),
    Unit("filtermail-incoming.service", "no mail comes in from other relays"),
    Unit(
        "opendkim.service",
        "what is sent cannot be signed, so it waits with its senders",
        wanted=lambda settings: not settings["ipv4_relay"],
    ),
    Unit("unbound.service", "signatures of incoming mail cannot be verified, so it waits with its senders"),
    Unit("postfix-mta-sts-resolver.service", "mail to other relays waits in the queue"),
    Unit("chatmail-dane-policy.service", "mail to and from other relays waits"),
    Unit("chatmail-transport.service", "mail goes to other relays by SMTP alone, or waits in the queue"),
    Unit("chatmail-network-share.service", "one network can take all places of the SMTP ports", "warning"),
    Unit("nginx.service", "no web pages, and no way in by port 443"),
    Unit("chatmail-metadata.service", "devices are not woken when a message comes"),
    Unit("chatmail-newemail.service", "the web page gives out no addresses", "warning"),
    Unit("lastlogin.service", "logins are not remembered, so that addresses in use expire", "warning"),
    Unit("coturn.service", "calls behind address translation fail", "warning"),
    Unit("chatmail-turn.service", "calls behind address translation fail", "warning"),
    Unit("iroh-relay.service", "real-time channels fail", "warning", lambda settings: settings["run_iroh_relay"]),
    Unit("echobot.service", "echo@ does not answer", "warning", lambda settings: settings["echobot"]),
    *(
        Unit(name, effect, "warning", lambda settings: settings["operator_bot"] and not settings.get("disable_mail"))
        for name, effect in (
            ("operator-bot.service", "the operator is told nothing in a chat"),
            ("operator-bot-host.socket", "what operators write to the bot is not done"),
            ("chatmail-status.timer", "the relay is not looked at each hour"),
        )
    ),
    Unit("mtail.service", "what is logged is not counted", "warning", lambda settings: settings["mtail_address"]),
    Unit("chatmail-expire.timer", "old messages and unused addresses stay", "warning"),
    Unit("chatmail-fsreport.timer", "there is no daily report", "note"),
    Unit("chatmail-metrics.timer", "/metrics is not kept up", "note", lambda settings: settings["metrics_page"]),
    *(
        Unit(name, effect, "warning", lambda settings: settings["backup_repository"])
        for name, effect in (
            ("chatmail-backup.timer", "nothing is saved each night"),
            ("chatmail-backup-check.timer", "nobody sees whether the backup can be read"),
        )
    ),
    Unit(
        "acmetool.timer", "the certificate is not renewed", "warning", lambda settings: settings["tls_mode"] == "acme"
    ),
    *(
        Unit(name, "a new certificate is not noticed", "warning", lambda settings: settings["tls_mode"] == "external")
        for name in ("certificate-reload.path", "certificate-reload.timer")
    ),
)
# What its unit would say about its configuration before it starts with it.
CONFIGURATIONS = {
    "nginx.service": (["nginx", "-t", "-q"],),
    "dovecot.service": (["doveconf", "-n"],),
    **dict.fromkeys(POSTFIX_UNITS, (["postconf", "-n"], ["postconf", "-M"])),
    "opendkim.service": (["opendkim", "-n"],),
    "unbound.service": (["unbound-checkconf"],),
}
# A socket unit has the name of its service.
SOCKETS = {
    "/run/doveauth/doveauth.socket": "doveauth.socket",
    "/run/chatmail-lastlogin/lastlogin.socket": "lastlogin.socket",
    "/run/chatmail-metadata/metadata.socket": "chatmail-metadata.socket",
    "/run/chatmail-newemail/newemail.socket": "chatmail-newemail.socket",
    "/var/spool/postfix/private/chatmail-sasl": "chatmail-sasl.socket",
    "/var/spool/postfix/private/dovecot-lmtp": "dovecot.service",
    "/var/spool/postfix/opendkim/opendkim.sock": "opendkim.service",
}
# Ports that the relay's daemons listen on whatever the settings say, for each the systemd services that may hold it.
PORTS = {
    "25/tcp": ["postfix"],
    "465/tcp": ["postfix"],
    "587/tcp": ["postfix"],
    "143/tcp": ["dovecot"],
    "993/tcp": ["dovecot"],
    "3478/udp": ["coturn", "turnserver"],
    # acmetool itself answers before nginx is there.
    "80/tcp": ["nginx", "acmetool-redirector", "acmetool"],
    "443/tcp": ["nginx"],
    "8443/tcp": ["nginx"],
    "10465/tcp": ["postfix"],
    "10993/tcp": ["dovecot"],
    # systemd-resolved is replaced by unbound later, in an order that keeps name resolution working.
    "53/tcp": ["unbound", "systemd-resolved"],
    "53/udp": ["unbound", "systemd-resolved"],
    "8461/tcp": ["postfix-mta-sts-resolver", "mta-sts-daemon"],
    "8462/tcp": ["chatmail-dane-policy"],
    "8463/tcp": ["chatmail-network-share"],
    "8464/tcp": ["chatmail-transport", "chatmail-transport-fallback"],
    "8465/tcp": ["chatmail-transport"],
}


@dataclasses.dataclass(frozen=True)
class PublicPort:
    """
    A port that others connect to: the ``protocol`` that is spoken there (``smtp`` and ``imap`` begin TLS themselves,
    ``tls`` is TLS from the start), what does not work where it is closed, and how bad that is.
    """

    protocol: str
    effect: str
    level: str = "error"


# What has to be open in every firewall before the relay.
PUBLIC = {
    "25/tcp": PublicPort("smtp", "no mail comes in from other relays"),
    "80/tcp": PublicPort("http", "no certificate can be had or renewed by ACME"),
    "143/tcp": PublicPort("imap", "some clients cannot log in", "warning"),
    "443/tcp": PublicPort("tls", "no web pages, no new addresses"),
    "465/tcp": PublicPort("tls", "clients cannot send"),
    "587/tcp": PublicPort("smtp", "some clients cannot send", "warning"),
    "993/tcp": PublicPort("tls", "clients cannot log in"),
    "3478/udp": PublicPort("stun", "calls behind address translation fail", "warning"),
}


def firewall(settings):
    """Return what has to be open in firewalls: lists of numbers and ranges (text) by transport, ``tcp`` and ``udp``."""
    ports = {kind: [port[:-4] for port in PUBLIC if port.endswith(kind)] for kind in ("tcp", "udp")}
    return ports | {"udp": [*ports["udp"], f"{settings['turn_min_port']}-{settings['turn_max_port']}"]}


METRICS_PORTS = {"3903/tcp": ["mtail"], "3904/tcp": ["dovecot"]}
REAL_TIME_PORTS = {"3340/tcp": ["iroh-relay"]}
# Settings that are ports of loopback, and whose.
PORT_SETTINGS = {
    "filtermail_smtp_port": "filtermail",
    "filtermail_smtp_port_incoming": "filtermail-incoming",
    "filtermail_http_port_incoming": "filtermail-incoming",
    "postfix_reinject_port": "postfix",
    "postfix_reinject_port_incoming": "postfix",
}


def wanted_units(settings):
    """Return the units (list of ``Unit``) that ``settings`` want."""
    return [unit for unit in UNITS if unit.is_wanted(settings)]


def short(name):
    """Return how a user of systemctl calls the unit ``name``."""
    return name.removesuffix(".service")


def postfix_unit(settings):
    """Return the unit that is Postfix on the host's release of Debian."""
    return f"{settings['release']['postfix_unit']}.service"


def unit_of(daemon, settings):
    """Return the unit of a daemon in the table of ports."""
    return postfix_unit(settings) if daemon == "postfix" else f"{daemon}.service"


def run(argv):
    """Run a program (list of text); returns it as ended (``CompletedProcess``), with code 127 where it is not there."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, env=environment, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"{argv[0]} does not end within {COMMAND_S} s")


def ask(program, *arguments, user, group):
    """
    Run a program of chatmaild's (its module, such as ``accounts``) as a user and group, and return what it prints.

    That is JSON. Raises ``CommandExecutionError`` with the last line of its errors.
    """
    try:
        done = subprocess.run(
            ["/usr/bin/python3", "-P", "-m", f"chatmaild.{program}", *arguments],
            user=user,
            group=group,
            extra_groups=[],
            cwd="/",
            env={"PYTHONPATH": "/usr/local/lib/chatmaild", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=PROGRAM_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandExecutionError(f"chatmaild.{program} does not end within {PROGRAM_S} s") from error
    if done.returncode:
        raise CommandExecutionError("; ".join(done.stderr.strip().splitlines()[-1:]) or f"chatmaild.{program} failed")
    return json.loads(done.stdout)


def unit_states(names):
    """Return what systemd says of units, by name: its properties, mappings of text."""
    properties = "Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID"
    shown = run(["systemctl", "show", f"--property={properties}", *names]).stdout
    states = {}
    for block in shown.strip().split("\n\n"):
        state = dict(line.partition("=")[::2] for line in block.splitlines())
        states[state.get("Id", "")] = state
    return states
