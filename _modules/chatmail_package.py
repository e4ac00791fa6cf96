"""Debian packages, installed without their daemons being started by the installation.

A daemon that its package starts runs with Debian's default configuration until ours arrives: it takes ports, answers
clients wrongly, or (unbound on a host without IPv6) breaks name resolution for the steps that follow.
"""

import contextlib
import fcntl
import logging
import os
import struct
import time
from pathlib import Path

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_OF_HOST = Path("/usr/sbin/policy-rc.d.kept-by-chatmail")
# invoke-rc.d(8): 101 forbids the action. See also /usr/share/doc/init-system-helpers/README.policy-rc.d.gz.
POLICY_TEXT = """\
#!/bin/sh
# chatmail-formula: no daemon starts while packages are installed.
echo "$1: not started by the installation" >&2
exit 101
"""
# In __context__, which lasts for one run: apt's lists are fresh.
REFRESHED = "chatmail_package.refreshed"
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock")
# A host that was just set up upgrades itself first.
LOCK_S = 1200
LOCK_POLL_S = 2
# Of fcntl_locking(2): type, whence, start, length, process.
FLOCK = "hhqqi"
WHOLE_FILE = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def __virtual__():
    return "chatmail_package"


@contextlib.contextmanager
def _no_service_starts():
    """Forbid service starts by maintainer scripts; the administrator's own policy comes back afterwards."""
    if POLICY.exists() and POLICY.read_text() != POLICY_TEXT:
        POLICY.rename(POLICY_OF_HOST)
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if POLICY_OF_HOST.exists():
            POLICY_OF_HOST.rename(POLICY)


def lock_holder(locks=None):
    """
    Return who holds one of apt's locks (paths of files), such as ``unattended-upgr (process 812)``, or None.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_package.lock_holder
    """
    for path in LOCKS if locks is None else locks:
        with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as file:
            kind, *_, pid = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, WHOLE_FILE))
            if kind == fcntl.F_UNLCK:
                continue
            with contextlib.suppress(OSError):
                return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (process {pid})"
            return "another program"
    return None


def _wait_for_apt():
    """Wait until nobody else installs packages; the log says meanwhile who does."""
    end = time.monotonic() + LOCK_S
    while holder := lock_holder():
        # `make apply` shows this.
        log.warning("waits for apt's lock, which %s holds", holder)
        if time.monotonic() > end:
            raise CommandExecutionError(
                f"{holder} has held apt's lock for {LOCK_S // 60} minutes. See what it does (`systemctl status`), "
                "let it end, then apply again."
            )
        time.sleep(LOCK_POLL_S)


def missing(pkgs):
    """
    Return those of ``pkgs`` (list of package names) that are not installed, in the given order.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_package.missing '[postfix, dovecot-core]'
    """
    installed = __salt__["pkg.list_pkgs"]()
    return [pkg for pkg in pkgs if pkg not in installed]


def install(pkgs):
    """
    Install ``pkgs`` (list of package names) in one transaction, neither recommended packages nor service starts.

    Returns ``{package: {"old": version, "new": version}}`` for everything that changed.
    Raises ``CommandExecutionError`` if apt fails, or if a package is missing although apt reported success.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_package.install '[postfix, dovecot-core]'
    """
    _wait_for_apt()
    with _no_service_starts():
        # After an installation that was killed apt refuses to work until this is done; otherwise it does nothing.
        __salt__["cmd.run_all"](
            ["dpkg", "--force-confold", "--configure", "-a"], env={"DEBIAN_FRONTEND": "noninteractive"}
        )
        changes = __salt__["pkg.install"](
            # Once a run, whatever the lists' age: a fresh image has an empty directory with a recent date.
            pkgs=list(pkgs),
            refresh=REFRESHED not in __context__,
            install_recommends=False,
        )
    __context__[REFRESHED] = True
    still_missing = missing(pkgs)
    if still_missing:
        raise CommandExecutionError(f"apt did not install {', '.join(still_missing)}")
    return changes


def purge(pkgs):
    """
    Purge exactly ``pkgs`` (list of package names) and return ``{package: {"old": version, "new": ""}}``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_package.purge '[gcc]'
    """
    if not pkgs:
        return {}
    changes = __salt__["pkg.purge"](pkgs=list(pkgs))
    # salt sorts purged packages under "installed" and "removed"; the caller wants what is gone.
    return {**changes.get("installed", {}), **changes.get("removed", {})}


def revert(versions):
    """
    Give packages the ``versions`` (mapping) that they had, as far as apt has them yet and removes nothing for them; no
    service starts.

    Returns the names (list) of those that stay as they are.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_package.revert '{postfix: 3.7.11-0+deb12u1}'
    """
    if not versions:
        return []
    _wait_for_apt()
    # What is in the way of an old version stays: nothing is removed for it.
    apt = ["apt-get", "--yes", "--allow-downgrades", "--no-remove", "--no-install-recommends"]
    apt += ["-o", "Dpkg::Options::=--force-confold"]
    exact = [f"{name}={version}" for name, version in versions.items()]
    exact = [one for one in exact if __salt__["cmd.retcode"](["apt-cache", "show", one], ignore_retcode=True) == 0]
    if exact:
        with _no_service_starts():
            __salt__["cmd.run_all"](
                [*apt, "install", *exact], env={"DEBIAN_FRONTEND": "noninteractive"}, python_shell=False
            )
    now = __salt__["pkg.list_pkgs"]()
    return sorted(name for name, version in versions.items() if now.get(name) != version)
