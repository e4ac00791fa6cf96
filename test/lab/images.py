"""Root file systems of the hosts: made once by mmdebstrap, kept in the cache, the lower layers of overlays."""

import datetime
import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from test.lab import apt, processes
from test.lab.commands import run, step
from test.lab.errors import LabError
from test.lab.layout import CHECKOUT, RELEASE, RELEASES, Layout
from test.lab.machine import lock, mounts_below, remove_tree

# What any rented Debian host has: systemd, sshd, Python. More would hide what the formula forgets.
BARE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "ca-certificates", "iproute2")


# Components that a relay has where its settings ask for them.
OPTIONAL = ("backup", "monitoring", "proxy")
INSTALLED = re.compile(r"chatmail_package\.installed:\n(?: +#.*\n)* +- pkgs: \[(.+)\]")


# Preloaded into OpenDKIM on the hosts; the source says why.
TEST_ZONE_SOURCE = Path(__file__).with_name("test_zone.c")
TEST_ZONE_LIBRARY = "usr/lib/lab/test_zone.so"

UNITS = "etc/systemd/system"
# Where the links are by which a layer's packages enable their units; `hosts.enable` puts them into UNITS.
ENABLED = "usr/lib/lab/enabled"


@dataclass(frozen=True)
class Image:
    """What goes into a root file system; `revision` counts changes of how `build` finishes it.

    With `base` it is a layer above that image, with what `packages` add to it.
    """

    role: str
    packages: tuple[str, ...]
    release: str = RELEASE
    revision: int = 3
    base: "Image | None" = None


def relay_packages() -> tuple[str, ...]:
    """Debian's packages that the states install on a relay with default settings."""
    found = set()
    for path in (CHECKOUT / "chatmail").glob("*/init.sls"):
        if path.parent.name not in OPTIONAL:
            found.update(*(listed.split(", ") for listed in INSTALLED.findall(path.read_text())))
    return tuple(sorted(found))


BARE = {release: Image("bare", BARE_PACKAGES, release) for release in RELEASES}
RELAY = {release: Image("relay", relay_packages(), release, 1, bare) for release, bare in BARE.items()}
NAME_SERVER_IMAGE = Image("ns", (*BARE_PACKAGES, "knot", "pebble"))


def digest(image: Image, sources: list[str], today: datetime.date) -> str:
    """Names an image by everything that decides its content.

    What the mirrors have at the time does not count for bare hosts, which install what is newest. A layer with more
    than that is made again each week.
    """
    recipe = [asdict(image), sources]
    if image.base:
        recipe += today.isocalendar()[:2]
    else:
        del recipe[0]["base"]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def layers(layout: Layout, image: Image) -> list[Path]:
    """The directories with the image's files, the lowest last; makes them if the cache has none."""
    below = layers(layout, image.base) if image.base else []
    sources = apt.debian_sources(image.release)
    root = layout.images / f"{image.role}-{image.release}-{digest(image, sources, datetime.date.today())}"
    if not root.is_dir():
        layout.images.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock(layout.images / "lock"):
            # Another lab may have made it meanwhile.
            if not root.is_dir():
                with step(f"making the {image.role} root of {image.release} (kept in {layout.cache})"):
                    if below:
                        _build_layer(layout, image, below, root)
                    else:
                        _build(layout, image, sources, root)
    return [root, *below]


def _build(layout: Layout, image: Image, sources: list[str], root: Path) -> None:
    unfinished = root.with_name(root.name + f".unfinished{layout.name}")
    if unfinished.exists():
        remove_tree(unfinished)
    options = [f"--aptopt={line}" for line in apt.settings(layout)]
    # In namespaces of its own, so that an end by force leaves neither a process nor a mount.
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv = [
        *namespaces,
        *("mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase"),
        f"--include={','.join(image.packages)}",
        *options,
        *(image.release, str(unfinished), "-"),
    ]
    lines = "".join(f"{line}\n" for line in sources)
    try:
        run(argv, text_in=lines, timeout=900, env=processes.marked_environment(layout, "mmdebstrap"))
    except LabError as error:
        raise LabError(
            f"{error}\nno {image.role} root of {image.release}: see that `apt-get update` succeeds on this machine, "
            f"and that {layout.cache} has 1 GB of room; then run `up` again"
        ) from error
    _finish(unfinished)
    unfinished.rename(root)


def _finish(root: Path) -> None:
    """Take away what belongs to one host or to the machine, and let the network come up at boot."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for file in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        (root / file).unlink(missing_ok=True)
    library = root / TEST_ZONE_LIBRARY
    library.parent.mkdir()
    run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(TEST_ZONE_SOURCE)], timeout=60)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")


# Installs packages in a view of the layers below, as the formula does on a host: no daemon starts. What is mounted goes
# with the shell's namespace. Arguments: the view, mount(8)'s options for it, packages; apt.conf(5) on standard input.
INSTALL = """
set -e
view=$1 options=$2
shift 2
mount -t overlay overlay -o "$options" "$view"
mount -t proc proc "$view/proc"
mount -t tmpfs tmpfs "$view/run"
mount -t tmpfs tmpfs "$view/tmp"
cat > "$view/tmp/apt.conf"
# Postfix's package asks for it, and writes down what it is told.
hostname relay.test
echo 127.0.1.1 relay.test > "$view/etc/hosts"
printf '#!/bin/sh\\nexit 101\\n' > "$view/usr/sbin/policy-rc.d"
chmod 755 "$view/usr/sbin/policy-rc.d"
inside() {
    chroot "$view" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive APT_CONFIG=/tmp/apt.conf \\
        "$@"
}
inside apt-get --quiet update
inside apt-get --quiet --assume-yes --no-install-recommends install "$@"
inside apt-get clean
rm -r "$view"/var/lib/apt/lists/*
# What the package answers its own questions with: to the formula it would be somebody's configuration.
rm "$view/usr/sbin/policy-rc.d" "$view/etc/postfix/main.cf"
"""


def _build_layer(layout: Layout, image: Image, below: list[Path], root: Path) -> None:
    unfinished = root.with_name(root.name + f".unfinished{layout.name}")
    if unfinished.exists():
        remove_tree(unfinished)
    layer, work, view = (unfinished / name for name in ("layer", "work", "root"))
    for path in (layer, work, view):
        path.mkdir(parents=True)
    shutil.copystat(below[0], layer)
    settings = "".join(f"{line}\n" for line in [*apt.settings(layout), 'DPkg::Options:: "--force-unsafe-io";'])
    namespaces = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
    argv = [*namespaces, "sh", "-c", INSTALL, "sh", str(view), overlay_options(below, layer, work), *image.packages]
    try:
        run(argv, text_in=settings, timeout=900, env=processes.marked_environment(layout, "layer"))
    except LabError as error:
        raise LabError(f"{error}\nno {image.role} root of {image.release}; then run `up` again") from error
    put_aside_enabled(layer)
    layer.rename(root)
    remove_tree(unfinished)
    # Those of other weeks, unless a host has them below it.
    mounts = Path("/proc/mounts").read_text()
    for old in layout.images.glob(f"{image.role}-{image.release}-*"):
        if old != root and str(old) not in mounts:
            remove_tree(old)


def put_aside_enabled(layer: Path) -> None:
    """Packages enable their units. A host begins without, since the formula installs them after the boot."""
    units = layer / UNITS
    for link in [path for path in units.rglob("*") if path.is_symlink()]:
        target = layer / ENABLED / link.relative_to(units)
        target.parent.mkdir(parents=True, exist_ok=True)
        link.rename(target)


def clean_unfinished(layout: Layout) -> None:
    """Remove what an aborted build has left."""
    for directory in layout.images.glob(f"*.unfinished{layout.name}"):
        remove_tree(directory)


def assemble(roots: list[Path], directory: Path) -> Path:
    """Mount a writable view of an image's layers on `directory`/root; returns that path.

    The files that a host changes are in `directory`/upper, and stay when the host is booted again. It is volatile: what
    the host's programs have synchronised is written when the machine likes, for nothing here outlives the machine, and
    dpkg waits 5 ms for each file otherwise.
    """
    upper, work, view = directory / "upper", directory / "work", directory / "root"
    for path in (upper, work, view):
        path.mkdir(parents=True, exist_ok=True)
    if not mounts_below(view):
        shutil.copystat(roots[0], upper)
        # The kernel marks a volatile file system, and refuses a second mount: after a crash of the machine it may lack
        # what was thought to be on disk. That of a host is thrown away then.
        shutil.rmtree(work / "work" / "incompat", ignore_errors=True)
        run(["mount", "-t", "overlay", "overlay", "-o", overlay_options(roots, upper, work), str(view)])
    return view


def overlay_options(roots: list[Path], upper: Path, work: Path) -> str:
    """Options of mount(8) for a writable view of `roots`, whose changes go to `upper`."""
    return f"lowerdir={':'.join(map(str, roots))},upperdir={upper},workdir={work},volatile"
