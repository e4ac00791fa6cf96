"""The hosts: their first files, their boot and end, and commands and files inside them."""

import re
import secrets
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from test.lab import apt, authority, images, nameserver, processes
from test.lab.commands import finish, run
from test.lab.errors import LabError
from test.lab.layout import NAME_SERVER, NAME_SERVER_NUMBER, RELEASE, Layout
from test.lab.machine import make_cgroups, remove_cgroups, remove_tree, unmount_below

# Joins the cgroups named before the "--", then becomes the command after it.
JOIN_AND_EXEC = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'


@dataclass(frozen=True)
class Host:
    """One booted host: its name, its place in the lab, the code name of its Debian release, and ways into it."""

    name: str
    number: int
    layout: Layout
    release: str = RELEASE
    # Whether a relay's packages are there from the start.
    packages: bool = False

    @property
    def ipv4(self) -> IPv4Address:
        return self.layout.ipv4(self.number)

    @property
    def ipv6(self) -> IPv6Address:
        return self.layout.ipv6(self.number)

    @property
    def role(self) -> str:
        """How the processes of this host are marked."""
        return f"host-{self.number}"

    @property
    def directory(self) -> Path:
        return self.layout.host_dir(self.number)

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    def own_processes(self) -> list[processes.Process]:
        """The host's systemd-nspawn and its init, as far as they live."""
        return [process for process in processes.find(self.layout) if process.role == self.role]

    def init(self) -> processes.Process:
        """The host's init. Raises LabError if the host is down."""
        for process in self.own_processes():
            if process.is_init:
                return process
        raise LabError(f"{self.name} is not running; `python -m test.lab up` starts it again")

    def is_running(self) -> bool:
        """Whether both halves live; without its systemd-nspawn a host is not well."""
        return {process.is_init for process in self.own_processes()} == {True, False}

    def run(
        self, argv: Sequence[str], *, input: str | None = None, timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside the host, by entering its namespaces: milliseconds, and no sshd needed.

        Arguments: ``argv`` is run without a shell; ``input`` is its standard input, else there is none; ``timeout`` in
        seconds. Raises LabError with the command's output if it fails and ``check`` is true, or if it does not end.
        """
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        enter = [
            "nsenter",
            f"--target={self.init().pid}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        ]
        done = finish([*enter, *clean, *argv], text_in=input, timeout=timeout)
        if check and done.returncode:
            output = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
            raise LabError(f"{self.name}: `{shlex.join(argv)}` ended with code {done.returncode}:\n{output}")
        return done

    def read(self, path: str) -> str:
        """The text of a file in the host. Raises LabError if it can not be read."""
        return self.run(["cat", "--", path]).stdout

    def write(self, path: str, text: str, *, mode: str = "0644") -> None:
        """Write a file in the host, making its directory; a file that exists keeps its owner."""
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1" && chmod -- "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, mode], input=text)

    def ssh_argv(self, *command: str) -> list[str]:
        """The command line that logs in to the host, as a person or salt-ssh would."""
        return ["ssh", "-F", str(self.layout.ssh_config), self.name, *command]


# systemd.timer(5)
NEVER = "[Timer]\nOnCalendar=\nOnCalendar=2199-01-01\nPersistent=no\n"


def network_file(host: Host) -> str:
    """The host's static addresses (systemd.network(5)); there is no route out of the lab."""
    ipv4 = f"{host.ipv4}/{host.layout.ipv4_network.prefixlen}"
    ipv6 = f"{host.ipv6}/{host.layout.ipv6_network.prefixlen}"
    return f"""\
[Match]
Name=host0
[Network]
LinkLocalAddressing=ipv6
IPv6AcceptRA=no
IPv6DuplicateAddressDetection=0
[Address]
Address={ipv4}
[Address]
Address={ipv6}
DuplicateAddressDetection=none
"""


def first_files(host: Host) -> dict[str, str]:
    """What makes the bare image this host, by path in it."""
    layout = host.layout
    files = {
        "etc/hostname": f"{system_name(host.name)}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {system_name(host.name)}\n::1 localhost ip6-localhost\n",
        "etc/machine-id": f"{secrets.token_hex(16)}\n",
        "etc/resolv.conf": resolv_conf(layout),
        # Sorts before systemd's own 80-container-host0.network.
        "etc/systemd/network/10-lab.network": network_file(host),
        "etc/apt/apt.conf.d/99lab": "".join(f"{line}\n" for line in apt.settings(layout)),
        # A host that loses power is thrown away; without waiting for the disk dpkg is several times as fast.
        "etc/dpkg/dpkg.cfg.d/lab": "force-unsafe-io\n",
        # Debian's upgrades at night would meet tests of the night.
        "etc/systemd/system/apt-daily.timer.d/lab.conf": NEVER,
        "etc/systemd/system/apt-daily-upgrade.timer.d/lab.conf": NEVER,
        "etc/ssh/sshd_config.d/lab.conf": "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n",
        "root/.ssh/authorized_keys": layout.ssh_key.with_suffix(".pub").read_text(),
    }
    if host.name == NAME_SERVER:
        return files | nameserver.server_files(layout) | authority.server_files(layout)
    preload = f"[Service]\nEnvironment=LD_PRELOAD=/{images.TEST_ZONE_LIBRARY}\n"
    return (
        files
        | authority.trust_files(layout)
        | {
            "etc/unbound/unbound.conf.d/lab.conf": nameserver.resolver_config(layout),
            "etc/systemd/system/opendkim.service.d/lab.conf": preload,
        }
    )


def system_name(name: str) -> str:
    """What a host calls itself: underscores are fit for DNS, not for a system's host name (hostname(7))."""
    return name.replace("_", "")


def resolv_conf(layout: Layout) -> str:
    return f"nameserver {layout.ipv4(NAME_SERVER_NUMBER)}\n"


def image_of(host: Host) -> images.Image:
    """The image below the host's own files."""
    if host.name == NAME_SERVER:
        return images.NAME_SERVER_IMAGE
    return (images.RELAY if host.packages else images.BARE)[host.release]


def create(host: Host) -> None:
    """Make the host's file system if it is not there yet, or mount it again."""
    # The layers that it has: what a new host would get may be another week's.
    done = host.directory / "layers"
    if done.exists():
        images.assemble([Path(line) for line in done.read_text().splitlines()], host.directory)
        return
    roots = images.layers(host.layout, image_of(host))
    view = images.assemble(roots, host.directory)
    for name, text in first_files(host).items():
        path = view / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    (view / "root/.ssh").chmod(0o700)
    _make_host_key(host, view / "etc/ssh/ssh_host_ed25519_key")
    if host.name == NAME_SERVER:
        _hand_over_to_knot(view)
    done.write_text("".join(f"{root}\n" for root in roots))


def _make_host_key(host: Host, key: Path) -> None:
    key.unlink(missing_ok=True)
    make_ssh_key(key, f"root@{host.name}")
    public = key.with_suffix(".pub").read_text().split()[:2]
    known = host.layout.known_hosts
    text = forget_host(known.read_text() if known.exists() else "", str(host.ipv4))
    known.write_text(f"{text}{host.ipv4} {' '.join(public)}\n")


def forget_host(known_hosts: str, address: str) -> str:
    """The known_hosts lines (sshd(8)) of all other addresses."""
    return "".join(line for line in known_hosts.splitlines(True) if line.split(" ")[0] != address)


def make_ssh_key(path: Path, comment: str) -> None:
    """Make an Ed25519 key pair without passphrase, if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def _hand_over_to_knot(view: Path) -> None:
    """Knot runs as a user of its own; numbers of users in the image are not the machine's."""
    entry = re.search(r"^knot:[^:]*:(\d+):(\d+):", (view / "etc/passwd").read_text(), re.MULTILINE)
    if not entry:
        raise LabError("the name server's image has no user knot")
    config = view / "etc/knot/knot.conf"
    config.chmod(0o640)
    for path in (config, *(view / "var/lib/knot").iterdir()):
        shutil.chown(path, int(entry[1]), int(entry[2]))


def boot(host: Host) -> subprocess.Popen:
    """Start the host's systemd-nspawn, for `wait_until_up` to wait for. Ends what is left of an earlier one."""
    destroy_processes(host)
    environment = [f"--setenv={name}={value}" for name, value in processes.marks(host.layout, host.role).items()]
    nspawn = [
        *("systemd-nspawn", "--quiet", "--boot", "--settings=no"),
        *("--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
        f"--directory={host.directory / 'root'}",
        f"--machine={host.layout.machine(host.number)}",
        f"--network-bridge={host.layout.bridge}",
        *environment,
    ]
    groups = [str(group) for group in make_cgroups(host.layout.machine(host.number))]
    with host.console.open("ab") as console:
        return subprocess.Popen(
            ["sh", "-c", JOIN_AND_EXEC, "sh", *groups, "--", *nspawn],
            env=processes.marked_environment(host.layout, host.role),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd="/",
            start_new_session=True,
        )


def wait_until_up(host: Host, nspawn: subprocess.Popen, *, patience: float = 60) -> None:
    """Wait until the host's sshd greets, at most `patience` seconds, else raise LabError with the console's end."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and nspawn.poll() is None:
        try:
            with socket.create_connection((str(host.ipv4), 22), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.05)
    console = host.console.read_text(errors="replace")[-3000:]
    raise LabError(f"{host.name} does not come up; the end of {host.console}:\n{console}")


def enable(host: Host) -> None:
    """Enable the units of the packages that were there from the start, without starting them."""
    if (host.directory / "root" / images.ENABLED).exists():
        move = f"cp -a /{images.ENABLED}/. /{images.UNITS}/ && rm -r /{images.ENABLED} && systemctl daemon-reload"
        host.run(["sh", "-c", move])


def destroy_processes(host: Host) -> None:
    """End the host by force, as if its power failed. Raises LabError if a process does not go."""
    if left := processes.end(host.own_processes()):
        numbers = ", ".join(str(process.pid) for process in left)
        raise LabError(f"{host.name}: these processes do not end: {numbers}")
    remove_cgroups(host.layout, host.number)


def destroy(host: Host) -> None:
    """End the host and remove its files."""
    destroy_processes(host)
    unmount_below(host.directory)
    remove_tree(host.directory)
    known = host.layout.known_hosts
    if known.exists():
        known.write_text(forget_host(known.read_text(), str(host.ipv4)))


def ssh_config(layout: Layout, numbers: Mapping[str, int]) -> str:
    """An ssh_config(5) by which `ssh -F FILE HOST` reaches every host by its name."""
    entries = [f"Host {host}\n    HostName {layout.ipv4(number)}\n" for host, number in numbers.items()]
    return f"""{"".join(entries)}Host *
    User root
    IdentityFile {layout.ssh_key}
    IdentitiesOnly yes
    UserKnownHostsFile {layout.known_hosts}
    StrictHostKeyChecking yes
    LogLevel ERROR
"""
