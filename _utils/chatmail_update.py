"""
Publishing records by dynamic update (RFC 2136), signed with a key (TSIG, RFC 8945).
"""

import re
import time
from pathlib import Path

import dns.exception
import dns.name
import dns.query
import dns.rcode
import dns.tsigkeyring
import dns.update

from chatmail_authoritative import PATIENCE_S, Unanswered
from chatmail_errors import CommandExecutionError
from chatmail_records import TTL_S
from chatmail_survey import Survey

_KEY_FILE = re.compile(
    r"""\s*key\s+"?(?P<name>[^\s"{]+)"?\s*\{(?=[^}]*\balgorithm\s+"?(?P<algorithm>[\w.-]+)"?\s*;)"""
    r"""(?=[^}]*\bsecret\s+"(?P<secret>[A-Za-z0-9+/=]+)"\s*;)[^}]*\}\s*;?\s*"""
)


def read_key(path):
    """
    Return name, algorithm and secret (base64) of the key in a TSIG key file, as tsig-keygen(8) writes it.

    Raises ``CommandExecutionError``, never with the content of the file.
    """
    try:
        if Path(path).stat().st_mode & 0o077:
            raise CommandExecutionError(f"{path} is open to other users of this machine: chmod 600 {path}")
        match = _KEY_FILE.fullmatch(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandExecutionError(f"cannot read the TSIG key file {path}: {error}") from None
    if match is None:
        raise CommandExecutionError(
            f"{path} is not a TSIG key file. It must hold one key as tsig-keygen writes it: "
            'key "name" { algorithm hmac-sha256; secret "..."; };'
        )
    return match["name"], match["algorithm"], match["secret"]


def _change(message, record, answers):
    """Add to ``message`` (``dns.update.UpdateMessage``) what makes ``record`` served instead of ``answers``."""
    name = dns.name.from_text(record.name)
    if record.type == "CNAME":
        # Beside an alias there can be nothing else (RFC 1034 section 3.6.2).
        message.delete(name, "A")
        message.delete(name, "AAAA")
    values = [*record.values, *record.kept(sorted({value for answer in answers for value in answer.values}))]
    if values:
        message.replace(name, TTL_S, record.type, *(record.data(value) for value in values))
    else:
        message.delete(name, record.type)


def _send_updates(survey, changes, server, key_file, port):
    """Send the update for each zone. Raises ``CommandExecutionError`` where ``server`` (address) does not take it."""
    name, algorithm, secret = read_key(key_file)
    try:
        keyring = dns.tsigkeyring.from_text({name: secret})
        messages = {}
        for _, record in changes:
            apex = survey.walk.zone(dns.name.from_text(record.name)).apex
            if apex not in messages:
                messages[apex] = dns.update.UpdateMessage(apex, keyring=keyring, keyalgorithm=algorithm)
            _change(messages[apex], record, survey.answers[record].values())
    except ValueError as error:
        raise CommandExecutionError(f"the secret in {key_file} is not base64 text") from error
    except Unanswered as error:
        raise CommandExecutionError(f"cannot tell in which zone to publish: {error}") from error
    for apex, message in messages.items():
        try:
            rcode = dns.query.tcp(message, server, timeout=PATIENCE_S[-1], port=port).rcode()
        # dnspython raises NotImplementedError for a key file with a TSIG algorithm that it does not know.
        except (dns.exception.DNSException, OSError, EOFError, NotImplementedError) as error:
            raise CommandExecutionError(
                f"the DNS server {server} took no update of {apex} with the key {name}: {error or type(error).__name__}"
            ) from error
        if rcode != dns.rcode.NOERROR:
            raise CommandExecutionError(
                f"the DNS server {server} refused the update of {apex}: {dns.rcode.to_text(rcode)}. "
                f"Does it let the key {name} change this zone?"
            )


def publish(wanted, start, server, key_file, *, seconds, port=53):
    """
    Publish those of ``wanted`` that are not served as they should, and wait until all authoritative servers do.

    wanted
        List of ``chatmail_records.Record``.
    start
        Addresses of the servers with which to begin looking, see ``chatmail_survey.Survey``.
    server, port
        Address and port of the server that takes updates.
    key_file
        Path of the TSIG key, as tsig-keygen(8) writes it.
    seconds
        How long to wait until what was published is served.

    Returns changes, ``{"old": ..., "new": ...}`` by record, and the last ``Survey``: the one before, if there was
    nothing to publish, else the one after. Raises ``CommandExecutionError`` where the update is refused or not served
    in time.
    """
    before = Survey(wanted, start, port)
    changes = before.unpublished()
    if not changes:
        return {}, before
    _send_updates(before, changes, server, key_file, port)
    published = {record for _, record in changes}
    end = time.monotonic() + seconds
    pause = 0.5
    while True:
        after = Survey(wanted, start, port)
        left = [line for line, record in after.unpublished() if record in published]
        if not left:
            break
        if time.monotonic() + pause > end:
            lines = [f"{line['record']}: {line.get('remark') or line['status']}" for line in left]
            raise CommandExecutionError(
                f"{server} took the update, but after {seconds} s the authoritative servers do not serve it:\n"
                + "\n".join(lines)
                + "\nDoes the server notify them (RFC 1996)? Check again with chatmail_dns.check."
            )
        time.sleep(pause)
        pause = min(2 * pause, 8)
    return {
        line["record"]: {"old": line["found"], "new": ", ".join(record.data(value) for value in record.values)}
        for line, record in changes
    }, after
