"""Certificates of the relay: reading them, and making the self-signed pair of relays without a public name."""

import datetime
import ipaddress
import os
import tempfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

VALID_DAYS = 36500


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


def problems(cert, key, names, days_left=0):
    """
    Return what is wrong (list of text, empty if all is well) with the pair of files ``cert`` and ``key`` (paths, PEM)
    for a server that is reached by ``names`` (list of text).

    Checked are: both files readable, the key is the certificate's, the names are covered, the time is valid and will
    be for ``days_left`` days.

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
