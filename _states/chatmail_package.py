"""States for Debian packages; the work is in the execution module ``chatmail_package``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_package"


def installed(name, pkgs):
    """
    Debian packages are installed, and no daemon was started by their installation.

    .. code-block:: yaml

        postfix-packages:
          chatmail_package.installed:
            - pkgs: [postfix]

    pkgs
        Names of packages. Versions are Debian's business: security updates arrive by apt.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    missing = __salt__["chatmail_package.missing"](pkgs)
    if not missing:
        ret["comment"] = f"Installed: {', '.join(pkgs)}"
        return ret
    if __opts__["test"]:
        ret.update(
            result=None,
            changes={pkg: {"old": "", "new": "installed"} for pkg in missing},
            comment=f"Would be installed: {', '.join(missing)}",
        )
        return ret
    try:
        ret["changes"] = __salt__["chatmail_package.install"](missing)
    except CommandExecutionError as error:
        ret.update(
            result=False,
            comment=f"{', '.join(missing)} could not be installed: {error}. "
            "Look at `apt-get update` and /var/log/apt/term.log on the host, then apply again.",
        )
        return ret
    ret["comment"] = f"Installed now: {', '.join(missing)}"
    return ret
