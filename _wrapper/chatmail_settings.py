"""
``chatmail_settings`` on the controller: under salt-ssh, states render here, and asking the host would take a second.
"""

import salt.loader


def _util(function, *arguments):
    if "chatmail_settings.utils" not in __context__:
        # Salt gives wrappers no way to import a util.
        utils = salt.loader.utils(__opts__, whitelist=["chatmail_schema", "chatmail_pillar"])
        __context__["chatmail_settings.utils"] = utils
    return __context__["chatmail_settings.utils"][function](*arguments)


def _schema(function, *arguments):
    return _util(f"chatmail_schema.{function}", *arguments)


def effective(schema, pillar):
    """
    Return all settings and what follows from them, see ``_utils/chatmail_schema.py``.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.effective"](schema, pillar.get("chatmail")) }}
    """
    return _schema("effective", schema, pillar)


def problems(schema, pillar):
    """
    Return everything that is wrong with the settings, a list of sentences.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.problems"](schema, pillar.get("chatmail")) }}
    """
    found = _schema("problems", schema, pillar)
    opts = __opts__["__master_opts__"]
    if not pillar and not opts.get("ext_pillar"):
        # Perhaps no file is read at all.
        found = [*_util("chatmail_pillar.problems", opts["pillar_roots"].get("base", []), __opts__["id"]), *found]
    return found


def notices(pillar):
    """
    Return what the operator should know about settings that are not wrong, a list of sentences.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.notices"](pillar.get("chatmail")) }}
    """
    return _schema("notices", pillar)


def ports(settings):
    """
    Map each port that a relay listens on to the systemd services that may hold it.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.ports"](settings) }}
    """
    return _schema("ports", settings)
