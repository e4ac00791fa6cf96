"""States for Dovecot on a relay; the work is in the execution module ``chatmail_dovecot``."""

from salt.exceptions import CommandExecutionError
from salt.utils.data import compare_dicts

from chatmail_dovecot_plugin import building

SYSCTL_HEAD = "# Managed by chatmail-formula; changes made here are undone by the next apply."


def __virtual__():
    return "chatmail_dovecot"


def notify_plugin_installed(name, source):
    """
    The instant notification plugin is built from this source, for the Dovecot that is installed, and no compiler stays.

    .. code-block:: yaml

        dovecot-instant-plugin:
          chatmail_dovecot.notify_plugin_installed:
            - source: /usr/local/src/chatmail/imap-instant-plugin.c

    source
        Path of the C file on the relay.

    Where it cannot be built, the state fails and Dovecot works on without it: new messages are announced 0.5 s later.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The plugin fits Dovecot"}
    found = __salt__["chatmail_dovecot.plugin_found"]()
    leftover = __salt__["chatmail_dovecot.build_packages"]()
    try:
        wanted = __salt__["chatmail_dovecot.plugin_wanted"](source)
    except CommandExecutionError as error:
        # Before the first apply neither Dovecot nor the source is there.
        wanted = {"dovecot": "what will be installed", "source": source}
        if not __opts__["test"]:
            ret.update(result=False, comment=str(error))
            return ret
    if found == wanted and not leftover:
        return ret
    if __opts__["test"]:
        ret.update(result=None, comment="The plugin would be built, and the compiler purged again")
        ret["changes"] = compare_dicts(found, wanted)
        if leftover:
            ret["changes"]["build packages"] = {"old": leftover, "new": []}
        return ret

    packages = _packages()
    try:
        if found == wanted:
            __salt__["chatmail_dovecot.purge_build_packages"]()
        else:
            __salt__["chatmail_dovecot.build_plugin"](source)
            # dovecot-dev may have brought a newer Dovecot.
            wanted = __salt__["chatmail_dovecot.plugin_wanted"](source)
            if __salt__["chatmail_dovecot.plugin_found"]() != wanted:
                raise CommandExecutionError("it was built, but it does not fit the Dovecot that is installed now")
        ret["comment"] = "The plugin was built" if found != wanted else "Packages of an unfinished build were purged"
    except CommandExecutionError as error:
        ret.update(
            result=False,
            comment=f"The plugin could not be built: {error}\nDovecot works on without it, and announces new "
            "messages 0.5 s later. Fix what is said above, then apply again.",
        )
    ret["changes"] = {
        **compare_dicts(found, __salt__["chatmail_dovecot.plugin_found"]()),
        **compare_dicts(packages, _packages()),
    }
    return ret


def _packages():
    """What is installed, at a moment at which nobody else, such as `chatmail-imap-instant`, has apt at work."""
    with building():
        return __salt__["pkg.list_pkgs"](use_context=False)


def current(name):
    """
    The running Dovecot is the installed one: no program, plugin or unit file of its changed after it started.

    .. code-block:: yaml

        dovecot-current:
          chatmail_dovecot.current:
            - name: dovecot

    name
        The systemd unit.

    Unlike a ``watch`` this also fixes what an earlier, interrupted apply or a package upgrade left.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "Dovecot runs what is installed"}
    outdated = __salt__["chatmail_dovecot.outdated"]()
    if not outdated:
        return ret
    ret["changes"] = {name: {"old": f"started before {', '.join(outdated)} changed", "new": "restarted"}}
    if __opts__["test"]:
        ret.update(result=None, comment="Dovecot would be restarted")
        return ret
    __salt__["service.restart"](name)
    if not __salt__["service.status"](name) or __salt__["chatmail_dovecot.outdated"]():
        ret.update(result=False, changes={}, comment=f"Dovecot did not restart; see `journalctl -u {name}` on the host")
        return ret
    ret["comment"] = "Dovecot was restarted"
    return ret


def inotify_limits(name, minimum):
    """
    The kernel lets Dovecot watch the mailboxes of all idle clients, now and after a boot; larger limits are left alone.

    .. code-block:: yaml

        dovecot-inotify-limits:
          chatmail_dovecot.inotify_limits:
            - name: /etc/sysctl.d/60-chatmail-dovecot.conf
            - minimum: 65535

    name
        Path of the sysctl.d(5) file that holds the limits that had to be raised.
    minimum
        Smallest value of ``fs.inotify.max_user_instances`` and ``max_user_watches``.

    In a container these limits belong to its host. Where they are too low and cannot be raised the state succeeds with
    a warning that says what to do there.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    limits = __salt__["chatmail_dovecot.inotify_limits"]()
    low = {limit: value for limit, value in limits.items() if value is None or value < minimum}
    raisable = {
        limit: value
        for limit, value in low.items()
        if value is not None and __salt__["chatmail_dovecot.inotify_limit_is_writable"](limit)
    }
    if not __opts__["test"]:
        raised = {limit for limit in raisable if __salt__["chatmail_dovecot.set_inotify_limit"](limit, minimum)}
        raisable = {limit: value for limit, value in raisable.items() if limit in raised}
    if warnings := [_limit_warning(limit, low[limit], minimum) for limit in low if limit not in raisable]:
        ret["warnings"] = warnings
    ret["changes"] = {f"fs.inotify.{limit}": {"old": value, "new": minimum} for limit, value in raisable.items()}

    kept = _kept_limits(name, limits, minimum) | raisable.keys()
    if kept:
        lines = [SYSCTL_HEAD, *(f"fs.inotify.{limit} = {minimum}" for limit in sorted(kept))]
        file = __states__["file.managed"](name, contents="\n".join(lines), user="root", group="root", mode="0644")
        if file["changes"]:
            ret["changes"][name] = file["changes"]
        if file["result"] is False:
            ret.update(result=False, comment=file["comment"])
            return ret
    if ret["changes"] and __opts__["test"]:
        ret["result"] = None
    found = ", ".join(f"fs.inotify.{limit} = {value}" for limit, value in limits.items())
    ret["comment"] = f"Found {found}; wanted at least {minimum}"
    return ret


def _kept_limits(path, limits, minimum):
    """Return the limits that the file at ``path`` already raises to ``minimum``, and that the kernel has."""
    text = __salt__["file.read"](path) if __salt__["file.file_exists"](path) else ""
    return {limit for limit, value in limits.items() if value == minimum and f"fs.inotify.{limit} =" in text}


def _limit_warning(limit, value, minimum):
    return (
        f"fs.inotify.{limit} is {'missing' if value is None else value}, wanted at least {minimum}, and it cannot be "
        "raised from here: this is a container. With many idle clients new messages are announced late. On the "
        f"container's host: `sysctl -w fs.inotify.{limit}={minimum}`, and the same line in a file in /etc/sysctl.d/."
    )
