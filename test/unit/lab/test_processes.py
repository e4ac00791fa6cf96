import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from test.lab import processes
from test.lab.layout import Layout


@pytest.fixture
def layout(tmp_path):
    return Layout("", tmp_path, tmp_path / "cache")


@pytest.fixture
def sleeper(layout):
    process = subprocess.Popen(["sleep", "1000"], env=processes.marked_environment(layout, "sleeper"))
    wait_for_title(process, b"sleep\0")
    yield process
    process.kill()
    process.wait()


def wait_for_title(process: subprocess.Popen, title: bytes) -> None:
    """Popen returns when the old program's files are closed; its environment goes a moment later (execve(2))."""
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(title):
        assert process.poll() is None


def test_marked_processes_are_found_by_their_role(layout, sleeper):
    (found,) = processes.find(layout)
    assert (found.pid, found.command, found.role, found.is_init) == (sleeper.pid, "sleep", "sleeper", False)


def test_another_labs_processes_are_not_found(layout, sleeper):
    assert processes.find(replace(layout, name="b")) == []


def test_masters_of_shared_ssh_connections_are_found_by_their_title(layout):
    title = f"ssh: {layout.run}/ssh/0123 [mux]"
    process = subprocess.Popen([title, "1000"], executable="/bin/sleep")
    try:
        wait_for_title(process, b"ssh: ")
        assert [found.role for found in processes.find(layout)] == ["ssh"]
    finally:
        process.kill()
        process.wait()


def test_end_kills_and_waits(layout, sleeper):
    assert processes.end(processes.find(layout)) == []
    assert processes.find(layout) == []
    assert sleeper.wait(timeout=10) == -9


def test_a_process_that_was_given_the_number_of_another_is_spared(layout, sleeper):
    (found,) = processes.find(layout)
    earlier = replace(found, started=found.started - 1)
    assert not processes.is_alive(earlier)
    assert processes.end([earlier]) == []
    assert sleeper.poll() is None


def test_the_start_time_is_found_behind_any_command_name():
    fields = " ".join(str(number) for number in range(3, 53))
    assert processes.start_time(f"17 (a) b (c)) {fields}") == 22


def test_environment_blocks_may_hold_anything():
    assert processes.parse_environment(b"A=1\0B=x=y\0noise\0\xff=\0") == {"A": "1", "B": "x=y", "\ufffd": ""}


def test_namespace_numbers_go_inwards():
    assert processes.namespace_numbers("Name:\tsystemd\nNSpid:\t812\t1\nThreads:\t1\n") == [812, 1]
    assert processes.namespace_numbers("Name:\tkthreadd\n") == []
