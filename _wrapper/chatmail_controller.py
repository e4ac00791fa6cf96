"""
What the controller does for the target while salt-ssh applies states to it.

The states run on the target and know what they need, such as the publication of the DKIM key that they have just made;
what it takes, such as the key that signs updates of the zone, stays here. One ssh session beside Salt's own carries
their requests (``chatmail_session`` on the target), a line of JSON each, and the answers.
"""

import json
import subprocess
import threading
from collections import ChainMap

import salt.loader
from salt.exceptions import CommandExecutionError

# Runs on the target until its standard input ends, which is when salt-ssh ends. Opening both ways does not wait for
# the other end (fifo(7)).
LISTEN = """
umask 077
rm -rf /run/chatmail-controller
mkdir /run/chatmail-controller && cd /run/chatmail-controller && mkfifo request answer || exit
exec 3<>request 4<>answer
echo ready
cat <&3 &
cat >&4
kill $!
rm -rf /run/chatmail-controller
"""
REACHED = "touch /run/chatmail-proxy/reached"
# Its own connection: a shared one would go on where no new one comes about.
NEW_CONNECTION = ("-o", "ControlPath=none")


def functions(module, here=None):
    """
    Return the functions of an execution module, by name, run on this machine; what they ask of others by ``__salt__``
    is answered by the target, but for the functions in ``here``.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_controller.functions"]("chatmail_dns")["chatmail_dns.zone"]() }}
    """
    found = salt.loader.minion_mods(__opts__, utils=salt.loader.utils(__opts__), whitelist=[module])
    # value(): the name itself means, inside of the module, the map that is made here.
    found.pack["__salt__"] = ChainMap(here or {}, __salt__.value())
    return found


def reached():
    """
    Return the public addresses by which this machine reaches the target (list of text), see ``chatmail_session``.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_controller.reached"]() | json }}
    """
    # Salt gives wrappers no way to import a util.
    utils = salt.loader.utils(__opts__, whitelist=["chatmail_session"])
    return utils["chatmail_session.reached"](__salt__.kwargs["host"])


def attend(settings):
    """
    Hold the target's lock and do what its states ask for, until this run of salt-ssh ends.

    The preflight SLS calls this while it renders. Runs that only show states take no lock and open no session. Without
    a key for DNS records and a proxy's rules an apply goes on though the session does not come about.

    settings
        Those of ``map.jinja``.

    Returns an empty string, so that it can stand in a template. Raises ``CommandExecutionError`` where another apply is
    running, or the session does not come about.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_controller.attend"](settings) }}
    """
    __salt__["chatmail_apply.lock"]()
    shown = __opts__["__master_opts__"]["argv"][0].startswith("state.show_")
    if shown or "chatmail_controller.attend" in __context__:
        return ""
    # What the settings are worth is judged on the host: here they may lack anything.
    needed = settings.get("proxy_target") or (settings.get("dns_check") and settings.get("dns_update_key_file"))
    ssh = __salt__["chatmail_apply.ssh_argv"]
    session = subprocess.Popen(ssh(LISTEN), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if session.stdout.readline() != b"ready\n":
        said = session.communicate()[1].decode(errors="replace").strip()
        if not needed:
            # The host is not looked at from outside, then.
            return ""
        raise CommandExecutionError(
            f"No second ssh session to the host: {said or 'it ended'}. It needs a key; a password does not do."
        )
    __context__["chatmail_controller.attend"] = session
    # Loaded here: Salt's loader knows nothing in another thread.
    publish = functions("chatmail_dns")["chatmail_dns.publish"]
    look = salt.loader.utils(__opts__, whitelist=["chatmail_outside"])["chatmail_outside.look"]
    services = {
        "publish": lambda asked: publish(settings, known=asked["facts"], initial=asked["initial"]),
        "reach": lambda asked: _reach(ssh(REACHED, NEW_CONNECTION)),
        "look": lambda asked: {"seen": look(asked["facts"])},
    }
    threading.Thread(target=answer_all, args=(session, services), daemon=True).start()
    return ""


def _reach(ssh):
    done = subprocess.run(ssh, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return {"reached": done.returncode == 0}


def answer_all(session, services):
    """
    Answer each request that the session (``Popen``) brings by one of ``services``: functions by name, which take what
    is asked (mapping) and return the answer (mapping).

    CLI Example:

    .. code-block:: python

        answer_all(session, {"publish": publish})
    """
    for line in session.stdout:
        try:
            asked = json.loads(line)
            answer = services[asked["service"]](asked)
        except (CommandExecutionError, OSError, subprocess.SubprocessError) as error:
            answer = {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"the request is malformed: {type(error).__name__}"}
        session.stdin.write(json.dumps(answer).encode() + b"\n")
        session.stdin.flush()
