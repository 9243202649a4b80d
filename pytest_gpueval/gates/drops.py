"""Drops against a baseline, judged on the paired difference: pure.

A gate allows the true figure to lie up to a margin below the baseline's (or above, of a metric of which less is better). Three answers are certain at
the suite's level: the drop is larger ("fail"), it is not ("pass"), there is none but a gain ("improved"). Where the rows cannot tell, the outcome is
"inconclusive", and the suite says what becomes of that. What fails must do so beside all other gates of the suite: one of m is judged at level / m
(Bonferroni), which is the first step of Holm's procedure (1979); the further steps need all p-values, and follow once all cases have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .bounds import UNSCORED, Change, Verdict

Key = tuple[str, str | None]


class Drop(Protocol):
    """A gate: a metric, perhaps of one label, and the margin that it may fall or rise by; one of the two is None."""

    @property
    def metric(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def max_drop(self) -> float | None: ...
    @property
    def max_rise(self) -> float | None: ...
    @property
    def relative(self) -> bool: ...


class Paired(Protocol):
    """A metric here and in the baseline, over the samples that both have. `p` is that of "the true change for the worse is at most the margin"."""

    @property
    def baseline(self) -> float | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def difference(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def p(self) -> float | None: ...
    @property
    def p_improved(self) -> float | None: ...
    @property
    def n(self) -> int: ...
    @property
    def changed(self) -> int: ...
    @property
    def detectable(self) -> float | None: ...
    @property
    def method(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How gates decide: the level of all together, how many they are, and whether a case passes whose rows cannot tell."""

    level: float = 0.05
    correction: str = "holm"
    tests: int = 1
    tolerant: bool = True

    @property
    def own_level(self) -> float:
        """The level at which one of them may fail whatever the others say."""
        return self.level / max(1, self.tests) if self.correction == "holm" else self.level


def judge_drops(gates: Iterable[Drop], found: Mapping[Key, Paired], rules: Rules) -> list[Verdict]:
    """Judge every gate on its metric's difference; one that is missing, or undefined on either side, is "unscored"."""
    return [_verdict(gate, found.get((gate.metric, gate.label)), rules) for gate in gates]


def margin(gate: Drop, baseline: float | None) -> float:
    """What a gate allows, in units of its metric, beside a baseline's figure."""
    allowed = gate.max_drop if gate.max_drop is not None else gate.max_rise
    assert allowed is not None  # noqa: S101 - for the type checker
    return allowed * abs(baseline or 0.0) if gate.relative else allowed


def bound_of(gate: Drop) -> str:
    """`drop <= 0.01`, `rise <= 5 %`."""
    word, allowed = ("drop", gate.max_drop) if gate.max_drop is not None else ("rise", gate.max_rise)
    assert allowed is not None  # noqa: S101 - for the type checker
    return f"{word} <= {allowed * 100:.15g} %" if gate.relative else f"{word} <= {allowed:.15g}"


def _verdict(gate: Drop, found: Paired | None, rules: Rules) -> Verdict:
    bound = bound_of(gate)
    if found is None or found.difference is None:
        return Verdict(gate.metric, gate.label, bound, None, None, None, 0, UNSCORED)
    outcome = _outcome(gate, found, rules)
    change = Change(
        baseline=found.baseline,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        p_adjusted=found.p if found.p is None or rules.correction != "holm" else min(1.0, found.p * rules.tests),
        changed=found.changed,
        detectable=found.detectable,
        method=found.method,
        tolerated=rules.tolerant,
    )
    return Verdict(gate.metric, gate.label, bound, found.value, None, None, found.n, outcome, change)


def _outcome(gate: Drop, found: Paired, rules: Rules) -> str:
    if found.p is None or found.low is None or found.high is None:
        return "inconclusive"
    if found.p <= rules.own_level:
        return "fail"
    if found.p_improved is not None and found.p_improved <= rules.own_level:
        return "improved"
    least = found.low if gate.max_drop is not None else -found.high  # how far on the good side the true change lies at least
    return "pass" if least >= -margin(gate, found.baseline) else "inconclusive"
