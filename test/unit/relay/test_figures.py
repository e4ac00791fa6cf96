"""The figures of `make relay`."""

import json

import pytest

from test.relay.figures import Distribution, Figures, percentile

DISTRIBUTION = Distribution.of([0.010, 0.020, 0.030])


def figures(**changes):
    values = {
        "first_apply_s": 61.2,
        "second_apply_s": 4.4,
        "second_apply_changed": 0,
        "delivery_same_ms": DISTRIBUTION,
        "delivery_same_13_ms": DISTRIBUTION,
        "delivery_across_ms": DISTRIBUTION,
        "round_trip_same_ms": DISTRIBUTION,
        "round_trip_across_ms": DISTRIBUTION,
        "notifications_sent": 42,
        "notifications_lost": 0,
        "messages_ok": True,
    }
    return Figures(**(values | changes))


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 50), (95, 95), (99, 99), (100, 100)])
def test_percentiles_are_measured_values(percent, expected):
    assert percentile(range(100, 0, -1), percent) == expected


def test_one_measurement_is_every_percentile():
    assert {percentile([7.0], percent) for percent in (1, 50, 99)} == {7.0}


def test_no_measurement_is_an_error():
    with pytest.raises(ValueError, match="no measurements"):
        Distribution.of([])


def test_distributions_are_in_milliseconds():
    assert Distribution(p50=20.0, p95=30.0, p99=30.0, n=3) == DISTRIBUTION


def test_report_has_the_agreed_keys(tmp_path):
    path = tmp_path / "build" / "relay-report.json"
    figures().write(path)
    report = json.loads(path.read_text())
    assert report["first_apply_s"] == 61.2
    assert report["second_apply_s"] == 4.4
    assert report["second_apply_changed"] == 0
    assert report["notifications_lost"] == 0
    assert report["messages_ok"] is True
    for key in ("delivery_same_ms", "delivery_same_13_ms", "delivery_across_ms"):
        assert report[key] == {"p50": 20.0, "p95": 30.0, "p99": 30.0, "n": 3}


def test_rows_say_when_the_first_apply_was_not_measured():
    rows = dict(figures(first_apply_s=None).rows())
    assert "not bare" in rows["First apply, both hosts"]


def test_rows_say_what_was_lost():
    assert dict(figures(notifications_lost=3).rows())["Notices to idle clients"] == "3 of 42 lost"
