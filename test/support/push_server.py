"""An HTTPS push server of the tests' own, on loopback, with a certificate made for it."""

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for `host`, a name or an IP address, and its key; returns both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "push server of the tests")])
    try:
        subject = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / "push.pem", directory / "push.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


class PushServer:
    """Collects the bodies posted to ``/notify``; answers each with what `status_of` says, None for never."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.certificate, self._key = make_certificate(directory, host)
        self.host, self.port = host, 0
        self.bodies: list[bytes] = []
        self.connections: set[int] = set()
        self.delay = 0.0  # seconds before each answer
        self.status_of: Callable[[bytes], int | None] = lambda body: 200
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}/notify"

    def __enter__(self) -> "PushServer":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def wait_for(self, count: int) -> list[bytes]:
        """Wait until `count` requests have come; return the bodies of all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.bodies) >= count, 20), f"{len(self.bodies)} of {count} came"
            return list(self.bodies)

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_post("/notify", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.certificate, self._key)
        site = web.TCPSite(self._runner, self.host, 0, ssl_context=tls, backlog=1000)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        with self._changed:
            self.bodies.append(body)
            self.connections.add(id(request.transport))
            self._changed.notify_all()
        status = self.status_of(body)
        await asyncio.sleep(3600 if status is None else self.delay)
        headers = {"Location": self.url} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=headers)
