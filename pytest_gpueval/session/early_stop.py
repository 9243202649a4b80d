"""Early stop on the controller, which hears the steps of all rows: the rules of each sweep, and what they say to workers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpueval.planning.pruning import MedianRule, Rule, SuccessiveHalving
from pytest_gpueval.suites.sweep import Sweep

if TYPE_CHECKING:
    from pytest_gpueval.suites.load import AnySuite
    from pytest_gpueval.suites.sweep_schema import EarlyStopEntry


class EarlyStop:
    """The rules of a session's sweeps. Workers report from threads of their own."""

    def __init__(self, suites: Sequence[AnySuite]) -> None:
        self._rules = {s.name: _rule(s.file.early_stop, s.file.goal) for s in suites if isinstance(s, Sweep) and s.file.early_stop is not None}
        self._lock = threading.Lock()

    def step(self, message: Mapping[str, Any]) -> dict[str, str] | None:
        """Take in what a row has reported; gives what to tell the workers if it shall stop."""
        rule = self._rules.get(message["suite"])
        if rule is None:
            return None
        with self._lock:
            if message["value"] is None:  # it begins anew
                rule.forget(message["case"])
                return None
            stop = rule.judge(message["case"], message["step"], message["value"])
        return None if stop is None else {"stop": message["run_id"], "reason": stop.reason}


def _rule(entry: EarlyStopEntry, goal: Any) -> Rule:
    if entry.rule == "median":
        return MedianRule(goal=goal, warmup_steps=entry.warmup_steps, min_rows=entry.min_rows)
    return SuccessiveHalving(goal=goal, reduction=entry.reduction, min_steps=entry.min_steps)
