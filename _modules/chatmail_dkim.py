"""
The relay's DKIM keys (RFC 6376): made on the host, never leaving it, and the records that publish them.

OpenDKIM's KeyTable names the selector that signs. Selectors are numbered, opendkim, opendkim2, ...: a key with a higher
number is the next one, one with a lower number signs no longer. Nothing else is kept about a rotation, so each step of
it goes on from whatever is there.

Under salt-ssh ``rotate`` and ``check`` run on the controller (``_wrapper/chatmail_dkim.py``), which asks and changes
the DNS; the other functions run on the host.
"""

import base64
import os
import re
import tempfile
import time
from pathlib import Path

from salt.exceptions import CommandExecutionError

import chatmail_milter

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

try:
    import dkim

    HAS_DKIM = True
except ImportError:
    HAS_DKIM = False

DIRECTORY = "/etc/dkimkeys"
SELECTOR = "opendkim"
KEY = f"{DIRECTORY}/{SELECTOR}.private"
KEY_TABLE = f"{DIRECTORY}/KeyTable"
SOCKET = "/var/spool/postfix/opendkim/opendkim.sock"
# How long mail may be on its way that the last key has signed: servers try for five days (RFC 5321 section 4.5.4.1).
GRACE_S = 7 * 86400
# RFC 8301 section 3.2: at least 2048; a longer key does not fit into one UDP answer.
KEY_BITS = 2048

__outputter__ = dict.fromkeys(("record", "records", "check", "rotate"), "chatmail")


def __virtual__():
    if not HAS_CRYPTOGRAPHY:
        return False, "Debian's python3-cryptography is not installed"
    return "chatmail_dkim"


def _load(key):
    try:
        private = serialization.load_pem_private_key(Path(key).read_bytes(), password=None)
    except OSError as error:
        raise CommandExecutionError(
            f"cannot read {key}: {error.strerror}. An apply of chatmail.opendkim makes the key."
        ) from error
    except (ValueError, TypeError) as error:
        raise CommandExecutionError(f"{key} is no PEM private key without passphrase: {error}") from error
    if not isinstance(private, rsa.RSAPrivateKey):
        raise CommandExecutionError(f"{key} is not an RSA key")
    return private


def problem(key=KEY):
    """
    Return why ``key`` (path) cannot sign, or ``""`` if it can.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.problem
    """
    try:
        bits = _load(key).key_size
    except CommandExecutionError as error:
        return str(error)
    return "" if bits >= KEY_BITS else f"{key} has {bits} bits, {KEY_BITS} are needed"


def make_key(key=KEY):
    """
    Make an RSA key of 2048 bits and write it to ``key`` (path, mode 0600). An existing file is not replaced: what it
    signed must stay verifiable. Raises ``CommandExecutionError`` if there is one.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.make_key
    """
    pem = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    draft = _draft(Path(key).parent, pem)
    try:
        # link(2) refuses where rename(2) would replace.
        os.link(draft, key)
    except FileExistsError as error:
        raise CommandExecutionError(f"{key} exists; it is not replaced") from error
    finally:
        draft.unlink(missing_ok=True)


def _draft(directory, data):
    """Write ``data`` to a new file in ``directory`` (path) that belongs to whom the directory does, mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".draft-")
    with os.fdopen(descriptor, "wb") as file:
        owner = Path(directory).stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return Path(name)


def _signing(key_table):
    """Return signing domain, selector and path of the key, as the line of OpenDKIM's ``key_table`` (path) says."""
    try:
        domain, selector, key = Path(key_table).read_text().split()[1].split(":", 2)
    except (OSError, ValueError, IndexError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandExecutionError(
            f"{key_table} names no key: {reason}. Apply chatmail.opendkim; a relay whose mail domain is an IPv4 address"
            " has no key."
        ) from error
    return domain, selector, key


def selector(directory=DIRECTORY):
    """
    Return the selector with which the relay signs (RFC 6376 section 3.1).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.selector
    """
    try:
        return _signing(Path(directory, "KeyTable"))[1]
    except CommandExecutionError:
        return SELECTOR


def record(key_table=KEY_TABLE):
    """
    Return the TXT record that publishes the key with which the relay signs, as ``{"name": ..., "type": "TXT",
    "value": ...}``; ``value`` is one text, to be cut into strings of at most 255 characters for a zone file (RFC 6376
    section 3.6.2.2). Name and key are those of OpenDKIM's ``key_table`` (path, opendkim.conf(5)).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.record
    """
    domain, active, key = _signing(key_table)
    return _record(domain, active, key)


def _record(domain, name, key):
    public = (
        _load(key)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return {
        "name": f"{name}._domainkey.{domain}.",
        "type": "TXT",
        "value": f"v=DKIM1;k=rsa;p={base64.b64encode(public).decode()};s=email;t=s",
    }


def _number(name):
    """Return the number of a selector of ours, or 0."""
    match = re.fullmatch(SELECTOR + r"([1-9]\d*)?", name)
    return int(match[1] or 1) if match else 0


def records(directory=DIRECTORY):
    """
    Return the TXT records of all keys on the host, as :func:`record` does, each with ``use``: "now" for the key that
    signs; "next" for the one that takes its place; "past" for one whose signatures are still on their way, with the day
    ``until`` which they are (ISO 8601); or "over" for one that may go, with an empty ``value``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.records
    """
    table = Path(directory, "KeyTable")
    domain, active, key = _signing(table)
    found = [_record(domain, active, key) | {"use": "now"}]
    end = table.stat().st_mtime + GRACE_S
    until = time.strftime("%Y-%m-%d", time.gmtime(end))
    past = {"use": "past", "until": until} if time.time() < end else {"use": "over", "value": ""}
    for other in sorted(Path(directory).glob(f"{SELECTOR}*.private"), key=lambda path: _number(path.stem)):
        if _number(other.stem) and other.stem != active:
            use = {"use": "next"} if _number(other.stem) > _number(active) else past
            found.append(_record(domain, other.stem, other) | use)
    return found


def next_key(directory=DIRECTORY):
    """
    Make the key that is to sign next, unless there is one, and return its record (see :func:`record`).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.next_key
    """
    waiting = [one for one in records(directory) if one["use"] == "next"]
    if not waiting:
        number = max(_number(path.stem) for path in [Path(KEY), *Path(directory).glob(f"{SELECTOR}*.private")])
        make_key(str(Path(directory, f"{SELECTOR}{number + 1}.private")))
        waiting = [one for one in records(directory) if one["use"] == "next"]
    return waiting[0]


def switch(directory=DIRECTORY):
    """
    Sign with the next key from now on, and return all :func:`records`. Other servers must be able to look the key up.

    Raises ``CommandExecutionError`` where there is none, or where OpenDKIM does not start with it; then it signs with
    the last one again.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.switch
    """
    waiting = [one for one in records(directory) if one["use"] == "next"]
    if not waiting:
        raise CommandExecutionError("there is no next key; chatmail_dkim.rotate makes one")
    table = Path(directory, "KeyTable")
    before = table.read_bytes()
    domain = _signing(table)[0]
    name = waiting[0]["name"].partition(".")[0]
    key = Path(directory, f"{name}.private")
    _draft(directory, f"{domain} {domain}:{name}:{key}\n".encode()).replace(table)
    if not __salt__["service.restart"]("opendkim"):
        _draft(directory, before).replace(table)
        __salt__["service.restart"]("opendkim")
        raise CommandExecutionError(f"OpenDKIM does not start with {key}: see journalctl -u opendkim on the host")
    return records(directory)


def retire(directory=DIRECTORY):
    """
    Remove the keys whose signatures are no longer on their way, and return the names of their records.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.retire
    """
    over = [one["name"] for one in records(directory) if one["use"] == "over"]
    for name in over:
        Path(directory, f"{name.partition('.')[0]}.private").unlink()
    return over


def sample(directory=DIRECTORY):
    """
    Return a short message that the running OpenDKIM has signed, asked as Postfix asks it: with Postfix's rights, at the
    socket. Then tables and key can be read by OpenDKIM, and the socket can be used by Postfix.

    Raises ``CommandExecutionError`` where it does not sign.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.sample
    """
    domain, _, key = _signing(Path(directory, "KeyTable"))
    author = f"MAILER-DAEMON@{domain}"
    message = f"From: {author}\r\nTo: {author}\r\nSubject: sample\r\n\r\nsample\r\n"
    advice = "See journalctl -u opendkim on the host; an apply of chatmail.opendkim puts files and their owners right."
    try:
        added = chatmail_milter.added_fields(SOCKET, "postfix", author, author, message)
    except chatmail_milter.MilterError as error:
        raise CommandExecutionError(f"OpenDKIM does not sign with {key}: {error}. {advice}") from error
    signatures = [value for name, value in added if name == "DKIM-Signature"]
    if not signatures:
        raise CommandExecutionError(f"OpenDKIM does not sign mail of {domain}: its tables do not name it. {advice}")
    signature = signatures[0].replace("\r\n", "\n").replace("\n", "\r\n")
    return f"DKIM-Signature: {signature.lstrip()}\r\n{message}"


# --- What operators call ---


def _lines(known=None):
    """What the authoritative servers say, by record (see ``chatmail_dns.check``)."""
    answer = __salt__["chatmail_dns.check"](known=known)
    return answer["required"] | answer["recommended"]


def _still_to_do(lines, names):
    """Return what is wrong with the TXT records ``names``, and what to do; nothing if all are served as wanted."""
    bad = {name: line for name in names if (line := lines[f"{name} TXT"])["status"] not in ("ok", "differs")}
    texts = [
        f"{name} is {': '.join(filter(None, (line['status'], line.get('remark'))))}.\n{line['do']}"
        for name, line in bad.items()
    ]
    return "\n\n".join([*texts, *(line["enter"] for line in bad.values() if "enter" in line)])


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
    if to_do := _still_to_do(lines, [name]):
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
    keys = known["dkim"]
    if not keys:
        raise CommandExecutionError("the relay has no key: apply chatmail.opendkim")
    uses = {one["use"] for one in keys}
    now = keys[0]["name"]
    if "next" not in uses and "past" in uses:
        return {"success": True, "result": _grace(keys)}
    if uses == {"now"}:
        keys.append(__salt__["chatmail_dkim.next_key"]() | {"use": "next"})
    __salt__["chatmail_dns.publish"](known=known, seconds=seconds)
    if to_do := _still_to_do(_lines(known), [one["name"] for one in keys[1:]]):
        return {"success": False, "result": f"{to_do}\n\nThen rotate again: it goes on from here."}
    if any(one["use"] == "next" for one in keys):
        return {"success": True, "result": _grace(__salt__["chatmail_dkim.switch"]())}
    removed = ", ".join(__salt__["chatmail_dkim.retire"]())
    return {"success": True, "result": f"{now} signs.\n{removed} and its key are gone; rotate again for another key."}


def _grace(keys):
    """The words for keys (see :func:`records`) of which one signs and the past ones are still needed."""
    lines = [f"{keys[0]['name']} signs."]
    for one in keys:
        if one["use"] == "past":
            lines += [f"{one['name']} stays for mail on its way; rotate again after {one['until']} to remove it."]
    return "\n".join(lines)
