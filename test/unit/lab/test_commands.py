import pytest

from test.lab import LabError
from test.lab.commands import finish, run


def test_run_returns_standard_output_and_passes_standard_input():
    assert run(["cat"], text_in="text") == "text"


def test_a_command_without_input_finds_none():
    assert run(["cat"]) == ""


def test_a_failure_tells_the_command_its_code_and_its_output():
    with pytest.raises(LabError, match=r"(?s)`sh -c .*` ended with code 3:\nwhy"):
        run(["sh", "-c", "echo why >&2; exit 3"])


def test_finish_leaves_the_exit_code_to_the_caller():
    assert finish(["sh", "-c", "exit 3"], timeout=10).returncode == 3


def test_a_missing_command_names_the_next_step():
    with pytest.raises(LabError, match=r"test\.lab deps"):
        run(["no-such-command-here"])


def test_a_command_out_of_time_goes_with_its_children(tmp_path):
    """The child holds the pipes open: were it not killed, this would wait for its end."""
    with pytest.raises(LabError, match="did not end within"):
        finish(["sh", "-c", "sleep 1000 & echo $! > pid; wait"], timeout=0.5, cwd=tmp_path)
    child = int((tmp_path / "pid").read_text())
    state = finish(["ps", "-o", "stat=", "-p", str(child)], timeout=10).stdout
    assert not state or state.startswith("Z")
