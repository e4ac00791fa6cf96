"""
Certificates of the relay: reading them, making the self-signed pair of relays without a public name, getting one from a
certificate authority by ACME (RFC 8555, Debian's acmetool), and asking the daemons which one they serve.
"""

import datetime
from pathlib import Path

from chatmail_errors import CommandExecutionError
from chatmail_files import replace
from chatmail_services import PORTS, PUBLIC

try:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    import chatmail_acme
    import chatmail_x509

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

MAILNAME = Path("/etc/mailname")
# Where the relay serves its certificate: port, daemon, protocol that comes before TLS.
SERVED = [
    (int(port.partition("/")[0]), PORTS[port][0], None if public.protocol == "tls" else public.protocol)
    for port, public in PUBLIC.items()
    if public.protocol in ("tls", "smtp", "imap")
]

__outputter__ = {"show": "chatmail"}


def __virtual__():
    if not HAS_CRYPTOGRAPHY:
        return False, "Debian's python3-cryptography is not installed"
    return "chatmail_cert"


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
    return chatmail_x509.problems(cert, key, names, days_left, chain)


def make_self_signed(cert, key, names):
    """
    Make a self-signed certificate for ``names`` (list of text) and write it to ``cert`` (path, mode 0644), its key to
    ``key`` (path, mode 0600). The key is written first: a kill in between leaves a pair that does not match, which
    :func:`problems` finds and the next apply replaces.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.make_self_signed /etc/ssl/certs/a.pem /etc/ssl/private/a.key '[_a.test]'
    """
    certificate, private = chatmail_x509.make(names, datetime.datetime.now(datetime.UTC))
    try:
        replace(key, chatmail_x509.pem(private), 0o600)
        replace(cert, certificate.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        raise CommandExecutionError(f"cannot write {error.filename}: {error.strerror}") from error


def acme_due(cert):
    """
    Whether ``cert`` (path, PEM) is to be renewed by acmetool's rule: a third of its time is left, or 30 days.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_due /var/lib/acme/live/chat.example.org/fullchain
    """
    return chatmail_x509.is_due(chatmail_x509.load(cert), datetime.datetime.now(datetime.UTC))


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
    return chatmail_acme.key_name(key_type, live)


def make_acme_key(key_type):
    """
    Make a private key, ``ecdsa`` (P-256) or ``rsa`` (2048 bits), in acmetool's store; returns acmetool's name of it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.make_acme_key ecdsa
    """
    return chatmail_acme.make_key(key_type)


def acme_account():
    """
    Return the URL of the relay's account at its certificate authority (RFC 8555 section 7.1.2), or None if it has none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.acme_account
    """
    return chatmail_acme.kept_account()["account_uri"]


def facts(cert):
    """
    Return what others see of the relay's certificate ``cert`` (path, PEM), in DNS records or when they connect:
    ``names`` that it covers, its ``sha256`` and ``public_key_sha256`` (hexadecimal, RFC 6698 section 2.1),
    ``days_left``, and of an account at a certificate
    authority the ``account_uri`` and ``caa_issuers``, the authority's names in CAA records (RFC 8659). Each none where
    not known.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.facts /etc/ssl/certs/mailserver.pem
    """
    try:
        certificate = chatmail_x509.load(cert)
    except (OSError, ValueError):
        known = {"names": [], "sha256": None, "public_key_sha256": None, "days_left": None}
    else:
        known = {
            "names": chatmail_x509.san(certificate),
            "sha256": certificate.fingerprint(SHA256()).hex(),
            "public_key_sha256": chatmail_x509.public_key_sha256(certificate),
            "days_left": chatmail_x509.days_left(certificate, datetime.datetime.now(datetime.UTC)),
        }
    return known | chatmail_acme.kept_account()


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
    chatmail_acme.obtain(directory_url, email, names)


def show():
    """
    Ask every daemon over the network which certificate it serves right now.

    Returns a mapping: ``certificates``, each with ``names``, ``issuer``, ``days_left`` and the ``places`` that serve it
    (``port``, ``daemon``), and ``not_served``, the places that do not answer, with the ``problem``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_cert.show
    """
    name = MAILNAME.read_text().strip().strip("[]")
    now = datetime.datetime.now(datetime.UTC)
    found, silent = {}, []
    for port, daemon, protocol in SERVED:
        place = {"port": port, "daemon": daemon}
        try:
            found.setdefault(chatmail_x509.served(port, protocol, name), []).append(place)
        except OSError as error:
            silent.append(place | {"problem": error.strerror or str(error)})
    certificates = [chatmail_x509.described(der, now) | {"places": places} for der, places in found.items()]
    return {"certificates": certificates, "not_served": silent}
