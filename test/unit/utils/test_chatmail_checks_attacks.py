"""Networks that hold too many places are named with the command that blocks them; guesses are counted."""

from _modules.chatmail_relay import CHECKS
from test.support.relays import judged, relay


def attacks(held=None, connections=None, memory=0, passwords=0):
    refused = {"connections": connections or {}, "memory": memory, "passwords": passwords}
    return {"held": held or {}, "refused": refused}


def test_a_network_at_its_limit_is_named_with_the_command_that_blocks_it():
    finding = judged("attacks", attacks({25: {"192.0.2.0/24": 50}}, {25: {"192.0.2.0/24": 312}}))
    assert finding.level == "warning"
    assert "192.0.2.0/24 holds 50 connections to port 25; its share is 50, and 312 more were refused" in finding.what
    assert "ip route add blackhole 192.0.2.0/24" in finding.do and "max_smtp_connections" in finding.do
    assert finding.data["held"] == 50 and finding.data["refused"] == 312


def test_many_networks_are_told_in_one_line():
    held = {25: {f"192.0.{number}.0/24": 50 for number in range(9)}}
    (check,) = (one for one in CHECKS if one.name == "attacks")
    found = check.judge(attacks(held), relay())[1]
    assert len(found) == 4 and found[3].what.startswith("6 more networks")


def test_guesses_and_messages_without_memory_are_counted():
    assert judged("attacks", attacks(passwords=5000)).data == {"passwords": 5000}
    assert judged("attacks", attacks(memory=3)).data == {"messages": 3}
    assert judged("attacks", attacks({993: {"192.0.2.0/24": 900}}, passwords=20)) is None
