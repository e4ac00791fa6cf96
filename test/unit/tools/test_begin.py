"""``./relay init``: what it writes, what it keeps, what it refuses; and the records that it prints."""

import argparse

import pytest
import yaml

from test.salt.minion import CHECKOUT
from tools import begin
from tools.errors import ApplyError

OWN = ["192.168.1.2", "9.9.9.10", "2620:fe::10"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(begin, "addresses", lambda name, checkout: OWN)
    return tmp_path


def init(checkout, *words: str) -> argparse.Namespace:
    begin.begin(begin._arguments(["chat.example.org", "--contact", "me@example.org", *words]), checkout)


def written(checkout) -> dict:
    files = ("etc/roster", "pillar/relay.sls", "pillar/top.sls")
    return {name: yaml.safe_load((checkout / name).read_text()) for name in files}


def test_roster_pillar_and_top_file_are_written(checkout):
    init(checkout, "--host", "192.0.2.7")
    example = yaml.safe_load((CHECKOUT / "etc/roster.example").read_text())["relay"]
    assert written(checkout) == {
        "etc/roster": {"relay": example | {"host": "192.0.2.7"}},
        "pillar/relay.sls": {"chatmail": {"mail_domain": "chat.example.org", "contact": "me@example.org"}},
        "pillar/top.sls": {"base": {"relay": ["relay"]}},
    }


def test_another_user_than_root_has_sudo(checkout):
    init(checkout, "--user", "debian", "--port", "2222")
    entry = written(checkout)["etc/roster"]["relay"]
    assert (entry["host"], entry["user"], entry["sudo"], entry["port"]) == ("chat.example.org", "debian", True, 2222)


def test_the_records_are_printed_with_the_hosts_public_addresses(checkout, capsys):
    init(checkout)
    printed = capsys.readouterr().out
    for record in ("IN A     9.9.9.10", "IN AAAA  2620:fe::10", "IN MX    10 chat.example.org.", "v=spf1", "_mta-sts"):
        assert record in printed
    assert "192.168" not in printed
    assert printed.splitlines()[-1] == "Then: ./relay apply"


def test_called_again_it_keeps_what_is_there_also_where_it_was_edited(checkout):
    init(checkout, "--host", "192.0.2.7")
    pillar = checkout / "pillar/relay.sls"
    pillar.write_text(pillar.read_text() + "  max_mailbox_size: 1G\n")
    before = written(checkout)
    init(checkout)
    assert written(checkout) == before


def test_a_second_relay_is_added_to_what_is_there(checkout):
    init(checkout)
    (checkout / "etc/roster").write_text("# mine\n" + (checkout / "etc/roster").read_text())
    begin.begin(begin._arguments(["two.example.org", "--contact", "", "--name", "two"]), checkout)
    assert list(written(checkout)["etc/roster"]) == ["relay", "two"]
    assert written(checkout)["pillar/top.sls"]["base"] == {"relay": ["relay"], "two": ["two"]}
    assert (checkout / "etc/roster").read_text().startswith("# mine\n")
    assert yaml.safe_load((checkout / "pillar/two.sls").read_text()) == {"chatmail": {"mail_domain": "two.example.org"}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chat example.org"], "mail_domain: found 'chat example.org' (text), allowed is a host name"),
        (["chat.example.org", "--contact", "nobody"], "contact: found 'nobody' (text), allowed is one e-mail address"),
        (["chat.example.org", "--name", "../x"], "--name: found ../x, allowed are letters"),
        (["other.example.org"], "relay.sls is of chat.example.org. --name NAME"),
        (["chat.example.org", "--host", "192.0.2.9"], "has relay already, at chat.example.org"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(checkout, words, said):
    init(checkout)
    before = written(checkout)
    with pytest.raises(ApplyError) as refused:
        begin.begin(begin._arguments(words), checkout)
    assert said in str(refused.value)
    assert written(checkout) == before


def test_a_top_file_that_is_not_simple_is_not_touched(checkout):
    (checkout / "pillar").mkdir()
    (checkout / "pillar/top.sls").write_text("base: {}\ndev: {}\n")
    with pytest.raises(ApplyError, match="Add to that, by hand:\n  relay:\n    - relay"):
        init(checkout)
    assert not (checkout / "etc/roster").exists()


def test_behind_address_translation_the_address_by_which_it_is_reached_is_a_setting(checkout, monkeypatch, capsys):
    monkeypatch.setattr(begin, "addresses", lambda name, checkout: ["10.0.0.2"])
    init(checkout, "--host", "9.9.9.11")
    assert written(checkout)["pillar/relay.sls"]["chatmail"]["public_addresses"] == ["9.9.9.11"]
    printed = capsys.readouterr().out
    assert "The host has 10.0.0.2 behind address translation, and is reached at 9.9.9.11" in printed
    assert "IN A     9.9.9.11" in printed
    init(checkout)
    assert written(checkout)["pillar/relay.sls"]["chatmail"]["public_addresses"] == ["9.9.9.11"]


def test_a_relay_at_an_address_needs_no_records(checkout, capsys):
    begin.begin(begin._arguments(["192.0.2.7", "--contact", ""]), checkout)
    assert "IN MX" not in capsys.readouterr().out
