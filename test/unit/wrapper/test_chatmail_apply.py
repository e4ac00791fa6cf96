"""One apply at a time per target, on the controller."""

import os

import pytest
from salt.exceptions import CommandExecutionError

from _wrapper import chatmail_apply


@pytest.fixture
def configure_loader_modules():
    return {chatmail_apply: {"__opts__": {}, "__context__": {}}}


@pytest.fixture
def run_as(tmp_path, configure_loader_modules, monkeypatch):
    """Stand for one run of salt-ssh after the other; their locks stay held."""
    descriptors = []

    def run(target="relay", function="state.apply"):
        context = {}
        opts = {"id": target, "__master_opts__": {"argv": [function, "chatmail"], "cachedir": str(tmp_path)}}
        monkeypatch.setattr(chatmail_apply, "__opts__", opts, raising=False)
        monkeypatch.setattr(chatmail_apply, "__context__", context, raising=False)
        try:
            assert chatmail_apply.lock() == ""
        finally:
            descriptors.extend(context.values())
        return context

    run.descriptors = descriptors
    yield run
    for descriptor in descriptors:
        os.close(descriptor)


def test_the_first_run_gets_the_lock_and_keeps_it(run_as):
    assert "chatmail_apply.lock" in run_as()


def test_a_second_run_is_refused_with_who_and_what_to_do(run_as):
    run_as()
    with pytest.raises(CommandExecutionError, match=rf"Another apply to relay.*process {os.getpid()}.*Wait"):
        run_as()


def test_another_target_is_not_concerned(run_as):
    run_as("one")
    assert "chatmail_apply.lock" in run_as("two")


def test_the_lock_is_free_again_after_the_run(run_as):
    run_as()
    os.close(run_as.descriptors.pop())
    assert "chatmail_apply.lock" in run_as()


def test_on_a_terminal_a_run_without_progress_says_that_the_outcome_comes_at_the_end(run_as, monkeypatch, capsys):
    run_as()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run_as("one")
    assert capsys.readouterr().err.startswith("one: the outcome is told at the end; ./relay apply shows")


def test_rendering_twice_in_one_run_is_no_second_run(run_as):
    run_as()
    assert chatmail_apply.lock() == ""


def test_showing_states_takes_no_lock_and_needs_none(run_as):
    run_as()
    assert run_as(function="state.show_low_sls") == {}


def test_the_lock_is_not_inherited_by_the_ssh_sessions_that_outlive_a_run(run_as):
    (descriptor,) = run_as().values()
    assert not os.get_inheritable(descriptor)
