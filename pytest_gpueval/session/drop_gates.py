"""The last steps of Holm's procedure: gates against a baseline that fail once all others of their suite have spoken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gpueval.runs.records import Summary, VerdictRecord
    from pytest_gpueval.suites.model import Case

# What the report of their verdict is called, as if it were a test of the suite's file.
NAME = "test_drop_gates"

Holm = Callable[[Sequence[float]], Sequence[float]]


def judge(suite: str, cases: Sequence[Case], summaries: Mapping[str, Summary | None], holm: Holm) -> tuple[bool, str | None]:
    """Whether any gate of these cases, all that the suite has of a split, was compared with a baseline here, and why more of them fail now.

    `summaries` are by the cases' ids; `holm` adjusts p-values. A gate that has not spoken counts as one whose p-value is 1.
    """
    entry = cases[0].comparison
    found = [(id_, verdict) for id_, summary in summaries.items() if summary is not None for verdict in summary.gates if verdict.change is not None]
    if not found:
        return False, None
    if entry.correction != "holm":
        return True, None
    p = [verdict.change.p for _, verdict in found if verdict.change is not None]
    adjusted = holm([*p, *[1.0] * max(0, cases[0].comparisons - len(p))])
    late = [(id_, verdict, value) for (id_, verdict), value in zip(found, adjusted, strict=False) if value <= entry.level and verdict.outcome != "fail"]
    if not late:
        return True, None
    head = f"{suite}: {len(late)} more gate{'s' if len(late) > 1 else ''} failed beside the others of the suite (Holm, level {entry.level:g})"
    return True, "\n".join([head, *(_line(id_, verdict, value) for id_, verdict, value in late)])


def _line(id_: str, verdict: VerdictRecord, adjusted: float) -> str:
    name = f"{verdict.metric}[{verdict.label}]" if verdict.label else verdict.metric
    assert verdict.change is not None  # noqa: S101 - for the type checker
    change = verdict.change
    return f"  {id_}: {name} {change.difference:+.4f} [{change.low:+.4f}, {change.high:+.4f}], {verdict.bound}, p {change.p:.3g}, adjusted {adjusted:.3g}"
