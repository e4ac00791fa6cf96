"""One fault is one finding; what stands on it is not tried; machines get the figures."""

import re
import threading

import chatmail_checks
from chatmail_checks import Check, Finding
from test.support.relays import relay


def check(name, *findings, facts=None, **more):
    return Check(name, lambda _relay: facts, lambda _facts, _relay: (f"{name} says", list(findings)), **more)


def survey(*checks):
    lines, found = chatmail_checks.survey(checks, relay())
    return {line["check"]: line["level"] for line in lines}, [one["what"] for one in found]


BAD = Finding("error", "bad", "bad", "fix it")


def test_a_check_whose_base_is_down_is_not_tried():
    levels, found = survey(check("disk", BAD), check("probe", Finding("error", "x", "no", ""), needs=("disk",)))
    assert (levels, found) == ({"disk": "error", "probe": "skipped"}, ["bad"])


def test_a_warning_is_no_reason_to_skip():
    levels, _ = survey(check("disk", Finding("warning", "x", "w", "")), check("probe", needs=("disk",)))
    assert levels == {"disk": "warning", "probe": "ok"}


def test_what_a_stopped_unit_has_to_do_is_not_looked_at():
    stopped = Finding("error", "stopped", "x is stopped", "", "x.service")
    gone = Finding("error", "socket-lost", "its socket is gone", "", "x.service")
    levels, found = survey(
        check("services", stopped), check("sockets", gone), check("probe", units=frozenset(["x.service"]))
    )
    assert (levels, found) == ({"services": "error", "sockets": "ok", "probe": "skipped"}, ["x is stopped"])


def test_consequences_are_not_told():
    first = check("certificate", Finding("error", "x", "it has ended", ""), explains=re.compile("(?i)certificate"))
    second = check(
        "services", Finding("error", "x", "nginx: bad Certificate", ""), Finding("error", "x", "x is stopped", "")
    )
    assert survey(first, second)[1] == ["it has ended", "x is stopped"]


def test_a_check_that_fails_itself_is_a_finding():
    def collect(_relay):
        raise OSError(5, "Input/output error")

    levels, found = survey(Check("disk", collect, None))
    assert levels == {"disk": "error"}
    assert "Input/output error" in found[0]


def test_a_setting_that_is_newer_than_the_last_apply_is_a_finding():
    levels, found = survey(Check("services", lambda _r: None, lambda _f, relay: relay.settings["tomorrow"]))
    assert levels == {"services": "error"}
    assert found == ["services cannot be looked at: 'tomorrow' is not there"]


def test_slow_checks_work_beside_the_others():
    met = threading.Barrier(2, timeout=20)
    levels, _ = survey(
        Check("one", lambda _r: met.wait(), lambda _f, _r: ("", []), slow=True),
        Check("two", lambda _r: met.wait(), lambda _f, _r: ("", []), slow=True),
    )
    assert levels == {"one": "ok", "two": "ok"}


def test_figures_are_told_beside_the_words():
    lines, _ = chatmail_checks.survey([check("disk", facts={"free": 7}, figures=dict)], relay())
    assert lines == [{"check": "disk", "level": "ok", "says": "disk says", "figures": {"free": 7}}]


def test_the_worst_finding_comes_first():
    _, found = survey(check("a", Finding("note", "x", "n", "")), check("b", Finding("error", "x", "e", "")))
    assert found == ["e", "n"]
