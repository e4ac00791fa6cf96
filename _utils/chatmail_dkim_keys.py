"""
The relay's DKIM keys as files (RFC 6376), beside OpenDKIM's KeyTable, which names the one that signs.

Selectors are numbered, opendkim, opendkim2, ...: a key with a higher number is the next one, one with a lower number
signs no longer. Nothing else is kept about a rotation. All functions raise ``CommandExecutionError`` for files that are
not as an apply leaves them.
"""

import base64
import functools
import re
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import chatmail_milter
from chatmail_errors import CommandExecutionError
from chatmail_files import create, draft

SELECTOR = "opendkim"
# How long mail may be on its way that the last key has signed: servers try for five days (RFC 5321 section 4.5.4.1).
GRACE_S = 7 * 86400
# RFC 8301 section 3.2: at least 2048; a longer key does not fit into one UDP answer.
KEY_BITS = 2048


def load(key):
    """Return the RSA private key in the file ``key``."""
    try:
        private = _private_key(Path(key).read_bytes())
    except OSError as error:
        raise CommandExecutionError(
            f"cannot read {key}: {error.strerror}. An apply of chatmail.opendkim makes the key."
        ) from error
    except (ValueError, TypeError) as error:
        raise CommandExecutionError(f"{key} is no PEM private key without passphrase: {error}") from error
    if not isinstance(private, rsa.RSAPrivateKey):
        raise CommandExecutionError(f"{key} is not an RSA key")
    return private


# That the numbers of an RSA key fit each other takes 50 ms, and an apply asks four times.
@functools.lru_cache(maxsize=2)
def _private_key(pem):
    return serialization.load_pem_private_key(pem, password=None)


def problem(key):
    """Return why the key in the file ``key`` cannot sign, or ``""`` if it can."""
    try:
        bits = load(key).key_size
    except CommandExecutionError as error:
        return str(error)
    return "" if bits >= KEY_BITS else f"{key} has {bits} bits, {KEY_BITS} are needed"


def make(key):
    """Make an RSA key and write it to ``key`` (path, mode 0600), which must not exist; its directory need not."""
    pem = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    try:
        Path(key).parent.mkdir(mode=0o700, exist_ok=True)
        create(key, pem)
    except FileExistsError as error:
        raise CommandExecutionError(f"{key} exists; it is not replaced") from error


def signing(key_table):
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


def record(domain, name, key):
    """Return the TXT record of the key in the file ``key``: ``{"name": ..., "type": "TXT", "value": ...}``."""
    public = (
        load(key).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return {
        "name": f"{name}._domainkey.{domain}.",
        "type": "TXT",
        "value": f"v=DKIM1;k=rsa;p={base64.b64encode(public).decode()};s=email;t=s",
    }


def number(name):
    """Return the number of a selector of ours, or 0."""
    match = re.fullmatch(SELECTOR + r"([1-9]\d*)?", name)
    return int(match[1] or 1) if match else 0


def records(directory, domain=None):
    """Return the records of all keys in ``directory`` with their use; see ``chatmail_dkim.records``."""
    table, first = Path(directory, "KeyTable"), Path(directory, f"{SELECTOR}.private")
    if domain and not table.exists() and first.exists():
        return [record(domain, SELECTOR, first) | {"use": "now"}]
    signs, active, key = signing(table)
    # A rename changes the table in the middle of an apply.
    domain = domain or signs
    found = [record(domain, active, key) | {"use": "now"}]
    end = table.stat().st_mtime + GRACE_S
    until = time.strftime("%Y-%m-%d", time.gmtime(end))
    past = {"use": "past", "until": until} if time.time() < end else {"use": "over", "value": ""}
    for other in sorted(Path(directory).glob(f"{SELECTOR}*.private"), key=lambda path: number(path.stem)):
        if number(other.stem) and other.stem != active:
            use = {"use": "next"} if number(other.stem) > number(active) else past
            found.append(record(domain, other.stem, other) | use)
    return found


def _next(directory):
    return [one for one in records(directory) if one["use"] == "next"]


def next_record(directory):
    """Return the record of the key that is to sign next, which is made if need be."""
    if not (waiting := _next(directory)):
        latest = max([1, *(number(path.stem) for path in Path(directory).glob(f"{SELECTOR}*.private"))])
        make(Path(directory, f"{SELECTOR}{latest + 1}.private"))
        waiting = _next(directory)
    return waiting[0]


def switch(directory, restart):
    """Let the KeyTable name the next key, or the last one again where ``restart()``, of OpenDKIM, is false."""
    if not (waiting := _next(directory)):
        raise CommandExecutionError("there is no next key; chatmail_dkim.rotate makes one")
    table = Path(directory, "KeyTable")
    before = table.read_bytes()
    domain = signing(table)[0]
    name = waiting[0]["name"].partition(".")[0]
    key = Path(directory, f"{name}.private")
    draft(directory, f"{domain} {domain}:{name}:{key}\n".encode()).replace(table)
    if not restart():
        draft(directory, before).replace(table)
        restart()
        raise CommandExecutionError(f"OpenDKIM does not start with {key}: see journalctl -u opendkim on the host")


def retire(directory):
    """Remove the keys that nothing needs any more, and return the names of their records."""
    over = [one["name"] for one in records(directory) if one["use"] == "over"]
    for name in over:
        Path(directory, f"{name.partition('.')[0]}.private").unlink()
    return over


def still_to_do(lines, names):
    """Return what is wrong with the TXT records ``names``, and what to do; nothing if all are served as wanted."""
    bad = {name: line for name in names if (line := lines[f"{name} TXT"])["status"] not in ("ok", "differs")}
    texts = [
        f"{name} is {': '.join(filter(None, (line['status'], line.get('remark'))))}.\n{line['do']}"
        for name, line in bad.items()
    ]
    return "\n\n".join([*texts, *(line["enter"] for line in bad.values() if "enter" in line)])


def grace(records):
    """The words for the ``records`` of keys, of which one signs and the past ones are still needed."""
    lines = [f"{records[0]['name']} signs."]
    for one in records:
        if one["use"] == "past":
            lines += [f"{one['name']} stays for mail on its way; rotate again after {one['until']} to remove it."]
    return "\n".join(lines)


def sample(domain, key, socket):
    """Return a message of ``domain`` to which OpenDKIM, asked at its ``socket``, has added a signature by ``key``."""
    author = f"MAILER-DAEMON@{domain}"
    message = f"From: {author}\r\nTo: {author}\r\nSubject: sample\r\n\r\nsample\r\n"
    advice = "See journalctl -u opendkim on the host; an apply of chatmail.opendkim puts files and their owners right."
    try:
        added = chatmail_milter.added_fields(socket, "postfix", author, author, message)
    except chatmail_milter.MilterError as error:
        raise CommandExecutionError(f"OpenDKIM does not sign with {key}: {error}. {advice}") from error
    signatures = [value for name, value in added if name == "DKIM-Signature"]
    if not signatures:
        raise CommandExecutionError(f"OpenDKIM does not sign mail of {domain}: its tables do not name it. {advice}")
    signature = signatures[0].replace("\r\n", "\n").replace("\n", "\r\n")
    return f"DKIM-Signature: {signature.lstrip()}\r\n{message}"
