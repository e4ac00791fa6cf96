"""TLS connections to mail servers, on the port of HTTPS."""

import asyncio
import os
import socket
import ssl

from .. import ip_address
from ..http.client import HEAD_MAX, Connection
from .mail_servers import NotNow, Server

PORT = 443
CONNECT_S = 5  # seconds for one address
TLS_S = 10  # seconds
UNACKNOWLEDGED_MS = 15_000  # for which what was sent may be on its way: a kept connection may lead to nobody any more


class Connector:
    """Makes connections, as strict about certificates as Postfix is (main.cf: verify, and >=TLSv1.2)."""

    def __init__(self, port: int = PORT) -> None:
        self._port = port
        self._verifying = _context()
        self._trusting = _context()
        self._trusting.check_hostname = False
        self._trusting.verify_mode = ssl.CERT_NONE

    async def connect(self, server: Server) -> Connection:
        """Connect to the first of the server's addresses that answers.

        :raises NotNow: none does, or the certificate is no good.
        """
        reason = f"{server.name} has no address to which mail may go"
        for address in server.addresses:
            where = f"{server.name}[{address}]:{self._port}"
            try:
                return await self._connect(server, address)
            except TimeoutError:
                reason = f"{where} does not answer"
            except ssl.SSLCertVerificationError as error:
                reason = f"the certificate of {where} is not verified: {error.verify_message}"
            except (OSError, ssl.CertificateError) as error:
                reason = f"{where}: {said(error)}"
        raise NotNow(reason)

    def context(self, server: Server) -> ssl.SSLContext:
        """What is demanded of the server's TLS."""
        return self._verifying if server.verified else self._trusting

    async def _connect(self, server: Server, address: ip_address.Address) -> Connection:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            tcp.setblocking(False)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(tcp, (str(address), self._port))
            self._check_peer(tcp)
            reader, writer = await asyncio.open_connection(
                sock=tcp,
                ssl=self.context(server),
                server_hostname=server.name,
                ssl_handshake_timeout=TLS_S,
                limit=HEAD_MAX,
            )
        except BaseException:
            tcp.close()
            raise
        return Connection(reader, writer)

    def _check_peer(self, tcp: socket.socket) -> None:
        """Refuse this host: Linux gives a connection to one of its own addresses that address at both ends."""
        if tcp.getsockname()[0] == tcp.getpeername()[0]:
            raise ConnectionRefusedError("it is an address of this host")


def said(error: OSError) -> str:
    """What the system says of an error: asyncio's own text is that a call has failed."""
    if error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # nginx hands on by this name where IMAP and SMTP have the same port.
    context.set_alpn_protocols(["http/1.1"])
    return context
