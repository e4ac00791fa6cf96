"""An apply that is refused on a living relay leaves it as it is, to the last file and process."""

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay, new_user

# Every file that an apply could change, every mailbox, and the process of each service.
STATE = """
find /etc /usr/local -type f -not -path '*/__pycache__/*' -exec sha256sum {} + | sort | sha256sum
find /home/vmail -name '*@*' | sort
systemctl show --property=Id,MainPID doveauth lastlogin chatmail-metadata chatmail-newemail filtermail \
    filtermail-incoming chatmail-dane-policy dovecot nginx opendkim unbound
"""


def state(host: Host) -> str:
    return host.run(["sh", "-c", STATE], timeout=60).stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mail_domain": "_onne.test"}, ["mailbox", "of _one.test", "rename_from: _one.test"]),
        ({"delete_mails_after": 1_000_000}, ["delete_mails_after: found 1000000", "from 1 to 36500 days"]),
        ({"notification_url": "http://push.example.org"}, ["notification_url: found", "https://"]),
    ],
    ids=["mail-domain", "number", "url"],
)
def test_a_refused_apply_changes_nothing(lab: Lab, one_host: Host, change, words):
    new_user(Relay(one_host.name, str(one_host.ipv4)))
    before = state(one_host)
    lab.pillar(one_host.name, {"chatmail": {"mail_domain": one_host.name, **PERMISSIVE, **change}})
    try:
        with pytest.raises(SaltFailed) as failure:
            lab.salt_ssh(one_host.name, "state.apply", "chatmail")
    finally:
        lab.pillar(one_host.name, {"chatmail": {"mail_domain": one_host.name, **PERMISSIVE}})
    assert "was changed" in str(failure.value)
    for word in words:
        assert word in str(failure.value)
    assert state(one_host) == before
