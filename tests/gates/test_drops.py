"""Verdicts on differences from a baseline."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_gpueval.gates import Rules, failure_message, judge_drops
from pytest_gpueval.suites.schema import Gate


def paired(difference=-0.02, low=-0.03, high=-0.01, p=0.5, p_improved=0.9, **more):
    return SimpleNamespace(
        **{
            "baseline": 0.9,
            "value": 0.9 + difference,
            "difference": difference,
            "low": low,
            "high": high,
            "p": p,
            "p_improved": p_improved,
            "n": 800,
            "changed": 12,
            "detectable": 0.014,
            "method": "paired bootstrap",
            **more,
        }
    )


def verdict(gate, found, rules=Rules()):  # noqa: B008 - frozen
    (only,) = judge_drops([gate], {("f1", None): found}, rules)
    return only


@pytest.mark.parametrize(
    ("bound", "found", "outcome"),
    [
        ({"max_drop": 0.01}, paired(p=0.01), "fail"),
        ({"max_drop": 0.01}, paired(p=0.05), "fail"),
        ({"max_drop": 0.01}, paired(p=0.06), "inconclusive"),
        ({"max_drop": 0.03}, paired(), "pass"),
        ({"max_drop": 0.029}, paired(), "inconclusive"),
        ({"max_drop": 0.034, "relative": True}, paired(), "pass"),  # of 0.9: 0.0306
        ({"max_drop": 0.033, "relative": True}, paired(), "inconclusive"),
        ({"max_drop": 0.01}, paired(0.02, 0.01, 0.03, p=1.0, p_improved=0.001), "improved"),
        ({"max_drop": 0}, paired(0.0, 0.0, 0.0, p=1.0, p_improved=1.0), "pass"),
        # Of a metric of which less is better, what lies above is the danger.
        ({"max_rise": 0.01}, paired(0.02, 0.01, 0.03, p=0.001), "fail"),
        ({"max_rise": 0.03}, paired(0.02, 0.01, 0.03), "pass"),
        ({"max_rise": 0.02}, paired(0.02, 0.01, 0.03), "inconclusive"),
        ({"max_rise": 0.01}, paired(p=1.0, p_improved=0.001), "improved"),
        # One sample changed: nobody can tell.
        ({"max_drop": 0.5}, paired(low=None, high=None, p=None, p_improved=None), "inconclusive"),
    ],
)
def test_outcomes(bound, found, outcome):
    assert verdict(Gate(metric="f1", **bound), found).outcome == outcome


@pytest.mark.parametrize("found", [None, SimpleNamespace(**{**vars(paired()), "difference": None})])
def test_what_is_undefined_on_one_side_is_unscored(found):
    (said,) = judge_drops([Gate(metric="f1", max_drop=0.1)], {("f1", None): found} if found else {}, Rules())
    assert (said.outcome, said.ok, said.value, said.change) == ("unscored", False, None, None)


def test_one_of_many_fails_at_its_part_of_the_level():
    gate, found = Gate(metric="f1", max_drop=0.01), paired(p=0.01)
    assert verdict(gate, found, Rules(tests=5)).outcome == "fail"
    said = verdict(gate, found, Rules(tests=6))
    assert (said.outcome, said.change.p, said.change.p_adjusted) == ("inconclusive", 0.01, pytest.approx(0.06))
    assert verdict(gate, found, Rules(tests=6, correction="none")).outcome == "fail"
    assert verdict(gate, paired(p=0.5), Rules(tests=6)).change.p_adjusted == 1.0


def test_what_rows_cannot_tell_counts_as_the_suite_says():
    gate, found = Gate(metric="f1", max_drop=0.01), paired(p=0.2)
    assert verdict(gate, found, Rules(tolerant=True)).ok
    assert not verdict(gate, found, Rules(tolerant=False)).ok


def test_the_table_where_chance_cannot_be_told():
    said = verdict(Gate(metric="f1", max_drop=0.5), paired(low=None, high=None, p=None, p_improved=None), Rules(tolerant=False))
    line = failure_message("toy one-fast", [said]).splitlines()[3]
    assert line.split()[:7] == ["INCONCLUSIVE", "f1", "0.9000", "0.8800", "-0.0200", "-", "-"]


def test_the_table():
    gates = [Gate(metric="f1", max_drop=0.01), Gate(metric="gone", max_rise=0.05, relative=True)]
    text = failure_message("toy one-fast", judge_drops(gates, {("f1", None): paired(p=0.001)}, Rules(tests=2)))
    lines = text.splitlines()
    assert lines[0] == "toy one-fast: 2 of 2 gates failed"
    assert lines[2].split() == ["metric", "baseline", "value", "difference", "interval", "p", "bound", "detects", "documents", "changed"]
    assert lines[3].split() == ["FAIL", "f1", "0.9000", "0.8800", "-0.0200", "[-0.0300,", "-0.0100]", "0.002", "drop", "<=", "0.01", "0.0140", "800", "12"]
    assert lines[4].split() == ["UNSCORED", "gone", "-", "-", "-", "-", "-", "rise", "<=", "5", "%", "-", "-", "-"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "a gate needs 'min', 'max', 'max_drop' or 'max_rise'"),
        ({"max_drop": 0.1, "min": 0.5}, "write two gates"),
        ({"max_drop": 0.1, "max_rise": 0.1}, "write two gates"),
        ({"max_drop": 0.1, "judge": "interval"}, "always judged on its interval"),
        ({"min": 0.1, "relative": True}, "'relative' is of"),
        ({"max_drop": -0.1}, "greater than or equal to 0"),
    ],
)
def test_gates_that_cannot_be(given, problem):
    with pytest.raises(ValueError, match=problem):
        Gate(metric="f1", **given)
