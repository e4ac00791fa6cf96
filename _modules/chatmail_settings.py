"""
The settings of a relay, the pillar's ``chatmail`` key, for states that render where they run (salt-call, a minion).

``_utils/chatmail_schema.py`` does the work. Under salt-ssh ``_wrapper/chatmail_settings.py`` stands in for this one.
"""

import chatmail_schema


def effective(schema, pillar):
    """
    Return all settings and what follows from them, a mapping.

    schema
        Content of ``chatmail/defaults.yaml``.
    pillar
        Value of the pillar's ``chatmail`` key; None if there is none.

    CLI Example:

    .. code-block:: bash

        salt-call slsutil.renderer salt://chatmail/map.jinja
    """
    return chatmail_schema.effective(schema, pillar)


def problems(schema, pillar):
    """
    Return everything that is wrong with the settings, a list of sentences; the arguments are those of ``effective``.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.problems"](schema, pillar.get("chatmail")) }}
    """
    return chatmail_schema.problems(schema, pillar)


def notices(pillar):
    """
    Return what the operator should know about settings that are not wrong, a list of sentences.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.notices"](pillar.get("chatmail")) }}
    """
    return chatmail_schema.notices(pillar)


def ports(settings):
    """
    Map each port that a relay with these (effective) settings listens on to the systemd services that may hold it.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_settings.ports"](settings) }}
    """
    return chatmail_schema.ports(settings)


def size_mb(value):
    """
    Convert a size setting, such as ``2G``, to MB (multiples of 1024); None if it is not a size.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_settings.size_mb 2G
    """
    return chatmail_schema.size_mb(value)
