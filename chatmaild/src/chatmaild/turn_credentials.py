"""Gives out credentials for the TURN server: whoever connects to the socket gets one line, ``USER:PASSWORD``.

The user name is the time at which the credential ends, the password its HMAC under a secret that only coturn and this
service know (draft-uberti-behave-turn-rest-00, section 2.2), so nothing is stored anywhere.
"""

import asyncio
import base64
import hmac
import socket
import time
from pathlib import Path

from . import service
from .connections import ACCEPT_AT_ONCE, BACKLOG, stop_accepting

LIFETIME = 5 * 86400  # seconds; clients fetch new credentials when less than half a day is left
SECRET_MIN = 16  # bytes


def credentials(secret: bytes, now: float) -> tuple[str, str]:
    """The user name and password that coturn's ``use-auth-secret`` takes from `now` on, for five days.

    :param secret: coturn's ``static-auth-secret``.
    :param now: Unix seconds.
    """
    user = str(int(now) + LIFETIME)
    digest = hmac.digest(secret, user.encode(), "sha1")
    return user, base64.b64encode(digest).decode()


def read_secret(path: Path) -> bytes:
    """The secret in a file, without white space around it.

    :raises StartError: the file cannot be read, or what it holds is too short to be one.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise service.StartError(f"cannot read {path}: {error.strerror}") from error
    if len(secret) < SECRET_MIN:
        raise service.StartError(f"{path} has no secret of at least {SECRET_MIN} bytes")
    return secret


async def serve(secret: bytes, listener: socket.socket) -> None:
    """Answer all who connect to `listener`, until SIGTERM or SIGINT; nothing that they send is read."""

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # So short a line fits into the socket's buffer, whether the client reads it or not.
        writer.write("{}:{}\n".format(*credentials(secret, time.time())).encode())
        writer.close()

    # Not start_unix_server: from Python 3.13 on it removes the socket at its end, which is systemd's.
    server = await asyncio.start_server(answer, sock=listener, backlog=ACCEPT_AT_ONCE)
    listener.listen(BACKLOG)
    await service.until_stopped()
    await stop_accepting(listener)
    server.close()


def main() -> None:
    """Run the service ``turn-credentials SECRET``; see `service.run`."""
    parser = service.parser("Give out TURN credentials on the socket that systemd passes.")
    parser.add_argument("secret", type=Path, help="file with coturn's static-auth-secret")
    arguments = parser.parse_args()
    service.run(lambda listener: serve(read_secret(arguments.secret), listener))


if __name__ == "__main__":
    main()
