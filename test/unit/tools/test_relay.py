"""``./relay``: from any directory, one word for each thing to do, and what was typed wrong is said in a line."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

from test.salt.minion import CHECKOUT
from tools import fleet, relay
from tools.errors import ApplyError

TWO = "relay:\n  host: 192.0.2.1\nother:\n  host: 192.0.2.2\n"


@pytest.fixture(autouse=True)
def called(tmp_path, monkeypatch) -> list[list[str]]:
    """A checkout with one relay; what would become salt-ssh is noted in place of it."""
    found: list[list[str]] = []
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/roster").write_text("relay:\n  host: 192.0.2.1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execv", lambda _, argv: found.append(argv[2:]))
    return found


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("status", "relay chatmail_relay.status"),
        ("status probe=False", "relay chatmail_relay.status probe=False"),
        ("accounts", "relay chatmail_account.list"),
        ("accounts order=last_login", "relay chatmail_account.list order=last_login"),
        ("accounts ban alice1234@chat.example.org", "relay chatmail_account.ban alice1234@chat.example.org"),
        ("reach example.org", "relay chatmail_relay.reach example.org"),
        ("queue retry example.org", "relay chatmail_queue.retry example.org"),
        ("dns zone", "relay chatmail_dns.zone"),
        ("preview", "relay state.apply chatmail test=True"),
        ("salt grains.get chatmail", "relay grains.get chatmail"),
        ("relay status", "relay chatmail_relay.status"),
        ("* dns", "* chatmail_dns.check"),
    ],
)
def test_a_word_stands_for_a_function_on_the_relay(words, call, called):
    relay.main(words.split())
    assert called == [call.split()]


def test_the_status_of_all_is_a_table(called, monkeypatch):
    monkeypatch.setattr(fleet, "main", lambda words: {"*": 2}[words[0]])
    assert relay.main(["*", "status"]) == 2
    assert called == []


def test_of_several_relays_one_must_be_named(called, capsys):
    Path("etc/roster").write_text(TWO)
    assert relay.main(["status"]) == 1
    assert "etc/roster has several relays: relay, other. Say which: ./relay relay COMMAND" in capsys.readouterr().err
    relay.main(["other", "status"])
    assert called == [["other", "chatmail_relay.status"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("stauts", "There is no command stauts"),
        ("accounts bann x@y", "There is no bann here; there is: list, info, ban,"),
        ("salt", "Which function?"),
    ],
)
def test_what_is_no_command_is_said_in_a_line_with_exit_code_2(words, said, called, capsys):
    assert relay.main(words.split()) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert called == []


def test_a_roster_that_is_no_yaml_is_named_with_its_line(capsys):
    Path("etc/roster").write_text("relay:\n\thost: x\n")
    assert relay.main(["status"]) == 1
    assert "etc/roster, line 2: " in capsys.readouterr().err


def test_without_a_roster_the_beginning_is_named(capsys):
    Path("etc/roster").unlink()
    assert relay.main(["status"]) == 1
    assert "./relay init chat.example.org" in capsys.readouterr().err
    assert relay.main([]) == 0
    assert "./relay init chat.example.org" in capsys.readouterr().out


def test_all_commands_are_told_each_on_a_line(capsys):
    assert relay.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 110 for line in lines)
    assert {line.split()[0] for line in lines if line.startswith("  ")} == relay.COMMANDS.keys()
    assert "etc/roster has: relay" in lines


def test_the_functions_are_those_of_the_modules():
    for command in relay.COMMANDS.values():
        if command.module:
            tree = ast.parse((CHECKOUT / f"_modules/{command.module}.py").read_text())
            there = {node.name.rstrip("_") for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert set(command.functions) <= there


# --- The script itself ---


@pytest.fixture
def script(tmp_path) -> Path:
    """``./relay`` in a checkout whose Python and ``make`` say what they are called with."""
    (tmp_path / "relay").write_text((CHECKOUT / "relay").read_text())
    (tmp_path / "requirements.txt").write_text("salt==1\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(
        '#!/bin/sh\necho "make $@"; mkdir -p .venv/bin; cp requirements.txt .venv/installed\n'
        "printf '#!/bin/sh\\necho \"python $@ in $(pwd)\"\\n' > .venv/bin/python; chmod +x .venv/bin/python\n"
    )
    for name in ("relay", "bin/make"):
        (tmp_path / name).chmod(0o755)
    return tmp_path / "relay"


def run(script: Path) -> tuple[list[str], list[str]]:
    """What the script prints, and what it says beside that, when it is called from elsewhere."""
    path = f"{script.parent}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        [script, "status"], cwd="/", env={"PATH": path}, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_it_works_from_any_directory_and_makes_its_environment_once(script):
    answer = [f"python -m tools.relay status in {script.parent}"]
    printed, said = run(script)
    assert printed == answer
    assert said[0].startswith("Installing Salt")
    assert said[1] == "make --silent venv"
    link = script.with_name("link")
    link.symlink_to(script)
    assert run(link) == (answer, [])


def test_its_environment_is_made_again_when_the_requirements_are_others(script):
    run(script)
    script.with_name("requirements.txt").write_text("salt==2\n")
    assert run(script)[1]
    assert not run(script)[1]


def test_errors_of_reading_the_roster_are_those_of_an_apply():
    Path("etc/roster").write_text("a: [\n")
    with pytest.raises(ApplyError):
        relay.names()
