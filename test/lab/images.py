"""Root file systems of the hosts: made once by mmdebstrap, kept in the cache, the lower layer of overlays."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from test.lab import apt, processes
from test.lab.commands import run, step
from test.lab.errors import LabError
from test.lab.layout import RELEASE, RELEASES, Layout
from test.lab.machine import lock, mounts_below, remove_tree

# What any rented Debian host has: systemd, sshd, Python. More would hide what the formula forgets.
BARE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "ca-certificates", "iproute2")


# Preloaded into OpenDKIM on the hosts; the source says why.
TEST_ZONE_SOURCE = Path(__file__).with_name("test_zone.c")
TEST_ZONE_LIBRARY = "usr/lib/lab/test_zone.so"


@dataclass(frozen=True)
class Image:
    """What goes into a root file system; `revision` counts changes of how `build` finishes it."""

    role: str
    packages: tuple[str, ...]
    release: str = RELEASE
    revision: int = 3


BARE = {release: Image("bare", BARE_PACKAGES, release) for release in RELEASES}
NAME_SERVER_IMAGE = Image("ns", (*BARE_PACKAGES, "knot", "pebble"))


def digest(image: Image, sources: list[str]) -> str:
    """Names an image by everything that decides its content, but for the mirrors' state on the day."""
    recipe = json.dumps([asdict(image), sources])
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def image_root(layout: Layout, image: Image) -> Path:
    """The directory with the image's files; makes them if the cache has none."""
    sources = apt.debian_sources(image.release)
    root = layout.images / f"{image.role}-{image.release}-{digest(image, sources)}"
    if not root.is_dir():
        layout.images.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock(layout.images / "lock"):
            # Another lab may have made it meanwhile.
            if not root.is_dir():
                with step(f"making the {image.role} root of {image.release} with mmdebstrap (kept in {layout.cache})"):
                    _build(layout, image, sources, root)
    return root


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


def clean_unfinished(layout: Layout) -> None:
    """Remove what an aborted build has left."""
    for directory in layout.images.glob(f"*.unfinished{layout.name}"):
        remove_tree(directory)


def assemble(root: Path, directory: Path) -> Path:
    """Mount a writable view of an image on `directory`/root; returns that path.

    The files that a host changes are in `directory`/upper, and stay when the host is booted again. It is volatile: what
    the host's programs have synchronised is written when the machine likes, for nothing here outlives the machine, and
    dpkg waits 5 ms for each file otherwise.
    """
    upper, work, view = directory / "upper", directory / "work", directory / "root"
    for path in (upper, work, view):
        path.mkdir(parents=True, exist_ok=True)
    if not mounts_below(view):
        shutil.copystat(root, upper)
        # The kernel marks a volatile file system, and refuses a second mount: after a crash of the machine it may lack
        # what was thought to be on disk. That of a host is thrown away then.
        shutil.rmtree(work / "work" / "incompat", ignore_errors=True)
        options = f"lowerdir={root},upperdir={upper},workdir={work},volatile"
        run(["mount", "-t", "overlay", "overlay", "-o", options, str(view)])
    return view
