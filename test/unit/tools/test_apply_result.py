"""What salt-ssh returns for a host, in all the shapes that it has for success and failure."""

import pytest

from tools.apply_result import parse_return


def state(**changes):
    return {
        "__id__": "postfix-main-cf",
        "__sls__": "chatmail.postfix",
        "__run_num__": 0,
        "result": True,
        "changes": {},
        "comment": "is right",
        "duration": 12.5,
    } | changes


KEY = "file_|-postfix-main-cf_|-/etc/postfix/main.cf_|-managed"
SERVICE = "service_|-postfix-service_|-postfix_|-running"


def result_of(returned, retcode=0):
    return parse_return("relay", returned, retcode, seconds=4.2)


def test_all_right():
    result = result_of({"return": {KEY: state()}, "retcode": 0})
    assert result.succeeded
    assert (result.changed, result.failed, result.errors) == ([], [], ())
    assert (result.states[0].function, result.states[0].seconds) == ("file.managed", 0.0125)


def test_changed_states_are_counted():
    result = result_of({"return": {KEY: state(changes={"diff": "-a +b"})}})
    assert result.succeeded
    assert [changed.identifier for changed in result.changed] == ["postfix-main-cf"]


def test_a_failed_state_fails_the_host_with_its_own_comment():
    result = result_of({"return": {KEY: state(result=False, comment="postfix check: bad value ")}}, retcode=2)
    assert not result.succeeded
    assert result.failed[0].comment == "postfix check: bad value"
    assert result.failed[0].was_run


def test_what_was_not_run_because_of_a_requisite_is_told_apart():
    skipped = state(
        __id__="postfix-service",
        __run_num__=1,
        result=False,
        comment="One or more requisite failed: x",
        duration="0 ms",
    )
    result = result_of({"return": {SERVICE: skipped, KEY: state(result=False)}}, retcode=2)
    assert [failed.was_run for failed in result.failed] == [True, False]


def test_states_are_in_the_order_in_which_they_ran():
    result = result_of({"return": {SERVICE: state(__id__="later", __run_num__=1), KEY: state()}})
    assert [each.identifier for each in result.states] == ["postfix-main-cf", "later"]


def test_an_exit_code_without_a_failed_state_is_a_failure():
    result = result_of({"return": {KEY: state()}}, retcode=1)
    assert not result.succeeded
    assert "exit code 1" in result.errors[0]


def test_an_empty_answer_with_exit_code_0_is_a_failure():
    result = result_of({"return": {}, "retcode": 0})
    assert not result.succeeded
    assert "at the same time" in result.errors[0]


def test_render_errors_are_reported_each():
    result = result_of(["Rendering SLS 'base:chatmail.postfix' failed: mapping values", "another"], retcode=1)
    assert not result.succeeded
    assert result.errors == ("Rendering SLS 'base:chatmail.postfix' failed: mapping values", "another")


def test_an_error_that_a_function_raised_while_rendering_is_told_without_the_template():
    error = (
        "Rendering SLS 'base:chatmail.preflight' failed: Problem running salt function in Jinja template: "
        "Another apply to relay is running.; line 4\n\n---\n[...]\n{{ salt[...]() }}    <====\n---"
    )
    assert result_of([error], retcode=1).errors == ("Another apply to relay is running.",)


@pytest.mark.parametrize("empty", [None, "", {}, []])
def test_nothing_at_all_is_a_failure(empty):
    assert not result_of(empty).succeeded


def test_a_session_that_broke_shows_the_end_of_its_output():
    stderr = (
        "SALT_ARGV: [...]\n" + "".join(f"line {number}\n" for number in range(100)) + "sudo: a password is required"
    )
    result = result_of({"stdout": "", "stderr": stderr, "retcode": 255, "_error": "x"}, retcode=255)
    assert result.errors[0].endswith("sudo: a password is required")
    assert "line 1\n" not in result.errors[0]


def test_what_a_terminal_would_obey_is_replaced():
    evil = "\x1b]0;owned\x07\x1b[2J\r"
    result = result_of({"return": {KEY: state(result=False, comment=f"line 1\n{evil}line 2", __id__=f"{evil}id")}})
    assert result.failed[0].comment == "line 1\n\ufffd]0;owned\ufffd\ufffd[2J\ufffdline 2"
    assert result.failed[0].identifier.isprintable()
    assert "\x1b" not in result_of({"stderr": evil, "retcode": 255}, retcode=255).errors[0]
    assert "\x1b" not in result_of([evil], retcode=1).errors[0]
