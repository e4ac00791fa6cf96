"""A host asks the machine on which salt-ssh runs, over pipes."""

import json
import os
import threading

import pytest
from salt.exceptions import CommandExecutionError

from chatmail_session import NoController, ask, reached


@pytest.fixture
def controller(tmp_path):
    """The other end of a host's requests: takes one, and says ``answer``."""
    pipes = {name: tmp_path / name for name in ("request", "answer")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    descriptors = {name: os.open(pipe, os.O_RDWR) for name, pipe in pipes.items()}
    threads = []

    def listen(answer):
        def once():
            asked = os.read(descriptors["request"], 65536)
            assert json.loads(asked) == {"service": "publish"}
            for part in (answer[:9], answer[9:]):
                os.write(descriptors["answer"], part)

        threads.append(threading.Thread(target=once))
        threads[0].start()

    yield listen
    for thread in threads:
        thread.join()
    for descriptor in descriptors.values():
        os.close(descriptor)


def test_only_public_addresses_count_as_those_by_which_a_host_is_reached():
    assert reached("9.9.9.10") == ["9.9.9.10"]
    assert reached("127.0.0.1") == []
    assert reached("known to ssh alone") == []


def test_a_host_gets_the_controllers_answer(controller, tmp_path):
    controller(b'{"published": {"a. MX": "10 a."}}\n')
    assert ask({"service": "publish"}, 5, tmp_path) == {"published": {"a. MX": "10 a."}}


def test_a_refusal_reaches_the_host(controller, tmp_path):
    controller(b'{"error": "the DNS server refused the update"}\n')
    with pytest.raises(CommandExecutionError, match="refused the update"):
        ask({"service": "publish"}, 5, tmp_path)


def test_a_controller_that_does_not_answer_is_not_waited_for_longer_than_told(controller, tmp_path):
    with pytest.raises(CommandExecutionError, match="no answer in 0 s"):
        ask({"service": "publish"}, 0, tmp_path)


@pytest.mark.parametrize("left", [False, True], ids=["nothing", "pipes of an ended run"])
def test_without_a_controller_a_host_says_so_at_once(tmp_path, left):
    if left:
        os.mkfifo(tmp_path / "request")
    with pytest.raises(NoController, match="no salt-ssh that could do it is connected"):
        ask({"service": "publish"}, 5, tmp_path)
