"""Tells Postfix whether a password is right, as doveauth says: a server for Dovecot's authentication protocol.

Postfix 3.7 takes each FAIL for a wrong password (535), also where Dovecot says that it is a temporary one, and clients
tell people then that their password is wrong. To a connection that ends without an answer it says 454. So Postfix asks
here, not Dovecot; where doveauth gives no answer, or refuses to give one now, neither does this.

https://doc.dovecot.org/2.3/developer_manual/design/auth_protocol/; the mechanism PLAIN is RFC 4616.
"""

import asyncio
import base64
import json
import logging
import os
import re
import secrets
import socket
from pathlib import Path

from . import connections, service
from .dovecot.dict_server import LINE_MAX, escape
from .mailboxes import password_hash

ANSWER_S = 7  # for doveauth's answer; Postfix waits 10 seconds for ours
FAILURE_S = 2  # until a client is told that its password is wrong, as Dovecot's auth_failure_delay
REQUEST_MAX = 16384  # octets; Postfix takes no longer response from its clients

# Dovecot's auth_username_chars, as dovecot.conf has them.
_USER = re.compile(r"[A-Za-z0-9._@\[\]-]{1,320}")
_ESCAPED = re.compile(r"[\"'\\]")  # in a field of doveauth's key

logger = logging.getLogger(__name__)


class NoAnswer(Exception):
    """It cannot be said now whether a password is right."""


def parse_plain(response: str) -> tuple[str, str] | None:
    """Read the response of PLAIN, ``[AUTHZID] NUL AUTHCID NUL PASSWORD`` in base64.

    :returns: the address in lower case, as Dovecot has it, and the password, whose octets that are not UTF-8 are lone
        surrogates (PEP 383). None where it has another form, or where one user wants to act as another.
    """
    try:
        message = base64.b64decode(response, validate=True)
    except ValueError:
        return None
    match message.decode(errors="surrogateescape").split("\0"):
        case [authorization, user, password] if authorization in ("", user) and _USER.fullmatch(user):
            return user.lower(), password
    return None


class Doveauth:
    """The service that knows the addresses, asked by Dovecot's dict protocol."""

    def __init__(self, path: Path) -> None:
        """:param path: its socket."""
        self._path = path

    async def is_right(self, address: str, password: str, client: str) -> bool:
        """Whether `password` is that of `address`, or becomes that by creating it.

        :param client: the IP address that logs in.
        :raises NoAnswer: the service is not there, does not answer in time, or not now.
        """
        fields = (_ESCAPED.sub(r"\\\g<0>", field) for field in (password, address))
        key = "shared/passdb/" + '"'.join([*fields, client])
        request = f"H3\t2\t0\t\tauth\nL{escape(key)}\n".encode(errors="surrogateescape")
        try:
            async with asyncio.timeout(ANSWER_S):
                # A service that ends may have taken the connection and not the question.
                answer = await self._ask(request) or await self._ask(request)
        except OSError as error:
            raise NoAnswer(f"no answer from {self._path}: {str(error) or 'none in time'}") from error
        if answer[:1] == b"N":
            return False
        if answer[:1] != b"O":
            raise NoAnswer(f"doveauth says: {answer[1:].decode(errors='replace').strip()}")
        stored = json.loads(answer[1:])["password"]
        return await asyncio.to_thread(password_hash.matches, password.encode(errors="surrogateescape"), stored)

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_MAX)
        try:
            writer.write(request)
            return await reader.readline()
        except ConnectionError:
            return b""
        finally:
            writer.close()


class SaslServer:
    """Answers Postfix, each of whose processes has one connection, and one request in it at a time."""

    def __init__(self, doveauth: Doveauth) -> None:
        self._doveauth = doveauth

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until Postfix goes, or until there is one that cannot be answered now."""
        try:
            writer.write(
                f"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t{os.getpid()}\nCUID\t1\n"
                f"COOKIE\t{secrets.token_hex(16)}\nDONE\n".encode()
            )
            clients: dict[str, str] = {}  # of the request that waits for its response
            while line := await reader.readline():
                writer.write((await self._answer(line.decode(errors="replace").rstrip("\n"), clients)).encode())
                await writer.drain()
        except NoAnswer as error:
            logger.info("a login has to wait: %s", error)
        except ConnectionError as error:
            logger.info("a client is gone: %s", error)
        except Exception as error:  # whatever it was, it does not make the password a wrong one
            logger.error("cannot say whether a password is right", exc_info=error)
        finally:
            writer.close()

    async def _answer(self, line: str, clients: dict[str, str]) -> str:
        match line.split("\t"):
            case ["AUTH", number, "PLAIN", *parameters] if number.isdecimal():
                given = dict(parameter.partition("=")[::2] for parameter in parameters)
                if "resp" in given:
                    return await self._judge(number, given["resp"], given.get("rip", ""))
                clients.clear()
                clients[number] = given.get("rip", "")
                return f"CONT\t{number}\t\n"
            case ["CONT", number, response] if number in clients:
                return await self._judge(number, response, clients.pop(number))
            case ["AUTH" | "CONT", number, *_] if number.isdecimal():
                return f"FAIL\t{number}\n"
        return ""  # VERSION, CPID

    async def _judge(self, number: str, response: str, client: str) -> str:
        login = parse_plain(response)
        if login and await self._doveauth.is_right(*login, client):
            return f"OK\t{number}\tuser={login[0]}\n"
        await asyncio.sleep(FAILURE_S)
        return f"FAIL\t{number}\n"


async def serve(doveauth: Doveauth, listener: socket.socket) -> None:
    """Answer all who connect to `listener`, until SIGTERM or SIGINT; what has been asked until then is answered."""
    await connections.serve(SaslServer(doveauth).serve_connection, listener, request_max=REQUEST_MAX)


def main() -> None:
    """Run the service ``sasl DOVEAUTH``; see `service.run`."""
    parser = service.parser("Tell Postfix, on the socket that systemd passes, whether a password is right.")
    parser.add_argument("doveauth", type=Path, help="doveauth's socket")
    arguments = parser.parse_args()
    service.run(lambda listener: serve(Doveauth(arguments.doveauth), listener))


if __name__ == "__main__":
    main()
