"""The machine's Debian mirrors for the hosts, by way of an apt cache of the lab's own (Debian's apt-cacher-ng)."""

import functools
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from test.lab import processes
from test.lab.commands import run, say
from test.lab.errors import LabError
from test.lab.layout import BRIDGE_NUMBER, RELEASE, Layout

PORT = 3142
ROLE = "apt-cache"
# Of the machine's own release; its mirrors have all others under the same addresses.
SUITE = re.compile(r"bookworm(-updates|-security)?")
INDEX_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"


@functools.cache
def debian_sources(release: str = RELEASE) -> list[str]:
    """The sources.list lines (sources.list(5)) of a release, at the Debian mirrors of the machine's apt.

    Raises LabError if the machine has none.
    """
    listing = ["apt-get", "indextargets", "--format", INDEX_FORMAT, "Created-By: Packages"]
    sources = sources_of_targets(run(listing))
    if not sources:
        # apt knows the origin of a source only after it has fetched its index.
        run(["apt-get", "--quiet", "update"], timeout=300)
        sources = sources_of_targets(run(listing))
    if not any(" bookworm " in source for source in sources):
        raise LabError(
            "this machine's apt has no http source of Debian's suite bookworm, which the hosts would use too; "
            "add one to /etc/apt/sources.list.d and run apt-get update"
        )
    return [source.replace(f" {RELEASE}", f" {release}") for source in sources]


def sources_of_targets(targets: str) -> list[str]:
    """Turn lines of INDEX_FORMAT into sources.list lines; leaves out what is not the machine's release or not http."""
    components: dict[tuple[str, str], list[str]] = {}
    for line in targets.splitlines():
        uri, suite, component, origin = line.split(" ", 3)
        if origin == "Debian" and SUITE.fullmatch(suite) and re.match(r"https?://", uri):
            found = components.setdefault((cacheable(uri), suite), [])
            if component not in found:
                found.append(component)
    return [f"deb {uri} {suite} {' '.join(found)}" for (uri, suite), found in components.items()]


def cacheable(uri: str) -> str:
    """apt-cacher-ng's way to name an https mirror whose files it is to keep (its manual, section 8.3)."""
    return re.sub(r"^https://", "http://HTTPS///", uri.rstrip("/"))


def settings(layout: Layout) -> list[str]:
    """The lines of apt.conf(5) for the hosts: the cache as proxy, and the machine's attitude to old mirrors."""
    lines = [f'Acquire::http::Proxy "http://{layout.ipv4(BRIDGE_NUMBER)}:{PORT}";', 'Acquire::Languages "none";']
    for name in ("Acquire::Check-Valid-Until", "Acquire::Check-Date"):
        value = configured(name)
        if value:
            lines.append(f'{name} "{value}";')
    return lines


@functools.cache
def configured(name: str) -> str:
    """The value of a setting in the machine's apt configuration, or nothing."""
    return run(["apt-config", "dump", "--no-empty", "--format", "%v", name]).strip()


def start_cache(layout: Layout) -> None:
    """Start apt-cacher-ng on the bridge's address, if it does not run yet."""
    if any(process.role == ROLE for process in processes.find(layout)):
        return
    kept = layout.cache / f"apt{layout.name}"
    directories = {"CacheDir": kept / "files", "LogDir": kept / "log"}
    for directory in (kept, *directories.values()):
        directory.mkdir(exist_ok=True)
        shutil.chown(directory, "apt-cacher-ng", "apt-cacher-ng")
    proxy = configured("Acquire::http::Proxy")
    values = {
        **directories,
        "SupportDir": "/usr/lib/apt-cacher-ng",
        "BindAddress": layout.ipv4(BRIDGE_NUMBER),
        "Port": PORT,
        "ForeGround": 1,
        "ReportPage": "",
        **({"Proxy": proxy} if proxy not in ("", "DIRECT") else {}),
    }
    config = layout.run / "apt-cache"
    config.mkdir(parents=True, exist_ok=True)
    (config / "acng.conf").write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
    account = ["setpriv", "--reuid=apt-cacher-ng", "--regid=apt-cacher-ng", "--clear-groups"]
    log = layout.state / "apt-cache.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*account, "apt-cacher-ng", "-c", str(config)],
            env=processes.marked_environment(layout, ROLE),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    _wait_for_cache(layout, process, log)


def _wait_for_cache(layout: Layout, process: subprocess.Popen, log: Path) -> None:
    address = (str(layout.ipv4(BRIDGE_NUMBER)), PORT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            say(f"apt cache at {address[0]}:{PORT}")
            return
    raise LabError(f"the apt cache does not answer at {address[0]}:{PORT}; {log}:\n{log.read_text()[-2000:]}")
