"""The operator's bot, with a stand-in for Delta Chat's core; the real one is in the lab's test."""

import json
import socket
import threading

import pytest

from chatmaild import operator_bot
from chatmaild.core import CoreError
from chatmaild.operator_bot import HELP, OperatorBot, ask_host, command_of
from test.support.waiting import wait_until

ALICE, BOB, MALLORY = 10, 11, 66
ADDRESSES = {ALICE: "Alice1234@chat.test", BOB: "bob12345@other.test", MALLORY: "mallory12@chat.test"}
MESSAGE = {
    "text": "status",
    "fromId": ALICE,
    # A chat with one person has their number and 1000 here.
    "chatId": ALICE + 1000,
    "showPadlock": True,
    "isInfo": False,
    "isBot": False,
    "isForwarded": False,
}


class Account:
    """What the core does for the bot."""

    def __init__(self) -> None:
        self.config = {}
        self.messages = {}
        self.said = []
        self.seen = []
        self.deleted = []
        self.links = 0
        self.valid = set()

    def call(self, method: str, *arguments):
        return getattr(self, method)(*arguments)

    def get_config(self, key):
        return self.config.get(key)

    def set_config(self, key, value):
        self.config[key] = value

    def get_contact(self, contact):
        return {"address": ADDRESSES[contact]}

    def get_chat_id_by_contact_id(self, contact):
        return contact + 1000

    def create_chat_by_contact_id(self, contact):
        return contact + 1000

    def misc_send_text_message(self, chat, text):
        self.said.append((chat - 1000, text))

    def get_message(self, number):
        if number not in self.messages:
            raise CoreError("get_message: no such message")
        return self.messages[number]

    def markseen_msgs(self, numbers):
        self.seen += numbers

    def delete_messages(self, numbers):
        self.deleted += numbers

    def get_fresh_msgs(self):
        return [number for number in self.messages if number not in self.seen]

    def invite_link(self):
        self.links += 1
        self.valid.add(f"https://i.test/#{self.links}")
        return f"https://i.test/#{self.links}"

    def check_qr(self, link):
        return {"kind": "withdrawVerifyContact" if link in self.valid else "reviveVerifyContact"}

    def set_config_from_qr(self, link):
        # The core's own: what was withdrawn is made valid again.
        self.valid ^= {link}


class Core:
    """Events of the core, one after the other."""

    def __init__(self, *events: dict) -> None:
        self._events = events

    def events(self):
        return iter(self._events)


@pytest.fixture
def account():
    return Account()


@pytest.fixture
def asked():
    return []


@pytest.fixture
def bot(account, asked):
    return OperatorBot("chat.test", account, lambda request: asked.append(request) or "all is well")


def join(bot: OperatorBot, contact: int) -> None:
    bot._join(contact)


def write(bot: OperatorBot, account: Account, **change) -> None:
    """Let a message come in."""
    number = len(account.messages) + 1
    account.messages[number] = MESSAGE | change
    bot._receive(number)


def commands(bot: OperatorBot) -> list:
    """The commands that wait."""
    return [bot._commands.get_nowait() for _ in range(bot._commands.qsize())]


@pytest.fixture
def joined(bot, account):
    """Alice is an operator."""
    bot.operators.new_link()
    join(bot, ALICE)
    commands(bot)
    account.said.clear()
    return bot


# --- Who is an operator ---


def test_who_opens_the_link_is_an_operator_is_greeted_and_told_the_status(bot, account):
    bot.operators.new_link()
    join(bot, ALICE)
    assert bot.operators.contacts() == [ALICE]
    assert account.said == [(ALICE, f"You are an operator of chat.test now. What you can write:\n\n{HELP}")]
    assert commands(bot) == [(ALICE, ["status"])]


def test_a_link_lets_one_person_in_and_the_operators_hear_of_the_next(bot, account):
    bot.operators.new_link()
    join(bot, ALICE)
    assert account.valid == set()
    account.said.clear()
    join(bot, MALLORY)
    assert bot.operators.contacts() == [ALICE]
    assert account.said == [
        (ALICE, "mallory12@chat.test has opened a link that was used before or is too old, and was not let in.")
    ]


def test_without_a_link_nobody_is_let_in_and_nobody_is_answered(bot, account):
    join(bot, MALLORY)
    assert (bot.operators.contacts(), account.said) == ([], [])


def test_a_link_is_valid_for_a_day(bot, monkeypatch):
    now = [1_000_000]
    bot.operators._now = lambda: now[0]
    first = bot.operators.first_link()
    now[0] += operator_bot.LINK_LASTS_S - 1
    assert bot.operators.first_link() == first
    now[0] += 1
    join(bot, MALLORY)
    assert bot.operators.contacts() == []
    assert bot.operators.first_link() != first


def test_a_new_link_takes_the_place_of_the_old_one(bot, account):
    links = [bot.operators.new_link() for _ in range(3)]
    assert account.valid == {links[-1]}
    # A link that is withdrawn already would be made valid by withdrawing it.
    account.valid.clear()
    bot.operators.new_link()
    assert account.valid == {"https://i.test/#4"}


def test_the_first_link_is_for_a_bot_without_operators(joined):
    assert joined.operators.first_link() is None


def test_operators_are_told_of_a_new_one(joined, account):
    joined.operators.new_link()
    join(joined, BOB)
    assert joined.operators.contacts() == [ALICE, BOB]
    assert (ALICE, "bob12345@other.test is an operator of this relay now.") in account.said


def test_an_operator_who_opens_a_link_again_stays_one_and_leaves_it_to_the_next(joined, account):
    joined.operators.new_link()
    join(joined, ALICE)
    assert (joined.operators.contacts(), account.said) == ([ALICE], [])
    join(joined, BOB)
    assert joined.operators.contacts() == [ALICE, BOB]


def test_who_is_removed_is_told_nothing_and_cannot_command(joined, account):
    assert joined.answer_root(b'["remove", "ALICE1234@chat.test"]\n') == {"result": None}
    write(joined, account)
    assert commands(joined) == []
    assert joined.tell("the disk is full") == 0
    assert account.said == []
    assert "no operator" in joined.answer_root(b'["remove", "alice1234@chat.test"]\n')["error"]


# --- Commands ---


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("status", ["status"]),
        (" /Status\n", ["status"]),
        ("QUEUE", ["queue"]),
        ("accounts", ["accounts"]),
        ("ban alice1234@chat.test", ["ban", "alice1234@chat.test"]),
        ("Ban\talice1234@[192.0.2.7]", ["ban", "alice1234@[192.0.2.7]"]),
    ],
)
def test_commands(text, request_):
    assert command_of(text) == request_


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "hello", "status please", "ban", "ban alice", "ban a@b c@d", "ban a@b@c", "ban @", "delete a@b"),
        *("hourly", "status; reboot", "$(reboot)", "<b>status</b>", "//status", "ban a@b" + " " * 1000, "x" * 10**6),
        *("status\0", "\u202estatus", "ban a@b\nstatus"),
    ],
)
def test_what_is_no_command(text):
    assert command_of(text) is None


def test_an_operators_command_is_done_and_other_words_get_the_list_of_commands(joined, account):
    write(joined, account, text="ban mallory12@chat.test")
    write(joined, account, text="how are you?")
    assert commands(joined) == [(ALICE, ["ban", "mallory12@chat.test"])]
    assert account.said == [(ALICE, HELP)]
    assert account.seen == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        # A stranger, and one who writes in a chat with an operator.
        {"fromId": MALLORY, "chatId": MALLORY + 1000},
        {"fromId": MALLORY},
        # An operator's address, without their signature.
        {"showPadlock": False},
        # A group, where others would read the answer.
        {"chatId": 5},
        # Somebody else's words, a bot's, and the core's own.
        {"isForwarded": True},
        {"isBot": True},
        {"isInfo": True},
        # The core's own contact for this device, and for what it says itself.
        {"fromId": 1, "chatId": 1001},
        {"fromId": 5, "chatId": 1005},
    ],
)
@pytest.mark.parametrize("text", ["ban alice1234@chat.test", "status", "hello", "<script>", "x" * 10**6])
def test_of_anybody_else_nothing_is_done_answered_or_kept(joined, account, change, text):
    write(joined, account, text=text, **change)
    assert commands(joined) == []
    assert account.said == []
    assert account.deleted == [1]


def test_more_commands_than_can_wait_are_refused(joined, account):
    for _ in range(operator_bot.COMMANDS_WAITING + 1):
        write(joined, account)
    assert account.said == [(ALICE, "too many commands are waiting; try again later")]


def test_the_core_tells_of_messages_and_of_who_joins(bot, account, asked, monkeypatch):
    bot.operators.new_link()
    # Written while no bot was there; by a stranger, then.
    account.messages = {1: MESSAGE, 3: MESSAGE | {"text": "queue"}}
    events = [
        {"kind": "SecurejoinInviterProgress", "contactId": ALICE, "progress": 400},
        {"kind": "IncomingMsg", "msgId": 2},
        {"kind": "SecurejoinInviterProgress", "contactId": ALICE, "progress": 1000},
        {"kind": "Warning", "msg": "no network"},
        {"kind": "IncomingMsg", "msgId": 3},
    ]
    account.seen = [3]
    monkeypatch.setattr(bot, "_listen", lambda _: None)
    bot.serve(Core(*events), None)
    wait_until(lambda: asked == [["status"], ["queue"]], "the commands are not done")
    wait_until(lambda: account.said[1:] == [(ALICE, "all is well")] * 2, "the answers are not sent")


def test_a_host_that_does_not_answer_is_told(joined, account):
    def refuse(_):
        raise ConnectionRefusedError(111, "Connection refused")

    joined._ask = refuse
    threading.Thread(target=joined._work, daemon=True).start()
    write(joined, account)
    wait_until(lambda: account.said, "nothing is told")
    assert account.said == [(ALICE, "the host does not answer: Connection refused")]


# --- What root asks ---


def test_root_has_something_told_to_all_operators(joined, account):
    joined.operators.new_link()
    join(joined, BOB)
    account.said.clear()
    assert joined.answer_root('["tell", "Grüße"]\n'.encode()) == {"result": 2}
    assert account.said == [(ALICE, "Grüße"), (BOB, "Grüße")]
    assert joined.answer_root(b'["operators"]\n') == {"result": ["alice1234@chat.test", "bob12345@other.test"]}


def test_root_gets_links(bot):
    first = bot.answer_root(b'["first-link"]\n')
    assert first == bot.answer_root(b'["first-link"]\n') == {"result": "https://i.test/#1"}
    assert bot.answer_root(b'["new-link"]\n') == {"result": "https://i.test/#2"}


@pytest.mark.parametrize("line", [b"", b"\xff", b"[]", b'["tell"]', b'["tell", 5]', b'{"tell": 1}', b"[" * 60_000])
def test_what_is_no_request_is_an_error(bot, line):
    assert bot.answer_root(line) == {"error": "there is no such request"}


def test_a_core_that_cannot_is_an_error(bot, account, monkeypatch):
    def fails():
        raise CoreError("get_chat_securejoin_qr_code: no key")

    monkeypatch.setattr(account, "invite_link", fails)
    assert bot.answer_root(b'["new-link"]') == {"error": "get_chat_securejoin_qr_code: no key"}


def test_requests_come_by_a_socket_and_silence_or_noise_does_not_stop_them(bot, tmp_path, monkeypatch):
    monkeypatch.setattr(operator_bot, "CONTROL_PATIENCE_S", 0.2)
    # Open until the end, as the thread is.
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "bot.socket"))
    listener.listen()
    threading.Thread(target=bot._listen, args=[listener], daemon=True).start()

    def ask(octets: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(tmp_path / "bot.socket"))
            client.sendall(octets)
            return client.makefile("rb").readline()

    assert ask(b'["operators"') == b""
    assert json.loads(ask(b"\0" * 70_000 + b"\n")) == {"error": "there is no such request"}
    assert json.loads(ask(b'["operators"]\n')) == {"result": []}


# --- The host ---


def test_the_host_gets_one_line_and_its_text_is_the_answer(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "host.socket"))
        listener.listen()
        heard = []

        def serve() -> None:
            for answer in ("all is well: Grüße".encode(), b""):
                with listener.accept()[0] as connection, connection.makefile("rb") as file:
                    heard.append(file.readline())
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        assert ask_host(tmp_path / "host.socket", ["ban", "a@b"]) == "all is well: Grüße"
        assert "journalctl" in ask_host(tmp_path / "host.socket", ["status"])
    assert heard == [b'["ban", "a@b"]\n', b'["status"]\n']
