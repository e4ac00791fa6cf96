"""
Checks of the mail: mailboxes, the plugin that tells of it, queue, clients, new addresses, expiry, and a trial message.
"""

import os
import stat
import time
from collections import Counter
from pathlib import Path

from chatmail_checks import Check, Finding
from chatmail_errors import CommandExecutionError
from chatmail_services import POSTFIX_UNITS, PROBE_PATH, unit_states
from chatmail_words import age_text, one_line

NOCREATE = Path("/etc/chatmail-nocreate")
MAILBOXES_LOOKED_AT = 2000
# The timer's jitter is half an hour.
EXPIRY_OVERDUE_S = 26 * 3600
# Deferred mail is nothing unusual: servers of others are down, or ask to come again.
QUEUE_PATIENCE_S = 3600
QUEUE_MANY = 100
LOCAL_PATIENCE_S = 60
SLOW_S = 2
USED_PERCENT = 80
_DOVECOT = frozenset(["dovecot.service"])


def _collect_mailboxes(relay):
    path = relay.settings["mailboxes_dir"]
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


def _judge_mailboxes(facts, relay):
    path = relay.settings["mailboxes_dir"]
    if not facts["there"]:
        what = f"the directory of the mailboxes, {path}, is not there"
        return "", [
            Finding(
                "error",
                "mailboxes-missing",
                what,
                f"is a file system not mounted? If not: {relay.command('state.apply chatmail.system')}",
            )
        ]
    found = []
    if not facts["vmails"] or facts["foreign"]:
        which = path if not facts["vmails"] else f"{facts['foreign']} of {facts['looked_at']} directories in {path}"
        what = f"the owner of {which} is not vmail: mail cannot be stored there"
        found.append(Finding("error", "owner-wrong", what, f"chown -R vmail:vmail {path}"))
    elif facts["mode"] != 0o700:
        what = f"the mode of {path} is {facts['mode']:04o}, not 0700"
        found.append(Finding("warning", "mode-wrong", what, f"chmod 0700 {path}"))
    return f"{facts['count']} addresses", found


def _collect_plugin(relay):
    source = "/usr/local/src/chatmail/imap-instant-plugin.c"
    try:
        fits = relay.call["chatmail_dovecot.plugin_found"]() == relay.call["chatmail_dovecot.plugin_wanted"](source)
    except CommandExecutionError as error:
        return {"fits": False, "loaded": False, "problem": str(error)}
    return {"fits": fits, "loaded": Path("/run/dovecot-imap-instant.conf").exists(), "problem": ""}


def _judge_plugin(facts, relay):
    apply = relay.command("state.apply chatmail.dovecot")
    if facts["loaded"] and not facts["fits"]:
        what = "Dovecot loads its plugin for instant notices, which is missing or does not fit: nobody can read mail"
        return "", [
            Finding(
                "error",
                "plugin-breaks-reading",
                what,
                f"systemctl restart dovecot, to do without it; {apply} builds it",
            )
        ]
    if not facts["fits"]:
        what = "Dovecot's plugin for instant notices is missing or does not fit: a notice takes half a second longer"
        do = f"journalctl -u chatmail-imap-instant, to see why it was not built; {apply} tries it again"
        return "", [Finding("warning", "plugin-missing", f"{what} {facts['problem']}".strip(), do)]
    if not facts["loaded"]:
        what = "Dovecot's plugin for instant notices is there, but not loaded"
        return "", [Finding("warning", "plugin-not-loaded", what, "systemctl restart dovecot")]
    return "loaded", []


def _collect_queue(relay):
    return {"lines": relay.call["chatmail_queue.list"](), "now": time.time()}


def _judge_queue(facts, relay):
    found = []
    lines = facts["lines"]
    waiting = [line for line in lines if line["deferred"]]
    own = relay.settings["mail_domain"]
    for line in waiting:
        age = facts["now"] - line["since"]
        what = f"{line['deferred']} messages wait for {line['destination']}, since {age_text(age)}"
        what += f", by {line['way']}: {one_line(line['reason'], 400)}" if line["reason"] else ""
        if line["destination"] == own and age > LOCAL_PATIENCE_S:
            do = f"journalctl -u dovecot -n 30; then {relay.command(f'chatmail_queue.retry {own}')}"
            found.append(Finding("error", "own-mail-waits", what, do))
        elif age > QUEUE_PATIENCE_S or line["deferred"] >= QUEUE_MANY:
            retry = relay.command(f"chatmail_queue.retry {line['destination']}")
            drop = relay.command(f"chatmail_queue.drop {line['destination']}")
            found.append(Finding("warning", "mail-waits", what, f"{retry} once it can be reached; {drop} gives it up"))
    timed_out = [line for line in waiting if "timed out" in line["reason"] and line["destination"] != own]
    if len(timed_out) > 2 and len(timed_out) == len([line for line in waiting if line["destination"] != own]):
        what = f"no other relay can be reached: connections to all {len(timed_out)} destinations time out"
        do = "does the provider let port 25 out? nc -vz -w5 gmail-smtp-in.l.google.com 25; ask the provider to open it"
        return "", [Finding("error", "no-way-out", what, do)]
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


def _collect_clients(relay):
    processes = _processes()
    used = _inotify_instances(processes.get("imap", []) + processes.get("imap-hibernate", []))
    limits = relay.call["chatmail_dovecot.inotify_limits"]()
    return {
        "imap": len(processes.get("imap", [])),
        "smtpd": len(processes.get("smtpd", [])),
        "inotify_used": max(used.values(), default=0),
        "inotify_limit": limits["max_user_instances"],
    }


def _judge_clients(facts, relay):
    found = []
    limit, used = facts["inotify_limit"], facts["inotify_used"]
    raise_it = relay.command("state.apply chatmail.dovecot")
    raise_it += "; in a container, set fs.inotify.max_user_instances on its host"
    if limit is not None and used * 100 >= limit * USED_PERCENT:
        what = f"{used} of {limit} inotify instances are in use: notices of new mail come up to half a minute late"
        found.append(Finding("error", "inotify-exhausted", what, raise_it))
    elif limit is not None and limit < relay.settings["max_imap_connections"]:
        what = f"the kernel allows {limit} inotify instances, fewer than clients (max_imap_connections)"
        found.append(Finding("warning", "inotify-low", what, raise_it))
    for kind, number, key in (
        ("IMAP", facts["imap"], "max_imap_connections"),
        ("SMTP", facts["smtpd"], "max_smtp_connections"),
    ):
        if number * 100 >= relay.settings[key] * USED_PERCENT:
            what = f"{number} {kind} clients are connected, of {relay.settings[key]} allowed ({key})"
            found.append(
                Finding(
                    "warning",
                    "connections-high",
                    what,
                    f"raise {key} in the pillar, then {relay.command('state.apply chatmail')}",
                )
            )
    allowed = relay.settings["max_imap_connections"]
    return f"{facts['imap']} of {allowed} IMAP processes, {used} of {limit} inotify instances", found


def _collect_creation(relay):
    return {"nocreate": NOCREATE.exists()}


def _judge_creation(facts, relay):
    if facts["nocreate"]:
        what = f"no address is created: {NOCREATE} is there"
        return "", [
            Finding(
                "note",
                "creation-off",
                what,
                f"when the reason is over: {relay.command('chatmail_account.nocreate on=False')}",
            )
        ]
    return "by invitation" if relay.settings["invite_only"] else "open", []


def _collect_expiry(relay):
    stamp = Path("/var/lib/systemd/timers/stamp-chatmail-expire.timer")
    state = unit_states(["chatmail-expire.service"]).get("chatmail-expire.service", {})
    return {
        "ago": time.time() - stamp.stat().st_mtime if stamp.exists() else None,
        "result": state.get("Result", "success"),
    }


def _judge_expiry(facts, relay):
    ago = facts["ago"]
    again = "systemctl start chatmail-expire; see journalctl -u chatmail-expire -n 30"
    if facts["result"] != "success":
        return "", [
            Finding("warning", "expiry-failed", f"the last removal of old mail has failed ({facts['result']})", again)
        ]
    if ago is None:
        return "", [Finding("warning", "expiry-never", "old mail was never removed", again)]
    if ago > EXPIRY_OVERDUE_S:
        return "", [
            Finding("warning", "expiry-overdue", f"old mail was removed {age_text(ago)} ago for the last time", again)
        ]
    return f"{age_text(ago)} ago", []


def _collect_probe(relay):
    return relay.call["chatmail_probe.message"]()


def _judge_probe(facts, relay):
    if "problem" in facts:
        said = one_line(facts["problem"])
        what, do = {
            "addresses": (
                f"the addresses for a trial message cannot be made: {said}",
                relay.command("state.apply chatmail.chatmaild"),
            ),
            "imap": (f"mail cannot be read: {said}", "journalctl -u dovecot -u doveauth -n 30"),
            "submission": (f"mail cannot be sent: {said}", "journalctl -u 'postfix*' -u filtermail -u opendkim -n 30"),
            "delivery": (
                f"a trial message was taken, but did not arrive: {said}",
                relay.command("chatmail_queue.list"),
            ),
        }[facts["stage"]]
        return "", [Finding("error", "probe-failed", what, do)]
    found = []
    if not facts["signed"] and not relay.settings["ipv4_relay"]:
        what = "the trial message was not signed: other relays refuse what is sent"
        found.append(Finding("error", "not-signed", what, relay.command("state.apply chatmail.opendkim")))
    if facts["seconds"] > SLOW_S:
        what = f"the trial message took {facts['seconds']:.1f} s"
        found.append(Finding("warning", "probe-slow", what, "see what works: top -bn1 | head -n 15"))
    return f"a message took {facts['seconds']:.2f} s from submission to notice", found


MAILBOXES = Check(
    "mailboxes", _collect_mailboxes, _judge_mailboxes, figures=lambda facts: {"addresses": facts.get("count", 0)}
)
PLUGIN = Check("plugin", _collect_plugin, _judge_plugin, units=_DOVECOT)
QUEUE = Check(
    "queue",
    _collect_queue,
    _judge_queue,
    figures=lambda facts: {
        "messages": sum(line["messages"] for line in facts["lines"]),
        "deferred": sum(line["deferred"] for line in facts["lines"]),
        "destinations": len(facts["lines"]),
    },
    needs=("disk", "mailboxes", "resolver"),
    units=frozenset(POSTFIX_UNITS) | _DOVECOT,
)
CLIENTS = Check("clients", _collect_clients, _judge_clients, figures=dict, units=_DOVECOT)
CREATION = Check("creation", _collect_creation, _judge_creation)
EXPIRY = Check(
    "expiry", _collect_expiry, _judge_expiry, figures=lambda facts: {"seconds_ago": facts["ago"]}, needs=("clock",)
)
PROBE = Check(
    "probe",
    _collect_probe,
    _judge_probe,
    figures=lambda facts: {"milliseconds": round(facts["seconds"] * 1000)} if "seconds" in facts else {},
    needs=("disk", "sockets", "mailboxes", "plugin"),
    units=PROBE_PATH,
)
