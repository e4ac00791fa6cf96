"""Answers Postfix's queue manager in the place of chatmail-transport, while that crashes at each start.

The queue manager waits for each answer, with all mail, that to mailboxes included. Without somebody who answers, each
message to another relay would hold it up for minutes. From here it hears that mail goes by SMTP, which needs none of
ours.
"""

import asyncio
import socket
import sys

from . import service, socketmap

ROUTES = "127.0.0.1", 8464  # chatmail-transport.socket, which is closed meanwhile
SECONDS = 300  # until the daemon is tried again
TRY_AGAIN = 75  # exit status, EX_TEMPFAIL of sysexits(3)


async def route(recipient: str) -> str:
    """The transport for an address, as `transport.Routes` says it."""
    return "OK smtp:" if "@" in recipient else socketmap.NOT_FOUND


async def run(listener: socket.socket, seconds: float) -> bool:
    """Answer until SIGTERM or SIGINT, for `seconds` at most; whether those are over."""
    stop = service.stop_signal()
    serving = asyncio.create_task(socketmap.serve({"route": route}, listener, stop))
    service.notify("READY=1")
    stopped, _ = await asyncio.wait([serving], timeout=seconds)
    stop.set()
    await serving
    return not stopped


def main() -> None:
    """Run the service; exit status `TRY_AGAIN` when chatmail-transport is to be started again."""
    service.parser("Say that mail to other relays goes by SMTP, while chatmail-transport fails.").parse_args()
    service.log_to_journal()
    # Not systemd's: its sockets belong to the service that fails.
    if asyncio.run(run(socket.create_server(ROUTES), SECONDS)):
        sys.exit(TRY_AGAIN)


if __name__ == "__main__":
    main()
