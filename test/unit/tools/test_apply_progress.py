"""Progress of an apply, from the lines that salt 3008 writes to its log."""

import json

import pytest

from tools.apply_progress import Progress, Step, parse_lowstate

STEPS = [
    Step("system-packages", "pkg.installed", "system-packages", "chatmail.system"),
    Step("unbound-conf", "file.managed", "/etc/unbound/unbound.conf", "chatmail.unbound"),
    Step("dovecot", "pkg.installed", "dovecot", "chatmail.dovecot"),
    Step("dovecot-service", "service.running", "dovecot", "chatmail.dovecot"),
]


def log(message):
    return f"2026-11-21 10:00:00,123 [salt.state       :2384][INFO    ][4711] {message}"


def executing(function, name):
    return log(f"Executing state {function} for [{name}]")


def completed(name):
    return log(f"Completed state [{name}] at time 10:00:00.223 (duration_in_ms=100.1)")


@pytest.fixture
def progress():
    return Progress(started=0.0, steps=STEPS)


def test_lowstate_gives_the_steps_in_its_order():
    chunks = [
        {"state": "pkg", "fun": "installed", "name": "x", "__id__": "x-packages", "__sls__": "chatmail.x", "order": 1},
        {"state": "service", "fun": "running", "name": "x", "__id__": "x-service", "__sls__": "chatmail.x"},
    ]
    assert parse_lowstate(json.dumps(chunks)) == [
        Step("x-packages", "pkg.installed", "x", "chatmail.x"),
        Step("x-service", "service.running", "x", "chatmail.x"),
    ]


@pytest.mark.parametrize("text", ["", "{}", '["an error"]', "not json"])
def test_what_is_no_lowstate_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_lowstate(text)


def test_a_state_that_starts_is_the_current_one_until_it_ends(progress):
    assert progress.feed(executing("pkg.installed", "system-packages"), 1.0) is None
    assert (progress.current, progress.done) == (STEPS[0], 0)
    assert progress.feed(completed("system-packages"), 4.5) == (STEPS[0], 3.5)
    assert (progress.current, progress.done) == (None, 1)


def test_states_that_salt_skipped_count_as_done_when_a_later_one_starts(progress):
    progress.feed(executing("service.running", "dovecot"), 1.0)
    assert (progress.current, progress.done) == (STEPS[3], 3)


def test_two_states_of_one_name_are_told_apart_by_function(progress):
    progress.feed(executing("pkg.installed", "dovecot"), 1.0)
    assert progress.current == STEPS[2]


def test_states_of_one_name_and_function_are_taken_in_order():
    twice = Progress(started=0.0, steps=[Step("a", "test.nop", "x", "s"), Step("b", "test.nop", "x", "s")])
    for expected in ("a", "b"):
        twice.feed(executing("test.nop", "x"), 1.0)
        assert twice.current.identifier == expected
        twice.feed(completed("x"), 1.0)
    assert twice.done == 2


def test_a_name_with_line_breaks_is_found_by_its_first_line():
    script = Progress(started=0.0, steps=[Step("script", "cmd.run", "first\nsecond", "s")])
    script.feed(log("Executing state cmd.run for [first"), 1.0)
    assert script.current.identifier == "script"


def test_lines_about_unknown_states_and_other_lines_change_nothing(progress):
    for line in (executing("cmd.run", "stranger"), completed("stranger"), log("Loading fresh modules"), "", "\x00\xff"):
        assert progress.feed(line, 1.0) is None
    assert (progress.current, progress.done) == (None, 0)


def test_done_never_exceeds_the_number_of_states(progress):
    for _ in range(3):
        progress.feed(executing("service.running", "dovecot"), 1.0)
        progress.feed(completed("dovecot"), 2.0)
    assert progress.done == len(STEPS)


def test_what_a_state_waits_for_is_known_until_it_goes_on(progress):
    progress.feed(executing("pkg.installed", "system-packages"), 1.0)
    waits = "waits for apt's lock, which unattended-upgr (process 812) holds"
    assert progress.feed(log(waits), 2.0) is None
    assert progress.waits == waits
    assert progress.feed(completed("system-packages"), 3.0) == (STEPS[0], 2.0)
    assert progress.waits == ""
