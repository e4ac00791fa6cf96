"""
What functions return, as Salt shows it; but a call that failed in salt-ssh is one line, why and what to do, in place of
``_error``, ``parsed``, ``retcode``, ``stderr`` and ``stdout``.

It is here and not in ``_output``, because a master hands that to its minions, for the results of everybody.
"""

import re

import salt.output
import salt.output.nested

PREFIX = re.compile(r"^(Error running '[\w.]+': |ERROR: )")
# What salt-ssh says where ssh itself does not come through, and what to do.
NEXT_STEPS = {
    "authenticity of host": "the host's key is not known here; log in once by hand, and compare it: `./relay apply` "
    "names the command",
    "IDENTIFICATION HAS CHANGED": "the host has another key than it had; if it was installed again, "
    "`ssh-keygen -R HOST` forgets the old one",
}


def failure(result):
    """Return why a call failed, one line, where ``result`` is what salt-ssh makes of one that did; else None."""
    if not isinstance(result, dict) or not {"retcode", "stderr", "stdout"} <= result.keys() or "pid" in result:
        return None
    if not result["retcode"]:
        return None
    said = f"{result['stderr']}\n{result['stdout']}".strip()
    for pattern, step in NEXT_STEPS.items():
        if pattern in said:
            return step
    # A stack trace has its reason at its end.
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [str(result.get("_error", ""))]
    return PREFIX.sub("", lines[-1] if any(line.startswith("Traceback") for line in lines) else " ".join(lines))


def output(data, **kwargs):
    """
    Return the text for ``data``, results by target.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.ban nobody@chat.example.org
    """
    salt.output.nested.__opts__ = __opts__
    if not isinstance(data, dict):
        return salt.output.nested.output(data, **kwargs)
    failed = {target: why for target, result in data.items() if (why := failure(result))}
    rest = {target: result for target, result in data.items() if target not in failed}
    # As Salt's own does: a host could otherwise command the terminal.
    lines = [salt.output.strip_esc_sequence(f"{target}: ✗ {why}") for target, why in failed.items()]
    return "\n".join(lines + ([salt.output.nested.output(rest, **kwargs)] if rest else []))
