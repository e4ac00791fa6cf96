"""
Dovecot's plugin ``imap_instant``, from its source to where Dovecot loads it; ``chatmail_dovecot`` says why.

All functions raise ``CommandExecutionError`` with the words of the compiler or of Dovecot. An apply also leaves this
file on the relay, where ``rebuild-imap-instant`` uses it, without Salt.
"""

import contextlib
import fcntl
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

from chatmail_errors import CommandExecutionError

BUILD_PACKAGES = ["dovecot-dev", "gcc", "libc6-dev"]
# What is to be purged after the build, written down before the installation: the build after a killed one purges it.
BUILD_NOTE = Path("/var/lib/chatmail/dovecot-build-packages")
# One build at a time, an apply's or that of a new Dovecot.
BUILD_LOCK = Path("/run/lock/chatmail-dovecot-plugin")
# Carries DOVECOT_ABI_VERSION, the string that Dovecot compares with that of a plugin.
LIBRARY = Path("/usr/lib/dovecot/libdovecot.so.0")
IMAP = Path("/usr/lib/dovecot/imap")
PLUGIN = Path("/usr/lib/dovecot/modules/lib20_imap_instant_plugin.so")
# 2.3.ABIv19(2.3.19.1), 2.4.ABIv1
ABI = re.compile(rb"\d[\d.]*\.ABIv\d+(?:\([^)\0]*\))?")
SOURCE_MARK = re.compile(rb"imap_instant source ([0-9a-f]{64})")
COMPILER = [
    *["gcc", "-std=gnu99", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-shared", "-fPIC"],
    *["-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now"],
    *["-DHAVE_CONFIG_H", "-I/usr/include/dovecot"],
]
# No user, no network, no writable file outside a /tmp of its own. systemd-run(1), systemd.exec(5)
SANDBOX = [
    *["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=RuntimeMaxSec=120"],
    *["--property=DynamicUser=yes", "--property=PrivateNetwork=yes", "--property=WorkingDirectory=/tmp", "--"],
]
SANDBOX_TIMEOUT_S = 150
# Beside the plugin's source.
TRIAL_CONF = "imap-instant-trial.conf"
TRIAL_SESSION = b"1 SELECT INBOX\r\n2 IDLE\r\nDONE\r\n3 LOGOUT\r\n"


@contextlib.contextmanager
def building():
    """Wait until nobody else builds the plugin."""
    with BUILD_LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_packages():
    """Return the packages (list of names) that an unfinished build left."""
    return BUILD_NOTE.read_text().split() if BUILD_NOTE.exists() else []


def note_packages(simulation):
    """Write down what an installation of BUILD_PACKAGES will bring, by what ``apt-get --simulate`` says of it."""
    # "Inst NAME (VERSION ...)"; an upgrade has "[OLD VERSION]" before the bracket.
    new = re.findall(r"^Inst (\S+) \(", simulation, re.MULTILINE)
    BUILD_NOTE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    BUILD_NOTE.write_text("\n".join({*build_packages(), *new}) + "\n")


def found():
    """Return what the installed plugin was built for: its ABI and the digest of its source, ``""`` if there is none."""
    installed = PLUGIN.read_bytes() if PLUGIN.exists() else b""
    abi, source = ABI.search(installed), SOURCE_MARK.search(installed)
    return {"dovecot": abi[0].decode() if abi else "", "source": source[1].decode() if source else ""}


def wanted(source):
    """Return the same of a plugin that were built now from ``source`` (path of the C file)."""
    return {"dovecot": dovecot_abi(), "source": digest(read(Path(source)))}


def make(source):
    """Return the plugin (bytes) made from ``source`` (path of the C file), and tried."""
    code = read(Path(source))
    trial = read(Path(source).with_name(TRIAL_CONF))
    built = compiled(code)
    try_out(built, trial, BUILD_NOTE.parent)
    return built


def read(path):
    """Return the bytes of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from error


def dovecot_abi():
    """Return the ABI string of the installed Dovecot."""
    found = ABI.search(read(LIBRARY))
    if not found:
        raise CommandExecutionError(f"{LIBRARY} names no ABI: this is not Debian's Dovecot")
    return found[0].decode()


def digest(code):
    """Mark of a build: the source and how it is compiled."""
    return hashlib.sha256("\0".join(COMPILER).encode() + b"\0" + code).hexdigest()


def sandboxed(argv, stdin):
    """Run ``argv`` in the sandbox with ``stdin`` (bytes) and return what came of it."""
    try:
        return subprocess.run(
            [*SANDBOX, *argv], input=stdin, capture_output=True, timeout=SANDBOX_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{argv[0]} could not be run: {error}") from error


def compiled(code):
    """Return the plugin made from ``code`` (bytes of C)."""
    script = '"$@" -o plugin.so -x c - && cat plugin.so'
    result = sandboxed(["sh", "-c", script, "sh", *COMPILER, f'-DSOURCE_DIGEST="{digest(code)}"'], code)
    if result.returncode:
        raise CommandExecutionError(f"gcc refused the plugin:\n{result.stderr.decode(errors='replace')}")
    return result.stdout


def try_out(plugin, trial, scratch):
    """Let Dovecot's imap load ``plugin`` and go through an IDLE with it, as ``trial`` configures it (bytes both).

    ``scratch`` is a directory for the while.
    """
    abi = dovecot_abi()
    built = ABI.search(plugin)
    if not built or built[0].decode() != abi:
        raise CommandExecutionError(f"the plugin was not built for {abi}: dovecot-dev and dovecot-core differ")
    # Not in /tmp: the sandbox has one of its own.
    with tempfile.TemporaryDirectory(prefix="dovecot-trial-", dir=scratch) as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / PLUGIN.name).write_bytes(plugin)
        config = directory / "dovecot.conf"
        config.write_bytes(trial + f"mail_plugin_dir = {directory}\n".encode())
        result = sandboxed(["env", "USER=trial", "HOME=/tmp", str(IMAP), "-c", str(config)], TRIAL_SESSION)
    if b"\r\n3 OK " not in result.stdout:
        raise CommandExecutionError(f"Dovecot refused the plugin:\n{result.stderr.decode(errors='replace')}")


def install(plugin):
    """Put ``plugin`` (bytes) in place; sessions that begin meanwhile find the old one or the new one."""
    # Dovecot looks for files that begin with "lib".
    beside = PLUGIN.with_name(f".{PLUGIN.name}")
    beside.write_bytes(plugin)
    beside.chmod(0o644)
    beside.replace(PLUGIN)
