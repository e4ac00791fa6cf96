"""Whether a web server hands an authority's challenges on to acmetool is asked of the server itself."""

import http.server
import socket
import subprocess
import threading
import urllib.request
from contextlib import contextmanager

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_challenges


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def web_server(hands_on_to: int | None):
    """A web server; where it hands on to a port, with what comes from there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            if hands_on_to:
                with urllib.request.urlopen(f"http://127.0.0.1:{hands_on_to}{self.path}") as answer:
                    self.wfile.write(answer.read())
            else:
                self.wfile.write(b"Welcome to nginx!")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("hands_on", [True, False])
def test_a_web_server_hands_challenges_on_or_not(hands_on):
    target = free_port()
    with web_server(target if hands_on else None) as port:
        assert chatmail_challenges.are_handed_on(port, ("127.0.0.1", target)) is hands_on


@pytest.fixture
def systemd(monkeypatch):
    """A host whose port 80 nginx holds until it is stopped; returns the commands that were run."""
    commands = []
    host = {"listeners": [{"port": "80/tcp", "process": "nginx", "pid": 7, "unit": "nginx.service"}]}

    def run(argv):
        commands.append(" ".join(argv))
        if argv[1] == "stop" and host["listeners"][0]["unit"] == "nginx.service":
            host["listeners"] = []
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(chatmail_challenges, "run", run)
    monkeypatch.setattr(chatmail_challenges.chatmail_ports, "listeners", lambda ports: host["listeners"])
    monkeypatch.setattr(chatmail_challenges, "are_handed_on", lambda: False)
    return host, commands


def test_an_nginx_that_does_not_hand_on_is_stopped_for_the_order_alone(systemd):
    _, commands = systemd
    with pytest.raises(ZeroDivisionError), chatmail_challenges.challenges_handed_on():
        assert commands[-1] == "systemctl stop nginx"
        raise ZeroDivisionError
    assert commands[-1] == "systemctl start nginx"


def test_an_nginx_that_hands_on_is_left_alone(systemd, monkeypatch):
    monkeypatch.setattr(chatmail_challenges, "are_handed_on", lambda: True)
    with chatmail_challenges.challenges_handed_on():
        pass
    assert systemd[1] == []


def test_who_holds_the_port_without_systemd_is_named(systemd):
    host, _ = systemd
    host["listeners"][0]["unit"] = "session-3.scope"
    with (
        pytest.raises(CommandExecutionError, match=r"taken by nginx \(process 7, session-3.scope\); see what it is"),
        chatmail_challenges.challenges_handed_on(),
    ):
        pass
