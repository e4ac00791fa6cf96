"""Does a mail server take mail by SMTP? The dialogue is Postfix's (RFC 5321, RFC 3207), up to the message."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

from ..smtp.client import Reply, read_reply
from ..smtp.replies import one_line
from .connecting import said as why
from .mail_servers import Server

PORT = 25
CONNECT_S = 5  # seconds for one address, as with the transport "either" (master.cf)
ANSWER_S = 15  # seconds for one answer
LINE_MAX = 4096  # octets


@dataclass(frozen=True)
class Trial:
    """How far it went: to ``connect``, ``greeting``, ``tls``, ``certificate``, ``recipient``, or all of it (``""``).

    ``said`` is the answer, or what is wrong; ``address`` the one that was reached.
    """

    failed: str
    said: str
    address: str = ""
    tls: str = ""


@dataclass(frozen=True)
class Caller:
    """As whom to talk: the name of this host, for EHLO, and an address of it, for MAIL FROM."""

    name: str
    sender: str


class _Failed(Exception):
    """A step of the dialogue went wrong: the step, and what was said."""


async def trial(server: Server, context: ssl.SSLContext, caller: Caller, recipient: str, port: int) -> Trial:
    """Talk to the first of the server's addresses that answers.

    :param context: what is demanded of its TLS.
    """
    said = "it has no address to which mail may go"
    for address in map(str, server.addresses):
        try:
            async with asyncio.timeout(CONNECT_S):
                streams = await asyncio.open_connection(address, port, limit=LINE_MAX)
        except TimeoutError:
            said = f"{address} does not answer"
        except OSError as error:
            said = f"{address}: {why(error)}"
        else:
            dialogue = _Dialogue(*streams)
            try:
                reply, tls = await dialogue.lead(server, context, caller, recipient)
            except _Failed as failure:
                return Trial(*failure.args, address)
            finally:
                dialogue.close()
            return Trial("", reply, address, tls)
    return Trial("connect", said)


class _Dialogue:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def close(self) -> None:
        self._writer.transport.abort()

    async def lead(self, server: Server, context: ssl.SSLContext, caller: Caller, recipient: str) -> tuple[str, str]:
        """What is said to the recipient, and the version of TLS."""
        await self._step("greeting", "", 220)
        extensions = await self._step("greeting", f"EHLO {caller.name}", 250)
        if "STARTTLS" not in extensions.text.upper().split():
            raise _Failed("tls", "it does not offer STARTTLS")
        await self._step("tls", "STARTTLS", 220)
        try:
            await self._writer.start_tls(context, server_hostname=server.name, ssl_handshake_timeout=ANSWER_S)
        except ssl.SSLCertVerificationError as error:
            raise _Failed("certificate", error.verify_message) from error
        except OSError as error:
            raise _Failed("tls", one_line(why(error) or "it ends the connection")) from error
        await self._step("greeting", f"EHLO {caller.name}", 250)
        await self._step("recipient", f"MAIL FROM:<{caller.sender}>", 250)
        reply = await self._step("recipient", f"RCPT TO:<{recipient}>", 250)
        with contextlib.suppress(_Failed):
            await self._step("", "QUIT", 221)
        return f"250 {one_line(reply.text)}", self._writer.get_extra_info("ssl_object").version()

    async def _step(self, step: str, command: str, code: int) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_S):
                if command:
                    self._writer.write(f"{command}\r\n".encode())
                reply = await read_reply(self._reader)
        except TimeoutError as error:
            raise _Failed(step, f"no answer within {ANSWER_S} s to {command or 'the connection'}") from error
        except OSError as error:
            raise _Failed(step, f"it ends the connection after {command or 'it was made'}") from error
        if reply.code != code:
            raise _Failed(step, one_line(f"{reply.code} {reply.text}"))
        return reply
