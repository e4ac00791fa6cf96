"""What a host says where a script fails is told, but commands no terminal."""

from types import SimpleNamespace

import pytest

from tools import host


def test_what_a_script_says_when_it_fails_does_not_command_the_terminal(monkeypatch, tmp_path):
    target = SimpleNamespace(address="", port=22, user="root", sudo=False)
    target.command = lambda script, *arguments: ["sh", "-c", script, "sh", *arguments]
    monkeypatch.setattr(host.Target, "of", lambda *_: target)
    (tmp_path / "fails.sh").write_text("printf 'no \\033[2Jroom' >&2; exit 3")
    with pytest.raises(host.StepFailed, match=r"^relay: no \N{REPLACEMENT CHARACTER}\[2Jroom$"):
        host.Host(None, "relay", tmp_path).run("fails")
