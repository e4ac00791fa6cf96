"""Makes up an address and a password for a client that asks at ``/new``; nginx hands the requests on.

Nothing is stored: the address comes into being at its first login.

Apps do not ask a web server whose certificate is self-signed. There the web page has an address in it, another one for
each visitor: nginx asks at ``/account-link`` for the link, and the browser at ``/account-qr?LINK`` for its QR code.
"""

import io
import json
import logging
import re
import secrets
import socket
import string
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, quote

from . import invites, service
from .config import read_config_or_exit
from .http import server as http_server
from .http.server import Request, Response

NAME_CHARACTERS = string.ascii_lowercase + string.digits
PASSWORD_CHARACTERS = string.ascii_letters + string.digits + string.punctuation
PASSWORD_EXTRA = 3  # characters beyond the shortest password
BODY_MAX = 4096  # octets; clients send none
NO_STORE = ("Cache-Control", "no-store")

logger = logging.getLogger(__name__)


def _random(characters: str, length: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(length))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this service reads."""

    mail_domain: str
    mail_domain_bare: str  # a literal without its brackets
    username_max_length: int
    password_min_length: int
    invite_only: bool
    tls_mode: str
    ipv4_relay: str | None = None  # its address, where the relay has no name


def new_credentials(config: Settings, token: str = "") -> dict[str, str]:
    """A new address and its password; where the certificate is self-signed also a link that tells clients to take it.

    :param token: an invite, with which the password is to begin.
    """
    email = f"{_random(NAME_CHARACTERS, config.username_max_length)}@{config.mail_domain}"
    password = token + _random(PASSWORD_CHARACTERS, _password_length(config))
    credentials = {"email": email, "password": password}
    if config.tls_mode == "self":
        credentials["dclogin_url"] = dclogin_url(config, email, password)
    return credentials


def dclogin_url(config: Settings, email: str, password: str) -> str:
    """The login as a link for Delta Chat: ``ih`` and ``sh`` are the servers, ``ic=3`` accepts any certificate."""
    servers = f"&ih={config.ipv4_relay}&sh={config.ipv4_relay}" if config.ipv4_relay else ""
    return f"dclogin:{quote(email, safe='@[]')}?p={quote(password, safe='')}&v=1{servers}&ic=3"


def _password_length(config: Settings) -> int:
    return config.password_min_length + PASSWORD_EXTRA


def link_pattern(config: Settings) -> re.Pattern:
    """What the links of this relay look like: what a code costs grows with the length of its text."""
    length = _password_length(config) + (invites.TOKEN_LENGTH if config.invite_only else 0)
    form = re.escape(dclogin_url(config, f"LOCAL-PART@{config.mail_domain}", "PASSWORD"))
    name = f"[{NAME_CHARACTERS}]{{{config.username_max_length}}}"
    password = rf"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{{2}}){{{length}}}"
    return re.compile(form.replace(re.escape("LOCAL-PART"), name).replace("PASSWORD", password))


def qr_code(link: str) -> str:
    """The QR code of a link as SVG; error correction H (ISO/IEC 18004) leaves room for a mark in its middle."""
    import segno  # only where the certificate is self-signed: it takes 2 MB

    image = io.BytesIO()
    segno.make(link, error="h", micro=False).save(image, kind="svg", scale=8, border=4, dark="#000", light="#fff")
    return image.getvalue().decode()


def _refusal(status: HTTPStatus, reason: str, *headers: tuple[str, str]) -> Response:
    """What goes wrong, in the form that Delta Chat shows to its user."""
    return Response(status, json.dumps({"reason": reason}), (("Content-Type", "application/json"), NO_STORE, *headers))


async def answer(config: Settings, request: Request) -> Response:
    """What ``/new`` answers: JSON to POST, and to GET where apps cannot open it; and the two for web pages, above."""
    path, _, query = request.target.partition("?")
    if request.method not in ("GET", "POST"):
        return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", ("Allow", "GET, POST"))
    if path == "/account-qr" and config.tls_mode == "self":
        # The link is a query as it is: browsers quote in one nothing that is in a link.
        if not link_pattern(config).fullmatch(query):
            return _refusal(HTTPStatus.NOT_FOUND, "This is not a link of the web page's.")
        return Response(HTTPStatus.OK, qr_code(query), (("Content-Type", "image/svg+xml"), NO_STORE))
    if request.method == "GET" and config.tls_mode != "self":
        # The browser's button: the app opens, and posts.
        location = f"dcaccount:https://{config.mail_domain_bare}/new" + (f"?{query}" if query else "")
        return Response(HTTPStatus.MOVED_PERMANENTLY, "", (("Location", location), NO_STORE))
    token = ""
    if config.invite_only:
        token = "".join(parse_qs(query).get("invite", [])[:1])
        if not re.fullmatch(invites.TOKEN, token):
            return _refusal(HTTPStatus.FORBIDDEN, "This relay wants an invite; ask who runs it.")
    credentials = new_credentials(config, token)
    if path == "/account-link" and config.tls_mode == "self":
        return Response(HTTPStatus.OK, credentials["dclogin_url"], (("Content-Type", "text/plain"), NO_STORE))
    return Response(HTTPStatus.OK, json.dumps(credentials), (("Content-Type", "application/json"), NO_STORE))


async def run(config: Settings, listener: socket.socket) -> None:
    """Serve on the unix socket `listener` until SIGTERM or SIGINT."""
    server = http_server.Server(lambda request: answer(config, request), BODY_MAX)
    stop = service.stop_signal()
    service.notify("READY=1")
    await server.serve(listener, stop)


def main() -> None:
    """Run the service; see `service.run`."""
    parser = service.parser("Make up addresses for clients that ask at /new.", config=True)
    config = read_config_or_exit(parser.parse_args().config, Settings)
    service.run(lambda listener: run(config, listener))


if __name__ == "__main__":
    main()
