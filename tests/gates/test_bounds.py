"""Metrics against bounds."""

import math
from types import SimpleNamespace

import pytest

from pytest_gpueval.gates import failure_message, judge


def gate(metric="f1", label=None, **bounds):
    return SimpleNamespace(**{"metric": metric, "label": label, "min": None, "max": None, "judge": "value", **bounds})


def measured(value, low=None, high=None, n=10):
    return SimpleNamespace(value=value, low=low, high=high, n=n)


def outcome(one, value, low=None, high=None):
    (verdict,) = judge([one], {"f1": measured(value, low, high)}, {})
    assert verdict.ok == (verdict.outcome == "pass")
    return verdict.outcome


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({"min": 0.9}, 0.9, "pass"),
        ({"min": 0.9}, math.nextafter(0.9, 0), "fail"),
        ({"max": 0.1}, 0.1, "pass"),
        ({"max": 0.1}, math.nextafter(0.1, 1), "fail"),
        ({"min": 0.2, "max": 0.4}, 0.3, "pass"),
        ({"min": 0.2, "max": 0.4}, 0.5, "fail"),
        ({"min": 0}, 0.0, "pass"),
        ({"min": 0.5}, math.nan, "fail"),
        ({"max": 0.5}, math.nan, "fail"),
        ({"max": 1e300}, 1e299, "pass"),
    ],
)
def test_on_the_value(bounds, value, expected):
    assert outcome(gate(**bounds), value, value - 0.5, value + 0.5) == expected
    assert outcome(gate(**bounds), value) == expected  # one sample has no interval


@pytest.mark.parametrize(
    ("bounds", "interval", "expected"),
    [
        ({"min": 0.8}, (0.8, 1.0), "pass"),
        ({"min": 0.8}, (0.79, 1.0), "fail"),
        ({"max": 1.0}, (0.8, 1.0), "pass"),
        ({"max": 0.95}, (0.8, 1.0), "fail"),
        ({"min": 0.8}, (None, None), "unscored"),
    ],
)
def test_on_the_whole_interval(bounds, interval, expected):
    assert outcome(gate(**bounds, judge="interval"), 0.9, *interval) == expected


def test_what_is_not_there_or_undefined_is_unscored_and_fails():
    verdicts = judge([gate("gone", min=0), gate("f1", min=0), gate("f1", "A", min=0)], {"f1": measured(None)}, {})
    assert [(verdict.outcome, verdict.ok, verdict.value) for verdict in verdicts] == [("unscored", False, None)] * 3


def test_gates_of_labels():
    labels = {"A": {"f1": measured(0.9)}, "B": {"f1": measured(0.1)}}
    verdicts = judge([gate(label="A", min=0.5), gate(label="B", min=0.5), gate(min=0.5), gate(label="C", min=0.5)], {"f1": measured(0.6)}, labels)
    assert [(verdict.name, verdict.outcome) for verdict in verdicts] == [("f1[A]", "pass"), ("f1[B]", "fail"), ("f1", "pass"), ("f1[C]", "unscored")]
    expected = {
        "metric": "f1",
        "label": "A",
        "bound": ">= 0.5",
        "value": 0.9,
        "low": None,
        "high": None,
        "n": 10,
        "outcome": "pass",
        "change": None,
        "note": None,
        "tolerated": False,
        "unit": None,
    }
    assert verdicts[0].as_dict() == expected


def test_the_table():
    gates = [
        gate(min=0.9),
        gate("recall", min=0.5, max=1, judge="interval"),
        gate("loss", max=0.123456789),
        gate("rate", label="A", max=1e-9),
        gate("gone", min=1),
    ]
    overall = {"f1": measured(0.8999999, 0.85, 0.95, 800), "recall": measured(0.75, 0.6, 0.8, 12), "loss": measured(1e300, None, None, 1)}
    verdicts = judge(gates, overall, {"A": {"rate": measured(2e-9, 0.0, 1.5e-8, 3)}})
    assert failure_message("mine reviews-fast", verdicts).splitlines() == [
        "mine reviews-fast: 4 of 5 gates failed",
        "",
        "          metric   value      95 % interval      bound                             documents",
        "FAIL      f1       0.8999999  [0.8500, 0.9500]   >= 0.9                            800",
        "FAIL      loss     1e+300     -                  <= 0.123456789                    1",
        "FAIL      rate[A]  2e-09      [0.0000, 1.5e-08]  <= 1e-09                          3",
        "UNSCORED  gone     -          -                  >= 1                              0",
        "PASS      recall   0.7500     [0.6000, 0.8000]   >= 0.5 and <= 1 (whole interval)  12",
    ]


@pytest.mark.parametrize(("value", "text"), [(0.123456789, "0.123457"), (1 / 3, "0.333333"), (0.91239999, "0.91239999"), (0.1 + 0.2, "0.3"), (-0.5, "-0.5000")])
def test_digits(value, text):
    (line,) = failure_message("x", judge([gate(min=9)], {"f1": measured(value)}, {})).splitlines()[3:]
    assert line.split()[2] == text
