"""What connections and the journal tell of an attack."""

import pytest

import chatmail_attacks

SETTINGS = {"max_smtp_connections": 1000, "max_imap_connections": 10000}

# As iproute2 6.1 prints them.
SS = """\
ESTAB 0      0      198.18.0.11:25      192.0.2.7:36558
ESTAB 0      0      198.18.0.11:25      192.0.2.8:36560
CLOSE-WAIT 1 0      198.18.0.11:25      198.51.100.8:36560
ESTAB 0      0      [2001:db8::11]:465     [2001:db8:7:1::5]:52612
ESTAB 0      0      [2001:db8::11]:465     [2001:db8:7:2::5]:52612
ESTAB 0      0      [::ffff:198.18.0.11]:993     [::ffff:192.0.2.7]:52612
ESTAB 0      0      127.0.0.1:25        127.0.0.1:52612
ESTAB 0      0      198.18.0.11:22      192.0.2.7:52612
"""
JOURNAL = """\
warning: Connection concurrency limit exceeded: 51 from unknown[192.0.2.7] for service smtp
warning: Connection concurrency limit exceeded: 52 from unknown[192.0.2.9] for service smtp
warning: Connection concurrency limit exceeded: 201 from unknown[2001:db8:7::1] for service smtps
Refused: 17 connections of 192.0.2.0/24 to port 25
Refused: a message of 192.0.2.0/24 found no memory
passwords not looked at: 120 (120 too many for one address)
disconnect from unknown[192.0.2.7] ehlo=1 quit=1 commands=2
"""


def facts(held=None, connections=None):
    return {"held": held or {}, "refused": {"connections": connections or {}, "memory": 0, "passwords": 0}}


def test_connections_are_counted_by_port_and_network():
    found = chatmail_attacks.held(SS.splitlines(), chatmail_attacks.places(SETTINGS))
    assert found == {
        25: {"192.0.2.0/24": 2, "198.51.100.0/24": 1},
        465: {"2001:db8:7::/48": 2},
        993: {"192.0.2.0/24": 1},
    }


def test_refusals_are_counted_whoever_logged_them():
    assert chatmail_attacks.refused(JOURNAL.splitlines()) == {
        "connections": {25: {"192.0.2.0/24": 19}, 465: {"2001:db8:7::/48": 1}},
        "memory": 1,
        "passwords": 120,
    }


def test_a_network_within_its_share_is_not_told():
    assert chatmail_attacks.crowded(facts({25: {"192.0.2.0/24": 39}, 993: {"192.0.2.0/24": 1500}}), SETTINGS) == []


@pytest.mark.parametrize("port, number", [(25, 40), (465, 160), (993, 1600), (443, 1760)])
def test_a_network_that_holds_most_of_what_it_may_is_told(port, number):
    (one,) = chatmail_attacks.crowded(facts({port: {"192.0.2.0/24": number}}), SETTINGS)
    assert (one["network"], one["port"], one["held"]) == ("192.0.2.0/24", port, number)


def test_who_was_refused_most_comes_first():
    found = chatmail_attacks.crowded(
        facts({25: {"192.0.2.0/24": 50}}, {25: {"192.0.2.0/24": 3}, 465: {"198.51.100.0/24": 30}}), SETTINGS
    )
    assert [one["network"] for one in found] == ["198.51.100.0/24", "192.0.2.0/24"]
    assert chatmail_attacks.sentence(found[1]) == (
        "192.0.2.0/24 holds 50 connections to port 25; its share is 50, and 3 more were refused in 10 minutes"
    )


@pytest.mark.parametrize("network, command", [("192.0.2.0/24", "ip route add"), ("2001:db8::/48", "ip -6 route add")])
def test_the_command_blocks_the_network(network, command):
    assert chatmail_attacks.block(network) == f"{command} blackhole {network}; ss -K dst {network}"
