"""Before a session: which gates against a baseline cannot see the drops that they promise to see. Knows nothing of pytest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from pytest_gpueval.gates import Rules
from pytest_gpueval.scoring import power
from pytest_gpueval.scoring.estimates import Estimate

if TYPE_CHECKING:
    from pytest_gpueval.runs.baselines import Baseline
    from pytest_gpueval.suites.model import Case
    from pytest_gpueval.suites.schema import Gate

# A gate may need a drop this many times its margin before it fails in four of five such sessions; beyond that its number says more than it sees.
PROMISED: Final = 2.0


def warnings(cases: Iterable[Case], baselines: Mapping[tuple[str, str], Baseline]) -> list[str]:
    """A line for each such gate of the cases that have a baseline. A gate that allows no drop at all promises no size of one."""
    found = []
    for case in cases:
        baseline = baselines.get((case.suite, case.whole_id))
        for gate in case.gates if baseline is not None else ():
            line = _line(case, gate, baseline) if gate.is_paired and not gate.is_speed and baseline is not None else None
            found += [f"{case.suite}/{case.whole_id}: {line}"] if line else []
    return found


def rules_of(case: Case) -> Rules:
    """How the suite lets its gates against a baseline decide."""
    entry = case.comparison
    return Rules(entry.level, entry.correction, max(1, case.comparisons), entry.inconclusive == "pass")


def _line(case: Case, gate: Gate, baseline: Baseline) -> str | None:
    record = baseline.record
    figure = (record.label_metrics.get(gate.label, {}) if gate.label else record.metrics).get(gate.metric)
    if figure is None or figure.value is None or not record.rows.scored:
        return None
    word, allowed = ("max_drop", gate.max_drop) if gate.max_drop is not None else ("max_rise", gate.max_rise or 0.0)
    margin = allowed * abs(figure.value) if gate.relative else allowed or 0.0
    spread = power.spread_of(Estimate(figure.value, figure.low, figure.high, figure.n), record.rows.scored)
    if spread is None or not margin:
        return None
    level = rules_of(case).own_level / (1 if case.comparison.sides == "one" else 2)
    least = power.against_same_rows(power.churn_of(spread, figure.value), spread.binomial, record.rows.scored, margin, level)
    if math.isfinite(least) and least <= PROMISED * margin:
        return None
    name = f"{gate.metric}[{gate.label}]" if gate.label else gate.metric
    rows = f"{record.rows.scored:,} rows"
    return f"{name}: {word} {allowed:g}, but on {rows} a change must be about {least:.3f} to be found with 80 % power; give it more rows, or allow more"
