"""The relay's DKIM key (RFC 6376): made on the host, never leaving it, and the record that publishes it."""

import base64
import os
import tempfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

KEY = "/etc/dkimkeys/opendkim.private"
KEY_TABLE = "/etc/dkimkeys/KeyTable"
# RFC 8301 section 3.2: at least 2048; a longer key does not fit into one UDP answer.
KEY_BITS = 2048


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
    directory = Path(key).parent
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".key-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        # link(2) refuses where rename(2) would replace.
        os.link(temporary, key)
    except FileExistsError as error:
        raise CommandExecutionError(f"{key} exists; it is not replaced") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def record(key_table=KEY_TABLE):
    """
    Return the TXT record that publishes the key with which the relay signs, as ``{"name": ..., "type": "TXT",
    "value": ...}``; ``value`` is one text, to be cut into strings of at most 255 characters for a zone file (RFC 6376
    section 3.6.2.2). Name and key are those of OpenDKIM's ``key_table`` (path, opendkim.conf(5)).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dkim.record
    """
    try:
        name, definition = Path(key_table).read_text().split(maxsplit=1)
        _, _, key = definition.strip().split(":", 2)
    except (OSError, ValueError) as error:
        raise CommandExecutionError(
            f"{key_table} names no key: {error}. Apply chatmail.opendkim; a relay whose mail domain is an IPv4 address "
            "has no key."
        ) from error
    public = (
        _load(key)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return {
        "name": f"{name}.",
        "type": "TXT",
        "value": f"v=DKIM1;k=rsa;p={base64.b64encode(public).decode()};s=email;t=s",
    }
