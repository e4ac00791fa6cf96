"""
Looks at a host before the relay is installed on it: is it the right system, are the relay's ports free, does another
configuration stand where the relay's is going to be.

Everything is read from the host's files below ``root`` (``/proc`` too), so that it also works where ``ss`` is missing,
and costs a few milliseconds.
"""

import hashlib
import json
import os
import pwd
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import chatmail_capacity
import chatmail_ports

# By os-release(5)'s VERSION_ID; chatmail/releases.yaml has the rest.
RELEASES = {"12": "bookworm", "13": "trixie"}
ADOPTED = "etc/chatmail/adopted"
# Written when a move to another host (docs/migration.md) closes this one; names the other.
MOVED = "etc/chatmail/moved"
RESTORING = "etc/chatmail/restoring"
BACKUPS = "var/backups/chatmail"
TAKEOVER = ", or set `takeover: true` below `chatmail:` in the pillar, and the apply does that"

# What the relay's own configuration takes the place of. Of unbound only the main file: ours is one more file beside
# those in unbound.conf.d, which stay in force.
_CONFIGURATIONS = {
    "postfix": ("main.cf", "master.cf"),
    "dovecot": ("dovecot.conf", "local.conf", "conf.d/*"),
    "nginx": ("nginx.conf", "conf.d/*", "sites-enabled/*"),
    "unbound": ("unbound.conf",),
}


def operating_system(root="/"):
    """
    Name the operating system of the host by os-release(5).

    Returns a pair: whether it is a release of Debian that a relay runs on, and the system's name for people.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.operating_system
    """
    values = {}
    for path in (Path(root, "etc/os-release"), Path(root, "usr/lib/os-release")):
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            values = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
            break
    name = values.get("PRETTY_NAME") or values.get("ID") or "a system without /etc/os-release"
    return values.get("ID") == "debian" and values.get("VERSION_ID") in RELEASES, name


def _packaged_sums(root):
    """Map paths of configuration files to their MD5 sums as Debian's packages brought them."""
    listed = subprocess.run(
        [
            "dpkg-query",
            f"--admindir={Path(root, 'var/lib/dpkg')}",
            "--show",
            "--showformat=${Conffiles}\n",
            "dovecot-*",
            "nginx*",
            "unbound",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,  # 1 when none of a pattern is installed
    )
    sums = {path: md5 for path, md5, *_ in (line.split() for line in listed.stdout.splitlines() if line.split()[1:])}
    # Dovecot's files are kept by ucf(1), whose lines read the other way round.
    ucf = Path(root, "var/lib/ucf/hashfile")
    if ucf.is_file():
        sums |= {path: md5 for md5, path in (line.split() for line in ucf.read_text().splitlines() if line.strip())}
    return sums


def foreign_configurations(root="/"):
    """
    Find configuration that somebody wrote for the daemons whose files the relay replaces.

    Files that are as their Debian package brought them do not count. Postfix's main.cf is written on every host
    by its package's questions, so it counts always.

    Returns a mapping of directory to list of files in it, empty if there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.foreign_configurations
    """
    candidates = [
        (f"/etc/{daemon}", path)
        for daemon, patterns in _CONFIGURATIONS.items()
        for pattern in patterns
        for path in sorted(Path(root, "etc", daemon).glob(pattern))
        if path.is_file()
    ]
    if not candidates:
        return {}
    packaged = _packaged_sums(root)
    template = Path(root, "usr/share/postfix/master.cf.dist")
    if template.is_file():
        packaged["/etc/postfix/master.cf"] = hashlib.md5(template.read_bytes(), usedforsecurity=False).hexdigest()
    foreign = {}
    for directory, path in candidates:
        # A site of nginx is a link to the file that the package brought.
        name = f"/{path.resolve().relative_to(Path(root).resolve())}"
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != packaged.get(name):
            foreign.setdefault(directory, []).append(f"/{path.relative_to(root)}")
    return foreign


def adopted(root="/"):
    """
    Whether the relay has been applied to this host before, be it in part: then the configuration found is ours.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.adopted
    """
    return Path(root, ADOPTED).is_file()


def adopt(directories, root="/"):
    """
    Keep the directories aside as they are, and note that the host is the relay's from now on.

    directories
        Configuration directories, such as ``/etc/postfix``; may be empty.

    Returns a mapping of each directory to its copy. Raises OSError if there is no room, or the like; then nothing is
    left behind.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.adopt '[/etc/postfix]'
    """
    now = datetime.now(UTC)
    kept = {}
    if directories:
        copies = Path(root, BACKUPS, now.strftime("%Y%m%dT%H%M%SZ"))
        copies.mkdir(mode=0o700, parents=True)
        try:
            for directory in directories:
                kept[directory] = str(copies / Path(directory).relative_to("/"))
                _copy(Path(root, Path(directory).relative_to("/")), Path(kept[directory]))
        except OSError:
            shutil.rmtree(copies)
            raise
    marker = Path(root, ADOPTED)
    marker.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = marker.with_name("adopted.new")
    draft.write_text(json.dumps({"adopted": now.isoformat(timespec="seconds"), "kept_aside": kept}, indent=2) + "\n")
    draft.chmod(0o644)
    draft.replace(marker)
    return kept


def _copy(source, target):
    """Copy a directory with owners and modes, symbolic links as such: there may be keys in it."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copied = subprocess.run(
        ["cp", "--archive", "--", str(source), str(target)], capture_output=True, text=True, timeout=600, check=False
    )
    if copied.returncode:
        raise OSError(f"cannot copy {source} to {target}: {copied.stderr.strip()}")


def absent_addresses(addresses):
    """
    Return those of the IP addresses that are not this host's: no socket can be bound to them (bind(2), EADDRNOTAVAIL).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.absent_addresses '[10.1.2.3]'
    """
    absent = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                absent.append(address)
    return absent


def in_the_way(ports, root="/"):
    """
    Return who listens on ``ports`` (as for :func:`problems`) and is not the relay's: mappings, see
    ``chatmail_ports.conflicts``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.in_the_way '{25/tcp: [postfix]}'
    """
    return chatmail_ports.conflicts(chatmail_ports.listeners(ports, root), ports)


def free(ports):
    """
    Stop and disable the services that listen on ``ports`` (as for :func:`problems`) and are not the relay's.

    Returns their units, a list of text. Raises ``CommandExecutionError`` where a port is still taken afterwards.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.free '{25/tcp: [postfix]}'
    """
    return chatmail_ports.free(ports)


def shortages(mailboxes_dir):
    """
    Return what the host has too little of to become a relay with its mailboxes in ``mailboxes_dir``, a list of
    sentences. A relay that is there already is not judged.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.shortages /home/vmail/mail
    """
    return [] if adopted() else chatmail_capacity.shortages("/", mailboxes_dir)


def _unprivileged():
    """That this does not run as root, and what to do; nothing where it does."""
    if os.geteuid() == 0:
        return []
    user = pwd.getpwuid(os.geteuid()).pw_name
    return [
        f"this runs as {user}, not as root: set `sudo: True` for the host in the roster (etc/roster.example), where "
        f"{user} needs no password for sudo, or `user: root`."
    ]


def problems(ports, takeover=False, addresses=(), root="/", relay=True):
    """
    Find everything that speaks against installing the relay, or a proxy of it, on this host.

    ports
        For each port, such as ``25/tcp``, the daemons that may listen there, by the names of their systemd services.
    takeover
        Whether foreign configuration may be replaced, and services that hold the ports ended.
    addresses
        IP addresses that the host must have.
    relay
        False for a proxy, which replaces nobody's configuration, and may be what a relay has left behind.

    Returns a list of sentences that say what is wrong and what to do, empty if all is well.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_preflight.problems '{25/tcp: [postfix]}'
    """
    found = _unprivileged()
    right, name = operating_system(root)
    if not right:
        known = " or ".join(f"Debian {number} ({code})" for number, code in RELEASES.items())
        found.append(f"the operating system is {name}; the relay needs {known}: install one of them, then come again.")
    for one in in_the_way(ports, root):
        if not (takeover and chatmail_ports.removal(one)):
            instead = TAKEOVER if relay and chatmail_ports.removal(one) else ""
            found.append(f"{chatmail_ports.sentence(one)}; {one['remedy']}{instead}.")
    found += [
        f"{address} is no address of this host (is the VPN up?); change the setting that names it (`mtail_address`)."
        for address in absent_addresses(addresses)
    ]
    moved = Path(root, MOVED)
    if relay and moved.is_file():
        found.append(
            f"the relay of this host has moved to {moved.read_text().strip()}: apply to that one. To call off a move "
            "that is not complete: `python -m tools.migrate --reopen OLD NEW`."
        )
    if relay and Path(root, RESTORING).exists():
        found.append(
            "a backup is being restored to this host, and not all of it is there yet: run `./relay restore` again, "
            "with what it was given before."
        )
    # Another system is to be installed again, and may have no dpkg to ask.
    foreign = {} if takeover or not relay or adopted(root) or not right else foreign_configurations(root)
    if foreign:
        files = ", ".join(file for directory in foreign.values() for file in directory)
        found.append(
            f"the relay would replace a configuration that is not its own: {files}. If nothing else needs it, set "
            f"`takeover: true` below `chatmail:` in the pillar: then it is kept aside in /{BACKUPS} first."
        )
    return found
