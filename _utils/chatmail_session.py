"""
A host's requests to the machine on which the salt-ssh runs that applies states to it.

That machine has what the host must not have, such as the key for updates of the zone. It holds one ssh session to the
host while it applies (``_wrapper``), and reads requests from there: one line of JSON each, answered by one line.
"""

import contextlib
import errno
import ipaddress
import json
import os
import select
import socket
import time
from pathlib import Path

from chatmail_errors import CommandExecutionError

DIRECTORY = Path("/run/chatmail-controller")


class NoController(CommandExecutionError):
    """No salt-ssh is connected that could do what is asked."""


def reached(host):
    """
    Return the public addresses by which this machine, the controller, reaches ``host`` (name or address for ssh).

    Returns a list of text, empty where there are none, or where ssh alone knows the name (ssh_config(5)).
    """
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, 22, type=socket.SOCK_STREAM)}
    except OSError:
        return []
    return sorted(address for address in found if ipaddress.ip_address(address).is_global)


def ask(request, seconds, directory=DIRECTORY):
    """
    Return the answer (mapping) of the machine on which salt-ssh runs to ``request`` (mapping).

    seconds
        How long to wait for it.
    directory
        Where the session has its pipes.

    Raises ``NoController`` where none listens, ``CommandExecutionError`` where it could not do it, or gives no answer
    in time.
    """
    with contextlib.ExitStack() as stack:
        try:
            # Opening a FIFO so fails where nobody reads it (fifo(7)): what an ended salt-ssh left is not a listener.
            requests = os.open(directory / "request", os.O_WRONLY | os.O_NONBLOCK)
            stack.callback(os.close, requests)
            answers = os.open(directory / "answer", os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, answers)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                raise NoController("no salt-ssh that could do it is connected") from None
            raise CommandExecutionError(f"cannot ask the machine on which salt-ssh runs: {error}") from error
        os.write(requests, json.dumps(request).encode() + b"\n")
        answer = json.loads(_line(answers, seconds))
    if "error" in answer:
        raise CommandExecutionError(answer["error"])
    return answer


def _line(descriptor, seconds):
    """Read one line (bytes) within ``seconds``."""
    end = time.monotonic() + seconds
    text = b""
    while not text.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0, end - time.monotonic()))
        if not readable:
            raise CommandExecutionError(f"the machine on which salt-ssh runs gave no answer in {seconds} s")
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            continue
        if not chunk:
            raise CommandExecutionError("the connection to the machine on which salt-ssh runs has ended")
        text += chunk
    return text
