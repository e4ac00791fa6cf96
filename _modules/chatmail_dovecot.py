"""Dovecot on a relay: its instant notification plugin, built here, and the kernel's limits that it runs into.

The plugin (``imap-instant-plugin.c``) says what it does. Dovecot loads it only if both were made for the same ABI, so
it is built on the relay, from headers of Debian's package, with a compiler that is there for no longer than that.
"""

import os
from pathlib import Path

import chatmail_dovecot_plugin as plugin
from chatmail_errors import CommandExecutionError

# What runs is older than what is installed if one of these changed after the start.
PID_FILE = Path("/run/dovecot/master.pid")
READ_AT_START = [
    Path("/usr/sbin/dovecot"),
    plugin.LIBRARY,
    plugin.PLUGIN,
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
    return plugin.found()


def plugin_wanted(source):
    """
    Return, in the form of ``plugin_found``, what a plugin built now from ``source`` would be built for.

    ``source`` is the path of the C file on the relay.

    Raises ``CommandExecutionError`` if Dovecot or the source is not there.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.plugin_wanted /usr/local/src/chatmail/imap-instant-plugin.c
    """
    return plugin.wanted(source)


def build_packages():
    """
    Return the packages (list of names) that an unfinished build left on the relay.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.build_packages
    """
    return plugin.build_packages()


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
    plugin.BUILD_NOTE.unlink(missing_ok=True)


def build_plugin(source):
    """
    Build the plugin from ``source`` (path of the C file on the relay), try it, and install it in one step.

    Raises ``CommandExecutionError`` with the words of apt, the compiler or Dovecot; the plugin that was there stays.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dovecot.build_plugin /usr/local/src/chatmail/imap-instant-plugin.c
    """
    with plugin.building():
        if plugin.found() == plugin.wanted(source):
            return
        try:
            _install_build_packages()
            built = plugin.make(source)
        finally:
            purge_build_packages()
        plugin.install(built)


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


def _install_build_packages():
    __salt__["pkg.refresh_db"](cache_valid_time=24 * 3600)
    simulation = __salt__["cmd.run_stdout"](
        ["apt-get", "--simulate", "--no-install-recommends", "install", *plugin.BUILD_PACKAGES], python_shell=False
    )
    plugin.note_packages(simulation)
    __salt__["chatmail_package.install"](plugin.BUILD_PACKAGES)
