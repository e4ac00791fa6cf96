"""
Refuses settings that are wrong, before anything on the host is touched.
"""


def __virtual__():
    return "chatmail_settings"


def valid(name, problems, notices=()):
    """
    Promise that every setting is known, has the right type and is within its bounds; it changes nothing.

    .. code-block:: yaml

        settings-valid:
          chatmail_settings.valid:
            - problems: {{ salt["chatmail_settings.problems"](schema, pillar.get("chatmail")) | json }}
            - failhard: True

    problems
        What ``chatmail_settings.problems`` found while the states rendered.
    notices
        What ``chatmail_settings.notices`` found; the state's ``warnings``.

    All errors are reported together, each with the setting, what was found and what is allowed.
    """
    lines = ["The settings are valid."]
    if problems:
        lines = ["The settings below `chatmail:` in the pillar are wrong; nothing on the host was changed."]
        lines += [f"- {problem}" for problem in problems]
    ret = {"name": name, "changes": {}, "result": not problems, "comment": "\n".join(lines)}
    return ret | ({"warnings": list(notices)} if notices else {})
