"""
Salt's ``service`` states, asked only where there is something to do: for each they run up to nine commands, where two
tell of all units of the apply (``chatmail_service.found``).
"""

from chatmail_unchanged import remembered

# What is left to Salt's states is not only what is otherwise, but also what is neither, such as a unit that starts.
RUNNING = ("active", "reloading")
DEAD = ("inactive", "failed")
MASKED = ("masked", "masked-runtime")
OFF = ("", "disabled", *MASKED)


def __virtual__():
    return "chatmail_service"


def running(name, enable=None, **kwargs):
    """
    A service runs, see Salt's ``service.running`` for all parameters.

    .. code-block:: yaml

        dovecot-service:
          chatmail_service.running:
            - name: dovecot
            - enable: True
            - watch:
              - file: dovecot-conf
    """
    unit = _unit(name)
    runs = unit["load"] == "loaded" and unit["active"] in RUNNING and unit["file"] not in MASKED
    right = runs and (enable is None or (enable and unit["file"] == "enabled"))
    return _as_it_is(name, "running") if right else __states__["service.running"](name, enable=enable, **kwargs)


def dead(name, enable=None, **kwargs):
    """
    A service does not run, and with ``enable: False`` does not start at boot; it need not exist. See Salt's
    ``service.dead`` for all parameters.

    .. code-block:: yaml

        iroh_relay-service:
          chatmail_service.dead:
            - name: iroh-relay
            - enable: False
    """
    unit = _unit(name)
    right = unit["active"] in DEAD and (enable is None or unit["file"] in OFF)
    return _as_it_is(name, "dead") if right else __states__["service.dead"](name, enable=enable, **kwargs)


def enabled(name, **kwargs):
    """
    A service starts at boot, see Salt's ``service.enabled`` for all parameters.

    .. code-block:: yaml

        postfix-enabled:
          chatmail_service.enabled:
            - name: postfix
    """
    right = _unit(name)["file"] == "enabled"
    return _as_it_is(name, "enabled") if right else __states__["service.enabled"](name, **kwargs)


def disabled(name, **kwargs):
    """
    A service does not start at boot, see Salt's ``service.disabled``.

    .. code-block:: yaml

        unbound-resolvconf-service:
          chatmail_service.disabled:
            - name: unbound-resolvconf
    """
    right = _unit(name)["file"] in OFF
    return _as_it_is(name, "disabled") if right else __states__["service.disabled"](name, **kwargs)


def masked(name, **kwargs):
    """
    Nothing can start a service, see Salt's ``service.masked``.

    .. code-block:: yaml

        unbound-systemd-resolved-masked:
          chatmail_service.masked:
            - name: systemd-resolved
    """
    right = _unit(name)["file"] == "masked"
    return _as_it_is(name, "masked") if right else __states__["service.masked"](name, **kwargs)


def mod_watch(name, **kwargs):
    """Restart or reload a service where something that it watches has changed, as Salt's ``service`` states do."""
    return __states__["service.mod_watch"](name, **kwargs)


def _as_it_is(name, what):
    return {"name": name, "changes": {}, "result": True, "comment": f"{name} is {what} already"}


def _full(name):
    return name if name.endswith((".service", ".socket", ".timer", ".path")) else f"{name}.service"


def _unit(name):
    def ask():
        names = {_full(low["name"]) for low in __lowstate__ if low["state"] == "chatmail_service"}
        return __salt__["chatmail_service.found"](sorted(names))

    units = remembered("services", ask, __running__, __context__)
    # systemd may call a unit by another name, of which it is an alias.
    return units.get(_full(name), {"load": "", "active": "", "file": None})
