"""What a host said holds until a state has changed something."""

import pytest

from chatmail_unchanged import remembered

RIGHT = {"changes": {}, "result": True}


@pytest.mark.parametrize(
    ("later", "asked"),
    [
        (RIGHT, 1),
        ({"changes": {"a": "b"}, "result": True}, 2),
        ({"changes": {}, "result": False}, 2),
    ],
)
def test_the_host_is_asked_again_after_a_change_or_a_failure_alone(later, asked):
    context, answers = {}, iter([1, 2, 3])
    for running in ({}, {"a": RIGHT}, {"a": RIGHT, "b": later}, {"a": RIGHT, "b": later, "c": RIGHT}):
        found = remembered("answers", lambda: next(answers), running, context)
    assert found == asked
