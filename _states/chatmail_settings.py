"""
Refuses settings that are wrong, before anything on the host is touched.
"""


def __virtual__():
    if "chatmail_settings.problems" in __salt__:
        return True
    return False, "the execution module chatmail_settings is missing"


def valid(name, schema, pillar):
    """
    Promise that every setting is known, has the right type and is within its bounds; it changes nothing.

    .. code-block:: yaml

        settings-valid:
          chatmail_settings.valid:
            - schema: {{ schema | json }}
            - pillar: {{ pillar.get("chatmail") | json }}
            - failhard: True

    schema
        Content of ``chatmail/defaults.yaml``.
    pillar
        Value of the pillar's ``chatmail`` key; null if there is none.

    All errors are reported at once, each with the setting, what was found and what is allowed.
    """
    problems = __salt__["chatmail_settings.problems"](schema, pillar)
    if not problems:
        return {"name": name, "changes": {}, "result": True, "comment": "The settings are valid."}
    lines = ["The settings below `chatmail:` in the pillar are wrong; nothing on the host was changed."]
    return {
        "name": name,
        "changes": {},
        "result": False,
        "comment": "\n".join(lines + [f"- {problem}" for problem in problems]),
    }
