"""The secret that coturn and the credential service share: made on the host, never leaving it."""

import secrets
from pathlib import Path

from salt.exceptions import CommandExecutionError

from chatmail_files import create

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
    try:
        create(secret, f"{secrets.token_hex(SECRET_BYTES)}\n".encode())
    except FileExistsError as error:
        raise CommandExecutionError(f"{secret} exists; it is not replaced") from error
