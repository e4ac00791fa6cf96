"""
``chatmail_relay`` on the controller: for salt-ssh ``status`` takes the place of the execution module's.

The host is examined by itself, and told what time it is here: a clock cannot find its own fault. And it is looked at
from here, which is outside of its firewalls.
"""

import time

import salt.loader

EXIT_CODES = {"warning": 1, "error": 2}


def status(probe=True):
    """
    Say whether the relay is well, and if not, what to do next.

    probe
        Whether a message is sent from one throw-away address to another.

    The exit code is 0 if all is well or only notes are to be read, else 20, as salt-ssh has one code for all failures;
    ``level`` in the JSON tells warnings from errors.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_relay.status
        salt-ssh --out=json relay chatmail_relay.status
    """
    found = __salt__["chatmail_relay.examine"](clock=time.time(), probe=probe)
    if facts := found.pop("outside"):
        begun = time.monotonic()
        found = _outside("added", found, _outside("look", facts))
        found["seconds"] = round(found["seconds"] + time.monotonic() - begun, 1)
    retcode = EXIT_CODES.get(found["level"], 0)
    __context__["retcode"] = retcode
    # With "local" Salt takes the result for one that names its own outputter.
    return {"local": {"return": found, "retcode": retcode, "out": "chatmail"}}


def _outside(function, *arguments):
    # Salt gives wrappers no way to import a util.
    utils = salt.loader.utils(__opts__, whitelist=["chatmail_outside"])
    return utils[f"chatmail_outside.{function}"](*arguments)
