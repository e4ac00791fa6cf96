"""What got worse or well again is told once, and again only where nobody was told."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatmail_news import TEXT_LIMIT
from test.support.waiting import wait_until
from tools import ssh, watch
from tools.errors import ApplyError


def finding(kind: str, level: str = "error", **more: str) -> dict:
    return {"check": "services", "kind": kind, "level": level, "what": f"{kind} is wrong", "do": "fix it", **more}


def status(*findings: dict) -> dict:
    return {"relay": "a.test", "level": "error", "findings": list(findings), "checks": []}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Watch once: what salt-ssh says of the relays, one answer for each time it is asked; returns what was told."""
    state = tmp_path / "state/watch.json"
    monkeypatch.setattr(watch.time, "sleep", lambda _: None)

    def once(*answers: dict, tell: tuple[str, ...] = ("true",)) -> list[str]:
        left = list(answers)
        monkeypatch.setattr(watch, "statuses", lambda *_: left.pop(0) if len(left) > 1 else left[0])
        return watch.watch(tmp_path, "*", state, tell)

    return once


def test_a_fault_is_told_once_and_once_that_it_is_gone(run):
    down = {"a": status(finding("unit-down", unit="dovecot.service"))}
    assert run({"a": status()}) == []
    assert run(down) == ["a: error: unit-down is wrong. fix it"]
    assert run(down) == []
    assert run({"a": status()}) == ["a: well again: error: unit-down is wrong. fix it"]
    assert run({"a": status()}) == []


def test_each_unit_is_a_fault_of_its_own_and_other_words_for_it_are_none(run):
    run({"a": status(finding("unit-down", unit="nginx.service"))})
    other = finding("unit-down", unit="nginx.service") | {"what": "nginx is down for 2 h"}
    assert run({"a": status(other)}) == []
    assert len(run({"a": status(other, finding("unit-down", unit="dovecot.service"))})) == 1


def test_notes_are_not_told(run):
    assert run({"a": status(finding("upgrades", level="note"))}) == []


def test_a_relay_that_is_away_is_asked_again_first(run):
    away = {"a": "ssh: connect to host a port 22: Connection timed out", "b": status()}
    assert run(away, {"a": status(), "b": status()}) == []
    (told,) = run(away)
    assert told.startswith("a: it cannot be asked for its status: ssh: connect")
    assert run(away) == []
    assert run({"a": status(), "b": status()})[0].startswith("a: well again: it cannot be asked")


def test_while_a_relay_is_away_nothing_of_it_is_well_again(run):
    disk = finding("disk-full")
    run({"a": status(disk)})
    assert len(run({"a": {"stderr": "lost", "retcode": 255}})) == 1
    assert [line for line in run({"a": status(disk)}) if "disk" in line] == []


def test_what_nobody_was_told_is_told_by_the_next_run(run):
    down = {"a": status(finding("unit-down"))}
    for command in (("false",), ("/no/such/command",)):
        with pytest.raises(ApplyError, match=r"(?s)Nobody was told.*unit-down is wrong"):
            run(down, tell=command)
    assert len(run(down)) == 1


def test_the_message_is_the_commands_standard_input(run, tmp_path):
    heard = tmp_path / "heard"
    run({"a": status(finding("disk-full"))}, tell=("sh", "-c", f"cat > {heard}"))
    assert heard.read_text() == "a: error: disk-full is wrong. fix it\n"


def test_a_relay_does_not_command_the_terminal(run, capsys):
    run({"a": status(finding("x") | {"what": "\x1b[2J" + "x" * 5000})}, tell=())
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert len(said) < TEXT_LIMIT + 100


def salt_ssh(monkeypatch, tmp_path: Path, script: str) -> None:
    """Have this script be salt-ssh."""
    program = tmp_path / "salt-ssh"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setattr(ssh, "SALT_SSH", program)


def test_a_relay_that_hangs_keeps_nothing_of_the_others_back(monkeypatch, tmp_path):
    # As salt-ssh has a process for each host.
    hangs = "sleep 1000 & echo $! >> children; wait"
    answer = json.dumps({"well": {"findings": []}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "STATUS_TIMEOUT_S", 2)
    monkeypatch.setattr(watch, "client", lambda *_: SimpleNamespace(targets=["hangs", "well"]))
    salt_ssh(
        monkeypatch, tmp_path, f"#!/bin/sh\nif [ $5 != well ]; then {hangs}; fi\necho \"a warning\"\necho '{answer}'\n"
    )
    said = watch.statuses(tmp_path, "*")
    assert said == {"hangs": "salt-ssh has not ended after 2 s.", "well": {"findings": []}}
    for pid in (tmp_path / "children").read_text().split():
        wait_until(lambda pid=pid: not runs(pid), patience_s=20)


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("script", ["print('[ERROR] no such host')", "import sys; sys.exit('no roster')"])
def test_where_salt_ssh_says_nothing_that_is_an_error(monkeypatch, tmp_path, script):
    salt_ssh(monkeypatch, tmp_path, f"#!{sys.executable}\n{script}\n")
    with pytest.raises(ApplyError, match=r"no such host|no roster"):
        watch.statuses(tmp_path, "*")


def test_what_another_program_wrote_is_not_taken_for_its_memory(run, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/watch.json").write_text(json.dumps({})[:-1])
    with pytest.raises(ApplyError, match="remove it"):
        run({"a": status()})


def test_two_at_the_same_time_tell_a_fault_once(monkeypatch, tmp_path):
    down = {"a": status(finding("unit-down"))}
    asking, go_on = threading.Event(), threading.Event()

    def statuses(*_):
        asking.set()
        assert go_on.wait(10)
        return down

    monkeypatch.setattr(watch, "statuses", statuses)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(watch.watch, tmp_path, "*", tmp_path / "watch.json", ["true"]) for _ in range(2)]
        assert asking.wait(10)
        go_on.set()
        assert sorted(len(one.result(30)) for one in both) == [0, 1]
