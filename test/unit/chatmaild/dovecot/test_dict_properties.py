"""Properties of the dict protocol that hold for whatever a client sends."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from chatmaild.dovecot.dict_server import Connection, Dictionary, escape, unescape

# What Dovecot can send: any bytes, those that are not UTF-8 as lone surrogates (PEP 383).
TEXT = st.binary(max_size=40).map(lambda value: value.decode(errors="surrogateescape"))
LINE = st.one_of(
    TEXT.map(lambda text: text.replace("\n", "")).filter(bool),
    st.builds(
        lambda command, parameters: command + "\t".join(parameters),
        st.sampled_from("HLIBSUATRCDX"),
        st.lists(st.one_of(st.sampled_from(["1", "2", "key"]), TEXT.map(escape)), max_size=4),
    ),
)


class Memory(Dictionary):
    """Keeps what is set."""

    def __init__(self):
        self.values = {}

    async def lookup(self, key, user):
        return self.values.get((user, key))

    async def iterate(self, path, user):
        return {key: value for (owner, key), value in self.values.items() if owner == user and key.startswith(path)}

    async def set(self, key, value, user):
        self.values[user, key] = value

    async def unset(self, key, user):
        self.values.pop((user, key), None)


def answers(connection, lines):
    async def answer_all():
        return [await connection.answer(line) for line in lines]

    return asyncio.run(answer_all())


@given(TEXT)
def test_escaping_is_undone_and_hides_what_ends_a_parameter(text):
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("\0\t\r\n")


@given(TEXT)
def test_nothing_makes_unescaping_fail(text):
    assert isinstance(unescape(text), str)


@given(st.lists(LINE, max_size=30))
def test_each_request_has_one_answer_of_its_form(lines):
    for line, answer in zip(lines, answers(Connection(Memory()), lines), strict=True):
        match line[0]:
            case "L":
                assert answer[0] in "ONF" and answer.count("\n") == 1 and answer[-1] == "\n"
            case "C" | "D":
                assert (answer == "O\n" or answer.startswith("F\t")) and answer.count("\n") == 1
            case "I":
                *rows, empty, end = answer.split("\n")
                assert empty == end == ""
                assert all(row[0] == "O" and row.count("\t") == 1 for row in rows)
            case _:
                assert answer == ""


@given(user=TEXT, entries=st.dictionaries(TEXT, TEXT, max_size=8))
def test_what_is_set_is_read_back_by_its_user_alone(user, entries):
    connection = Connection(Memory())
    lines = [f"B1\t{escape(user)}", *(f"S1\t{escape(key)}\t{escape(value)}" for key, value in entries.items()), "C1"]
    assert answers(connection, lines)[-1] == "O\n"
    for key, value in entries.items():
        asked = [f"L{escape(key)}\t{escape(user)}", f"L{escape(key)}\t{escape(user)}x"]
        assert answers(connection, asked) == [f"O{escape(value)}\n", "N\n"]
    (listed,) = answers(connection, [f"I1\t0\t\t{escape(user)}"])
    rows = dict(row[1:].split("\t") for row in listed.split("\n") if row)
    assert {unescape(key): unescape(value) for key, value in rows.items()} == entries


@given(st.lists(LINE, max_size=20), st.lists(LINE, max_size=20))
def test_connections_do_not_see_each_others_transactions(first, second):
    dictionary = Dictionary()
    alone = answers(Connection(dictionary), first)
    one, other = Connection(dictionary), Connection(dictionary)

    async def interleaved():
        answered = []
        for number in range(max(len(first), len(second))):
            if number < len(second):
                await other.answer(second[number])
            if number < len(first):
                answered.append(await one.answer(first[number]))
        return answered

    assert asyncio.run(interleaved()) == alone
