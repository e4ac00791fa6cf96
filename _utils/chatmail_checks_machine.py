"""
Checks of the machine: disk, memory, clock, resolver, packages, and that nothing on disk tells who writes to whom.
"""

import os
import re
import time
from pathlib import Path

from chatmail_checks import Check, Finding
from chatmail_services import run, short, unit_states, wanted_units
from chatmail_words import DAY_S, age_text, size_text

MIB = 1024**2
CLOCK_TOLERANCE_S = 60
PACKAGE_LISTS_OLD_S = 7 * DAY_S


def _collect_disk(relay):
    by_device = {}
    for path in ("/", relay.settings["mailboxes_dir"], "/var/spool/postfix", "/var/lib"):
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
    mailboxes = Path(relay.settings["mailboxes_dir"])
    device = mailboxes.stat().st_dev if mailboxes.exists() else None
    return {
        "file_systems": found,
        "mailboxes": by_device.get(device),
        "wanted": relay.call["chatmail_settings.size_mb"](relay.settings["min_free_disk_space"]) * MIB,
    }


def _judge_disk(facts, relay):
    # smtpd(8) takes no mail with less than one and a half of the largest message free, and one more for its own file of
    # it (speed_adjust).
    needed = relay.settings["max_message_size"] * 5 // 2
    found = []
    for one in facts["file_systems"]:
        path = one["path"]
        look = f"du -xh --max-depth=3 {path} | sort -h | tail"
        if one["read_only"]:
            found.append(
                Finding(
                    "error",
                    "read-only",
                    f"the file system of {path} is read-only: no mail is stored",
                    "dmesg | tail -n 30",
                )
            )
        elif one["free"] < needed:
            found.append(
                Finding(
                    "error",
                    "disk-full",
                    f"the disk is full: {path} has {size_text(one['free'])} free, and mail is refused below"
                    f" {size_text(needed)}",
                    f"make room ({look}), or give the host a larger disk",
                )
            )
        elif one["inodes"] and one["free_inodes"] < one["inodes"] // 100:
            found.append(
                Finding(
                    "error",
                    "no-inodes",
                    f"the disk is full: {path} has room for {one['free_inodes']} files",
                    f"make room: {look}",
                )
            )
        # doveauth's share, chatmaild.limits.machine.FREE_FILES_SHARE.
        elif path == facts["mailboxes"] and one["free_inodes"] < one["inodes"] // 20:
            found.append(
                Finding(
                    "warning",
                    "inodes-low",
                    f"{path} has room for {one['free_inodes']} more files: no address is created below 5 % of"
                    f" {one['inodes']}",
                    f"see where they are: du -x --inodes --max-depth=3 {path} | sort -n | tail",
                )
            )
        elif path == facts["mailboxes"] and one["free"] < facts["wanted"]:
            found.append(
                Finding(
                    "warning",
                    "disk-low",
                    f"{path} has {size_text(one['free'])} free: no address is created below"
                    f" {size_text(facts['wanted'])} (min_free_disk_space)",
                    f"see whose mail it is: {relay.command('chatmail_account.list')}",
                )
            )
    says = ", ".join(
        f"{size_text(one['free'])} of {size_text(one['total'])} free on {one['path']}" for one in facts["file_systems"]
    )
    return says, found


def _collect_memory(relay):
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    values = {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines if len(fields) > 1}
    return {
        "available": values["MemAvailable"],
        "total": values["MemTotal"],
        "load": os.getloadavg()[0],
        "wanted": relay.call["chatmail_settings.size_mb"](relay.settings["min_available_memory"]) * MIB,
    }


def _judge_memory(facts, relay):
    found = []
    available, wanted = facts["available"], facts["wanted"]
    look = "see what takes it: ps -eo rss,user,args --sort=-rss | head"
    if available < min(50 * MIB, facts["total"] // 20):
        what = f"{size_text(available)} of memory are left: the kernel will end processes"
        found.append(Finding("error", "memory-exhausted", what, look))
    elif available < wanted:
        what = f"memory is low, {size_text(available)} are available: no address is created below {size_text(wanted)}"
        found.append(Finding("warning", "memory-low", f"{what} (min_available_memory)", look))
    limit = relay.settings["max_load_1m"]
    if facts["load"] > limit:
        found.append(
            Finding(
                "warning",
                "load-high",
                f"the load is {facts['load']:.1f}: no address is created above {limit} (max_load_1m)",
                "see what works: top -bn1 | head -n 15",
            )
        )
    return f"{size_text(available)} of {size_text(facts['total'])} available, load {facts['load']:.1f}", found


def _collect_clock(relay):
    shown = run(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).stdout.strip()
    return {
        "ahead": None if relay.clock is None else time.time() - relay.clock,
        "synchronized": {"yes": True, "no": False}.get(shown),
        "container": run(["systemd-detect-virt", "--container", "--quiet"]).returncode == 0,
    }


def _judge_clock(facts, relay):
    ahead = facts["ahead"]
    # What ssh takes on the way counts as well.
    if ahead is not None and abs(ahead) > CLOCK_TOLERANCE_S:
        side = "ahead of" if ahead > 0 else "behind"
        return "", [
            Finding(
                "error",
                "clock-wrong",
                f"the clock is {age_text(abs(ahead))} {side} this machine's: certificates and signatures seem invalid",
                "timedatectl, to see both; apt install systemd-timesyncd keeps the clock right",
            )
        ]
    # A container has its host's clock, and may not set it.
    if facts["synchronized"] is False and not facts["container"]:
        return "", [
            Finding(
                "warning",
                "clock-not-kept",
                "nothing keeps the clock right",
                "apt install systemd-timesyncd; then timedatectl",
            )
        ]
    return "right" if ahead is not None else "kept right", []


def _is_replaced(pid):
    """Whether a process runs a program or library that is no longer the installed one."""
    try:
        if str(Path(f"/proc/{pid}/exe").readlink()).endswith(" (deleted)"):
            return True
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
    return any(line.endswith(" (deleted)") and "/usr/" in line and ".so" in line for line in maps.splitlines())


def _collect_packages(relay):
    states = unit_states([unit.name for unit in wanted_units(relay.settings) if unit.name.endswith(".service")])
    upgrades = [
        line for line in run(["apt-get", "--just-print", "upgrade"]).stdout.splitlines() if line.startswith("Inst ")
    ]
    versions = run(["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", "postfix", "dovecot-core"]).stdout
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


def _judge_packages(facts, relay):
    found = []
    if facts["security"]:
        what = f"{len(facts['security'])} security upgrades are pending: {', '.join(facts['security'][:5])}"
        found.append(
            Finding("warning", "security-upgrades", what, f"apt upgrade; then {relay.command('state.apply chatmail')}")
        )
    elif facts["upgrades"]:
        what = f"{facts['upgrades']} upgrades are pending"
        found.append(Finding("note", "upgrades", what, f"apt upgrade; then {relay.command('state.apply chatmail')}"))
    if facts["lists_age"] is None or facts["lists_age"] > PACKAGE_LISTS_OLD_S:
        age = "never" if facts["lists_age"] is None else f"{age_text(facts['lists_age'])} ago"
        found.append(
            Finding(
                "note", "package-lists-old", f"Debian's lists of upgrades were read {age}", "apt update; then ask again"
            )
        )
    if facts["old"]:
        names = " ".join(short(name) for name in facts["old"])
        what = f"{names} still runs the program of before an upgrade"
        found.append(Finding("warning", "program-replaced", what, f"systemctl restart {names}"))
    if facts["reboot"] or facts["kernel_gone"]:
        what = "a reboot is pending, for a new kernel or library"
        found.append(
            Finding(
                "warning",
                "reboot-pending",
                what,
                f"systemctl reboot, at a quiet time; then {relay.command('chatmail_relay.status')}",
            )
        )
    versions = ", ".join(
        f"{name.removesuffix('-core')} {re.sub('^[0-9]+:|[-+].*', '', version)}"
        for name, version in facts["versions"].items()
    )
    return f"{versions}; {'up to date' if not facts['upgrades'] else 'upgrades pending'}", found


def _collect_privacy(relay):
    logs = ["/var/log/mail.log", "/var/log/syslog", "/var/log/mail.info", "/var/log/journal"]
    return {"logs": [path for path in logs if Path(path).exists()]}


def _judge_privacy(facts, relay):
    if facts["logs"]:
        what = f"who writes to whom is kept on disk: {', '.join(facts['logs'])}"
        do = f"apt purge rsyslog; rm -r {' '.join(facts['logs'])}; systemctl restart systemd-journald"
        return "", [Finding("warning", "log-on-disk", what, do)]
    return "no log on disk", []


def _collect_resolver(relay):
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode

    lines = [line.split() for line in Path("/etc/resolv.conf").read_text().splitlines()]
    first = next((fields[1] for fields in lines if len(fields) > 1 and fields[0] == "nameserver"), "")
    try:
        # A question that needs other servers: what other relays ask to find this one.
        query = dns.message.make_query(f"{relay.settings['mail_domain_bare']}.", "SOA")
        answer = dns.rcode.to_text(dns.query.udp(query, "127.0.0.1", timeout=5).rcode())
    except (dns.exception.DNSException, OSError) as error:
        answer = str(error) or type(error).__name__
    return {"first": first, "answer": answer}


def _judge_resolver(facts, relay):
    found = []
    if facts["answer"] not in ("NOERROR", "NXDOMAIN"):
        what = f"unbound runs, but does not resolve names ({facts['answer']}): mail of others cannot be verified"
        found.append(
            Finding("error", "resolver-mute", what, "unbound-host -rv debian.org, and journalctl -u unbound -n 30")
        )
    if facts["first"] != "127.0.0.1":
        what = f"/etc/resolv.conf names {facts['first'] or 'no name server'} first, not the relay's own resolver"
        found.append(Finding("warning", "resolver-not-asked", what, relay.command("state.apply chatmail.unbound")))
    return "unbound answers", found


DISK = Check("disk", _collect_disk, _judge_disk, figures=lambda facts: {"file_systems": facts["file_systems"]})
MEMORY = Check(
    "memory",
    _collect_memory,
    _judge_memory,
    figures=lambda facts: {
        "available_bytes": facts["available"],
        "total_bytes": facts["total"],
        "load_1m": round(facts["load"], 2),
    },
)
CLOCK = Check("clock", _collect_clock, _judge_clock, figures=lambda facts: {"ahead_seconds": facts["ahead"]})
RESOLVER = Check("resolver", _collect_resolver, _judge_resolver, units=frozenset(["unbound.service"]))
PACKAGES = Check(
    "packages",
    _collect_packages,
    _judge_packages,
    figures=lambda facts: {"upgrades": facts["upgrades"], "security_upgrades": len(facts["security"])},
    slow=True,
)
PRIVACY = Check("privacy", _collect_privacy, _judge_privacy)
