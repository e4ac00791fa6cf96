"""States for Debian packages; the work is in the execution module ``chatmail_package``."""

from salt.exceptions import CommandExecutionError

# In __context__, which lasts for one run: the packages that an earlier state has installed for later ones, and whether
# that was tried.
FOR_LATER = "chatmail_package.for_later"


def __virtual__():
    return "chatmail_package"


def installed(name, pkgs, with_later=True):
    """
    Debian packages are installed, and no daemon was started by their installation.

    .. code-block:: yaml

        postfix-packages:
          chatmail_package.installed:
            - pkgs: [postfix]

    pkgs
        Names of packages. Versions are Debian's business: security updates arrive by apt.
    with_later
        Whether the state, if it is the first of a run that misses a package, installs what later ones miss too: a
        transaction of apt's takes seconds, and a relay has a dozen components. Each state tells of its own packages;
        the first, of those on which they depend. Not while the relay may still wait for its DNS records: a package may
        replace another, as Postfix does exim4.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    missing = __salt__["chatmail_package.missing"](pkgs)
    if __opts__["test"] and missing:
        ret.update(
            result=None,
            changes={pkg: {"old": "", "new": "installed"} for pkg in missing},
            comment=f"Would be installed: {', '.join(missing)}",
        )
        return ret
    try:
        ret["changes"] = _install(pkgs, missing, with_later)
    except CommandExecutionError as error:
        ret.update(
            result=False,
            comment=f"{', '.join(missing)} could not be installed: {error}. "
            "Look at `apt-get update` and /var/log/apt/term.log on the host, then apply again.",
        )
        return ret
    now = [pkg for pkg in pkgs if pkg in ret["changes"]]
    ret["comment"] = f"Installed now: {', '.join(now)}" if now else f"Installed: {', '.join(pkgs)}"
    return ret


def _install(pkgs, missing, with_later):
    """Install ``missing``, those of ``pkgs`` that are; return what the run has changed that no later state tells of."""
    if missing and with_later and FOR_LATER not in __context__:
        __context__[FOR_LATER] = {}
        later = _wanted_later(pkgs)
        try:
            changes = __salt__["chatmail_package.install"](missing + __salt__["chatmail_package.missing"](later))
        except CommandExecutionError:
            # Whose package it is will say so; until then all goes as far as it can.
            if not later:
                raise
        else:
            __context__[FOR_LATER] = {pkg: changes.pop(pkg) for pkg in later if pkg in changes}
            return changes
    if missing:
        return __salt__["chatmail_package.install"](missing)
    for_later = __context__.get(FOR_LATER, {})
    return {pkg: for_later.pop(pkg) for pkg in pkgs if pkg in for_later}


def _wanted_later(pkgs):
    """The packages beyond ``pkgs`` that states of this run want, each once; nothing where a state is called alone."""
    wanted = {
        pkg: None
        for low in __lowstate__
        if (low["state"], low["fun"]) == ("chatmail_package", "installed")
        for pkg in low["pkgs"]
    }
    return [pkg for pkg in wanted if pkg not in pkgs]
