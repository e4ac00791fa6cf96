"""
Who listens on which port of the host, and who is in the relay's way.

Everything is read from ``/proc``, so that it also works where ``ss`` is missing, and costs a few milliseconds.
"""

import re
import subprocess
from contextlib import suppress
from pathlib import Path

from chatmail_errors import CommandExecutionError
from chatmail_services import run

# Processes by which a daemon is known when no systemd service says so, as after `postfix start` in a shell.
_PROCESSES = {
    "postfix": {"master", "smtpd"},
    "dovecot": {"dovecot", "imap-login"},
    "unbound": {"unbound"},
    "nginx": {"nginx"},
}
# Scopes of container runtimes: `docker-ID.scope` and the like.
_CONTAINER = re.compile(r"(docker|libpod|cri|crio|cri-containerd|nerdctl|machine)-(.+)\.scope")


def unit(cgroup):
    """
    Find the systemd unit of a process.

    cgroup
        Content of ``/proc/PID/cgroup``, see cgroups(7).

    Returns the innermost service, scope or socket unit, or None.
    """
    for line in cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        # "" is the one hierarchy of version 2; beside version 1 it may be there but empty.
        if controllers in ("", "name=systemd"):
            units = re.findall(r"[^/]+\.(?:service|scope|socket)(?=/|$)", path)
            if units:
                return units[-1]
    return None


def _bound_sockets(proc):
    """Yield ("25/tcp", inode) for each listening TCP and each unconnected UDP socket, see proc_net(5)."""
    for table, protocol, state in (
        ("tcp", "tcp", "0A"),
        ("tcp6", "tcp", "0A"),
        ("udp", "udp", "07"),
        ("udp6", "udp", "07"),
    ):
        path = proc / "net" / table
        if not path.is_file():
            continue  # a kernel without IPv6
        with path.open() as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if len(fields) > 9 and fields[3] == state:
                    yield f"{int(fields[1].rpartition(':')[2], 16)}/{protocol}", fields[9]


def _descriptors(directory):
    """Yield what the file descriptors of a process point to; it may close them, or end, while we look."""
    with suppress(OSError):
        for descriptor in directory.iterdir():
            with suppress(OSError):
                yield str(descriptor.readlink())


def _owners(proc, inodes):
    """
    Map each socket inode to a process that has it open.

    Processes are searched by ascending number, and no longer than needed: a daemon's first process binds its sockets,
    and thousands of its children need not be looked at. Process 1 comes last, as it also holds the sockets of daemons
    that it started by socket activation.
    """
    found = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for pid in sorted((int(path.name) for path in proc.iterdir() if path.name.isdigit()), key=lambda p: (p == 1, p)):
        if not wanted:
            break
        targets = set(_descriptors(proc / str(pid) / "fd"))
        for target in targets & wanted.keys():
            found[wanted.pop(target)] = pid
    return found


def _socket_units():
    """Map ports, such as ``25/tcp``, to the socket units for which systemd listens there."""
    shown = subprocess.run(
        ["systemctl", "show", "--property=Id,Listen", "*.socket"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    units = {}
    for block in shown.split("\n\n"):
        name = re.search("^Id=(.+)$", block, re.MULTILINE)
        for port, kind in re.findall(r"^Listen=\S*:([0-9]+) \((Stream|Datagram)\)$", block, re.MULTILINE):
            units[f"{port}/{'tcp' if kind == 'Stream' else 'udp'}"] = name[1]
    return units


def _process(proc, pid):
    try:
        name = (proc / str(pid) / "comm").read_text().strip()
        return {"pid": pid, "process": name, "unit": unit((proc / str(pid) / "cgroup").read_text())}
    except OSError:
        return {"pid": pid, "process": "a process that has just ended", "unit": None}


def listeners(ports, root="/"):
    """
    Find out who listens on some ports.

    ports
        The ports to look at, such as ``25/tcp`` and ``53/udp``.

    Returns a list of mappings with ``port``, ``process``, ``pid`` and ``unit`` (None where it has none; ``pid`` None
    where the process cannot be seen from here, such as that of a container's host), one for each port and process, by
    ascending port.
    """
    proc = Path(root, "proc")
    sockets = {inode: port for port, inode in _bound_sockets(proc) if port in ports}
    owners = _owners(proc, sockets)
    seen = sorted(
        {(port, owners.get(inode)) for inode, port in sockets.items()},
        key=lambda item: (int(item[0].partition("/")[0]), item[0], item[1] or 0),
    )
    nobody = {"pid": None, "process": "a process that cannot be seen from here", "unit": None}
    found = [{"port": port} | (_process(proc, pid) if pid else nobody) for port, pid in seen]
    # Of sockets whose service does not run right now.
    if any(listener["pid"] == 1 for listener in found):
        units = _socket_units()
        found = [one | ({"unit": units.get(one["port"])} if one["pid"] == 1 else {}) for one in found]
    return found


def _belongs(listener, daemons):
    """
    Whether a listener is one of the daemons. The service counts: another mail server also calls its process "master".
    """
    service, _, kind = (listener["unit"] or "").rpartition(".")
    if kind in ("service", "socket"):
        return service.partition("@")[0] in daemons
    if _CONTAINER.fullmatch(listener["unit"] or ""):
        return False
    return any(listener["process"] in _PROCESSES.get(daemon, ()) for daemon in daemons)


def _properties(unit_name, *names):
    """What systemd says of a unit: texts by name of the property, empty where it says nothing."""
    lines = run(["systemctl", "show", f"--property={','.join(names)}", "--", unit_name]).stdout.splitlines()
    return dict.fromkeys(names, "") | dict(line.partition("=")[::2] for line in lines)


def removal(listener):
    """
    Return the commands (list of lists of text) that end a listener for good: its unit and what would start it again
    (sockets, timers) are stopped and disabled. Empty where that is not for systemd to do: no unit of its own, or a
    container.

    Disabled by a command of its own: for a unit made from an init script ``systemctl disable --now`` ends with 0 and
    stops nothing, as its generator leaves nothing for ``--now``.
    """
    name = listener["unit"] or ""
    if not name.endswith((".service", ".socket")) or listener["process"] == "docker-proxy":
        return []
    properties = _properties(name, "TriggeredBy", "UnitFileState")
    units = [*properties["TriggeredBy"].split(), name]
    stop = [["systemctl", "stop", *units]]
    # A transient unit has no file and is gone once it is stopped.
    return stop if properties["UnitFileState"] == "transient" else [*stop, ["systemctl", "disable", *units]]


def _remedy(listener):
    if listener["pid"] is None:
        return "look for it outside this container or name space"
    if commands := removal(listener):
        return f"if it is not needed: `{' && '.join(map(' '.join, commands))}`"
    if listener["process"] == "docker-proxy":
        number = listener["port"].partition("/")[0]
        return (
            f"`docker ps --filter publish={number}` names the container; if it is not needed: "
            "`docker stop NAME && docker update --restart=no NAME`"
        )
    if container := _CONTAINER.fullmatch(listener["unit"] or ""):
        program = {"docker": "docker", "libpod": "podman"}.get(container[1])
        if program:
            name = container[2][:12]
            return f"if that container is not needed: `{program} stop {name} && {program} update --restart=no {name}`"
    if listener["pid"] == 1:
        return "it waits for a unit of systemd: `systemctl list-sockets` names it; stop and disable it"
    return f"see what it is with `ps -fp {listener['pid']}`, and end it for good"


def conflicts(found, ports):
    """
    Return the listeners that are in the relay's way.

    found
        What :func:`listeners` returns.
    ports
        For each port the daemons that may listen there, by the names of their systemd services.

    Returns a list of mappings: those of ``found``, each with the ``daemon`` that needs the port, and the ``remedy``,
    what to do.
    """
    return [
        listener | {"daemon": ports[listener["port"]][0], "remedy": _remedy(listener)}
        for listener in found
        if not _belongs(listener, ports[listener["port"]])
    ]


def sentence(conflict):
    """Return what one of :func:`conflicts` is about, for people; what to do is its ``remedy``."""
    who = conflict["process"]
    if conflict["pid"]:
        who += f" (process {conflict['pid']}, {conflict['unit'] or 'no unit'})"
    return f"port {conflict['port']} is needed by {conflict['daemon']}, but taken by {who}"


def free(ports):
    """
    Stop and disable the services that listen on ``ports`` (as for :func:`conflicts`) and are not the relay's.

    Returns their units, a list of text. Raises ``CommandExecutionError`` where a port is still taken afterwards.
    """
    stopped, said = [], []
    for one in conflicts(listeners(ports), ports):
        if one["unit"] not in stopped and (commands := removal(one)):
            said += [done.stderr.strip() for done in map(run, commands) if done.returncode]
            stopped.append(one["unit"])
    if left := conflicts(listeners(ports), ports):
        raise CommandExecutionError("\n".join([*said, *(f"{sentence(one)}; {one['remedy']}." for one in left)]))
    return stopped
