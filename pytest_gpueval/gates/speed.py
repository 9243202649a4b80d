"""Verdicts on speed and memory: what cannot be judged says so, and memory, which is what it is, needs no statistics. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .bounds import Change, Verdict
from .drops import Drop, Rules, bound_of, margin

UNITS: Final = {"samples_per_s": "samples/s", "latency_p95_ms": "ms", "gpu_peak_memory_mib": "MiB"}


def unjudged(metric: str, bound: str, why: str, value: float | None, rules: Rules) -> Verdict:
    """A gate that has nothing to judge by: neither passed nor failed."""
    return Verdict(metric, None, bound, value, None, None, 0, "inconclusive", note=why, tolerated=rules.tolerant, unit=UNITS[metric])


def exact(gate: Drop, baseline: float, value: float, rules: Rules) -> Verdict:
    """A change of a figure that chance has no part in."""
    rise = value - baseline
    worse = rise if gate.max_rise is not None else -rise
    allowed = margin(gate, baseline)
    outcome = "fail" if worse > allowed else "improved" if worse < 0 else "pass"
    change = Change(baseline, rise, rise, rise, None, None, 0, allowed, "exact", rules.tolerant)
    return Verdict(gate.metric, None, bound_of(gate), value, None, None, 1, outcome, change, unit=UNITS[gate.metric])


def of_machine(verdict: Verdict, note: str | None = None) -> Verdict:
    """A verdict on a figure of a machine, with its unit."""
    return replace(verdict, unit=UNITS[verdict.metric], note=note)
