"""Dovecot on a relay: its instant notification plugin, built here, and the kernel's limits that it runs into.

The plugin (``imap-instant-plugin.c``) says what it does. Dovecot loads it only if both were made for the same ABI, so
it is built on the relay, from headers of Debian's package, with a compiler that is there for no longer than that.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

# Carries DOVECOT_ABI_VERSION, the string that Dovecot compares with that of a plugin.
LIBRARY = Path("/usr/lib/dovecot/libdovecot.so.0")
IMAP = Path("/usr/lib/dovecot/imap")
PLUGIN = Path("/usr/lib/dovecot/modules/lib20_imap_instant_plugin.so")
# 2.3.ABIv19(2.3.19.1), 2.4.ABIv1
ABI = re.compile(rb"\d[\d.]*\.ABIv\d+(?:\([^)\0]*\))?")
SOURCE_MARK = re.compile(rb"imap_instant source ([0-9a-f]{64})")

BUILD_PACKAGES = ["dovecot-dev", "gcc", "libc6-dev"]
# What is to be purged after the build, written down before the installation: a killed apply is mended by the next.
BUILD_NOTE = Path("/var/lib/chatmail/dovecot-build-packages")
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

# What runs is older than what is installed if one of these changed after the start.
PID_FILE = Path("/run/dovecot/master.pid")
READ_AT_START = [
    Path("/usr/sbin/dovecot"),
    LIBRARY,
    PLUGIN,
    Path("/etc/systemd/system/dovecot.service.d/00-chatmail-sandbox.conf"),
    Path("/etc/systemd/system/dovecot.service.d/10-chatmail.conf"),
    Path("/usr/local/lib/chatmail/link-imap-instant"),
]

INOTIFY = Path("/proc/sys/fs/inotify")


def __virtual__():
    return "chatmail_dovecot"


def plugin_found():
    """
    Return what the installed plugin was built for: ``{"dovecot": ABI string, "source": digest}``, empty texts if there
    is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.plugin_found
    """
    plugin = PLUGIN.read_bytes() if PLUGIN.exists() else b""
    abi, source = ABI.search(plugin), SOURCE_MARK.search(plugin)
    return {"dovecot": abi[0].decode() if abi else "", "source": source[1].decode() if source else ""}


def plugin_wanted(source):
    """
    Return, in the form of ``plugin_found``, what a plugin built now from ``source`` would be built for.

    ``source`` is the path of the C file on the relay.

    Raises ``CommandExecutionError`` if Dovecot or the source is not there.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.plugin_wanted /usr/local/src/chatmail/imap-instant-plugin.c
    """
    return {"dovecot": _dovecot_abi(), "source": _digest(_read(Path(source)))}


def build_packages():
    """
    Return the packages (list of names) that an unfinished build left on the relay.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.build_packages
    """
    return BUILD_NOTE.read_text().split() if BUILD_NOTE.exists() else []


def purge_build_packages():
    """
    Purge what was installed for a build, and nothing that was there before.

    Raises ``CommandExecutionError`` if a package is still there afterwards.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.purge_build_packages
    """
    missing = __salt__["chatmail_package.missing"](build_packages())
    __salt__["chatmail_package.purge"]([pkg for pkg in build_packages() if pkg not in missing])
    still_there = set(build_packages()) - set(__salt__["chatmail_package.missing"](build_packages()))
    if still_there:
        raise CommandExecutionError(f"apt did not purge {' '.join(sorted(still_there))}; see /var/log/apt/term.log")
    BUILD_NOTE.unlink(missing_ok=True)


def build_plugin(source):
    """
    Build the plugin from ``source`` (path of the C file on the relay), try it, and install it in one step.

    Raises ``CommandExecutionError`` with the words of apt, the compiler or Dovecot; the plugin that was there stays.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.build_plugin /usr/local/src/chatmail/imap-instant-plugin.c
    """
    code = _read(Path(source))
    trial = _read(Path(source).with_name(TRIAL_CONF))
    try:
        _install_build_packages()
        plugin = _compile(code)
        _try(plugin, trial)
    finally:
        purge_build_packages()
    _install(plugin)


def outdated():
    """
    Return the paths (list) of Dovecot's programs and files that changed after it started; none if it is not running.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.outdated
    """
    if not PID_FILE.exists():
        return []
    started = PID_FILE.stat().st_mtime
    return [str(path) for path in READ_AT_START if path.exists() and path.stat().st_ctime > started]


def inotify_limits():
    """
    Return the kernel's limits ``{"max_user_instances": number, "max_user_watches": number}``; ``None`` if missing.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.inotify_limits
    """
    files = {name: INOTIFY / name for name in ("max_user_instances", "max_user_watches")}
    return {name: int(file.read_text()) if file.exists() else None for name, file in files.items()}


def set_inotify_limit(name, value):
    """
    Set the limit ``name`` (as in ``inotify_limits``) to ``value`` until the next boot; return if the kernel took it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.set_inotify_limit max_user_instances 65535
    """
    try:
        (INOTIFY / name).write_text(str(value))
    except OSError:  # A container: read-only, or not its own.
        return False
    return inotify_limits()[name] == value


def inotify_limit_is_writable(name):
    """
    Return whether the limit ``name`` (as in ``inotify_limits``) can be set from here; it cannot in most containers.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.inotify_limit_is_writable max_user_instances
    """
    return os.access(INOTIFY / name, os.W_OK)


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from error


def _dovecot_abi():
    found = ABI.search(_read(LIBRARY))
    if not found:
        raise CommandExecutionError(f"{LIBRARY} names no ABI: this is not Debian's Dovecot")
    return found[0].decode()


def _digest(code):
    """Mark of a build: the source and how it is compiled."""
    return hashlib.sha256("\0".join(COMPILER).encode() + b"\0" + code).hexdigest()


def _install_build_packages():
    __salt__["pkg.refresh_db"](cache_valid_time=24 * 3600)
    simulation = __salt__["cmd.run_stdout"](
        ["apt-get", "--simulate", "--no-install-recommends", "install", *BUILD_PACKAGES], python_shell=False
    )
    # "Inst NAME (VERSION ...)"; an upgrade has "[OLD VERSION]" before the bracket.
    new = re.findall(r"^Inst (\S+) \(", simulation, re.MULTILINE)
    BUILD_NOTE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    BUILD_NOTE.write_text("\n".join({*build_packages(), *new}) + "\n")
    __salt__["chatmail_package.install"](BUILD_PACKAGES)


def _sandboxed(argv, stdin):
    try:
        return subprocess.run(
            [*SANDBOX, *argv], input=stdin, capture_output=True, timeout=SANDBOX_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{argv[0]} could not be run: {error}") from error


def _compile(code):
    """Return the plugin made from ``code`` (bytes of C)."""
    script = '"$@" -o plugin.so -x c - && cat plugin.so'
    result = _sandboxed(["sh", "-c", script, "sh", *COMPILER, f'-DSOURCE_DIGEST="{_digest(code)}"'], code)
    if result.returncode:
        raise CommandExecutionError(f"gcc refused the plugin:\n{result.stderr.decode(errors='replace')}")
    return result.stdout


def _try(plugin, trial):
    """Let Dovecot's imap load ``plugin`` and go through an IDLE with it, configured by ``trial`` (bytes both)."""
    abi = _dovecot_abi()
    built = ABI.search(plugin)
    if not built or built[0].decode() != abi:
        raise CommandExecutionError(f"the plugin was not built for {abi}: dovecot-dev and dovecot-core differ")
    # Not in /tmp: the sandbox has one of its own.
    with tempfile.TemporaryDirectory(prefix="dovecot-trial-", dir=BUILD_NOTE.parent) as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / PLUGIN.name).write_bytes(plugin)
        config = directory / "dovecot.conf"
        config.write_bytes(trial + f"mail_plugin_dir = {directory}\n".encode())
        result = _sandboxed(["env", "USER=trial", "HOME=/tmp", str(IMAP), "-c", str(config)], TRIAL_SESSION)
    if b"\r\n3 OK " not in result.stdout:
        raise CommandExecutionError(f"Dovecot refused the plugin:\n{result.stderr.decode(errors='replace')}")


def _install(plugin):
    """Put ``plugin`` (bytes) in place; sessions that begin meanwhile find the old one or the new one."""
    # Dovecot looks for files that begin with "lib".
    beside = PLUGIN.with_name(f".{PLUGIN.name}")
    beside.write_bytes(plugin)
    beside.chmod(0o644)
    beside.replace(PLUGIN)
