"""``disable_mail``: everything is installed, Postfix and Dovecot rest until it is false again, and no mail is lost."""

import socket

import pytest

from test.integration.conftest import PERMISSIVE, peculiar
from test.integration.test_apply import changed
from test.lab import Host, Lab
from test.relay.delivery import new_user
from test.support import messages
from test.support.mailing import inbox, submit

ON_BOTH_RELEASES = True
PORTS = [25, 143, 465, 587, 993]


def apply(lab: Lab, host: Host, **more) -> dict:
    """Apply with further settings; returns what changed."""
    lab.pillar(host.name, {"chatmail": {"mail_domain": host.name, **PERMISSIVE, **more}})
    return changed(lab.salt_ssh(host.name, "state.apply", "chatmail"))


@pytest.fixture
def resting(lab, two, two_host):
    """An address on the second relay, whose daemons have been stopped since."""
    user = new_user(two)
    apply(lab, two_host, disable_mail=True)
    yield user
    apply(lab, two_host)


def asked(host: Host, question: str) -> dict[str, str]:
    """What systemd answers of each unit."""
    units = list(dict.fromkeys(["postfix", peculiar(host)["postfix_unit"], "dovecot"]))
    return dict(zip(units, host.run(["systemctl", question, *units], check=False).stdout.split(), strict=True))


def listening(host: Host) -> list[int]:
    found = []
    for port in PORTS:
        with socket.socket() as client:
            if client.connect_ex((str(host.ipv4), port)) == 0:
                found.append(port)
    return found


def test_mail_rests_until_the_setting_is_false_again(lab, alice, one_host, two_host, resting):
    assert set(asked(two_host, "is-active").values()) == {"inactive"}
    assert set(asked(two_host, "is-enabled").values()) == {"masked"}
    assert listening(two_host) == []
    assert two_host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""
    assert apply(lab, two_host, disable_mail=True) == {}
    # The other relay keeps it.
    assert submit(alice, resting.address, messages.encrypted(alice.address, resting.address)) is None

    two_host.run(["rm", "/var/www/chatmail/index.html"])
    states = lab.salt_ssh(two_host.name, "state.apply", "chatmail.website")
    assert set(changed(states)) == {"website-built"}
    assert set(asked(two_host, "is-active").values()) == {"inactive"}

    assert apply(lab, two_host)
    enabled = asked(two_host, "is-enabled")
    assert enabled["postfix"] == enabled["dovecot"] == "enabled"
    assert listening(two_host) == PORTS
    one_host.run(["postqueue", "-f"])
    assert len(inbox(resting)) == 1
    assert apply(lab, two_host) == {}
