"""While an apply goes on, the controller does what the host's states ask for."""

import io
import json
import subprocess

import pytest
from salt.exceptions import CommandExecutionError

from _wrapper import chatmail_controller

SETTINGS = {"mail_domain": "a.test", "dns_check": True, "dns_update_key_file": "/key", "proxy_target": []}
RECORDS = {"a.test. MX": {"old": "nothing", "new": "10 a.test."}}


@pytest.fixture
def asked():
    """What the controller was asked to publish."""
    return []


@pytest.fixture
def configure_loader_modules(asked):
    opts = {"__master_opts__": {"argv": ["state.apply", "chatmail"]}}
    functions = {"chatmail_apply.lock": lambda: asked.append("lock")}
    return {chatmail_controller: {"__opts__": opts, "__salt__": functions, "__context__": {}}}


@pytest.fixture
def session(monkeypatch, asked):
    """Answer on a target that is this machine: a shell in the place of ssh. Ends it afterwards."""
    sessions = []

    def publish(settings, known, initial):
        asked.append((settings, known, initial))
        if known == "refuse":
            raise CommandExecutionError("the DNS server refused the update")
        return {"published": RECORDS}

    def answer(script, settings=SETTINGS):
        popen = subprocess.Popen

        def started(*args, **kwargs):
            sessions.append(popen(*args, **kwargs))
            return sessions[-1]

        monkeypatch.setattr(chatmail_controller.subprocess, "Popen", started)

        def ssh_argv(wanted, options=()):
            asked.append(options)
            return ["sh", "-c", script if wanted == chatmail_controller.LISTEN else "exit 255"]

        monkeypatch.setitem(chatmail_controller.__salt__, "chatmail_apply.ssh_argv", ssh_argv)
        utils = {"chatmail_outside.look": lambda facts: [facts["name"]]}
        monkeypatch.setattr(chatmail_controller.salt.loader, "utils", lambda opts, whitelist: utils)
        monkeypatch.setattr(chatmail_controller, "functions", lambda _: {"chatmail_dns.publish": publish})
        return chatmail_controller.attend(settings)

    yield answer
    for one in sessions[:1]:
        # As the end of salt-ssh does it.
        one.stdin.close()
        one.wait(timeout=10)


def test_a_host_is_answered_over_its_pipes_until_the_run_ends(session, asked, tmp_path):
    run = tmp_path / "chatmail-controller"
    assert session(chatmail_controller.LISTEN.replace("/run/chatmail-controller", str(run))) == ""
    with (run / "request").open("w") as request, (run / "answer").open() as answer:
        for facts, expected in (
            ({"dkim": None}, {"published": RECORDS}),
            ("refuse", {"error": "the DNS server refused the update"}),
        ):
            request.write(json.dumps({"service": "publish", "facts": facts, "initial": True}) + "\n")
            request.flush()
            assert json.loads(answer.readline()) == expected
    assert asked == ["lock", (), (SETTINGS, {"dkim": None}, True), (SETTINGS, "refuse", True)]
    # The pipes are nobody else's.
    assert run.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "line", ["", "nonsense", "[]", "{}", '{"service": "publish", "facts": {}}', '{"service": "shell"}']
)
def test_a_malformed_request_is_answered_and_publishes_nothing(asked, line):
    session = type("Session", (), {"stdout": [line.encode() + b"\n"], "stdin": io.BytesIO()})
    chatmail_controller.answer_all(session, {"publish": lambda one: asked.append((one["facts"], one["initial"]))})
    assert json.loads(session.stdin.getvalue())["error"].startswith("the request is malformed")
    assert asked == []


def test_a_host_has_the_controller_look_at_it_from_outside(session, tmp_path):
    run = tmp_path / "chatmail-controller"
    session(chatmail_controller.LISTEN.replace("/run/chatmail-controller", str(run)), {})
    with (run / "request").open("w") as request, (run / "answer").open() as answer:
        request.write(json.dumps({"service": "look", "facts": {"name": "a.test"}}) + "\n")
        request.flush()
        assert json.loads(answer.readline()) == {"seen": ["a.test"]}


def test_a_new_connection_is_tried_for_a_proxy_that_has_loaded_its_rules(session, asked, tmp_path):
    run = tmp_path / "chatmail-controller"
    settings = SETTINGS | {"dns_update_key_file": None, "proxy_target": ["192.0.2.7"]}
    session(chatmail_controller.LISTEN.replace("/run/chatmail-controller", str(run)), settings)
    with (run / "request").open("w") as request, (run / "answer").open() as answer:
        request.write(json.dumps({"service": "reach"}) + "\n")
        request.flush()
        assert json.loads(answer.readline()) == {"reached": False}
    assert asked == ["lock", (), ("-o", "ControlPath=none")]


@pytest.mark.parametrize(
    "settings",
    [SETTINGS | {"dns_update_key_file": None}, SETTINGS | {"dns_check": False}, {}],
    ids=["no key", "no look-ups", "broken"],
)
def test_with_nothing_but_a_look_to_ask_for_an_apply_goes_on_without_a_session(session, asked, settings):
    assert session("exit 1", settings) == ""
    assert asked == ["lock", ()]


def test_rendering_twice_opens_one_session(session, asked, tmp_path):
    script = chatmail_controller.LISTEN.replace("/run/chatmail-controller", str(tmp_path / "run"))
    session(script)
    assert chatmail_controller.attend(SETTINGS) == ""
    assert asked.count(()) == 1


def test_a_host_that_cannot_be_reached_by_key_ends_the_apply_with_the_reason(session):
    with pytest.raises(CommandExecutionError, match=r"Permission denied.*It needs a key"):
        session("echo 'root@a.test: Permission denied (publickey).' >&2; exit 255")


def test_showing_states_opens_no_session(session, asked, monkeypatch):
    monkeypatch.setitem(chatmail_controller.__opts__["__master_opts__"], "argv", ["state.show_low_sls", "chatmail"])
    assert session("exit 1") == ""
    assert asked == ["lock"]
