"""
``chatmail_dkim`` on the controller: for salt-ssh these take the place of the execution module's functions.

A rotation asks and changes the DNS, which is the controller's part; keys are made and used on the host alone. The work
is the execution module's; its other functions are answered by the host.
"""

from salt.exceptions import CommandExecutionError


def _here(function, **arguments):
    """Run a function of the execution module: what it asks of the DNS is done here, all else on the host."""
    functions = __salt__["chatmail_controller.functions"]
    dns = functions("chatmail_dns")
    names = ("chatmail_dns.facts", "chatmail_dns.check", "chatmail_dns.publish")
    module = functions("chatmail_dkim", {name: dns[name] for name in names})
    try:
        result = module[f"chatmail_dkim.{function}"](**arguments)
    except CommandExecutionError as error:
        result = {"success": False, "result": str(error)}
    __context__["retcode"] = 0 if result["success"] else 1
    return {"local": {"return": result, "out": "chatmail"}}


def check():
    """
    Say whether what the authoritative servers publish is the key on the host, and verifies what it signs.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.check
    """
    return _here("check")


def rotate(seconds=120):
    """
    Go on with the rotation of the DKIM key, or begin one; says what comes next.

    seconds
        As for ``chatmail_dns.publish``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.rotate
    """
    return _here("rotate", seconds=seconds)
