"""
HTTP challenges of a certificate authority (RFC 8555 section 8.3), which come to port 80 of this host.

While an order is open acmetool answers them itself: on port 80 where it is free, else on 127.0.0.1:402, to where the
relay's nginx hands them on. An nginx that runs with a configuration from before does not.
"""

import contextlib
import http.client
import http.server
import secrets
import socket
import threading

import chatmail_ports
import chatmail_session
from chatmail_checks_network import addresses_of
from chatmail_errors import CommandExecutionError
from chatmail_services import run

PATH = "/.well-known/acme-challenge/"
# Where acmetool answers beside a web server.
HANDED_ON_TO = ("127.0.0.1", 402)
PATIENCE_S = 5
PORT = "80/tcp"
# More than a port that gives no answer takes.
ANSWER_S = 30


def are_handed_on(port=80, to=HANDED_ON_TO):
    """
    Whether the web server on ``port`` of this host hands challenges on to the address ``to``.
    """
    token = secrets.token_urlsafe(16)

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_):
            pass

    try:
        server = http.server.HTTPServer(to, Answer)
    except OSError:
        # A renewal is at work there.
        return True
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            client.request("GET", f"{PATH}{token}")
            return client.getresponse().read(1000).decode(errors="replace") == f"{PATH}{token}"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()
            server.shutdown()


def require_reached(name):
    """
    Have the machine on which salt-ssh runs connect to port 80 of each address of ``name``, as the authority will.

    Raises ``CommandExecutionError`` where it is closed at all of them. Where no salt-ssh is connected, nothing is
    known.
    """
    facts = {"name": name, "addresses": addresses_of(name), "ports": [PORT], "certificate": None}
    with contextlib.ExitStack() as stack:
        for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
            # Until acmetool is there, nobody may listen: a closed port would be no firewall's fault.
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server((host, 80), family=family))
        try:
            seen = chatmail_session.ask({"service": "look", "facts": facts}, ANSWER_S)["seen"]
        except CommandExecutionError:
            return
    closed = [one["address"] for one in seen if one["state"] == "closed"]
    if closed and not any(one["state"] == "open" for one in seen):
        raise CommandExecutionError(
            f"port 80 of {' and '.join(closed)}, to where the DNS leads {name}, is closed from outside "
            f"({seen[0]['why']}), so the authority was not asked: let TCP 80 in, in the firewall of your provider and "
            "on the host (nft list ruleset)"
        )


@contextlib.contextmanager
def challenges_handed_on():
    """
    Have challenges reach acmetool in this context: where nginx runs and does not hand them on yet, it is stopped, and
    started again as it was.

    Raises ``CommandExecutionError`` where something else holds port 80.
    """
    in_the_way = bool(chatmail_ports.listeners([PORT])) and not are_handed_on()
    nginx_ran = in_the_way and run(["systemctl", "is-active", "nginx"]).returncode == 0
    try:
        if in_the_way:
            run(["systemctl", "stop", "nginx"])
            # An nginx that systemd did not start, or another program.
            for one in chatmail_ports.conflicts(chatmail_ports.listeners([PORT]), {PORT: ["acmetool"]}):
                raise CommandExecutionError(f"{chatmail_ports.sentence(one)}; {one['remedy']}")
        yield
    finally:
        if nginx_ran:
            run(["systemctl", "start", "nginx"])
