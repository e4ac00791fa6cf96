"""A relay is reached by IPv6, and reaches others by it alone."""

from test.relay.delivery import Relay, new_user
from test.support import messages
from test.support.mailing import inbox, submit


def test_clients_log_in_and_send_by_ipv6(one_host):
    relay = Relay(one_host.name, str(one_host.ipv6))
    writer, reader = new_user(relay), new_user(relay)
    assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address)) is None
    assert len(inbox(reader)) == 1


def test_mail_goes_to_a_relay_that_has_no_ipv4_address(lab, two_host, alice, carol):
    lab.withdraw(f"{two_host.name}.", "A")
    try:
        assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
        assert len(inbox(carol)) == 1
    finally:
        lab.publish(f"{two_host.name}.", "A", [str(two_host.ipv4)])
