"""The secret that coturn and the credential service share: made on the host, never leaving it."""

import os
import secrets
import tempfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

PATH = "/etc/chatmail/turn-secret"
# RFC 2104 section 3: at least as long as the hash, SHA-1's 20 bytes.
SECRET_BYTES = 32


def __virtual__():
    return "chatmail_turn"


def problem(secret=PATH):
    """
    Return why the file ``secret`` (path) cannot be used, or ``""`` if it can.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_turn.problem
    """
    try:
        content = Path(secret).read_bytes()
    except OSError as error:
        return f"cannot read {secret}: {error.strerror}"
    if len(content.strip()) < SECRET_BYTES or len(content.split()) != 1:
        return f"{secret} is not one word of at least {SECRET_BYTES} characters"
    return ""


def make_secret(secret=PATH):
    """
    Make a random secret and write it to ``secret`` (path, mode 0600), with its directory. An existing file is not
    replaced. Raises ``CommandExecutionError`` if there is one.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_turn.make_secret
    """
    directory = Path(secret).parent
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".secret-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # link(2) refuses where rename(2) would replace.
        os.link(temporary, secret)
    except FileExistsError as error:
        raise CommandExecutionError(f"{secret} exists; it is not replaced") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
