"""
Is the relay well, and if not, what to do next.

Each check has three parts: what it needs to be in order before it, a thin function that collects facts on the host, and
a pure function that judges them. A check whose base is down is not tried, so that one fault does not show as ten. What
is compared with is what the last apply left in ``/etc/chatmail/relay.json``: the settings, and who listens where.

Under salt-ssh ``status`` runs on the controller (``_wrapper/chatmail_relay.py``), which tells the host what time it is.
"""

import contextvars
import dataclasses
import functools
import json
import os
import re
import socket
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from salt.exceptions import CommandExecutionError

import chatmail_attacks
from chatmail_words import DAY_S, age_text, one_line, size_text

RELAY = Path("/etc/chatmail/relay.json")
NOCREATE = Path("/etc/chatmail-nocreate")
COMMAND_S = 30
STARTING_S = 2
# From the mildest to the worst; "skipped" is no level of a finding.
LEVELS = ("ok", "note", "warning", "error")

MIB = 1024**2
MAILBOXES_LOOKED_AT = 2000
CERTIFICATE_WARNING_DAYS = 14
CLOCK_TOLERANCE_S = 60
# The timer's jitter is half an hour.
EXPIRY_OVERDUE_S = 26 * 3600
PACKAGE_LISTS_OLD_S = 7 * DAY_S
# Deferred mail is nothing unusual: servers of others are down, or ask to come again.
QUEUE_PATIENCE_S = 3600
QUEUE_MANY = 100
LOCAL_PATIENCE_S = 60
SLOW_S = 2
USED_PERCENT = 80

PUBLIC_TCP = (25, 80, 143, 443, 465, 587, 993)
PUBLIC_UDP = (3478,)

__outputter__ = {"status": "chatmail_status"}


def __virtual__():
    return "chatmail_relay"


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
PROBE_PATH = frozenset([*MAIL_UNITS, "opendkim.service", "doveauth.service", "filtermail.service"])
# A new component adds its units; a test compares with the states.
UNITS = (
    *(
        Unit(name, "no mail comes in or goes out", wanted=lambda settings, name=name: name == _postfix(settings))
        for name in POSTFIX_UNITS
    ),
    Unit("dovecot.service", "nobody can log in, and mail waits in the queue"),
    Unit("doveauth.service", "nobody can log in"),
    Unit("filtermail.service", "nobody can send"),
    Unit("filtermail-incoming.service", "no mail comes in from other relays"),
    Unit("opendkim.service", "what is sent cannot be signed, so it waits with its senders"),
    Unit("unbound.service", "signatures of incoming mail cannot be verified, so it waits with its senders"),
    Unit("postfix-mta-sts-resolver.service", "mail to other relays waits in the queue"),
    Unit("chatmail-dane-policy.service", "mail to other relays waits in the queue"),
    Unit("nginx.service", "no web pages, and no way in by port 443"),
    Unit("chatmail-metadata.service", "devices are not woken when a message comes"),
    Unit("chatmail-newemail.service", "the web page gives out no addresses", "warning"),
    Unit("lastlogin.service", "logins are not remembered, so that addresses in use expire", "warning"),
    Unit("coturn.service", "calls behind address translation fail", "warning"),
    Unit("chatmail-turn.socket", "calls behind address translation fail", "warning"),
    Unit("iroh-relay.service", "real-time channels fail", "warning", lambda settings: settings["run_iroh_relay"]),
    Unit("echobot.service", "echo@ does not answer", "warning", lambda settings: settings["echobot"]),
    Unit("mtail.service", "what is logged is not counted", "warning", lambda settings: settings["mtail_address"]),
    Unit("chatmail-expire.timer", "old messages and unused addresses stay", "warning"),
    Unit("chatmail-fsreport.timer", "there is no daily report", "note"),
    Unit("chatmail-metrics.timer", "/metrics is not kept up", "note", lambda settings: settings["metrics_page"]),
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
SOCKETS = {
    "/run/doveauth/doveauth.socket": "doveauth.service",
    "/run/chatmail-lastlogin/lastlogin.socket": "lastlogin.service",
    "/run/chatmail-metadata/metadata.socket": "chatmail-metadata.service",
    "/run/chatmail-newemail/newemail.socket": "chatmail-newemail.service",
    "/var/spool/postfix/private/auth": "dovecot.service",
    "/var/spool/postfix/private/dovecot-lmtp": "dovecot.service",
    "/var/spool/postfix/opendkim/opendkim.sock": "opendkim.service",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """
    Something that is not as it should be: how bad, what, and what to do next; ``unit`` is what it explains, ``data``
    its numbers.
    """

    level: str
    what: str
    do: str
    unit: str = ""
    data: dict = dataclasses.field(default_factory=dict)


def _ssh(function):
    """A command on the controller."""
    return f"salt-ssh {__opts__.get('id', 'relay')} {function}"


def _run(argv):
    """Run a program; returns it as ended, with code 127 where it is not there."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, env=environment, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"{argv[0]} does not end within {COMMAND_S} s")


def _short(name):
    """How systemctl's user calls a unit."""
    return name.removesuffix(".service")


# --- The machine: disk, memory, clock ---


def _megabytes(size):
    """MB of a size setting, which ``chatmail_settings`` has found valid."""
    return __salt__["chatmail_settings.size_mb"](size)


def _collect_disk(settings):
    by_device = {}
    for path in ("/", settings["mailboxes_dir"], "/var/spool/postfix", "/var/lib"):
        if Path(path).exists():
            by_device.setdefault(Path(path).stat().st_dev, path)
    found = []
    for path in by_device.values():
        status = os.statvfs(path)
        found.append(
            {
                "path": path,
                "free": status.f_bavail * status.f_frsize,
                "total": status.f_blocks * status.f_frsize,
                "free_inodes": status.f_favail,
                "inodes": status.f_files,
                "read_only": bool(status.f_flag & os.ST_RDONLY),
            }
        )
    mailboxes = Path(settings["mailboxes_dir"])
    device = mailboxes.stat().st_dev if mailboxes.exists() else None
    return {
        "file_systems": found,
        "mailboxes": by_device.get(device),
        "wanted": _megabytes(settings["min_free_disk_space"]) * MIB,
    }


def _judge_disk(facts, settings):
    # smtpd(8) takes no mail with less than one and a half of the largest message free, and one more for its own file of
    # it (speed_adjust).
    needed = settings["max_message_size"] * 5 // 2
    found = []
    for one in facts["file_systems"]:
        path = one["path"]
        look = f"du -xh --max-depth=3 {path} | sort -h | tail"
        if one["read_only"]:
            found.append(
                Finding("error", f"the file system of {path} is read-only: no mail is stored", "dmesg | tail -n 30")
            )
        elif one["free"] < needed:
            found.append(
                Finding(
                    "error",
                    f"the disk is full: {path} has {size_text(one['free'])} free, and mail is refused below"
                    f" {size_text(needed)}",
                    f"make room ({look}), or give the host a larger disk",
                )
            )
        elif one["inodes"] and one["free_inodes"] < one["inodes"] // 100:
            found.append(
                Finding(
                    "error", f"the disk is full: {path} has room for {one['free_inodes']} files", f"make room: {look}"
                )
            )
        elif path == facts["mailboxes"] and one["free"] < facts["wanted"]:
            found.append(
                Finding(
                    "warning",
                    f"{path} has {size_text(one['free'])} free: no address is created below"
                    f" {size_text(facts['wanted'])} (min_free_disk_space)",
                    f"see whose mail it is: {_ssh('chatmail_account.list')}",
                )
            )
    says = ", ".join(
        f"{size_text(one['free'])} of {size_text(one['total'])} free on {one['path']}" for one in facts["file_systems"]
    )
    return says, found


def _collect_memory(settings):
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    values = {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines if len(fields) > 1}
    return {
        "available": values["MemAvailable"],
        "total": values["MemTotal"],
        "load": os.getloadavg()[0],
        "wanted": _megabytes(settings["min_available_memory"]) * MIB,
    }


def _judge_memory(facts, settings):
    found = []
    available, wanted = facts["available"], facts["wanted"]
    look = "see what takes it: ps -eo rss,user,args --sort=-rss | head"
    if available < min(50 * MIB, facts["total"] // 20):
        what = f"{size_text(available)} of memory are left: the kernel will end processes"
        found.append(Finding("error", what, look))
    elif available < wanted:
        what = f"memory is low, {size_text(available)} are available: no address is created below {size_text(wanted)}"
        found.append(Finding("warning", f"{what} (min_available_memory)", look))
    if facts["load"] > settings["max_load_1m"]:
        found.append(
            Finding(
                "warning",
                f"the load is {facts['load']:.1f}: no address is created above {settings['max_load_1m']} (max_load_1m)",
                "see what works: top -bn1 | head -n 15",
            )
        )
    return f"{size_text(available)} of {size_text(facts['total'])} available, load {facts['load']:.1f}", found


def _collect_clock(settings, clock):
    shown = _run(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).stdout.strip()
    return {
        "ahead": None if clock is None else time.time() - clock,
        "synchronized": {"yes": True, "no": False}.get(shown),
        "container": _run(["systemd-detect-virt", "--container", "--quiet"]).returncode == 0,
    }


def _judge_clock(facts, settings):
    ahead = facts["ahead"]
    # What ssh takes on the way counts as well.
    if ahead is not None and abs(ahead) > CLOCK_TOLERANCE_S:
        side = "ahead of" if ahead > 0 else "behind"
        return "", [
            Finding(
                "error",
                f"the clock is {age_text(abs(ahead))} {side} this machine's: certificates and signatures seem invalid",
                "timedatectl, to see both; apt install systemd-timesyncd keeps the clock right",
            )
        ]
    # A container has its host's clock, and may not set it.
    if facts["synchronized"] is False and not facts["container"]:
        return "", [
            Finding("warning", "nothing keeps the clock right", "apt install systemd-timesyncd; then timedatectl")
        ]
    return "right" if ahead is not None else "kept right", []


# --- Services: units, their ports, sockets and configuration ---


def _units(settings):
    return [unit for unit in UNITS if unit.is_wanted(settings)]


def _postfix(settings):
    """The unit that is Postfix on the host's release of Debian."""
    return f"{settings['release']['postfix_unit']}.service"


def _unit_of(daemon, settings):
    """The unit of a daemon in the table of ports."""
    return _postfix(settings) if daemon == "postfix" else f"{daemon}.service"


def _unit_states(names):
    """What systemd says of units, by name."""
    properties = "Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID"
    shown = _run(["systemctl", "show", f"--property={properties}", *names]).stdout
    states = {}
    for block in shown.strip().split("\n\n"):
        state = dict(line.partition("=")[::2] for line in block.splitlines())
        states[state.get("Id", "")] = state
    return states


def _last_words(unit):
    """What the unit's program said last."""
    argv = ["journalctl", f"--unit={unit}", "--lines=40", "--output=json", "--no-pager"]
    said = ""
    for line in _run(argv).stdout.splitlines():
        entry = json.loads(line)
        if entry.get("SYSLOG_IDENTIFIER") != "systemd" and isinstance(entry.get("MESSAGE"), str):
            said = entry["MESSAGE"]
    return one_line(said)


def _configuration_problem(unit):
    """Why the unit would not take its configuration, or ``""``."""
    for argv in CONFIGURATIONS[unit]:
        done = _run(argv)
        if done.returncode:
            said = (done.stderr or done.stdout).splitlines()
            # nginx warns of what it takes all the same; its last line says only that the test failed.
            lines = [line for line in said if line.strip() and "[warn]" not in line]
            return one_line(lines[0] if lines else f"{' '.join(argv)} fails")
    return ""


def _is_running(state):
    return state.get("ActiveState") in ("active", "reloading")


def _collect_services(settings, ports):
    names = [unit.name for unit in _units(settings)]
    states = _unit_states(names)
    if any(state.get("ActiveState") == "activating" for state in states.values()):
        # Just being started, or about to crash once more.
        time.sleep(STARTING_S)
        states = _unit_states(names)
    with ThreadPoolExecutor(4) as pool:
        checked = [name for name in names if name in CONFIGURATIONS]
        configurations = dict(zip(checked, pool.map(_configuration_problem, checked), strict=True))
    listeners = __salt__["chatmail_preflight.listeners"](list(ports))
    conflicts = []
    for listener in listeners:
        for sentence in __salt__["chatmail_preflight.port_conflicts"]([listener], ports):
            what, _, remedy = sentence.rstrip(".").partition("; ")
            conflicts.append({"what": what, "remedy": remedy, "unit": _unit_of(ports[listener["port"]][0], settings)})
    down = [name for name in names if not _is_running(states.get(name, {}))]
    failed = _run(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]).stdout
    return {
        "units": {name: states.get(name, {}) for name in names},
        "configurations": configurations,
        "conflicts": conflicts,
        "silent": sorted(
            (port for port in ports if port not in {listener["port"] for listener in listeners}),
            key=lambda port: int(port.partition("/")[0]),
        ),
        "ports": {port: _unit_of(daemons[0], settings) for port, daemons in ports.items()},
        "last_words": {
            name: _last_words(name) for name in down if states.get(name, {}).get("ActiveState") != "inactive"
        },
        "failed": [line.split()[0] for line in failed.splitlines() if line.split()],
    }


def _judge_unit(unit, state, problem, said):
    """A finding about one unit, or None."""
    name = _short(unit.name)
    start = f"systemctl restart {name}"
    if problem:
        component = {"postfix@-": "postfix"}.get(name, name)
        end = "does not run" if not _is_running(state) else "runs, but would not start again"
        return Finding(
            unit.level,
            f"{name} {end}: its configuration is broken: {problem}",
            f"mend that file, or have ours written anew: {_ssh(f'state.apply chatmail.{component}')}; then {start}",
            unit.name,
        )
    if _is_running(state):
        if state.get("UnitFileState") in ("disabled", "masked", "masked-runtime"):
            what = f"{name} runs, but does not start at the next boot"
            return Finding("warning", what, f"systemctl unmask {name}; systemctl enable {name}")
        return None
    if state.get("LoadState") == "not-found":
        return Finding(unit.level, f"{name} is not installed: {unit.effect}", _ssh("state.apply chatmail"), unit.name)
    if state.get("LoadState") == "masked":
        return Finding(unit.level, f"{name} is masked: {unit.effect}", f"systemctl unmask {name}; {start}", unit.name)
    if state.get("ActiveState") in ("failed", "activating"):
        happened = "has failed" if state["ActiveState"] == "failed" else "crashes again and again"
        words = f" (it said: {said})" if said else ""
        return Finding(
            unit.level,
            f"{name} {happened}{words}: {unit.effect}",
            f"{start}; see journalctl -u {name} -n 30",
            unit.name,
        )
    enable = f"; systemctl enable {name}" if state.get("UnitFileState") == "disabled" else ""
    return Finding(unit.level, f"{name} is stopped: {unit.effect}", start + enable, unit.name)


def _judge_services(facts, settings):
    found = [
        Finding("error", one["what"], f"{one['remedy']}; then systemctl restart {_short(one['unit'])}", one["unit"])
        for one in facts["conflicts"]
    ]
    explained = {finding.unit for finding in found}
    wanted = _units(settings)
    for unit in wanted:
        problem = facts["configurations"].get(unit.name, "")
        if unit.name not in explained:
            found.append(_judge_unit(unit, facts["units"][unit.name], problem, facts["last_words"].get(unit.name, "")))
    found = [finding for finding in found if finding]
    explained |= {finding.unit for finding in found}
    for port in facts["silent"]:
        owner = facts["ports"][port]
        if owner in facts["units"] and owner not in explained:
            what = f"{_short(owner)} runs, but nothing listens on port {port}"
            found.append(Finding("error", what, f"systemctl restart {_short(owner)}", owner))
    ours = {unit.name for unit in wanted}
    for name in facts["failed"]:
        if name not in ours:
            what = f"{_short(name)} has failed"
            do = f"journalctl -u {_short(name)} -n 30; once mended: systemctl reset-failed {_short(name)}"
            found.append(Finding("warning", what, do))
    running = sum(_is_running(state) for state in facts["units"].values())
    off = "; mail is switched off (disable_mail)" if settings.get("disable_mail") else ""
    return f"{running} of {len(wanted)} run, {len(facts['ports']) - len(facts['silent'])} ports are theirs{off}", found


def _answers(path):
    """Whether somebody listens on a unix socket; those of services with a network of their own are in no list here."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def _collect_sockets(settings):
    sockets = SOCKETS | {settings["turn_socket_path"]: "chatmail-turn.socket"}
    listening = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " 00010000 " in line}
    return {
        path: {
            "unit": unit,
            "there": (there := Path(path).is_socket()),
            "listening": there and (path in listening or _answers(path)),
        }
        for path, unit in sockets.items()
    }


def _judge_sockets(facts, settings):
    found = []
    wanted = {unit.name for unit in _units(settings)}
    for path, state in facts.items():
        unit = state["unit"]
        if unit in wanted and not (state["there"] and state["listening"]):
            why = "is gone" if not state["there"] else "is nobody's"
            what = f"{_short(unit)} runs, but its socket {path} {why}"
            found.append(Finding("error", what, f"systemctl restart {_short(unit)}", unit))
    return f"{len(facts)} are there", found


# --- The resolver ---


def _collect_resolver(settings):
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode

    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    first = next((fields[1] for fields in lines if len(fields) > 1 and fields[0] == "nameserver"), "")
    try:
        # A question that needs other servers: what other relays ask to find this one.
        query = dns.message.make_query(f"{settings['mail_domain_bare']}.", "SOA")
        answer = dns.rcode.to_text(dns.query.udp(query, "127.0.0.1", timeout=5).rcode())
    except (dns.exception.DNSException, OSError) as error:
        answer = str(error) or type(error).__name__
    return {"first": first, "answer": answer}


def _judge_resolver(facts, settings):
    found = []
    if facts["answer"] not in ("NOERROR", "NXDOMAIN"):
        what = f"unbound runs, but does not resolve names ({facts['answer']}): mail of others cannot be verified"
        found.append(Finding("error", what, "unbound-host -rv debian.org, and journalctl -u unbound -n 30"))
    if facts["first"] != "127.0.0.1":
        what = f"/etc/resolv.conf names {facts['first'] or 'no name server'} first, not the relay's own resolver"
        found.append(Finding("warning", what, _ssh("state.apply chatmail.unbound")))
    return "unbound answers", found


# --- What the services stand on: mailboxes, plugin, certificate, names ---


def _collect_mailboxes(settings):
    path = settings["mailboxes_dir"]
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return {"there": False}
    import pwd

    vmail = pwd.getpwnam("vmail").pw_uid
    count, looked_at, foreign = 0, 0, 0
    with os.scandir(path) as entries:
        for entry in entries:
            count += "@" in entry.name
            if looked_at < MAILBOXES_LOOKED_AT:
                looked_at += 1
                try:
                    foreign += entry.stat(follow_symlinks=False).st_uid != vmail
                except FileNotFoundError:
                    looked_at -= 1
    return {
        "there": True,
        "vmails": status.st_uid == vmail,
        "mode": stat.S_IMODE(status.st_mode),
        "count": count,
        "looked_at": looked_at,
        "foreign": foreign,
    }


def _judge_mailboxes(facts, settings):
    path = settings["mailboxes_dir"]
    if not facts["there"]:
        what = f"the directory of the mailboxes, {path}, is not there"
        return "", [
            Finding("error", what, f"is a file system not mounted? If not: {_ssh('state.apply chatmail.system')}")
        ]
    found = []
    if not facts["vmails"] or facts["foreign"]:
        which = path if not facts["vmails"] else f"{facts['foreign']} of {facts['looked_at']} directories in {path}"
        what = f"the owner of {which} is not vmail: mail cannot be stored there"
        found.append(Finding("error", what, f"chown -R vmail:vmail {path}"))
    elif facts["mode"] != 0o700:
        what = f"the mode of {path} is {facts['mode']:04o}, not 0700"
        found.append(Finding("warning", what, f"chmod 0700 {path}"))
    return f"{facts['count']} addresses", found


def _collect_plugin(settings):
    source = "/usr/local/src/chatmail/imap-instant-plugin.c"
    try:
        fits = __salt__["chatmail_dovecot.plugin_found"]() == __salt__["chatmail_dovecot.plugin_wanted"](source)
    except CommandExecutionError as error:
        return {"fits": False, "loaded": False, "problem": str(error)}
    return {"fits": fits, "loaded": Path("/run/dovecot-imap-instant.conf").exists(), "problem": ""}


def _judge_plugin(facts, settings):
    apply = _ssh("state.apply chatmail.dovecot")
    if facts["loaded"] and not facts["fits"]:
        what = "Dovecot loads its plugin for instant notices, which is missing or does not fit: nobody can read mail"
        return "", [Finding("error", what, f"systemctl restart dovecot, to do without it; {apply} builds it")]
    if not facts["fits"]:
        what = "Dovecot's plugin for instant notices is missing or does not fit: a notice takes half a second longer"
        return "", [Finding("warning", f"{what} {facts['problem']}".strip(), f"{apply} builds it")]
    if not facts["loaded"]:
        what = "Dovecot's plugin for instant notices is there, but not loaded"
        return "", [Finding("warning", what, "systemctl restart dovecot")]
    return "loaded", []


def _names(settings):
    """What the certificate has to name."""
    domain = settings["mail_domain_bare"]
    if settings["tls_mode"] == "external" or settings["ipv4_relay"]:
        return [domain]
    return [domain, f"www.{domain}", f"mta-sts.{domain}"]


def _collect_certificate(settings):
    problems = functools.partial(
        __salt__["chatmail_cert.problems"], settings["tls_cert_path"], settings["tls_key_path"], _names(settings)
    )
    broken = problems(chain=settings["tls_mode"] == "external")
    return {"broken": broken, "soon": [] if broken else problems(days_left=CERTIFICATE_WARNING_DAYS)}


def _judge_certificate(facts, settings):
    renew = {
        "self": f"{_ssh('state.apply chatmail')} makes a new one",
        "acme": f"{_ssh('state.apply chatmail')} asks for a new one, or says why there is none",
        "external": f"put a new pair at {settings['tls_cert_path']} and {settings['tls_key_path']}",
    }[settings["tls_mode"]]
    if facts["broken"]:
        return "", [Finding("error", "; ".join(facts["broken"]), renew)]
    if facts["soon"]:
        return "", [Finding("warning", f"{'; '.join(facts['soon'])}, and was not renewed", renew)]
    return f"valid for {' '.join(_names(settings))}", []


def _collect_served(settings):
    return __salt__["chatmail_cert.show"]()


def _judge_served(facts, settings):
    served = facts["certificates"]
    over = [_place(place) for one in served if one["days_left"] < 0 for place in one["places"]]
    if over:
        what = f"a certificate that has ended is served, though there is a new one: {', '.join(over)}"
        return "", [Finding("error", what, "systemctl reload postfix dovecot nginx")]
    if len(served) > 1:
        said = "; ".join(f"{', '.join(map(_place, one['places']))}: {one['days_left']} days left" for one in served)
        what = f"the daemons do not serve the same certificate ({said})"
        return "", [Finding("warning", what, "systemctl reload postfix dovecot nginx")]
    says = [f"{one['days_left']} days left, on {len(one['places'])} ports" for one in served]
    return says[0] if says else "on 0 ports", []


def _place(place):
    return f"{place['port']} {place['daemon']}"


def _collect_names(settings):
    if settings["ipv4_relay"] or not settings["dns_check"]:
        return None
    return __salt__["chatmail_dns.check"](settings)


def _judge_names(facts, settings):
    if facts is None:
        why = "an address needs no records" if settings["ipv4_relay"] else "not wanted (dns_check: false)"
        return why, []
    required, recommended = facts["required"], facts["recommended"]
    bad = {name: line for name, line in required.items() if line["status"] in ("missing", "wrong", "unknown")}
    if required and all(line["status"] == "unknown" for line in required.values()):
        remark = next(iter(required.values())).get("remark", "")
        what = f"the name servers of {settings['mail_domain_bare']} cannot be asked: {one_line(remark)}"
        return "", [Finding("error", what, f"are they up? {_ssh('chatmail_dns.check')}")]
    by_hand = not (settings["dns_update_server"] and settings["dns_update_key_file"])
    next_step = f"enter what {_ssh('chatmail_dns.check')} shows" if by_hand else _ssh("chatmail_dns.publish")
    found = []
    for name, line in bad.items():
        remark = f": {one_line(line['remark'])}" if line.get("remark") else ""
        found.append(Finding("error", f"the DNS record {name} is {line['status']}{remark}", next_step))
    lacking = [name for name, line in recommended.items() if line["status"] in ("missing", "wrong")]
    if lacking:
        what = f"recommended DNS records are missing or wrong: {', '.join(lacking)}"
        found.append(Finding("note", what, next_step))
    return f"{len(required)} required and {len(recommended)} recommended records", found


# --- Work: queue, clients, new addresses, expiry ---


def _collect_queue(settings):
    return {"lines": __salt__["chatmail_queue.list"](), "now": time.time()}


def _judge_queue(facts, settings):
    found = []
    lines = facts["lines"]
    waiting = [line for line in lines if line["deferred"]]
    own = settings["mail_domain"]
    for line in waiting:
        age = facts["now"] - line["since"]
        what = f"{line['deferred']} messages wait for {line['destination']}, since {age_text(age)}"
        what += f": {one_line(line['reason'])}" if line["reason"] else ""
        if line["destination"] == own and age > LOCAL_PATIENCE_S:
            do = f"journalctl -u dovecot -n 30; then {_ssh(f'chatmail_queue.retry {own}')}"
            found.append(Finding("error", what, do))
        elif age > QUEUE_PATIENCE_S or line["deferred"] >= QUEUE_MANY:
            retry = _ssh(f"chatmail_queue.retry {line['destination']}")
            drop = _ssh(f"chatmail_queue.drop {line['destination']}")
            found.append(Finding("warning", what, f"{retry} once it can be reached; {drop} gives it up"))
    timed_out = [line for line in waiting if "timed out" in line["reason"] and line["destination"] != own]
    if len(timed_out) > 2 and len(timed_out) == len([line for line in waiting if line["destination"] != own]):
        what = f"no other relay can be reached: connections to all {len(timed_out)} destinations time out"
        do = "does the provider let port 25 out? nc -vz -w5 gmail-smtp-in.l.google.com 25; ask the provider to open it"
        return "", [Finding("error", what, do)]
    count = sum(line["messages"] for line in lines)
    destinations = f" for {len(lines)} destinations" if lines else ""
    return f"{count or 'no'} messages wait{destinations}", found


def _processes():
    """Process ids, by the program's name."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                found.setdefault((path / "comm").read_text().strip(), []).append(path)
            except OSError:
                continue
    return found


def _inotify_instances(processes):
    """How many inotify instances processes (paths in /proc) have open, by user."""
    used = Counter()
    for path in processes:
        try:
            user = path.stat().st_uid
            used[user] += sum(str(entry.readlink()) == "anon_inode:inotify" for entry in (path / "fd").iterdir())
        except OSError:
            continue
    return used


def _collect_clients(settings):
    processes = _processes()
    used = _inotify_instances(processes.get("imap", []) + processes.get("imap-hibernate", []))
    limits = __salt__["chatmail_dovecot.inotify_limits"]()
    return {
        "imap": len(processes.get("imap", [])),
        "smtpd": len(processes.get("smtpd", [])),
        "inotify_used": max(used.values(), default=0),
        "inotify_limit": limits["max_user_instances"],
    }


def _judge_clients(facts, settings):
    found = []
    limit, used = facts["inotify_limit"], facts["inotify_used"]
    raise_it = f"{_ssh('state.apply chatmail.dovecot')}; in a container, set fs.inotify.max_user_instances on its host"
    if limit is not None and used * 100 >= limit * USED_PERCENT:
        what = f"{used} of {limit} inotify instances are in use: notices of new mail come up to half a minute late"
        found.append(Finding("error", what, raise_it))
    elif limit is not None and limit < settings["max_imap_connections"]:
        what = f"the kernel allows {limit} inotify instances, fewer than clients (max_imap_connections)"
        found.append(Finding("warning", what, raise_it))
    for kind, number, key in (
        ("IMAP", facts["imap"], "max_imap_connections"),
        ("SMTP", facts["smtpd"], "max_smtp_connections"),
    ):
        if number * 100 >= settings[key] * USED_PERCENT:
            what = f"{number} {kind} clients are connected, of {settings[key]} allowed ({key})"
            found.append(Finding("warning", what, f"raise {key} in the pillar, then {_ssh('state.apply chatmail')}"))
    allowed = settings["max_imap_connections"]
    return f"{facts['imap']} of {allowed} IMAP processes, {used} of {limit} inotify instances", found


def _collect_attacks(settings):
    ports = chatmail_attacks.places(settings)
    sockets = _run(["ss", "-Htn", "state", "established", "state", "close-wait"]).stdout.splitlines()
    journal = [
        "journalctl",
        "--since",
        f"-{chatmail_attacks.MINUTES}min",
        "--output=cat",
        "--no-pager",
        "--lines=20000",
    ]
    lines = _run([*journal, f"--grep={chatmail_attacks.PATTERN}"]).stdout.splitlines()
    return {"held": chatmail_attacks.held(sockets, ports), "refused": chatmail_attacks.refused(lines)}


def _judge_attacks(facts, settings):
    found = []
    crowded = chatmail_attacks.crowded(facts, settings)
    for one in crowded[: chatmail_attacks.NETWORKS_TOLD]:
        do = f"{chatmail_attacks.block(one['network'])}; if it is honest, raise {one['setting']} in the pillar"
        found.append(Finding("warning", chatmail_attacks.sentence(one), do, data=one))
    if more := crowded[chatmail_attacks.NETWORKS_TOLD :]:
        what = f"{len(more)} more networks hold most of what they may: {', '.join(one['network'] for one in more[:20])}"
        found.append(Finding("warning", what, "ss -Htn state established", data={"networks": more}))
    refused, span = facts["refused"], f"in {chatmail_attacks.MINUTES} minutes"
    if refused["memory"]:
        what = f"{refused['memory']} large messages found no memory {span}, and are sent again later"
        do = "see whose they are: journalctl -u filtermail -u filtermail-incoming -g Refused -n 30"
        found.append(Finding("warning", what, do, data={"messages": refused["memory"]}))
    if refused["passwords"] >= chatmail_attacks.PASSWORDS_MANY:
        what = (
            f"{refused['passwords']} passwords were not looked at {span}, after too many wrong ones: somebody guesses"
        )
        do = "nothing: owners get in all the same; journalctl -u doveauth -g passwords tells by which limit"
        found.append(Finding("warning", what, do, data={"passwords": refused["passwords"]}))
    connections = sum(sum(networks.values()) for networks in facts["held"].values())
    networks = {network for port in facts["held"].values() for network in port}
    return f"{connections} connections from {len(networks)} networks, none holds too many", found


def _collect_creation(settings):
    return {"nocreate": NOCREATE.exists()}


def _judge_creation(facts, settings):
    if facts["nocreate"]:
        what = f"no address is created: {NOCREATE} is there"
        return "", [Finding("note", what, f"when the reason is over: {_ssh('chatmail_account.nocreate on=False')}")]
    return "by invitation" if settings["invite_only"] else "open", []


def _collect_expiry(settings):
    stamp = Path("/var/lib/systemd/timers/stamp-chatmail-expire.timer")
    state = _unit_states(["chatmail-expire.service"]).get("chatmail-expire.service", {})
    return {
        "ago": time.time() - stamp.stat().st_mtime if stamp.exists() else None,
        "result": state.get("Result", "success"),
    }


def _judge_expiry(facts, settings):
    ago = facts["ago"]
    again = "systemctl start chatmail-expire; see journalctl -u chatmail-expire -n 30"
    if facts["result"] != "success":
        return "", [Finding("warning", f"the last removal of old mail has failed ({facts['result']})", again)]
    if ago is None:
        return "", [Finding("warning", "old mail was never removed", again)]
    if ago > EXPIRY_OVERDUE_S:
        return "", [Finding("warning", f"old mail was removed {age_text(ago)} ago for the last time", again)]
    return f"{age_text(ago)} ago", []


# --- Packages, privacy ---


def _is_replaced(pid):
    """Whether a process runs a program or library that is no longer the installed one."""
    try:
        if str(Path(f"/proc/{pid}/exe").readlink()).endswith(" (deleted)"):
            return True
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return any(line.endswith(" (deleted)") and "/usr/" in line and ".so" in line for line in maps.splitlines())


def _collect_packages(settings):
    states = _unit_states([unit.name for unit in _units(settings) if unit.name.endswith(".service")])
    upgrades = [
        line for line in _run(["apt-get", "--just-print", "upgrade"]).stdout.splitlines() if line.startswith("Inst ")
    ]
    versions = _run(["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", "postfix", "dovecot-core"]).stdout
    lists = [path.stat().st_mtime for path in Path("/var/lib/apt/lists").glob("*Packages*")]
    installed = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    return {
        "versions": dict(line.split() for line in versions.splitlines()),
        "upgrades": len(upgrades),
        "security": [line.split()[1] for line in upgrades if "Debian-Security" in line],
        "lists_age": time.time() - max(lists) if lists else None,
        "old": [name for name, state in states.items() if _is_replaced(state.get("MainPID", "0"))],
        "reboot": Path("/run/reboot-required").exists(),
        "kernel_gone": bool(installed) and os.uname().release not in installed,
    }


def _judge_packages(facts, settings):
    found = []
    if facts["security"]:
        what = f"{len(facts['security'])} security upgrades are pending: {', '.join(facts['security'][:5])}"
        found.append(Finding("warning", what, f"apt upgrade; then {_ssh('state.apply chatmail')}"))
    elif facts["upgrades"]:
        what = f"{facts['upgrades']} upgrades are pending"
        found.append(Finding("note", what, f"apt upgrade; then {_ssh('state.apply chatmail')}"))
    if facts["lists_age"] is None or facts["lists_age"] > PACKAGE_LISTS_OLD_S:
        age = "never" if facts["lists_age"] is None else f"{age_text(facts['lists_age'])} ago"
        found.append(Finding("note", f"Debian's lists of upgrades were read {age}", "apt update; then ask again"))
    if facts["old"]:
        names = " ".join(_short(name) for name in facts["old"])
        what = f"{names} still runs the program of before an upgrade"
        found.append(Finding("warning", what, f"systemctl restart {names}"))
    if facts["reboot"] or facts["kernel_gone"]:
        what = "a reboot is pending, for a new kernel or library"
        found.append(
            Finding("warning", what, f"systemctl reboot, at a quiet time; then {_ssh('chatmail_relay.status')}")
        )
    versions = ", ".join(
        f"{name.removesuffix('-core')} {re.sub('^[0-9]+:|[-+].*', '', version)}"
        for name, version in facts["versions"].items()
    )
    return f"{versions}; {'up to date' if not facts['upgrades'] else 'upgrades pending'}", found


def _collect_privacy(settings):
    logs = ["/var/log/mail.log", "/var/log/syslog", "/var/log/mail.info", "/var/log/journal"]
    return {"logs": [path for path in logs if Path(path).exists()]}


def _judge_privacy(facts, settings):
    if facts["logs"]:
        what = f"who writes to whom is kept on disk: {', '.join(facts['logs'])}"
        do = f"apt purge rsyslog; rm -r {' '.join(facts['logs'])}; systemctl restart systemd-journald"
        return "", [Finding("warning", what, do)]
    return "no log on disk", []


# --- A message through it all ---


def _collect_probe(settings):
    return __salt__["chatmail_probe.message"]()


def _judge_probe(facts, settings):
    if "problem" in facts:
        said = one_line(facts["problem"])
        what, do = {
            "addresses": (
                f"the addresses for a trial message cannot be made: {said}",
                _ssh("state.apply chatmail.chatmaild"),
            ),
            "imap": (f"mail cannot be read: {said}", "journalctl -u dovecot -u doveauth -n 30"),
            "submission": (
                f"mail cannot be sent: {said}",
                "journalctl -u 'postfix*' -u filtermail -u opendkim -n 30",
            ),
            "delivery": (f"a trial message was taken, but did not arrive: {said}", _ssh("chatmail_queue.list")),
        }[facts["stage"]]
        return "", [Finding("error", what, do)]
    found = []
    if not facts["signed"] and not settings["ipv4_relay"]:
        what = "the trial message was not signed: other relays refuse what is sent"
        found.append(Finding("error", what, _ssh("state.apply chatmail.opendkim")))
    if facts["seconds"] > SLOW_S:
        what = f"the trial message took {facts['seconds']:.1f} s"
        found.append(Finding("warning", what, "see what works: top -bn1 | head -n 15"))
    return f"a message took {facts['seconds']:.2f} s from submission to notice", found


# --- All of them ---


@dataclasses.dataclass(frozen=True)
class Check:
    """
    One check. ``needs`` are those that have to be without error before it, ``units`` what has to run; findings of later
    checks that match ``explains`` are consequences of its own errors. A ``slow`` one works beside the others.
    """

    name: str
    collect: Callable
    judge: Callable
    needs: tuple = ()
    units: frozenset = frozenset()
    explains: re.Pattern | None = None
    slow: bool = False


def _checks(relay, clock):
    settings = relay["settings"]
    services = functools.partial(_collect_services, ports=relay["ports"])
    dovecot, postfix = frozenset(["dovecot.service"]), frozenset(POSTFIX_UNITS)
    # A daemon that finds no certificate that it can use does not take its configuration.
    tls = re.compile("certificate|ssl|private ?key", re.IGNORECASE)
    checks = [
        Check("disk", _collect_disk, _judge_disk),
        Check("memory", _collect_memory, _judge_memory),
        Check("clock", functools.partial(_collect_clock, clock=clock), _judge_clock),
        Check("certificate", _collect_certificate, _judge_certificate, needs=("clock",), explains=tls),
        Check("services", services, _judge_services),
        Check("sockets", _collect_sockets, _judge_sockets),
        Check("resolver", _collect_resolver, _judge_resolver, units=frozenset(["unbound.service"])),
        Check("mailboxes", _collect_mailboxes, _judge_mailboxes),
        Check("plugin", _collect_plugin, _judge_plugin, units=dovecot),
        Check("served", _collect_served, _judge_served, needs=("certificate",)),
        Check("names", _collect_names, _judge_names, slow=True),
        Check("queue", _collect_queue, _judge_queue, needs=("disk", "mailboxes", "resolver"), units=postfix | dovecot),
        Check("clients", _collect_clients, _judge_clients, units=dovecot),
        Check("attacks", _collect_attacks, _judge_attacks),
        Check("creation", _collect_creation, _judge_creation),
        Check("expiry", _collect_expiry, _judge_expiry, needs=("clock",)),
        Check("packages", _collect_packages, _judge_packages, slow=True),
        Check("privacy", _collect_privacy, _judge_privacy),
        Check(
            "probe", _collect_probe, _judge_probe, needs=("disk", "sockets", "mailboxes", "plugin"), units=PROBE_PATH
        ),
    ]
    # What is switched off is not looked at.
    off = set(MAIL_UNITS) if settings.get("disable_mail") else set()
    return [check for check in checks if not check.units & off]


def _judged(check, settings):
    """What the check says, and its findings; that it cannot look is one, too."""
    try:
        return check.judge(check.collect(settings), settings)
    except (OSError, ValueError, CommandExecutionError, subprocess.SubprocessError) as error:
        why = one_line(str(error) or type(error).__name__)
    except (KeyError, ImportError) as error:
        # A package, or a setting that is newer than the last apply.
        why = f"{error} is not there"
    return "", [Finding("error", f"{check.name} cannot be looked at: {why}", _ssh("state.apply chatmail"))]


def _survey(checks, settings):
    """
    Run the checks in order; those whose base is down are not tried.

    Returns lines (``check``, ``level``, ``says``) and findings (``check``, ``level``, ``what``, ``do``), two lists.
    """
    lines, found = [], []
    errors, down, explained = set(), set(), []
    with ThreadPoolExecutor(max(1, sum(check.slow for check in checks))) as pool:
        # __salt__ is a context variable.
        slow = {
            check.name: pool.submit(contextvars.copy_context().run, _judged, check, settings)
            for check in checks
            if check.slow
        }
        for check in checks:
            base = [name for name in check.needs if name in errors] + sorted(map(_short, check.units & down))
            if base:
                lines.append({"check": check.name, "level": "skipped", "says": f"not tried before {base[0]} is mended"})
                continue
            says, findings = slow[check.name].result() if check.slow else _judged(check, settings)
            units = {one.unit for one in findings if one.unit and one.level != "note"}
            # Not what an earlier finding has as its consequence.
            findings = [
                one
                for one in findings
                if one.unit not in down and not any(pattern.search(one.what) for pattern in explained)
            ]
            down |= units
            level = max((one.level for one in findings), key=LEVELS.index, default="ok")
            if level == "error":
                errors.add(check.name)
                explained += [check.explains] if check.explains else []
            lines.append({"check": check.name, "level": level, "says": says})
            found += [
                {"check": check.name, "level": one.level, "what": one.what, "do": one.do}
                | ({"data": one.data} if one.data else {})
                for one in findings
            ]
    return lines, found


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
    try:
        relay = json.loads(RELAY.read_text())
    except (OSError, ValueError) as error:
        what = f"this host is no relay yet: {RELAY}: {getattr(error, 'strerror', None) or error}"
        finding = {"check": "relay", "level": "error", "what": what, "do": _ssh("state.apply chatmail")}
        return _report("", [{"check": "relay", "level": "error", "says": ""}], [finding], {}, begun)
    settings = relay["settings"]
    checks = [check for check in _checks(relay, clock) if probe or check.name != "probe"]
    lines, found = _survey(checks, settings)
    firewall = {
        "tcp": [str(port) for port in PUBLIC_TCP],
        "udp": [*map(str, PUBLIC_UDP), f"{settings['turn_min_port']}-{settings['turn_max_port']}"],
    }
    return _report(settings["mail_domain"], lines, found, firewall, begun)


def _report(name, lines, found, firewall, begun):
    level = max((one["level"] for one in found), key=LEVELS.index, default="ok")
    found = sorted(found, key=lambda one: -LEVELS.index(one["level"]))
    return {
        "relay": name,
        "level": level,
        "checks": lines,
        "findings": found,
        "firewall": firewall,
        "seconds": round(time.monotonic() - begun, 1),
    }


def exit_code(level):
    """
    Return the exit code for the worst ``level`` of a status: 0 for ``ok`` and ``note``, 1 for ``warning``, 2 for
    ``error``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.exit_code warning
    """
    return max(0, LEVELS.index(level) - 1)


def status(probe=True):
    """
    Say whether the relay is well, and if not, what to do next: services, ports, sockets, certificate, DNS, disk,
    memory, queue, limits, packages, clock, expiry, and a message from one throw-away address to another.

    probe
        Whether that message is sent.

    Returns a mapping: ``relay``; ``level``, the worst of all; ``checks`` in order, each with ``check``, ``level`` (ok,
    note, warning, error, or skipped where its base is down) and ``says``; ``findings``, the worst first, each with
    ``check``, ``level``, ``what``, ``do``, and ``data`` where there are numbers; ``firewall``, the ports that have to
    be open; ``seconds`` that it took.

    The exit code is 0 if all is well, 1 with warnings, 2 with errors; salt-ssh makes 20 of both.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.status
        salt-ssh --out=json relay chatmail_relay.status
    """
    found = examine(probe=probe)
    __context__["retcode"] = exit_code(found["level"])
    return found
