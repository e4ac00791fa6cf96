"""The hourly status tells once what changed; four commands are known, and nothing else comes from the bot."""

import json
import socket
import threading

import pytest

import chatmail_operator as operator
from chatmail_errors import CommandExecutionError

DOWN = {"check": "services", "kind": "stopped", "level": "error", "what": "nginx is stopped", "do": "start it"}
DISK = {"check": "disk", "kind": "disk-low", "level": "warning", "what": "the disk is low", "do": "make room"}
NOTE = {"check": "packages", "kind": "upgrades", "level": "note", "what": "2 upgrades are pending", "do": "apt upgrade"}


def status(*findings: dict) -> dict:
    return {"relay": "chat.test", "checks": [{}] * 22, "findings": list(findings), "seconds": 4.2}


class Told(list):
    """What was told; it can be told to fail."""

    fails = False

    def __call__(self, text: str) -> None:
        if self.fails:
            raise CommandExecutionError("the bot does not answer")
        self.append(text)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def look(monkeypatch, tmp_path, told):
    """Let an hour pass; the statuses are those of the first and of the second look."""
    monkeypatch.setattr(operator, "LAST", tmp_path / "last.json")
    monkeypatch.setattr(operator.time, "sleep", lambda _: None)

    def once(*statuses: dict) -> list[str]:
        left = list(statuses)
        told.clear()
        operator.hourly({"chatmail_relay.examine": lambda: left.pop(0) if len(left) > 1 else left[0]}, told)
        return list(told)

    return once


def test_a_fault_is_told_once_and_once_that_it_is_gone(look):
    assert look(status()) == []
    assert look(status(DOWN, NOTE)) == ["error: nginx is stopped. start it"]
    assert look(status(DOWN)) == []
    assert look(status(DOWN, DISK)) == ["warning: the disk is low. make room"]
    assert look(status()) == [
        "well again: error: nginx is stopped. start it\n\nwell again: warning: the disk is low. make room"
    ]


def test_of_many_faults_as_many_are_told_as_a_message_holds(look):
    many = [DOWN | {"unit": str(number), "what": "x" * 500} for number in range(50)]
    (text,) = look(status(*many))
    assert 5000 < len(text) < 10_000


def test_what_is_well_again_a_moment_later_is_not_told(look):
    assert look(status(DOWN), status()) == []
    # Nor what only the second look has found: the next hour has it.
    assert look(status(DOWN), status(DISK)) == []
    assert look(status(DISK)) == ["warning: the disk is low. make room"]


def test_what_could_not_be_told_is_told_by_the_next_run(look, told):
    told.fails = True
    with pytest.raises(CommandExecutionError, match="does not answer"):
        look(status(DOWN))
    told.fails = False
    assert look(status(DOWN)) == ["error: nginx is stopped. start it"]


def test_the_last_result_is_kept_for_root_alone(look, tmp_path):
    look(status(NOTE))
    kept = json.loads((tmp_path / "last.json").read_text())
    assert kept["status"] == status(NOTE)
    assert kept["told"] == {}
    assert (tmp_path / "last.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"told"', "{}"])
def test_a_result_that_is_cut_off_is_as_none(look, tmp_path, text):
    (tmp_path / "last.json").write_text(text)
    assert look(status(DOWN)) == ["error: nginx is stopped. start it"]


def ask(request: object, **functions) -> str:
    named = {name.replace("__", "."): function for name, function in functions.items()}
    return operator.answer(json.dumps(request).encode(), named)


def test_a_status_says_what_is_wrong_and_what_to_do():
    text = ask(["status"], chatmail_relay__examine=lambda: status(DOWN, NOTE))
    assert text == (
        "chat.test: 1 fault, 1 note\n\nerror: nginx is stopped. start it\n\n"
        "note: 2 upgrades are pending. apt upgrade\n\n22 checks in 4 s"
    )
    assert ask(["status"], chatmail_relay__examine=status) == "chat.test: all is well\n\n22 checks in 4 s"


def test_the_queue_is_told_by_destination(monkeypatch):
    monkeypatch.setattr(operator.time, "time", lambda: 10_000)
    line = {"destination": "a.test", "messages": 3, "deferred": 3, "since": 0, "way": "SMTP", "reason": "no route"}
    assert ask(["queue"], chatmail_queue__list=lambda _: [line]) == "3 for a.test, since 2 h, by SMTP: no route"
    assert ask(["queue"], chatmail_queue__list=lambda _: []) == "no message waits"


def test_accounts_are_counted_and_the_largest_named():
    one = {"address": "a@chat.test", "size": 2048, "last_login": 86400, "banned": True}
    listed = [one, one | {"last_login": None, "banned": False}]
    assert ask(["accounts"], chatmail_account__list=lambda limit: {"count": 7, "listed": listed}) == (
        "7 addresses; the largest:\na@chat.test: 2.0 K, last login 1970-01-02, banned\n"
        "a@chat.test: 2.0 K, last login never"
    )


def test_a_ban_is_the_operators_command_and_its_error_the_answer():
    def ban(address: str) -> dict:
        if address != "a@chat.test":
            raise CommandExecutionError(f"there is no address {address!r} on this relay")
        return {"address": address}

    assert ask(["ban", "a@chat.test"], chatmail_account__ban=ban).startswith("a@chat.test is banned: ")
    assert ask(["ban", "b@chat.test"], chatmail_account__ban=ban) == "there is no address 'b@chat.test' on this relay"


@pytest.mark.parametrize(
    "request_",
    [
        *(
            [],
            "status",
            {},
            {"status": 1},
            5,
            None,
            ["ban"],
            ["ban", "a@b", "c@d"],
            ["ban", ["a@b"]],
            ["ban", None],
            ["status", ""],
        ),
        *([["status"]], [["ban"], "a@b"], ["chatmail_account.delete", "a@b"], ["hourly"], ["__class__"], ["STATUS"]),
    ],
)
def test_nothing_else_can_be_asked_for(request_):
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    functions = dict.fromkeys(("chatmail_account__ban", "chatmail_account__delete", "chatmail_relay__examine"), never)
    assert ask(request_, **functions) == "there is no such command"


@pytest.mark.parametrize("line", [b"", b"\xff\xfe", b'["ban", "a@b"', b"[" * 1000, b"status; reboot"])
def test_what_is_no_json_is_no_command(line):
    assert operator.answer(line, {}) == "there is no such command"


@pytest.fixture
def bot(monkeypatch, tmp_path):
    """A bot that gives one answer; returns what it was asked."""
    heard = []

    def answer(octets: bytes) -> list[bytes]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "bot.socket"))
        listener.listen()

        def serve() -> None:
            with listener, listener.accept()[0] as connection, connection.makefile("rb") as file:
                heard.append(file.readline())
                connection.sendall(octets)

        threading.Thread(target=serve, daemon=True).start()
        return heard

    monkeypatch.setattr(operator, "BOT", str(tmp_path / "bot.socket"))
    return answer


def test_the_bot_is_asked_by_a_line_and_answers_with_one(bot):
    heard = bot(b'{"result": 2}\n')
    assert operator.ask_bot("tell", "Grüße\nzwei") == 2
    assert json.loads(heard[0]) == ["tell", "Grüße\nzwei"]


@pytest.mark.parametrize(
    ("answer", "said"), [(b'{"error": "no operator has it"}\n', "^no operator has it$"), (b"", "does not answer")]
)
def test_what_the_bot_cannot_do_is_an_error(bot, answer, said):
    bot(answer)
    with pytest.raises(CommandExecutionError, match=said):
        operator.ask_bot("remove", "a@b")


def test_where_there_is_no_bot_the_error_names_the_setting(monkeypatch, tmp_path):
    monkeypatch.setattr(operator, "BOT", str(tmp_path / "missing"))
    with pytest.raises(CommandExecutionError, match="operator_bot: true"):
        operator.ask_bot("new-link")
