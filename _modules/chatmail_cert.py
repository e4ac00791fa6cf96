"""
Certificates of the relay: reading them, making the self-signed pair of relays without a public name, getting one from a
certificate authority by ACME (RFC 8555, Debian's acmetool), and asking the daemons which one they serve.
"""

import base64
import datetime
import hashlib
import imaplib
import ipaddress
import json
import os
import smtplib
import socket
import ssl
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from salt.exceptions import CommandExecutionError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

VALID_DAYS = 36500

ACME_STATE = Path("/var/lib/acme")
# Where an order leaves the account's URL, so that nobody needs the network to know it.
ACME_ACCOUNT = Path("/etc/chatmail/acme-account")

# Where the relay serves its certificate: port, daemon, protocol that comes before TLS.
SERVED = (
    (25, "postfix", "smtp"),
    (465, "postfix", None),
    (587, "postfix", "smtp"),
    (143, "dovecot", "imap"),
    (993, "dovecot", None),
    (443, "nginx", None),
)

__outputter__ = {"show": "chatmail"}


def __virtual__():
    if not HAS_CRYPTOGRAPHY:
        return False, "Debian's python3-cryptography is not installed"
    return "chatmail_cert"


def _general_name(name):
    """``DNSName`` or ``IPAddress`` (RFC 5280 section 4.2.1.6) of ``name``, a host name or an IPv4 address."""
    try:
        return x509.IPAddress(ipaddress.IPv4Address(name))
    except ValueError:
        return x509.DNSName(name)


def _make(names, now):
    """
    Return (certificate, key) for ``names`` (list of text, the first one is the subject), valid from ``now`` (UTC).

    EC P-256; basic constraints and extended key usage as RFC 5280 sections 4.2.1.9 and 4.2.1.12 want them for a server.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day back, for peers whose clock is behind.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _replace(path, data, mode):
    """Write ``data`` (bytes) to ``path`` so that readers see the old file or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _san(certificate):
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def _validity(certificate):
    """Return the first and the last moment (aware, UTC) at which ``certificate`` is valid."""
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except AttributeError:  # cryptography before 42, Debian 12's is 38
        utc = datetime.UTC
        return certificate.not_valid_before.replace(tzinfo=utc), certificate.not_valid_after.replace(tzinfo=utc)


def _chain_problem(cert):
    """Why no chain leads from the first certificate in ``cert`` (path) to a root that the host trusts, or nothing."""
    verify = ["openssl", "verify", "-no_check_time", "-untrusted", str(cert), str(cert)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 0:
        return ""
    reasons = [line for line in done.stderr.splitlines() if line.startswith("error ")]
    return reasons[0].partition(": ")[2] if reasons else done.stderr.strip()


def problems(cert, key, names, days_left=0, chain=False):
    """
    Return what is wrong (list of text, empty if all is well) with the pair of files ``cert`` and ``key`` (paths, PEM)
    for a server that is reached by ``names`` (list of text).

    Checked are: both files readable, the key is the certificate's, the names are covered, the time is valid and will
    be for ``days_left`` days. With ``chain`` also that the chain is complete up to a root that the host trusts; a
    self-signed certificate is its own root.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.problems /etc/ssl/certs/mailserver.pem /etc/ssl/private/mailserver.key '[_a.test]'
    """
    for path in (cert, key):
        if not Path(path).is_file():
            return [f"{path} is missing"]
    try:
        certificate = x509.load_pem_x509_certificate(Path(cert).read_bytes())
    except ValueError as error:
        return [f"{cert} is no PEM certificate: {error}"]
    try:
        private = serialization.load_pem_private_key(Path(key).read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        return [f"{key} is no PEM private key without passphrase: {error}"]
    found = []
    if certificate.public_key().public_numbers() != private.public_key().public_numbers():
        found.append(f"the key in {key} does not belong to the certificate in {cert}")
    uncovered = sorted(set(names) - set(_san(certificate)))
    if uncovered:
        found.append(f"{cert} does not name {', '.join(uncovered)}")
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = _validity(certificate)
    if begins > now:
        found.append(f"{cert} is valid only from {begins:%Y-%m-%d %H:%M} UTC on")
    if ends < now + datetime.timedelta(days=days_left):
        found.append(f"{cert} ends at {ends:%Y-%m-%d %H:%M} UTC")
    if chain and certificate.issuer != certificate.subject and (reason := _chain_problem(cert)):
        found.append(
            f"{cert} has no complete chain to an authority that this host trusts ({reason}): it must hold the "
            "certificate first, then all intermediate ones"
        )
    return found


def make_self_signed(cert, key, names):
    """
    Make a self-signed certificate for ``names`` (list of text) and write it to ``cert`` (path, mode 0644), its key to
    ``key`` (path, mode 0600). The key is written first: a kill in between leaves a pair that does not match, which
    :func:`problems` finds and the next apply mends.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.make_self_signed /etc/ssl/certs/a.pem /etc/ssl/private/a.key '[_a.test]'
    """
    certificate, private = _make(names, datetime.datetime.now(datetime.UTC))
    try:
        _replace(
            key,
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o600,
        )
        _replace(cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CommandExecutionError(f"cannot write {error.filename}: {error.strerror}") from error


def acme_due(cert):
    """
    Whether ``cert`` (path, PEM) is to be renewed by acmetool's rule: a third of its time is left, or 30 days.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_due /var/lib/acme/live/chat.example.org/fullchain
    """
    begins, ends = _validity(x509.load_pem_x509_certificate(Path(cert).read_bytes()))
    margin = min((ends - begins) / 3, datetime.timedelta(days=30))
    return ends - margin < datetime.datetime.now(datetime.UTC)


def _key_type(key):
    return "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa"


def _key_id(key):
    """acmetool's name of a key: SHA-256 of its SubjectPublicKeyInfo in lower-case base32 (its SCHEMA.md, "keys")."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b32encode(hashlib.sha256(public).digest()).decode().rstrip("=").lower()


def acme_key_id(key_type, live=None):
    """
    Find the key that all certificates of the relay are for, so that renewals keep it and TLSA records (RFC 6698) stay
    true.

    key_type
        ``ecdsa`` or ``rsa``.
    live
        Path of the key in use; where it is of that type it is the one, else the oldest in acmetool's store is.

    Returns acmetool's name of the key, or nothing if there is none yet.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_key_id ecdsa
    """
    stored = sorted(ACME_STATE.glob("keys/*/privkey"), key=lambda path: path.stat().st_mtime)
    for path in [*([Path(live)] if live else []), *stored]:
        if path.is_file():
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
            if _key_type(key) == key_type:
                return _key_id(key)
    return ""


def make_acme_key(key_type):
    """
    Make a private key, ``ecdsa`` (P-256) or ``rsa`` (2048 bits), in acmetool's store; returns acmetool's name of it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.make_acme_key ecdsa
    """
    key = rsa.generate_private_key(65537, 2048) if key_type == "rsa" else ec.generate_private_key(ec.SECP256R1())
    name = _key_id(key)
    path = ACME_STATE / "keys" / name / "privkey"
    # acmetool wants the store's directory closed.
    (ACME_STATE / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ),
        0o600,
    )
    return name


def acme_account():
    """
    Return the URL of the relay's account at its certificate authority (RFC 8555 section 7.1.2), or None if it has none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_account
    """
    return _kept_account()["account_uri"]


def _kept_account():
    """What :func:`_keep_account` has kept."""
    try:
        kept = json.loads(ACME_ACCOUNT.read_text())
    except (OSError, ValueError):
        kept = {}
    return {"account_uri": kept.get("account_uri"), "caa_issuers": kept.get("caa_issuers", [])}


def facts(cert):
    """
    Return what DNS records tell of the relay's certificate ``cert`` (path, PEM): ``names`` that it covers,
    ``public_key_sha256`` (hexadecimal, RFC 6698 section 2.1), and of an account at a certificate authority the
    ``account_uri`` and ``caa_issuers``, the authority's names in CAA records (RFC 8659). Each none where not known.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.facts /etc/ssl/certs/mailserver.pem
    """
    try:
        certificate = x509.load_pem_x509_certificate(Path(cert).read_bytes())
    except (OSError, ValueError):
        return {"names": [], "public_key_sha256": None, **_kept_account()}
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"names": _san(certificate), "public_key_sha256": hashlib.sha256(key).hexdigest(), **_kept_account()}


def acme_meta(directory_url):
    """
    Ask the authority for the metadata of its directory (RFC 8555 section 7.1.1), such as ``termsOfService``.

    Raises CommandExecutionError if the authority cannot be reached or does not answer as one.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_meta https://acme-v02.api.letsencrypt.org/directory
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
    argv = ["acmetool", "--batch", *args]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        raise CommandExecutionError(f"`{' '.join(argv)}` has not ended within 300 s") from error
    if done.returncode:
        raise CommandExecutionError(_reason(done.stderr))
    return done.stdout


def _reason(log):
    """What matters in acmetool's log: its last message, without the challenges that nobody offered."""
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

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.caa_refusal '[ca.example]' '[ca.example]' https://ca.example/acct/1
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


def acme_obtain(directory_url, email, names):
    """
    Get or renew the certificate for ``names`` (list of text) from the authority at ``directory_url``, whose terms of
    today are accepted; ``email`` is the account's contact, may be empty. The files in acmetool's ``conf/target`` and
    ``desired`` are there already.

    Raises CommandExecutionError with the authority's own words if it refuses, or does not answer.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_obtain https://ca.example/directory me@example.org '[chat.example.org]'
    """
    meta = acme_meta(directory_url)
    responses = {"acme-enter-email": email, f"acme-agreement:{meta.get('termsOfService', '')}": True}
    _replace(ACME_STATE / "conf/responses", json.dumps(responses, indent=2).encode() + b"\n", 0o644)
    try:
        _acmetool("reconcile")
    except CommandExecutionError as error:
        # Only now a new account is registered, whose URL may be what a CAA record lacks.
        account, issuers = _keep_account(meta), meta.get("caaIdentities", [])
        for name in names:
            found = _caa(name)
            if refusal := caa_refusal(found, issuers, account):
                issuer = issuers[0] if issuers else found[0].partition(";")[0]
                right = f"{issuer};accounturi={account}" if account else issuer
                raise CommandExecutionError(
                    f"{error}; the CAA record of {name} forbids it: {refusal}. "
                    f'Remove the record, or replace it by 0 issue "{right}"'
                ) from error
        raise
    _keep_account(meta)


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
    _replace(ACME_ACCOUNT, json.dumps(kept).encode() + b"\n", 0o644)
    return account


def _served(port, protocol, name, timeout=10):
    """
    The certificate (DER) that is served on ``port``. Only nginx chooses by the name asked for. Raises OSError.
    """
    context = ssl.create_default_context()
    # Whatever is served is to be seen.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        if protocol == "smtp":
            with smtplib.SMTP("localhost", port, "localhost", timeout) as smtp:
                smtp.starttls(context=context)
                return smtp.sock.getpeercert(binary_form=True)
        if protocol == "imap":
            with imaplib.IMAP4("localhost", port, timeout) as imap:
                imap.starttls(context)
                return imap.sock.getpeercert(binary_form=True)
    except (smtplib.SMTPException, imaplib.IMAP4.error) as error:
        raise OSError(f"no STARTTLS: {error}") from error
    with (
        socket.create_connection(("localhost", port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True)


def _describe(der, now):
    """One line about a certificate (DER): names, issuer, days left."""
    certificate = x509.load_der_x509_certificate(der)
    issuer = certificate.issuer.rfc4514_string() if certificate.issuer != certificate.subject else "itself"
    days = (_validity(certificate)[1] - now).days
    return f"{', '.join(sorted(_san(certificate)))}; issued by {issuer}; {days} days left"


def show():
    """
    Ask every daemon over the network which certificate it serves right now.

    Returns a mapping of each certificate (its names, issuer and days left) to the ports and daemons that serve it; what
    does not answer stands below ``not served``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.show
    """
    name = Path("/etc/mailname").read_text().strip().strip("[]")
    now = datetime.datetime.now(datetime.UTC)
    shown = {}
    for port, daemon, protocol in SERVED:
        try:
            line, place = _describe(_served(port, protocol, name), now), f"{port} {daemon}"
        except OSError as error:
            line, place = "not served", f"{port} {daemon}: {error.strerror or error}"
        shown.setdefault(line, []).append(place)
    return shown
