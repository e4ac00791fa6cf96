"""What the lab needs from the machine: Debian 12, root, packages, a bridge, limits of the kernel, cgroups, mounts."""

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from test.lab.commands import run, say, step
from test.lab.errors import LabError
from test.lab.layout import BRIDGE_NUMBER, Layout

PACKAGES = {
    "apt-cacher-ng": "/usr/sbin/apt-cacher-ng",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "dovecot-imapd": "/usr/lib/dovecot/imap",
    "gcc": "/usr/bin/gcc",
    "iproute2": "/usr/sbin/ip",
    "libc6-dev": "/usr/include/dlfcn.h",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "nftables": "/usr/sbin/nft",
    "openssh-client": "/usr/bin/ssh",
    "opendkim": "/usr/sbin/opendkim",
    "openssl": "/usr/bin/openssl",
    "systemd-container": "/usr/bin/systemd-nspawn",
    "testssl.sh": "/usr/bin/testssl",
}
# For tests of the web pages; 120 MB to download.
BROWSER = {
    "chromium": "/usr/bin/chromium",
    "chromium-driver": "/usr/bin/chromedriver",
    "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
}

# In the hosts /proc/sys is read-only and these limits count for machine and hosts together. A relay wants
# both above 65534.
INOTIFY = Path("/proc/sys/fs/inotify")
INOTIFY_LIMITS = {"max_user_instances": 65535, "max_user_watches": 65535}

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_REFUSE = "#!/bin/sh\n# The lab's packages are tools; their daemons are not to be started.\nexit 101\n"


def require_root_on_debian_12() -> None:
    """Raises LabError unless this is root on Debian 12."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it mounts file systems and boots hosts; run it with sudo")
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    if (release.get("ID"), release.get("VERSION_ID")) != ("debian", "12"):
        found = release.get("PRETTY_NAME", "an unknown system")
        raise LabError(f"the lab needs Debian 12 (bookworm), this machine runs {found}; use a Debian 12 machine")


def install_packages(*, browser: bool = False) -> list[str]:
    """Install those of PACKAGES that are missing, and the browser; start no daemons. Returns their names."""
    wanted = PACKAGES | BROWSER if browser else PACKAGES
    missing = [package for package, file in wanted.items() if not Path(file).exists()]
    if missing:
        with step(f"installing {' '.join(missing)}"), _daemons_held():
            env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            apt = ["apt-get", "--quiet", "--assume-yes", "--option", "DPkg::Lock::Timeout=300"]
            run([*apt, "update"], timeout=300, env=env)
            run([*apt, "install", "--no-install-recommends", *missing], timeout=900, env=env)
    return missing


@contextmanager
def _daemons_held() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text(POLICY_REFUSE)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


@contextmanager
def lock(path: Path, *, patience: float = 900) -> Iterator[None]:
    """Hold a lock file; waits `patience` seconds for another command that does, then raises LabError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        deadline = time.monotonic() + patience
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"another lab command has held {path} for {patience:.0f} s; `fuser -v {path}` shows which"
                    ) from None
                if not waiting:
                    say("waiting for another lab command to end")
                    waiting = True
                time.sleep(0.1)
        yield


def interfaces() -> list[dict]:
    """All network interfaces as `ip -json link` tells them."""
    return json.loads(run(["ip", "-json", "link", "show"]))


def set_up_bridge(layout: Layout) -> None:
    """Make the lab's bridge with the machine's addresses on it, if it is not there.

    Raises LabError if the bridge belongs to the lab of another checkout, or the network to a lab of another name.
    """
    if owner := foreign_owner(layout):
        raise LabError(
            f"the bridge {layout.bridge} belongs to the lab in {owner}: "
            f"take that lab down first, or choose another name for this one, as in LAB_NAME=b"
        )
    for name in other_labs(layout):
        # More names than networks: two of them may have the same one.
        if replace(layout, name=name.removeprefix("cmlab")).ipv4_network == layout.ipv4_network:
            raise LabError(f"the lab of {name} has the network {layout.ipv4_network} already: choose another LAB_NAME")
    if not any(link["ifname"] == layout.bridge for link in interfaces()):
        # A fixed hardware address, or the bridge would change its own with each host that comes and goes.
        hardware = "02:" + ":".join(f"{byte:02x}" for byte in b"cm" + layout.ipv4(BRIDGE_NUMBER).packed[1:])
        run(["ip", "link", "add", layout.bridge, "address", hardware, "type", "bridge", "mcast_snooping", "0"])
    run(["ip", "link", "set", layout.bridge, "alias", str(layout.state)])
    for address, network in (
        (layout.ipv4(BRIDGE_NUMBER), layout.ipv4_network),
        (layout.ipv6(BRIDGE_NUMBER), layout.ipv6_network),
    ):
        no_detection = ["nodad"] if address.version == 6 else []
        run(["ip", "address", "replace", f"{address}/{network.prefixlen}", "dev", layout.bridge, *no_detection])
    run(["ip", "link", "set", layout.bridge, "up"])
    for link in interfaces():
        # The cables of hosts that run on while somebody has removed the bridge.
        if layout.cable_pattern.fullmatch(link["ifname"]) and link.get("master") != layout.bridge:
            run(["ip", "link", "set", link["ifname"], "master", layout.bridge])


def take_down_links(layout: Layout) -> None:
    """Remove the cables of hosts that are gone, and the bridge."""
    for link in interfaces():
        name = link["ifname"]
        if name == layout.bridge or layout.cable_pattern.fullmatch(name):
            # A cable whose host has just ended may go by itself meanwhile.
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def foreign_owner(layout: Layout) -> str:
    """The state directory of another checkout's lab that has the bridge, or nothing.

    Without alias the bridge is one that an aborted `up` had just made; one whose directory has gone is nobody's.
    """
    owners = (link.get("ifalias", "") for link in interfaces() if link["ifname"] == layout.bridge)
    return next((owner for owner in owners if owner != str(layout.state) and Path(owner, "lab.json").exists()), "")


def links_left(layout: Layout) -> list[str]:
    """The names of the lab's interfaces that exist."""
    names = [link["ifname"] for link in interfaces()]
    return [name for name in names if name == layout.bridge or layout.cable_pattern.fullmatch(name)]


def low_inotify_limits() -> dict[str, int]:
    """The machine's limits that are too low for relays, with their values."""
    values = {name: int((INOTIFY / name).read_text()) for name in INOTIFY_LIMITS}
    return {name: value for name, value in values.items() if value < INOTIFY_LIMITS[name]}


def raise_inotify_limits(names: Iterable[str]) -> None:
    """Raise these limits to what relays want."""
    for name in names:
        (INOTIFY / name).write_text(str(INOTIFY_LIMITS[name]))


def other_labs(layout: Layout) -> list[str]:
    """The bridges of labs of other names that are up."""
    names = [link["ifname"] for link in interfaces()]
    return [name for name in names if re.fullmatch(r"cmlab[a-z]{0,3}", name) and name != layout.bridge]


def restore_inotify_limits(old: Mapping[str, int]) -> None:
    """Put back what `low_inotify_limits` returned, where nobody else has changed it since."""
    for name, value in old.items():
        if int((INOTIFY / name).read_text()) == INOTIFY_LIMITS[name]:
            (INOTIFY / name).write_text(str(value))


def mount_points(mountinfo: str) -> list[tuple[Path, str, str]]:
    """The (mount point, file system type, super options) of a /proc/PID/mountinfo text (proc(5)), in order."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        found.append((Path(point), kind, options))
    return found


def mounts_below(directory: Path) -> list[Path]:
    """The mount points in a directory, the innermost and newest first."""
    points = [point for point, _, _ in mount_points(Path("/proc/self/mountinfo").read_text())]
    return [point for point in reversed(points) if point.is_relative_to(directory)]


def unmount_below(directory: Path) -> None:
    """Unmount everything in a directory, also what somebody still looks at."""
    for point in mounts_below(directory):
        run(["umount", "--lazy", str(point)])


def remove_tree(directory: Path) -> None:
    """Remove a directory with all in it, never what is mounted in it; raises LabError if something is."""
    unmount_below(directory)
    if left := mounts_below(directory):
        raise LabError(f"{left[0]} is still mounted and is not removed; unmount it by hand")
    if directory.exists():
        shutil.rmtree(directory)


def cgroup_roots() -> list[Path]:
    """The cgroup hierarchies in which systemd keeps its units: the unified one, and version 1's name=systemd."""
    mounts = mount_points(Path("/proc/self/mountinfo").read_text())
    return [
        point
        for point, kind, options in mounts
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
    ]


def make_cgroups(machine: str) -> list[Path]:
    """A cgroup of a host's own in each hierarchy: two systemds in one would end each other's services."""
    groups = [root / machine for root in cgroup_roots()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def remove_cgroups(layout: Layout, number: int | None = None) -> None:
    """Remove the emptied cgroups of one host, or of all."""
    pattern = layout.machine(number) if number else f"{layout.bridge}-*"
    for root in cgroup_roots():
        for group in root.glob(pattern):
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()
