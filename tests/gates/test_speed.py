"""Verdicts on speed and memory."""

from __future__ import annotations

import pytest

from pytest_gpueval.gates import Rules, Verdict, exact, failure_message, of_machine, unjudged
from pytest_gpueval.gates.bounds import Change
from pytest_gpueval.suites.schema import Gate

MEMORY = "gpu_peak_memory_mib"


@pytest.mark.parametrize(
    ("bound", "value", "outcome"),
    [
        ({"max_rise": 0.05, "relative": True}, 1050.0, "pass"),
        ({"max_rise": 0.05, "relative": True}, 1051.0, "fail"),
        ({"max_rise": 0.0}, 1000.0, "pass"),
        ({"max_rise": 10.0}, 1010.0, "pass"),
        ({"max_rise": 10.0}, 999.0, "improved"),
        ({"max_rise": 10.0}, 1011.0, "fail"),
    ],
)
def test_memory_is_what_it_is(bound, value, outcome):
    verdict = exact(Gate(metric=MEMORY, **bound), 1000.0, value, Rules())
    assert (verdict.outcome, verdict.unit, verdict.change.difference, verdict.change.p) == (outcome, "MiB", value - 1000, None)
    assert verdict.ok == (outcome != "fail")


@pytest.mark.parametrize("tolerant", [True, False])
def test_what_cannot_be_judged_is_as_the_suite_wants_it(tolerant):
    verdict = unjudged("samples_per_s", "drop <= 5 %", "another machine", 52.0, Rules(tolerant=tolerant))
    assert (verdict.outcome, verdict.note, verdict.value, verdict.ok) == ("inconclusive", "another machine", 52.0, tolerant)


def test_the_table():
    change = Change(812.5, -262.5, -300.0, -225.0, 0.001, 0.004, 0, 96.1234, "joined", tolerated=True)
    slow = of_machine(Verdict("samples_per_s", None, "drop <= 10 %", 550.0, None, None, 20, "fail", change))
    bound = of_machine(Verdict("latency_p95_ms", None, "<= 20 (whole interval)", 12.345, 11.0, 14.25, 300, "pass"))
    memory = exact(Gate(metric=MEMORY, max_rise=0.1, relative=True), 41_000.0, 41_512.0, Rules())
    other = unjudged("latency_p95_ms", "rise <= 5 %", "the baseline has no speed of cpu: mine", 12.345, Rules())
    f1 = Verdict("f1", None, ">= 0.5", 0.9, 0.8, 1.0, 10, "pass")
    assert failure_message("toy one-fast", [f1, slow, bound, memory, other]).splitlines() == [
        "toy one-fast: 1 of 5 gates failed",
        "",
        "      metric  value   95 % interval     bound   documents",
        "PASS  f1      0.9000  [0.8000, 1.0000]  >= 0.5  10",
        "",
        "              speed                      baseline  value   difference       interval      p      bound                   detects",
        "FAIL          samples_per_s [samples/s]  812.5     550     -262.5 (-32.3%)  [-300, -225]  0.004  drop <= 10 %            96.12",
        "PASS          latency_p95_ms [ms]        -         12.35   -                [11, 14.25]   -      <= 20 (whole interval)  -",
        "PASS          gpu_peak_memory_mib [MiB]  41,000    41,512  +512 (+1.2%)     [+512, +512]  -      rise <= 10 %            4100",
        "INCONCLUSIVE  latency_p95_ms [ms]        -         12.35   -                -             -      rise <= 5 %             -",
        "latency_p95_ms: the baseline has no speed of cpu: mine",
        "",
        "p: of a change for the worse within the bound, beside all such gates of the suite; detects: the smallest one found with 80 % power",
    ]
