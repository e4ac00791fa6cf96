"""
Certificates and keys (RFC 5280): making a self-signed pair, finding what is wrong with a pair, seeing which is served.
"""

import base64
import datetime
import hashlib
import imaplib
import ipaddress
import smtplib
import socket
import ssl
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 36500


def _general_name(name):
    """``DNSName`` or ``IPAddress`` (RFC 5280 section 4.2.1.6) of ``name``, a host name or an IPv4 address."""
    try:
        return x509.IPAddress(ipaddress.IPv4Address(name))
    except ValueError:
        return x509.DNSName(name)


def make(names, now):
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


def san(certificate):
    """Return the names and addresses (list of text) for which ``certificate`` is valid."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def validity(certificate):
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
    """Return what is wrong with a pair of files; see ``chatmail_cert.problems``."""
    for path in (cert, key):
        if not Path(path).is_file():
            return [f"{path} is missing"]
    try:
        certificate = load(cert)
    except ValueError as error:
        return [f"{cert} is not a PEM certificate: {error}"]
    try:
        private = serialization.load_pem_private_key(Path(key).read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        return [f"{key} is not a PEM private key without passphrase: {error}"]
    found = []
    if certificate.public_key().public_numbers() != private.public_key().public_numbers():
        found.append(f"the key in {key} does not belong to the certificate in {cert}")
    uncovered = sorted(set(names) - set(san(certificate)))
    if uncovered:
        found.append(f"{cert} does not name {', '.join(uncovered)}")
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = validity(certificate)
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


def key_type(key):
    """Return ``rsa`` or ``ecdsa``, as acmetool and the setting ``acme_key_type`` call the kinds of keys."""
    return "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa"


def key_id(key):
    """acmetool's name of a key: SHA-256 of its SubjectPublicKeyInfo in lower-case base32 (its SCHEMA.md, "keys")."""
    return base64.b32encode(hashlib.sha256(_public(key.public_key())).digest()).decode().rstrip("=").lower()


def pem(private):
    """Return a private key as PEM, PKCS #8 (RFC 5958) without passphrase."""
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load(path):
    """Return the first certificate in the file ``path`` (PEM). Raises ``OSError`` and ``ValueError``."""
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def public_key_sha256(certificate):
    """Return the SHA-256 of the certificate's SubjectPublicKeyInfo, hexadecimal (RFC 6698 section 2.1.2)."""
    return hashlib.sha256(_public(certificate.public_key())).hexdigest()


def _public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def is_due(certificate, now):
    """Whether ``certificate`` is to be renewed by acmetool's rule: a third of its time is left, or 30 days."""
    begins, ends = validity(certificate)
    margin = min((ends - begins) / 3, datetime.timedelta(days=30))
    return ends - margin < now


def days_left(certificate, now):
    """Return the whole days from ``now`` until ``certificate`` ends, negative when it has."""
    return (validity(certificate)[1] - now).days


def described(der, now):
    """Return what people ask of a certificate (DER): ``names``, ``issuer`` and ``days_left`` from ``now`` on."""
    certificate = x509.load_der_x509_certificate(der)
    issuer = certificate.issuer.rfc4514_string() if certificate.issuer != certificate.subject else "itself"
    return {"names": sorted(san(certificate)), "issuer": issuer, "days_left": days_left(certificate, now)}


def served(port, protocol, name, timeout=10, address="localhost"):
    """
    Return the certificate (DER) that is served on ``port`` of ``address``, or raise ``OSError``.

    protocol
        What comes before TLS: ``smtp``, ``imap``, or None.
    name
        Name of the server that is asked for; only nginx chooses by it.
    timeout
        Seconds for each step.
    """
    # Whatever is served is to be seen, so no authorities are loaded: that takes 60 ms.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        if protocol == "smtp":
            with smtplib.SMTP(address, port, "localhost", timeout) as smtp:
                smtp.starttls(context=context)
                return smtp.sock.getpeercert(binary_form=True)
        if protocol == "imap":
            with imaplib.IMAP4(address, port, timeout) as imap:
                imap.starttls(context)
                return imap.sock.getpeercert(binary_form=True)
    except (smtplib.SMTPException, imaplib.IMAP4.error) as error:
        raise OSError(f"no STARTTLS: {error}") from error
    with (
        socket.create_connection((address, port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True)
