"""What an apply shows, with and without a terminal."""

import io

from rich.console import Console

from tools.apply_display import Display, summary
from tools.apply_progress import Progress, Step
from tools.apply_result import HostResult, StateResult

STEPS = [Step(f"state-{number}", "test.nop", f"state-{number}", "chatmail.system") for number in range(100)]


def failed(comment, identifier="postfix-main-cf"):
    return StateResult(identifier, "file.managed", "chatmail.postfix", False, False, comment, 0.1)


def shown(result, width=60):
    return "\n".join(line.plain for line in summary(result, width))


def test_without_a_terminal_the_number_of_lines_is_bounded():
    output = io.StringIO()
    progress = Progress(started=0.0, steps=STEPS)
    with Display(Console(file=output, width=100), ["relay"]) as display:
        for number, step in enumerate(STEPS):
            progress.done, progress.current = number, step
            display.refresh({"relay": progress}, now=number / 10)
            display.refresh({"relay": progress}, now=number / 10)
    lines = output.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].split() == ["relay", "rendering", "the", "states"]
    assert lines[1].split() == ["relay", "1", "s", "10/100", "chatmail.system:", "state-10"]


def test_without_a_terminal_a_long_state_is_shown_again_after_a_while():
    output = io.StringIO()
    progress = Progress(started=0.0, steps=STEPS, current=STEPS[0])
    with Display(Console(file=output, width=100), ["relay"]) as display:
        for second in range(65):
            display.refresh({"relay": progress}, now=float(second))
    assert len(output.getvalue().splitlines()) == 3


def test_on_a_terminal_host_counter_and_state_are_shown():
    output = io.StringIO()
    progress = Progress(started=0.0, steps=STEPS, done=43, current=STEPS[43], current_since=1.0)
    with Display(Console(file=output, width=100, force_terminal=True, color_system=None), ["relay"]) as display:
        display.refresh({"relay": progress}, now=12.0)
    line = output.getvalue()
    assert "relay" in line
    assert " 43/100" in line
    assert "system: state-43 11 s" in line


def test_slow_states_are_named_and_quick_ones_are_not():
    output = io.StringIO()
    with Display(Console(file=output, width=100), ["relay"]) as display:
        display.slow("relay", STEPS[1], 0.4)
        display.slow("relay", STEPS[2], 14.2)
    assert output.getvalue().splitlines()[1:] == ["  relay  chatmail.system: state-2 took 14 s"]


def test_summary_of_success_is_a_line_and_the_names_of_what_changed():
    ran = StateResult("dovecot-packages", "pkg.installed", "chatmail.dovecot", True, True, "", 14.2)
    text = shown(HostResult("relay", (ran,), (), 41.2), width=100)
    assert text.splitlines() == [
        "  ✓ relay  1 succeeded, 1 changed, 0 failed, 41.2 s  (longest: dovecot-packages 14 s)",
        "    changed: dovecot-packages",
    ]


def changed(name, **more):
    return StateResult(name, "file.managed", "chatmail.nginx", True, True, f"{name} is new", 0.0, **more)


def test_a_first_apply_does_not_name_everything_that_has_changed():
    states = tuple(changed(f"s{number}") for number in range(160))
    assert len(shown(HostResult("relay", states, (), 41.2)).splitlines()) == 1


def test_what_would_change_is_shown_with_the_lines_of_files_as_long_as_they_are_few():
    diff = "\n".join(["-a", "+b", *(f"+{number}" for number in range(60))])
    text = shown(HostResult("relay", (changed("nginx-conf", pending=True, diff=diff),), (), 3.0))
    assert "1 would change" in text
    assert "chatmail.nginx: nginx-conf (file.managed)" in text
    assert "      +b" in text.splitlines()
    assert text.splitlines()[-1].strip() == "22 more lines"
    many = tuple(changed(f"s{number}", pending=True, diff=diff) for number in range(13))
    text = shown(HostResult("relay", many, (), 3.0))
    assert "would change: s0, s1" in text
    assert "+b" not in text
    first = tuple(changed(f"s{number}", pending=True, diff=diff) for number in range(200))
    assert shown(HostResult("relay", first, (), 3.0)).splitlines()[1:] == ["    would change: 200 of nginx"]


def test_what_the_relay_offers_and_warnings_come_last():
    ready = StateResult("ready-told", "chatmail_relay.ready", "chatmail.ready", True, False, "It is ready.\nGo.", 0.0)
    warned = StateResult("valid", "test.nop", "s", True, False, "", 0.0, warnings=("contact: is missing.",))
    text = shown(HostResult("relay", (ready, warned), (), 3.0))
    assert text.splitlines()[1:] == ["    It is ready.", "    Go.", "    ! contact: is missing."]
    assert "It is ready" not in shown(HostResult("relay", (ready, failed("no")), (), 3.0))


def test_summary_names_no_more_long_states_than_have_room():
    ran = tuple(StateResult(f"packages-{n}", "pkg.installed", "s", True, False, "", 10.0 - n) for n in range(3))
    text = shown(HostResult("relay", ran, (), 41.2), width=80)
    assert "packages-0 10 s" in text
    assert "packages-1" not in text
    assert len(text) <= 80


def test_summary_of_failure_wraps_the_states_own_words():
    comment = "postfix check says: bad value in main.cf, line 12, which is long enough to be wrapped\nsecond line"
    text = shown(HostResult("relay", (failed(comment),), (), 3.0))
    assert "chatmail.postfix: postfix-main-cf (file.managed)" in text
    assert all(len(line) <= 60 for line in text.splitlines())
    assert "      second line" in text.splitlines()


def test_lines_of_a_zone_file_stay_whole():
    line = f'a._domainkey.chat.example.org.    3600 IN TXT "{"x" * 80}" "{"y" * 80}"'
    assert f"      {line}" in shown(HostResult("relay", (failed(f"Enter:\n{line}"),), (), 3.0)).splitlines()


def test_what_is_to_be_copied_is_not_broken():
    comment = "a site of its own is in the way on this host: set `takeover: true` in the pillar"
    said = shown(HostResult("relay", (failed(comment),), (), 3.0), width=56)
    assert "`takeover: true`" in said
    assert max(map(len, said.splitlines())) <= 56


def test_states_that_were_not_run_are_only_counted():
    states = (failed("broken"), *(failed("One or more requisite failed: x", f"s{n}") for n in range(3)))
    text = shown(HostResult("relay", states, (), 3.0))
    assert "3 more were not run" in text
    assert "s1" not in text


def test_text_of_hosts_is_no_markup():
    text = shown(HostResult("relay", (failed("[red]danger[/red] [/]"),), (), 3.0))
    assert "[red]danger[/red] [/]" in text
