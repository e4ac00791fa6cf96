"""
Certificates from an authority by ACME (RFC 8555) and Debian's acmetool: keys in its store, orders, the account.
"""

import json
import re
import subprocess
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import chatmail_x509
from chatmail_challenges import challenges_handed_on, require_reached
from chatmail_errors import CommandExecutionError
from chatmail_files import replace

STATE = Path("/var/lib/acme")
# Where an order leaves the account's URL, so that nobody needs the network to know it.
ACCOUNT = Path("/etc/chatmail/acme-account")


def key_name(key_type, live=None):
    """Return acmetool's name of the key for all certificates, or nothing; see ``chatmail_cert.acme_key_id``."""
    stored = sorted(STATE.glob("keys/*/privkey"), key=lambda path: path.stat().st_mtime)
    for path in [*([Path(live)] if live else []), *stored]:
        if path.is_file():
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
            if chatmail_x509.key_type(key) == key_type:
                return chatmail_x509.key_id(key)
    return ""


def make_key(key_type):
    """
    Make a private key, ``ecdsa`` (P-256) or ``rsa`` (2048 bits), in acmetool's store; returns acmetool's name of it.
    """
    key = rsa.generate_private_key(65537, 2048) if key_type == "rsa" else ec.generate_private_key(ec.SECP256R1())
    name = chatmail_x509.key_id(key)
    path = STATE / "keys" / name / "privkey"
    # acmetool wants the store's directory closed.
    (STATE / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ),
        0o600,
    )
    return name


def kept_account():
    """What :func:`obtain` has kept."""
    try:
        kept = json.loads(ACCOUNT.read_text())
    except (OSError, ValueError):
        kept = {}
    return {"account_uri": kept.get("account_uri"), "caa_issuers": kept.get("caa_issuers", [])}


def directory_meta(directory_url):
    """
    Ask the authority for the metadata of its directory (RFC 8555 section 7.1.1), such as ``termsOfService``.

    Raises CommandExecutionError if the authority cannot be reached or does not answer as one.
    """
    try:
        with urllib.request.urlopen(directory_url, timeout=30) as answer:  # noqa: S310 - the schema wants https
            return json.loads(answer.read(65536)).get("meta", {})
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "reason", error)
        raise CommandExecutionError(
            f"the certificate authority does not answer at {directory_url}: {reason}"
        ) from error


def _acmetool(*args):
    """Run acmetool; returns its output, raises CommandExecutionError with its reason, the authority's words."""
    # Why a challenge failed is a message of level info.
    argv = ["acmetool", "--batch", "--xlog.severity=info", *args]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        raise CommandExecutionError(f"`{' '.join(argv)}` has not ended within 300 s") from error
    if done.returncode:
        raise CommandExecutionError(reason(done.stderr))
    return done.stdout


# How acmetool shows a problem document; what is quoted is quoted as in Go.
_PROBLEM = re.compile(r'\(problem \(type "(?P<type>(?:\\.|[^"\\])*)"\).*?\(detail "(?P<detail>(?:\\.|[^"\\])*)"\)')


def _unquoted(text):
    return re.sub(r"\\(.)", r"\1", text)


def reason(log):
    """
    Return what matters in acmetool's log: the authority's problem documents (RFC 8555 section 6.7), each detail with
    the last part of its type; else acmetool's last message, without the challenges that nobody offered.
    """
    problems = dict.fromkeys(
        f"{_unquoted(found['detail'])} ({found['type'].rpartition(':')[2]})" for found in _PROBLEM.finditer(log)
    )
    if problems:
        return f"the authority says: {'; '.join(problems)}"
    last = log.rpartition("[CRITICAL] acmetool: fatal: ")[2]
    noise = ("the following errors occurred:", "could not install DNS challenge", "challenge type not supported")
    lines = (line.strip() for line in last.splitlines())
    return " ".join(line for line in lines if line and not line.startswith(noise)) or "acmetool does not say why"


def caa_refusal(records, issuers, account):
    """
    Tell whether CAA records forbid the certificate, by RFC 8659 section 4.2 and RFC 8657 section 3.

    records
        The values of the name's ``issue`` properties, such as ``letsencrypt.org;accounturi=https://...``.
    issuers
        The authority's own names in such records (``caaIdentities`` of its directory); empty if it names none.
    account
        URL of the account that asks.

    Returns a sentence, or nothing if the records allow it.
    """
    others = []
    for record in records:
        issuer, *parameters = (part.strip() for part in record.split(";"))
        wanted = dict(parameter.partition("=")[::2] for parameter in parameters).get("accounturi", account)
        if (not issuers or issuer in issuers) and wanted == account:
            return ""
        others.append(record)
    return f"only {' or '.join(others)} may issue, and this account is {account}" if others else ""


def _caa(name):
    """The ``issue`` values of the CAA records that hold for ``name``: its own, or those of the next name above."""
    # python3-dnspython is there in ACME mode only.
    import dns.exception
    import dns.resolver

    labels = name.split(".")
    for start in range(len(labels) - 1):
        try:
            answer = dns.resolver.resolve(".".join(labels[start:]), "CAA", lifetime=10)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except dns.exception.DNSException:
            return []  # The authority will say so more exactly.
        return [record.value.decode() for record in answer if record.tag == b"issue"]
    return []


def obtain(directory_url, email, names):
    """
    Get or renew the certificate for ``names`` (list of text) from the authority at ``directory_url``, whose terms of
    today are accepted; ``email`` is the account's contact, may be empty. The files in acmetool's ``conf/target`` and
    ``desired`` are there already.

    Raises CommandExecutionError with the authority's own words if it refuses, or does not answer.
    """
    meta = directory_meta(directory_url)
    responses = {"acme-enter-email": email, f"acme-agreement:{meta.get('termsOfService', '')}": True}
    replace(STATE / "conf/responses", json.dumps(responses, indent=2).encode() + b"\n", 0o644)
    with challenges_handed_on():
        require_reached(names[0])
        try:
            _acmetool("reconcile")
        except CommandExecutionError as error:
            # Only now a new account is registered, whose URL may be what a CAA record lacks.
            account = _keep_account(meta)
            if lacking := _lacking_caa(names, meta.get("caaIdentities", []), account):
                raise CommandExecutionError(f"{error}; {lacking}") from error
            raise
    _keep_account(meta)


def _lacking_caa(names, issuers, account):
    """What is wrong with the CAA records of the ``names``, and what would be right; nothing where they allow it."""
    for name in names:
        found = _caa(name)
        if refusal := caa_refusal(found, issuers, account):
            issuer = issuers[0] if issuers else found[0].partition(";")[0]
            right = f"{issuer};accounturi={account}" if account else issuer
            return (
                f'the CAA record of {name} forbids it: {refusal}. Remove the record, or replace it by 0 issue "{right}"'
            )
    return ""


def _keep_account(meta):
    """
    Ask for the account's URL and keep it, with the names for CAA records in the authority's ``meta``; returns the URL,
    or None if there is none.
    """
    try:
        account = _acmetool("account-url").strip()
    except CommandExecutionError:
        return None
    kept = {"account_uri": account, "caa_issuers": meta.get("caaIdentities", [])}
    replace(ACCOUNT, json.dumps(kept).encode() + b"\n", 0o644)
    return account
