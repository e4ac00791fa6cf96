"""
What a host said once in an apply holds for the states after it, as long as none has changed anything.
"""


def remembered(name, ask, running, context):
    """
    Return what ``ask()`` returned, asked again only where a state since then has changed something or failed.

    name
        Of what is asked for (text), the key in ``context``.
    ask
        A function without arguments.
    running
        The results of the states so far.
    context
        The context of a state, which lasts as long as the apply.
    """
    changes = sum(1 for result in running.values() if result["changes"] or result["result"] is not True)
    key = f"chatmail_unchanged.{name}"
    if key not in context or context[key][0] != changes:
        context[key] = changes, ask()
    return context[key][1]
