"""Faults of a relay, one at a time: how to make each, what the status says of it, and how to undo it."""

import dataclasses

from tools.migrate.units import ACTIVATED

# Faults are told as on the first relay; `fitted` tells them of another.
FIRST, FIRST_POSTFIX = "_one.test", "postfix@-"
MAILBOXES = f"/home/vmail/mail/{FIRST}"
CERTIFICATE, KEY = "/etc/ssl/certs/mailserver.pem", "/etc/ssl/private/mailserver.key"
RELAY = "/etc/chatmail/relay.json"
PLUGIN = "/usr/lib/dovecot/modules/lib20_imap_instant_plugin.so"
STAMP = "/var/lib/systemd/timers/stamp-chatmail-expire.timer"
LIMIT = "/proc/sys/fs/inotify/max_user_instances"

# The relay's own certificate, but its time is over.
EXPIRE = f"""
import datetime
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
old = x509.load_pem_x509_certificate(open("{CERTIFICATE}", "rb").read())
key = serialization.load_pem_private_key(open("{KEY}", "rb").read(), None)
now = datetime.datetime.utcnow()
new = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
new = new.not_valid_before(now - datetime.timedelta(90)).not_valid_after(now - datetime.timedelta(1))
for extension in old.extensions:
    new = new.add_extension(extension.value, extension.critical)
open("{CERTIFICATE}", "wb").write(new.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
"""
# Holds a port; says so when it has it.
LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    while True:
        server.accept()[0].close()
"""
LOWER = """
import json, sys
path, key, value = sys.argv[1:]
relay = json.load(open(path))
relay["settings"][key] = value
json.dump(relay, open(path, "w"))
"""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault, made and undone by shell commands on the relay; what status says of it; by how much the clock is off."""

    name: str
    inject: str
    undo: str
    check: str
    what: str
    do: str
    level: str = "error"
    clock_s: float = 0


def stopping(name: str, unit: str) -> str:
    """The command that stops a unit for good: whoever connects to a service's socket would start it again."""
    return f"systemctl stop {unit} {name}.socket" if name in ACTIVATED else f"systemctl stop {unit}"


def dead(unit: str, level: str = "error") -> Fault:
    """A unit that somebody has stopped."""
    name = unit.removesuffix(".service")
    return Fault(
        f"dead-{name}",
        stopping(name, unit),
        f"systemctl start {unit}",
        "services",
        f"^{name} is stopped: .",
        f"^systemctl restart {name}",
        level,
    )


def taken(unit: str, address: str, port: int) -> Fault:
    """A port that a stranger holds, so that its owner does not start."""
    return Fault(
        f"port-{port}-taken",
        f"{stopping(unit, unit)}; systemd-run --quiet --unit=stranger python3 -c '{LISTEN}' {address} {port};"
        f" until ss -Hltn sport = :{port} | grep -q .; do sleep 0.1; done; timeout 5 systemctl start {unit}",
        f"systemctl stop stranger; systemctl reset-failed {unit}; systemctl restart {unit}",
        "services",
        rf"^port {port}/tcp is needed by {unit.partition('@')[0]}, but taken by python3 \(process \d+, stranger",
        f"systemctl stop stranger.service.*; then systemctl restart {unit}",
    )


def saved(path: str, change: str, **more) -> dict:
    """A file that is changed, and put back with owner and mode."""
    return {"inject": f"cp -a {path} {path}.kept; {change}", "undo": f"mv {path}.kept {path}", **more}


FAULTS = [
    dead(f"{FIRST_POSTFIX}.service"),
    dead("dovecot.service"),
    dead("doveauth.service"),
    dead("filtermail.service"),
    dead("filtermail-incoming.service"),
    dead("opendkim.service"),
    dead("unbound.service"),
    dead("postfix-mta-sts-resolver.service"),
    dead("chatmail-dane-policy.service"),
    dead("chatmail-transport.service"),
    dead("chatmail-network-share.service", "warning"),
    dead("chatmail-sasl.service"),
    dead("nginx.service"),
    dead("chatmail-metadata.service"),
    dead("chatmail-newemail.service", "warning"),
    dead("lastlogin.service", "warning"),
    dead("coturn.service", "warning"),
    dead("chatmail-turn.service", "warning"),
    taken(FIRST_POSTFIX, "0.0.0.0", 25),
    taken("filtermail", "127.0.0.1", 10080),
    Fault(
        "another-web-server",
        "systemd-run --quiet --unit=apache2 --property=Type=exec python3 -m http.server 80;"
        " until systemctl is-failed apache2; do sleep 0.1; done",
        "systemctl reset-failed apache2",
        "services",
        "^apache2 has failed: the port that it wants is in use",
        "^if it is not needed: systemctl disable apache2; systemctl reset-failed apache2$",
        "warning",
    ),
    Fault(
        "crash-loop",
        "mkdir -p /run/systemd/system/lastlogin.service.d;"
        " printf '[Service]\\nType=exec\\nExecStart=\\nExecStart=/bin/sh -c \"echo no way; exit 1\"\\nRestartSec=30\\n'"
        " > /run/systemd/system/lastlogin.service.d/x.conf;"
        " systemctl daemon-reload; systemctl restart lastlogin; sleep 0.5",
        "rm -r /run/systemd/system/lastlogin.service.d; systemctl daemon-reload; systemctl restart lastlogin",
        "services",
        r"^lastlogin crashes again and again \(it said: no way\)",
        "journalctl -u lastlogin",
        "warning",
    ),
    Fault(
        "foreign-unit-failed",
        "systemd-run --quiet --unit=stray false; sleep 0.3",
        "systemctl reset-failed stray",
        "services",
        "^stray has failed",
        "^journalctl -u stray",
        "warning",
    ),
    Fault(
        "not-at-boot",
        "systemctl --quiet disable filtermail",
        "systemctl --quiet enable filtermail",
        "services",
        "^filtermail runs, but does not start at the next boot",
        "systemctl enable filtermail",
        "warning",
    ),
    Fault(
        "nginx-configuration",
        "echo 'server { bad }' > /etc/nginx/chatmail.d/x.conf",
        "rm /etc/nginx/chatmail.d/x.conf",
        "services",
        r"^nginx runs, but would not start again: its configuration is broken: .*/etc/nginx/chatmail\.d/x\.conf:1",
        "^fix that file, or .*salt-ssh relay state.apply chatmail.nginx; then systemctl restart nginx",
    ),
    Fault(
        "dovecot-configuration",
        "echo bad >> /etc/dovecot/dovecot.conf; systemctl restart dovecot; true",
        "sed -i '$d' /etc/dovecot/dovecot.conf; systemctl restart dovecot",
        "services",
        "^dovecot does not run: its configuration is broken: .*dovecot.conf",
        "salt-ssh relay state.apply chatmail.dovecot",
    ),
    Fault(
        "socket-gone",
        "rm /run/doveauth/doveauth.socket",
        "systemctl restart doveauth.socket",
        "sockets",
        "^doveauth runs, but its socket /run/doveauth/doveauth.socket is gone",
        "^systemctl restart doveauth.socket",
    ),
    Fault(
        "certificate-expired",
        **saved(CERTIFICATE, f"python3 -W ignore -c '{EXPIRE}'"),
        check="certificate",
        what=f"^{CERTIFICATE} ends at ",
        do="^salt-ssh relay state.apply chatmail makes a new one",
    ),
    Fault(
        "certificate-not-matching",
        **saved(KEY, f"openssl ecparam -name prime256v1 -genkey -noout -out {KEY}"),
        check="certificate",
        what=f"^the key in {KEY} does not belong to the certificate",
        do="^salt-ssh relay state.apply chatmail makes a new one",
    ),
    Fault(
        "disk-full",
        f"mount -t tmpfs -o size=4M,uid=vmail,gid=vmail,mode=0700 none {MAILBOXES}",
        f"umount -l {MAILBOXES}",
        "disk",
        rf"^the disk is full: {MAILBOXES} has [34]\.\d M free",
        "^make room",
    ),
    Fault(
        "inotify-low",
        f"echo 128 > /run/limit; mount --bind /run/limit {LIMIT}",
        f"umount {LIMIT}",
        "clients",
        "^the kernel allows 128 inotify instances",
        "^salt-ssh relay state.apply chatmail.dovecot; in a container, set fs.inotify",
        "warning",
    ),
    Fault(
        "store-owner",
        f"chown root {MAILBOXES}",
        f"chown vmail {MAILBOXES}",
        "mailboxes",
        f"^the owner of {MAILBOXES} is not vmail",
        f"^chown -R vmail:vmail {MAILBOXES}",
    ),
    Fault(
        "mailbox-owner",
        f"mkdir {MAILBOXES}/restored1@{FIRST}",
        f"rmdir {MAILBOXES}/restored1@{FIRST}",
        "mailboxes",
        rf"^the owner of 1 of \d+ directories in {MAILBOXES} is not vmail",
        f"^chown -R vmail:vmail {MAILBOXES}",
    ),
    Fault(
        "clock", "", "", "clock", "^the clock is 2 h ahead of this machine's", "systemd-timesyncd", clock_s=2.5 * 3600
    ),
    Fault(
        "resolver-mute",
        "systemctl kill --signal=STOP unbound",
        "systemctl kill --signal=CONT unbound",
        "resolver",
        "^unbound runs, but does not resolve names",
        "journalctl -u unbound",
    ),
    Fault(
        "resolver-not-asked",
        **saved("/etc/resolv.conf", "echo nameserver 127.0.0.2 > /etc/resolv.conf"),
        check="resolver",
        what="^/etc/resolv.conf names 127.0.0.2 first",
        do="^salt-ssh relay state.apply chatmail.unbound",
        level="warning",
    ),
    Fault(
        "plugin-missing",
        f"mv {PLUGIN} /root/",
        f"mv /root/{PLUGIN.rpartition('/')[2]} {PLUGIN}",
        "plugin",
        "^Dovecot loads its plugin for instant notices, which is missing or .*: nobody can read mail",
        "^systemctl restart dovecot, to do without it; salt-ssh relay state.apply chatmail.dovecot builds it",
    ),
    Fault(
        "expiry-off",
        "systemctl --quiet disable --now chatmail-expire.timer",
        "systemctl --quiet enable --now chatmail-expire.timer",
        "services",
        "^chatmail-expire.timer is stopped: old messages",
        "systemctl restart chatmail-expire.timer; systemctl enable chatmail-expire.timer",
        "warning",
    ),
    Fault(
        "expiry-overdue",
        **saved(STAMP, f"touch -d '3 days ago' {STAMP}"),
        check="expiry",
        what="^old mail was removed 3 days ago for the last time",
        do="^systemctl start chatmail-expire",
        level="warning",
    ),
    Fault(
        "memory-low",
        **saved(RELAY, f"python3 -c '{LOWER}' {RELAY} min_available_memory 999G"),
        check="memory",
        what="^memory is low, .* no address is created below 999.0 G",
        do="ps -eo rss",
        level="warning",
    ),
    Fault(
        "reboot-pending",
        "touch /run/reboot-required",
        "rm /run/reboot-required",
        "packages",
        "^a reboot is pending",
        "^systemctl reboot",
        "warning",
    ),
    Fault(
        "log-on-disk",
        "touch /var/log/mail.log",
        "rm /var/log/mail.log",
        "privacy",
        "^who writes to whom is kept on disk: /var/log/mail.log",
        "^apt purge rsyslog; rm -r /var/log/mail.log",
        "warning",
    ),
    Fault(
        "nocreate",
        "touch /etc/chatmail-nocreate",
        "rm /etc/chatmail-nocreate",
        "creation",
        "^no address is created: /etc/chatmail-nocreate is there",
        "salt-ssh relay chatmail_account.nocreate on=False",
        "note",
    ),
    Fault(
        "no-relay",
        f"mv {RELAY} {RELAY}.kept",
        f"mv {RELAY}.kept {RELAY}",
        "relay",
        "^this host is not a relay yet",
        "^salt-ssh relay state.apply chatmail",
    ),
]
