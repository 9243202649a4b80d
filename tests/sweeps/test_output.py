"""Results and steps in what programs print."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.suites.sweep_schema import MetricEntry, SeriesEntry
from pytest_gpueval.sweeps.output import Output, Step, at, of_summary, results

STEPS = SeriesEntry(pattern=r"^step (?P<step>\S+) loss (?P<loss>\S+)(?: lr (?P<lr>\S+))?$")


def test_result_lines_give_metrics_by_the_programs_own_names():
    text = 'x\nRESULT_DAVID elapsed_seconds=93.20 epochs=12 note="two words" gpu=A10 ok=true\n RESULT_NOT a=1\nRESULT_HLB acc=0.94\nRESULT_HLB acc=0.95\n'
    assert results(text) == {"david.elapsed_seconds": 93.2, "david.epochs": 12.0, "hlb.acc": 0.95}


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.floats(allow_nan=False), min_size=1))
def test_what_is_printed_as_a_result_is_found(values):
    line = "RESULT_X " + " ".join(f"{name}={value!r}" for name, value in values.items())
    assert results(f"before\n{line}\nafter\n") == {f"x.{name}": value for name, value in values.items()}


def test_steps_by_a_pattern_with_values_that_may_be_missing_or_not_finite():
    found = Output(STEPS, {}).feed("step 1 loss 2.5 lr 1e-3\nstep two loss 3\nstep 2 loss nan\nstep 0.5 loss inf\nother\n")
    assert [(step.id, dict(step.values)) for step in found[:1]] == [("1", {"loss": 2.5, "lr": 0.001})]
    assert [step.id for step in found] == ["1", "2", "0.5"]
    assert [step.not_finite for step in found] == [None, "loss nan", "loss inf"]


def test_steps_as_json_lines_among_other_text():
    output = Output(SeriesEntry(json_lines=True), {})
    text = '{"step": 3, "loss": 1.5, "note": "x", "done": true}\n{not json\n[1]\n{"loss": 1}\n{"step": 4}\n{"step": 1e400, "loss": 1}\n'
    assert output.feed(text) == [Step(3.0, {"loss": 1.5})]


def test_declared_metrics_take_the_last_match():
    output = Output(None, {"acc": MetricEntry(pattern=r"accuracy: (?P<value>[\d.]+)"), "f1": MetricEntry(pattern=r"p=(?P<p>\S+) f1=(?P<f1>\S+)")})
    output.feed("accuracy: 0.5\np=1 f1=0.25\n")
    output.feed("accuracy: 0.75\n")
    assert output.metrics == {"acc": 0.75, "f1": 0.25}


def test_the_end_of_the_output_is_kept_and_no_more():
    output = Output(None, {})
    for number in range(10_000):
        output.feed(f"line {number}\n")
    assert output.tail.endswith("line 9999\n")
    assert len(output.tail) <= 20_000


def test_numbers_of_a_summary_that_a_program_wrote():
    assert of_summary({"ok": True, "loss": 1, "name": "x", "metrics": {"acc": 0.5, "deep": {"a": 1}}, "none": None}) == {"loss": 1.0, "acc": 0.5}
    assert of_summary({"metrics": [1, 2]}) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [("eval.loss", 1.5), ("steps.0.loss", 3.0), ("steps.-1.loss", 2.0), ("steps.7.loss", None), ("eval", None), ("ok", None), ("eval.loss.x", None)],
)
def test_a_number_by_its_path(path, value):
    assert at({"eval": {"loss": 1.5}, "steps": [{"loss": 3}, {"loss": 2}], "ok": True}, path) == value


def test_a_step_says_its_number_as_people_write_it():
    assert Step(100.0, {"loss": math.nan}).id == "100"
    assert Step(0.25, {"loss": 1.0}).id == "0.25"
