"""While an apply goes on, the controller publishes what the host's states ask for."""

import io
import json
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from _wrapper import chatmail_dns

SETTINGS = {"mail_domain": "a.test"}
RECORDS = {"a.test. MX": {"old": "nothing", "new": "10 a.test."}}


@pytest.fixture
def asked():
    """What the controller was asked to publish."""
    return []


@pytest.fixture
def configure_loader_modules(asked):
    opts = {"__master_opts__": {"argv": ["state.apply", "chatmail"]}}
    functions = {"chatmail_apply.lock": lambda: asked.append("lock")}
    return {chatmail_dns: {"__opts__": opts, "__salt__": functions, "__context__": {}}}


@pytest.fixture
def session(monkeypatch, asked):
    """Answer on a target that is this machine: a shell in the place of ssh. Ends it afterwards."""
    sessions = []

    def publish(settings, known, initial):
        asked.append((settings, known, initial))
        if known == "refuse":
            raise CommandExecutionError("the DNS server refused the update")
        return {"published": RECORDS}

    def answer(script):
        popen = subprocess.Popen

        def started(*args, **kwargs):
            sessions.append(popen(*args, **kwargs))
            return sessions[-1]

        monkeypatch.setattr(chatmail_dns.subprocess, "Popen", started)
        monkeypatch.setitem(chatmail_dns.__salt__, "chatmail_apply.ssh_argv", lambda _: ["sh", "-c", script])
        monkeypatch.setattr(chatmail_dns, "_functions", lambda: {"chatmail_dns.publish": publish})
        return chatmail_dns.answer_requests(SETTINGS)

    yield answer
    for one in sessions:
        # As the end of salt-ssh does it.
        one.stdin.close()
        one.wait(timeout=10)


def test_a_host_is_answered_over_its_pipes_until_the_run_ends(session, asked, tmp_path):
    run = tmp_path / "chatmail-dns"
    assert session(chatmail_dns.LISTEN.replace("/run/chatmail-dns", str(run))) == ""
    with (run / "request").open("w") as request, (run / "answer").open() as answer:
        for facts, expected in (
            ({"dkim": None}, {"published": RECORDS}),
            ("refuse", {"error": "the DNS server refused the update"}),
        ):
            request.write(json.dumps({"facts": facts, "initial": True}) + "\n")
            request.flush()
            assert json.loads(answer.readline()) == expected
    assert asked == ["lock", (SETTINGS, {"dkim": None}, True), (SETTINGS, "refuse", True)]
    # The pipes are nobody else's.
    assert run.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", ["", "nonsense", "[]", "{}", '{"facts": {}}'])
def test_a_malformed_request_is_answered_and_publishes_nothing(asked, line):
    session = type("Session", (), {"stdout": [line.encode() + b"\n"], "stdin": io.BytesIO()})
    chatmail_dns._answer_all(session, SETTINGS, lambda *_, **__: asked.append("published"))
    assert json.loads(session.stdin.getvalue())["error"].startswith("the request is malformed")
    assert asked == []


def test_a_host_that_cannot_be_reached_by_key_ends_the_apply_with_the_reason(session):
    with pytest.raises(CommandExecutionError, match=r"Permission denied.*It needs a key"):
        session("echo 'root@a.test: Permission denied (publickey).' >&2; exit 255")


def test_showing_states_opens_no_session(session, asked, monkeypatch):
    monkeypatch.setitem(chatmail_dns.__opts__["__master_opts__"], "argv", ["state.show_low_sls", "chatmail"])
    assert session("exit 1") == ""
    assert asked == []
