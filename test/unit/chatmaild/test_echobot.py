"""The echobot, with a stand-in for Delta Chat's core; the real one is in the lab's test."""

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from chatmaild.echobot import HELP, answer_to
from chatmaild.mailboxes.password_hash import sha512_crypt
from test.unit.chatmaild.conftest import SOURCE

MESSAGE = {
    "chatId": 7,
    "text": "hello",
    "file": None,
    "fileName": None,
    "viewType": "Text",
    "isInfo": False,
    "isBot": False,
}
FILE = {"file": "/blobs/1.jpg", "fileName": "cat.jpg", "viewType": "Image"}
# Answers as the core does, writes down what it is asked, and ends when its one batch of events is fetched.
CORE = """
#!{python}
import json, sys
messages = json.load(open("messages.json"))
answers = {{
    "get_all_account_ids": [], "add_account": 3, "get_chat_securejoin_qr_code": "https://i.test/#LINK",
    "get_fresh_msgs": [1],
}}
events = [{{"event": event}} for event in (
    {{"kind": "Info", "msg": "nothing to say"}},
    {{"kind": "Warning", "msg": "a warning of the core"}},
    {{"kind": "IncomingMsg", "chatId": 7, "msgId": 2}},
    {{"kind": "IncomingMsg", "chatId": 7, "msgId": 3}},
    {{"kind": "IncomingMsg", "chatId": 7, "msgId": 4}},
)]
with open("calls.json", "w") as calls:
    for line in sys.stdin:
        request = json.loads(line)
        method, arguments = request["method"], request["params"]
        print(json.dumps([method, *arguments]), file=calls, flush=True)
        answer = {{"jsonrpc": "2.0", "id": request["id"], "result": answers.get(method)}}
        if method == "get_message":
            answer["result"] = messages.get(str(arguments[1]))
            if answer["result"] is None:
                answer["error"] = {{"code": -1, "message": "no such message"}}
        if method == "get_next_event_batch":
            if not events:
                sys.exit()
            answer["result"], events = events, []
        print(json.dumps({{"jsonrpc": "2.0", "method": "something unasked"}}))
        print(json.dumps(answer), flush=True)
"""


@pytest.mark.parametrize(
    "change, answer",
    [
        ({}, {"text": "hello"}),
        ({"text": "/help"}, {"text": HELP}),
        ({"text": "/start"}, None),
        ({"text": ""}, None),
        ({"isInfo": True}, None),
        ({"isBot": True}, None),
        (FILE, {"text": "hello", "file": "/blobs/1.jpg", "filename": "cat.jpg", "viewtype": "Image"}),
        (FILE | {"text": ""}, {"text": "", "file": "/blobs/1.jpg", "filename": "cat.jpg", "viewtype": "Image"}),
        (FILE | {"isBot": True}, None),
    ],
)
def test_text_and_files_are_sent_back_commands_and_bots_are_not_answered(change, answer):
    assert answer_to(MESSAGE | change) == answer


@pytest.fixture
def run_bot(tmp_path, write_config):
    """Run the bot until its core ends; returns the process, and whether it said that it is ready."""

    def run(program=None, **settings):
        ini = write_config(echobot=True, echobot_password_path=tmp_path / "password", **settings)
        core = tmp_path / "core"
        core.write_text(CORE.format(python=sys.executable).lstrip())
        core.chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            (tmp_path / "notify").unlink(missing_ok=True)
            manager.bind(str(tmp_path / "notify"))
            environment = {"PYTHONPATH": str(SOURCE), "NOTIFY_SOCKET": str(tmp_path / "notify")}
            ended = subprocess.run(
                [sys.executable, "-m", "chatmaild.echobot", "--program", program or core, ini],
                env=os.environ | environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            manager.setblocking(False)
            try:
                ready = manager.recv(100) == b"READY=1"
            except BlockingIOError:
                ready = False
        return ended, ready

    return run


@pytest.fixture
def calls(tmp_path):
    """What the core was asked, by method."""

    def read() -> dict[str, list]:
        found = {}
        for line in (tmp_path / "calls.json").read_text().splitlines():
            method, *arguments = json.loads(line)
            found.setdefault(method, []).append(arguments)
        return found

    return read


def test_it_logs_in_and_answers(run_bot, calls, tmp_path):
    messages = {"1": MESSAGE | {"text": "while you were away"}, "2": MESSAGE, "4": MESSAGE | {"isBot": True}}
    (tmp_path / "messages.json").write_text(json.dumps(messages))
    ended, ready = run_bot()
    assert ready
    assert (tmp_path / "invite-link.txt").read_text() == "https://i.test/#LINK\n"
    # The third message cannot be read; the fourth is read all the same, and has no answer.
    assert calls()["send_msg"] == [[3, 7, {"text": "while you were away"}], [3, 7, {"text": "hello"}]]
    assert calls()["markseen_msgs"] == [[3, [1]], [3, [2]], [3, [4]]]
    # The core has ended: systemd starts both again.
    assert ended.returncode == 1
    log = ended.stderr.splitlines()
    assert "a warning of the core" in log
    assert "a message stays without answer: get_message: no such message" in log
    assert log[-1] == "deltachat-rpc-server has ended"
    assert "hello" not in ended.stderr


def test_its_password_is_new_at_each_start_and_only_its_hash_is_written(run_bot, calls, tmp_path):
    (tmp_path / "messages.json").write_text("{}")
    passwords = set()
    for _ in range(2):
        ended, _ready = run_bot()
        (_account, transport) = calls()["add_or_update_transport"][0]
        passwords.add(transport["password"])
        assert transport["addr"] == "echo@chat.example.org"
        assert transport["imapServer"] == transport["smtpServer"] == "127.0.0.1"
        hashed = (tmp_path / "password").read_text().removeprefix("{SHA512-CRYPT}")
        assert sha512_crypt(transport["password"].encode(), hashed.split("$")[2]) == hashed
        assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o640
        assert transport["password"] not in ended.stderr
    assert len(passwords) == 2


@pytest.mark.parametrize("program", ["/nonexistent/core", "/bin/true"])
def test_without_a_core_it_says_so(run_bot, program):
    ended, ready = run_bot(program)
    assert ended.returncode == 1
    assert not ready
    assert ended.stderr.strip() in (
        "cannot use /nonexistent/core: No such file or directory",
        "deltachat-rpc-server has ended",
    )
