"""Delta Chat's core is asked side by side; the real one is in the lab's test."""

import sys
import threading

import pytest

from chatmaild.core import Core, CoreError, CoreGone

# Answers to "later" when it has answered something else, and ends at "end".
CORE = """
#!{python}
import json, sys
held = []
for line in sys.stdin:
    request = json.loads(line)
    if request["method"] == "end":
        sys.exit()
    answer = {{"jsonrpc": "2.0", "id": request["id"], "result": [request["method"], *request["params"]]}}
    if request["method"] == "fail":
        answer["error"] = {{"code": -1, "message": "no such thing"}}
    held.append(answer)
    if request["method"] != "later":
        for answer in reversed(held):
            print(json.dumps(answer), flush=True)
        held.clear()
"""


@pytest.fixture
def core(tmp_path):
    program = tmp_path / "core"
    program.write_text(CORE.format(python=sys.executable).lstrip())
    program.chmod(0o755)
    core = Core(str(program), tmp_path / "accounts")
    yield core
    with pytest.raises(CoreGone):
        core.call("end")


def test_each_thread_gets_its_own_answer_in_whatever_order_they_come(core):
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(core.call("later", 1)))
    waiting.start()
    # Until the first question was asked it would wait for another.
    while waiting.is_alive():
        assert core.call("now", 2) == ["now", 2]
        waiting.join(0.01)
    assert answers == [["later", 1]]


def test_what_the_core_cannot_do_is_an_error_with_its_words(core):
    with pytest.raises(CoreError, match=r"^fail: no such thing$"):
        core.call("fail")


def test_who_waits_for_a_core_that_ends_hears_of_it(core):
    gone = []

    def ask() -> None:
        try:
            core.call("later")
        except CoreGone as error:
            gone.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    with pytest.raises(CoreGone, match="has ended"):
        core.call("end")
    waiting.join(20)
    assert gone == ["deltachat-rpc-server has ended"]
    with pytest.raises(CoreGone, match="has ended"):
        core.call("now")
