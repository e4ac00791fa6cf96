"""
Dovecot's plugin ``imap_instant``, from its source to where Dovecot loads it; ``chatmail_dovecot`` says why.

All functions raise ``CommandExecutionError`` with the words of the compiler or of Dovecot.
"""

import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

from chatmail_errors import CommandExecutionError

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
