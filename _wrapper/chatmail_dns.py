"""
``chatmail_dns`` on the controller: for salt-ssh these take the place of the execution module's functions.

The DNS is asked from outside, as other servers see it, before anything is installed on the host; and what signs updates
of the zone stays here. The work is the execution module's; what it asks of ``chatmail_dkim`` is answered by the host.
"""

from salt.exceptions import CommandExecutionError


def _here(function, **arguments):
    """What a function of the execution module returns, in the form in which salt-ssh also learns how to print it."""
    try:
        result = __salt__["chatmail_controller.functions"]("chatmail_dns")[f"chatmail_dns.{function}"](**arguments)
    except CommandExecutionError as error:
        result = {"success": False, "result": str(error)}
    if isinstance(result, dict):
        __context__["retcode"] = 0 if result["success"] else 1
    return {"local": {"return": result, "out": "chatmail"}}


def records():
    """
    Return the records that the relay must have, and should have.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.records
    """
    return _here("records")


def zone(file=None):
    """
    Return the records as text of a zone file, and write it to ``file`` (path on this machine) if there is one.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.zone file=relay.zone
    """
    return _here("zone", file=file)


def check(initial=False):
    """
    Compare what the domain's authoritative servers say with what is wanted; exit code 1 unless all required records
    are right.

    initial
        Only what a certificate authority needs to find.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.check
    """
    return _here("check", initial=initial)


def publish(seconds=120):
    """
    Publish the records that are missing or wrong on the pillar's ``dns_update_server``, signed with the key in
    ``dns_update_key_file`` on this machine, and wait ``seconds`` at most until all authoritative servers serve them.
    Without these settings, return what to enter at the provider.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.publish
    """
    return _here("publish", seconds=seconds)
