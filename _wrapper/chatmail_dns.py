"""
``chatmail_dns`` on the controller: for salt-ssh these take the place of the execution module's functions.

The DNS is asked from outside, as other servers see it, before anything is installed on the host; and what signs updates
of the zone stays here. The work is the execution module's; what it asks of ``chatmail_dkim`` is answered by the host.
"""

import json
import subprocess
import threading

import salt.loader
from salt.exceptions import CommandExecutionError

# Runs on the target until its standard input ends, which is when salt-ssh ends. Opening both ways does not wait for
# the other end (fifo(7)).
LISTEN = """
umask 077
rm -rf /run/chatmail-dns
mkdir /run/chatmail-dns && cd /run/chatmail-dns && mkfifo request answer || exit
exec 3<>request 4<>answer
echo ready
cat <&3 &
cat >&4
kill $!
rm -rf /run/chatmail-dns
"""


def _functions():
    """The execution module's functions, with salt-ssh's in place of the controller's own."""
    return salt.loader.raw_mod(__opts__, "chatmail_dns", __salt__)


def _here(function, **arguments):
    """What a function of the execution module returns, in the form in which salt-ssh also learns how to print it."""
    try:
        result = _functions()[f"chatmail_dns.{function}"](**arguments)
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


def answer_requests(settings):
    """
    Publish what the target's states ask for, until this run of salt-ssh ends.

    The dns SLS calls this while it renders. The states run on the target and know what is to be published, such as the
    DKIM key that they have just made; the key that signs updates is here. One more ssh session carries the request
    and the answer.

    settings
        Those of ``map.jinja``.

    Returns an empty string, so that it can stand in a template. Raises ``CommandExecutionError`` where the session does
    not come about.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_dns.answer_requests"](settings) }}
    """
    if __opts__["__master_opts__"]["argv"][0].startswith("state.show_"):
        return ""
    # Another apply's session must not be taken away.
    __salt__["chatmail_apply.lock"]()
    publish_for = _functions()["chatmail_dns.publish"]
    ssh = __salt__["chatmail_apply.ssh_argv"](LISTEN)
    session = subprocess.Popen(ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if session.stdout.readline() != b"ready\n":
        said = session.communicate()[1].decode(errors="replace").strip()
        raise CommandExecutionError(
            f"No ssh session for publishing DNS records: {said or 'it ended'}. It needs a key; a password does not do."
        )
    threading.Thread(target=_answer_all, args=(session, settings, publish_for), daemon=True).start()
    return ""


def _answer_all(session, settings, publish_for):
    for line in session.stdout:
        try:
            asked = json.loads(line)
            done = publish_for(settings, known=asked["facts"], initial=asked["initial"])
            answer = {"published": done["published"]}
        except CommandExecutionError as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"the request is malformed: {type(error).__name__}"}
        session.stdin.write(json.dumps(answer).encode() + b"\n")
        session.stdin.flush()
