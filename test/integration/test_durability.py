"""What a message needs on its way and is down makes it wait. What is killed meanwhile is test_storm.py's."""

import pytest

from test.support import messages
from test.support.mailing import inbox, submit


@pytest.mark.parametrize("unit", ["opendkim", "filtermail"])
def test_what_is_down_defers_mail_and_lets_nothing_pass(one_host, alice, bob, unit):
    # With its socket, if it has one: else the first client starts it again.
    units = [f"{unit}.socket", unit] if unit == "filtermail" else [unit]
    one_host.run(["systemctl", "stop", *units])
    try:
        assert 400 <= submit(alice, bob.address, messages.encrypted(alice.address, bob.address))[0] < 500
        assert submit(alice, bob.address, messages.plain(alice.address, bob.address))[0] >= 400
    finally:
        one_host.run(["systemctl", "start", *units])
    assert inbox(bob, minimum=0) == []
