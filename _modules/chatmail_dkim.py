"""
The relay's DKIM keys (RFC 6376): made on the host, never leaving it, and the records that publish them.

OpenDKIM's KeyTable names the selector that signs. Selectors are numbered, opendkim, opendkim2, ...: a key with a higher
number is the next one, one with a lower number signs no longer. Nothing else is kept about a rotation, so each step of
it goes on from whatever is there.

Under salt-ssh ``rotate`` and ``check`` run on the controller (``_wrapper/chatmail_dkim.py``), which asks and changes
the DNS; the other functions run on the host.
"""

from pathlib import Path

from chatmail_errors import CommandExecutionError

try:
    import chatmail_dkim_keys as keys

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

try:
    import dkim

    HAS_DKIM = True
except ImportError:
    HAS_DKIM = False

DIRECTORY = "/etc/dkimkeys"
KEY = f"{DIRECTORY}/opendkim.private"
KEY_TABLE = f"{DIRECTORY}/KeyTable"
SOCKET = "/var/spool/postfix/opendkim/opendkim.sock"

__outputter__ = dict.fromkeys(("record", "records", "check", "rotate"), "chatmail")


def __virtual__():
    if not HAS_CRYPTOGRAPHY:
        return False, "Debian's python3-cryptography is not installed"
    return "chatmail_dkim"


def problem(key=KEY):
    """
    Return why ``key`` (path) cannot sign, or ``""`` if it can.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.problem
    """
    return keys.problem(key)


def make_key(key=KEY):
    """
    Make an RSA key of 2048 bits and write it to ``key`` (path, mode 0600). An existing file is not replaced: what it
    signed must stay verifiable. Raises ``CommandExecutionError`` if there is one.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.make_key
    """
    keys.make(key)


def selector(directory=DIRECTORY):
    """
    Return the selector with which the relay signs (RFC 6376 section 3.1).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.selector
    """
    try:
        return keys.signing(Path(directory, "KeyTable"))[1]
    except CommandExecutionError:
        return keys.SELECTOR


def record(key_table=KEY_TABLE):
    """
    Return the TXT record that publishes the key with which the relay signs, as ``{"name": ..., "type": "TXT",
    "value": ...}``; ``value`` is one text, to be cut into strings of at most 255 characters for a zone file (RFC 6376
    section 3.6.2.2). Name and key are those of OpenDKIM's ``key_table`` (path, opendkim.conf(5)).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.record
    """
    domain, active, key = keys.signing(key_table)
    return keys.record(domain, active, key)


def records(directory=DIRECTORY, domain=None):
    """
    Return the TXT records of all keys on the host, as :func:`record` does, each with ``use``: "now" for the key that
    signs; "next" for the one that takes its place; "past" for one whose signatures are still on their way, with the day
    ``until`` which they are (ISO 8601); or "over" for one that may go, with an empty ``value``.

    domain
        Whose records; by default, that of OpenDKIM's KeyTable, which an apply makes later than the key.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.records
    """
    return keys.records(directory, domain)


def next_key(directory=DIRECTORY):
    """
    Make the key that is to sign next, unless there is one, and return its record (see :func:`record`).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.next_key
    """
    return keys.next_record(directory)


def switch(directory=DIRECTORY):
    """
    Sign with the next key from now on, and return all :func:`records`. Other servers must be able to look the key up.

    Raises ``CommandExecutionError`` where there is none, or where OpenDKIM does not start with it; then it signs with
    the last one again.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.switch
    """
    keys.switch(directory, lambda: __salt__["service.restart"]("opendkim"))
    return records(directory)


def retire(directory=DIRECTORY):
    """
    Remove the keys whose signatures are no longer on their way, and return the names of their records.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.retire
    """
    return keys.retire(directory)


def sample(directory=DIRECTORY):
    """
    Return a short message that the running OpenDKIM has signed, asked as Postfix asks it: with Postfix's rights, at the
    socket. Then tables and key can be read by OpenDKIM, and the socket can be used by Postfix.

    Raises ``CommandExecutionError`` where it does not sign.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.sample
    """
    domain, _, key = keys.signing(Path(directory, "KeyTable"))
    return keys.sample(domain, key, SOCKET)


# --- What operators call ---


def _lines(known=None):
    """What the authoritative servers say, by record (see ``chatmail_dns.check``)."""
    answer = __salt__["chatmail_dns.check"](known=known)
    return answer["required"] | answer["recommended"]


def check():
    """
    Say whether what the authoritative servers publish is the key on the host, and verifies what OpenDKIM signs now.

    Returns a mapping: ``success``, ``result`` in words.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.check
    """
    if not HAS_DKIM:
        raise CommandExecutionError("dkimpy verifies signatures, and is missing here (Debian: python3-dkim)")
    name = __salt__["chatmail_dkim.record"]()["name"]
    lines = _lines()
    if to_do := keys.still_to_do(lines, [name]):
        return {"success": False, "result": to_do}
    published = lines[f"{name} TXT"]["values"][0].encode()
    message = __salt__["chatmail_dkim.sample"]().encode()
    if not dkim.verify(message, dnsfunc=lambda name, timeout=5: published):
        return {"success": False, "result": f"{name} is published, but does not verify what the relay signs."}
    return {"success": True, "result": f"{name} is published, and verifies what the relay signs."}


def rotate(seconds=120):
    """
    Go on with the rotation of the DKIM key, or begin one: make the next key, publish it, wait until all authoritative
    servers have it, sign with it. A week later the last one can go: its record is withdrawn and the key is removed.

    Each call does as much as can be done now and says what comes next. Where the records cannot be published from here
    (settings ``dns_update_server``, ``dns_update_key_file``), it says what to enter at the provider.

    seconds
        As for ``chatmail_dns.publish``.

    Returns a mapping: ``success``, ``result`` in words.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.rotate
    """
    # Once: under salt-ssh, each question to the host takes a second.
    known = __salt__["chatmail_dns.facts"]()
    found = known["dkim"]
    if not found:
        raise CommandExecutionError("the relay has no key: apply chatmail.opendkim")
    uses = {one["use"] for one in found}
    now = found[0]["name"]
    if "next" not in uses and "past" in uses:
        return {"success": True, "result": keys.grace(found)}
    if uses == {"now"}:
        found.append(__salt__["chatmail_dkim.next_key"]() | {"use": "next"})
    __salt__["chatmail_dns.publish"](known=known, seconds=seconds)
    if to_do := keys.still_to_do(_lines(known), [one["name"] for one in found[1:]]):
        return {"success": False, "result": f"{to_do}\n\nThen rotate again: it goes on from here."}
    if any(one["use"] == "next" for one in found):
        return {"success": True, "result": keys.grace(__salt__["chatmail_dkim.switch"]())}
    removed = ", ".join(__salt__["chatmail_dkim.retire"]())
    return {"success": True, "result": f"{now} signs.\n{removed} and its key are gone; rotate again for another key."}
