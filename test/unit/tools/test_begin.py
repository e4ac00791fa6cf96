"""``./relay init``: what it writes, what it keeps, what it refuses; and the records that it prints."""

import argparse
import sys
from unittest import mock

import pytest
import yaml

from test.salt.minion import CHECKOUT
from tools import begin, relay
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
        (["chat.example.org", "--name=-x"], "--name: found -x, allowed are letters"),
        (["chat.example.org", "--name", "status"], "--name: found status, allowed are letters"),
        (["chat.example.org", "--name", "top"], "--name: found top, allowed are letters"),
        (["chat.example.org", "--host", "root@192.0.2.9"], "--host: found root@192.0.2.9, allowed is a name or"),
        (["chat.example.org", "--host=-oProxyCommand=x"], "--host: found -oProxyCommand=x, allowed is a name or"),
        (["chat.example.org", "--user", "me: too"], "--user: found me: too, allowed are letters"),
        (["chat.example.org", "--port", "99999"], "--port: found 99999, allowed is 1 to 65535"),
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


@pytest.mark.parametrize(
    ("top", "pillar", "said"),
    [
        (
            "base:\n    other:\n        - other\n",
            "",
            "top.sls is laid out in another way. Add to it, by hand:",
        ),
        ("base: {}\n", "", "top.sls is laid out in another way"),
        ("base:\n\tother:\n", "", "top.sls, line 2: it is indented by a tab"),
        ("", "chatmail:\n  max_mailbox_size: 1G\n", "relay.sls has no mail_domain. Add below `chatmail:`"),
    ],
)
def test_files_that_are_laid_out_in_another_way_stay_as_they_are(checkout, top, pillar, said):
    texts = {checkout / "pillar/top.sls": top, checkout / "pillar/relay.sls": pillar}
    (checkout / "pillar").mkdir()
    for path, text in texts.items():
        path.write_text(text)
    with pytest.raises(ApplyError) as refused:
        init(checkout)
    assert said in str(refused.value)
    assert {path: path.read_text() for path in texts} == texts
    assert not (checkout / "etc/roster").exists()


def test_a_name_that_yaml_takes_for_something_else_is_kept(checkout):
    for _ in range(2):
        begin.begin(begin._arguments(["two.example.org", "--contact", "", "--name", "123", "--user", "no"]), checkout)
    roster = yaml.safe_load((checkout / "etc/roster").read_text())
    assert list(roster) == ["123"]
    assert roster["123"]["user"] == "no"
    assert yaml.safe_load((checkout / "pillar/top.sls").read_text()) == {"base": {"123": ["123"]}}


def test_public_addresses_do_not_land_below_another_key(checkout, monkeypatch):
    monkeypatch.setattr(begin, "addresses", lambda name, checkout: ["10.0.0.2"])
    (checkout / "pillar").mkdir()
    pillar = checkout / "pillar/relay.sls"
    text = "chatmail:\n  mail_domain: chat.example.org\nother:\n  key: 1\n"
    pillar.write_text(text)
    with pytest.raises(ApplyError, match=r"by hand:\n  public_addresses: \[9.9.9.11\]"):
        init(checkout, "--host", "9.9.9.11")
    assert pillar.read_text() == text


def test_addresses_are_found_among_what_the_hosts_shell_prints():
    assert begin.listed("Welcome!\n9.9.9.10\n\x1b[0m 2620:fe::10\n") == ["9.9.9.10", "2620:fe::10"]


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


def test_the_end_of_input_ends_it_without_a_stack_trace(checkout, monkeypatch):
    monkeypatch.setattr(sys, "stdin", mock.Mock(isatty=lambda: True))
    monkeypatch.setattr(begin, "CHECKOUT", checkout)
    monkeypatch.setattr("builtins.input", mock.Mock(side_effect=EOFError))
    assert relay.main(["init", "chat.example.org"]) == 130
    assert not (checkout / "etc").exists()
