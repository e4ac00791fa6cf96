"""States for the units of services; the work is in the execution module ``chatmail_units``."""


def __virtual__():
    return "chatmail_units"


def loaded(name, services):
    """
    systemd knows the drop-ins of services as they are on disk.

    .. code-block:: yaml

        dovecot-drop-ins:
          chatmail_units.loaded:
            - services: [dovecot]
            - watch:
              - file: dovecot-sandbox

    services
        Names of services, without ``.service``.

    Unlike ``onchanges`` this also fixes what an interrupted apply left. Services that watch it restart.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "systemd knows all drop-ins"}
    unread = __salt__["chatmail_units.unread"](services)
    return _reloaded(ret, unread) if unread else ret


def mod_watch(name, services, **kwargs):
    """Tell systemd of what other states changed, or in test mode would change."""
    return _reloaded({"name": name, "changes": {}, "result": True, "comment": ""}, services)


def _reloaded(ret, what):
    ret["changes"] = {"systemd": {"old": f"had not read {', '.join(what)}", "new": "reloaded"}}
    if __opts__["test"]:
        ret.update(result=None, comment="systemd would be reloaded")
        return ret
    __salt__["service.systemctl_reload"]()
    ret["comment"] = "systemd was reloaded"
    return ret
