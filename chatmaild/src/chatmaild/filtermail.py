"""The filter between Postfix's listeners and its queue: only end-to-end encrypted mail passes.

Two roles, a process each: `outgoing` takes what the relay's own users submit, `incoming` what other servers send. Each
takes a message over SMTP, decides, and hands it back to Postfix on another port. A message is answered with success
only after Postfix has taken it. The incoming role also takes messages over HTTP, from relays that cannot reach port 25.

One process serves a role: it hands on some 700 messages a second, where Postfix on two cores takes half of that.
So the rate limit needs no memory shared between processes.
"""

import asyncio
import gc
import logging
import socket

from . import service
from .config import read_config_or_exit
from .filter.outgoing import OutgoingFilter
from .filter.rules import IncomingSettings, OutgoingSettings, Settings
from .smtp import client as smtp_client
from .smtp.server import Server

# For how long large messages wait for memory, in seconds. Delta Chat gives up an answer that takes more than a minute.
# Mail servers have ten for the one to a message (RFC 5321 section 4.5.3.2.6). Postfix and nginx give the filter five
# (smtpd_proxy_timeout, proxy_read_timeout) for this and for what comes then (smtp_client.TOTAL_SECONDS).
OUTGOING_PATIENCE = 40
INCOMING_PATIENCE = 200

ROLES = {"outgoing": OutgoingSettings, "incoming": IncomingSettings}

logger = logging.getLogger(__name__)


async def run(config: Settings, role: str, smtp_listener: socket.socket, *http_listeners: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT.

    :param role: `outgoing`, which has one socket, or `incoming`, which has another for HTTP.
    :raises StartError: postfix_host has no address.
    """
    stop = service.stop_signal()
    if role == "outgoing":
        filtering = OutgoingFilter(config, _destination(config, config.postfix_reinject_port))
        smtp_server = Server(filtering, config.max_message_size, OUTGOING_PATIENCE)
        serving = [smtp_server.serve(smtp_listener, stop)]
    else:
        # What verifies signatures, and HTTP: the other role does without.
        from .filter.incoming import HttpDelivery, IncomingFilter
        from .http import server as http_server

        filtering = IncomingFilter(config, _destination(config, config.postfix_reinject_port_incoming))
        smtp_server = Server(filtering, config.max_message_size, INCOMING_PATIENCE)
        serving = [smtp_server.serve(smtp_listener, stop)]
        for listener in http_listeners:
            # Memory for large messages is the process's, whichever way they come.
            http = http_server.Server(HttpDelivery(config, filtering), config.max_message_size, smtp_server.budget)
            serving.append(http.serve(listener, stop))
    logger.info("entering serving loop")
    service.notify("READY=1")
    await asyncio.gather(*serving)


def _destination(config: Settings, port: int) -> smtp_client.Destination:
    """Postfix's listener at `port`; its name is resolved once."""
    try:
        found = socket.getaddrinfo(config.postfix_host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise service.StartError(
            f"postfix_host is {config.postfix_host!r}, which has no address: {error.strerror};"
            " allowed is an IP address or a host name that resolves"
        ) from error
    return smtp_client.Destination(found[0][4][0], port, smtp_client.address_literal(config.filtermail_host))


def main() -> None:
    """Run the service; see `service.run`."""
    parser = service.parser("Let only end-to-end encrypted mail pass between Postfix and its queue.", config=True)
    parser.add_argument(
        "role",
        choices=list(ROLES),
        help="outgoing: mail that users submit; incoming: mail from other servers",
    )
    arguments = parser.parse_args()
    # aiosmtpd logs what clients send, addresses included.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    # Its connections are reference cycles; collected early, they do not pile up to megabytes.
    gc.set_threshold(200, 5, 5)
    config = read_config_or_exit(arguments.config, ROLES[arguments.role])
    service.run(
        lambda *listeners: run(config, arguments.role, *listeners), sockets=1 if arguments.role == "outgoing" else 2
    )


if __name__ == "__main__":
    main()
