"""``chatmail_socket.listening`` changes what is outdated, and names what systemd refuses."""

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_socket

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


class Sockets:
    """Stands in for the execution module."""

    def __init__(self):
        self.outdated = {}
        self.refused = {}

    def listen(self, services):
        self.outdated = {service: why for service, why in self.refused.items() if service in services}
        if self.refused:
            raise CommandExecutionError("`systemctl start b.socket` failed: Job failed.")


@pytest.fixture
def sockets():
    return Sockets()


@pytest.fixture
def configure_loader_modules(testmode, sockets):
    return {
        chatmail_socket: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_socket.outdated": lambda services: {
                    service: why for service, why in sockets.outdated.items() if service in services
                },
                "chatmail_socket.listen": sockets.listen,
            },
        }
    }


def test_sockets_that_are_right_stay():
    ret = chatmail_socket.listening("sockets", ["a", "b"])
    assert (ret["result"], ret["changes"]) == (True, {})


def test_what_is_outdated_is_made_again(testmode, sockets):
    sockets.outdated = {"b": "inactive"}
    ret = chatmail_socket.listening("sockets", ["a", "b"])
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == {"b.socket": {"old": "inactive", "new": "listening"}}
    assert sockets.outdated == ({"b": "inactive"} if testmode else {})


def test_a_socket_that_systemd_refuses_is_named(testmode, sockets):
    sockets.outdated = {"a": "inactive", "b": "inactive"}
    sockets.refused = {"b": "failed"}
    ret = chatmail_socket.listening("sockets", ["a", "b"])
    if testmode:
        assert ret["result"] is None
    else:
        assert ret["result"] is False
        assert ret["changes"] == {"a.socket": {"old": "inactive", "new": "listening"}}
        assert "Job failed" in ret["comment"]
        assert "b.socket is failed; see `journalctl -u b.socket`" in ret["comment"]
