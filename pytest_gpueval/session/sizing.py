"""Sizes of a suite's splits for a time budget: what earlier sessions measured goes to `datasets.budget`, and what comes back must fit the plan.

Knows nothing of pytest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pytest_gpueval.datasets import budget
from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.planning import plan
from pytest_gpueval.planning.history import History, newest_sessions
from pytest_gpueval.planning.sharding import shard_counts
from pytest_gpueval.runs.records import Figure, Summary
from pytest_gpueval.scoring import power
from pytest_gpueval.scoring.estimates import Estimate
from pytest_gpueval.suites.model import Case, Suite

from . import cases, lanes
from .rows import summary_or_none
from .settings import Settings

CPU: Final = "cpu"
_SESSIONS: Final = 30
_DEFAULT_S: Final = 600.0
# Where gates are compared: about what a fast split has.
_TYPICAL_ROWS: Final = 1000
# Rounds until rows fit the plan, which knows what items cost of their own.
_ROUNDS: Final = 8
_HAIR: Final = 1e-4


class Against(StrEnum):
    """What a drop is counted from."""

    BOUND = "bound"
    BASELINE = "baseline"


_DESIGNS: Final[Mapping[Against, power.Design]] = {Against.BOUND: power.against_bound, Against.BASELINE: power.against_baseline}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the sizes are for. Without `minutes` it is the suite's `budget_s`, else ten; without `gpu_name` the only model that was measured; 'cpu' is none."""

    gpus: int = 1
    minutes: float | None = None
    gpu_name: str | None = None
    floor: int = budget.FLOOR
    ceiling: int | None = None
    against: Against = Against.BOUND


@dataclass(frozen=True, slots=True)
class Judged:
    """What a drop is looked for in: `origin` is where it counts from. `session` measured the spread; without one a row counts as one unit.

    `bound` is the gate's; None where the dataset has no gate with a bound from below. A gate that judges the value alone fails at any figure below its bound;
    the MDE is the drop that a test finds which takes no more than 5 % of truths at the bound for failures.
    """

    metric: str | None
    label: str | None
    bound: float | None
    origin: float
    spread: power.Spread
    session: str | None

    @property
    def name(self) -> str:
        """`strict.f1 >= 0.67`."""
        metric = f"{self.metric}[{self.label}]" if self.label else self.metric or "no gate"
        return metric if self.bound is None else f"{metric} >= {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Sized:
    """One dataset: rows now and as proposed, the GPU-seconds of these, and the smallest drops that both show.

    A drop is None where none is large enough, or rows are unknown. `limit` is "floor" or "ceiling", where the rows are at one.
    """

    dataset: str
    rate: float
    source: str
    measured_split: str | None
    rows_now: int | None
    rows: int
    gpu_seconds: float
    judged: Judged
    mde_now: float | None
    mde: float | None
    limit: str | None
    ceiling: int | None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self) | {"judged": asdict(self.judged) | {"name": self.judged.name}}


@dataclass(frozen=True, slots=True)
class Sizing:
    """The proposal. `seconds` is what the plan predicts for it, `seconds_now` for the rows as they are, where all are known."""

    suite: str
    split: str
    runtime: str
    gpus: int
    gpu_name: str | None
    against: Against
    budget_s: float
    startup_s: float
    seconds: float
    seconds_now: float | None
    datasets: tuple[Sized, ...]

    @property
    def largest(self) -> float | None:
        """The largest smallest drop of all datasets; None where one shows none."""
        return _largest([sized.mde for sized in self.datasets])

    @property
    def largest_now(self) -> float | None:
        """The same with the rows as they are."""
        return _largest([sized.mde_now for sized in self.datasets])

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "datasets"}
        return own | {"largest_mde": self.largest, "largest_mde_now": self.largest_now, "datasets": [sized.as_dict() for sized in self.datasets]}


@dataclass(frozen=True, slots=True)
class _Known:
    """A dataset as it is known before its rows are."""

    case: Case
    estimate: plan.Estimate
    measured_split: str | None
    judged: Judged
    demand: budget.Demand


def size(suite: Suite, settings: Settings, wishes: Wishes) -> Sizing:
    """Propose rows for every dataset of a suite that has the split. Raises UsageProblem."""
    chosen = cases.chosen(suite, settings)
    runtime = chosen[0].runtime_name
    history = History.read(settings.output_dir)
    gpu = _model(history, suite.name, runtime, wishes.gpu_name)
    summaries = _summaries(settings.output_dir, suite.name, runtime)
    rates = [_rate(history, suite, case, gpu) for case in chosen]
    place = f", on {gpu or 'the CPU'}" if wishes.gpu_name or history.models(suite.name, runtime) else ""
    _check_rates([case for case, (estimate, _) in zip(chosen, rates, strict=True) if estimate.source == "default"], settings, place)
    known = [_known(suite, case, estimate, split, summaries, wishes) for case, (estimate, split) in zip(chosen, rates, strict=True)]
    budget_s = wishes.minutes * 60 if wishes.minutes is not None else suite.file.budget_s or _DEFAULT_S
    startup_s = max(one.estimate.startup_s for one in known)
    rows, seconds = _fitting(known, budget.Limits(budget_s, wishes.gpus, startup_s))
    now = {one.case.dataset: one.case.rows for one in known if one.case.rows is not None}
    return Sizing(
        suite=suite.name,
        split=chosen[0].split,
        runtime=runtime,
        gpus=wishes.gpus,
        gpu_name=gpu,
        against=wishes.against,
        budget_s=budget_s,
        startup_s=startup_s,
        seconds=seconds,
        seconds_now=_planned_s(known, now, wishes.gpus) if len(now) == len(known) else None,
        datasets=tuple(_sized(one, rows[one.case.dataset]) for one in known),
    )


def _model(history: History, suite: str, runtime: str, wanted: str | None) -> str | None:
    """The GPU model whose measurements count, None for the CPU. Raises UsageProblem where several could."""
    if wanted is not None:
        return None if wanted == CPU else wanted
    models = history.models(suite, runtime)
    if len(models) > 1:
        names = ", ".join(sorted(f'"{model}"' if model else CPU for model in models))
        raise UsageProblem(f"sessions measured suite {suite!r}, runtime {runtime!r}, on {names}.\nChoose one with --gpu-name.")
    return next(iter(models), None)


def _rate(history: History, suite: Suite, case: Case, gpu: str | None) -> tuple[plan.Estimate, str | None]:
    """How fast a case runs, and the split on which that was measured: its own, else another of its dataset."""
    splits = dict.fromkeys([case.split, *suite.file.datasets[case.dataset].splits])
    for split in splits:
        estimate = history.estimate(replace(case, split=split), gpu)
        if estimate.source == "measured":
            return estimate, split
    return history.estimate(case, gpu), None


def _check_rates(missing: Sequence[Case], settings: Settings, place: str) -> None:
    """Raise UsageProblem for datasets whose speed nobody knows."""
    if not missing:
        return
    first = missing[0]
    options = f" --gpueval-runtime {first.runtime_name}" if settings.runtime else ""
    raise UsageProblem(
        f"suite {first.suite!r}: how fast {', '.join(case.dataset for case in missing)} run{'s' if len(missing) == 1 else ''} is not known: "
        f"no session in {settings.output_dir} measured it (runtime {first.runtime_name!r}{place}), and the suite says no 'rate'.\n"
        f"Run a session first:  pytest --gpueval-suite {first.suite} --gpueval-split {first.split}{options} --gpueval-limit 200"
    )


def _summaries(output_dir: Path, suite: str, runtime: str) -> dict[str, tuple[str, Summary]]:
    """Case -> the session and summary of its run with the most rows, the newest of these. Shards count as the whole that they were joined to."""
    found: dict[str, tuple[str, Summary]] = {}
    for directory, runs in islice(newest_sessions(output_dir), _SESSIONS):
        for run in runs:
            case, run_id = run.get("case"), run.get("run_id")
            if (run.get("suite"), run.get("runtime")) != (suite, runtime) or run.get("status") not in ("passed", "failed"):
                continue
            if not (isinstance(case, str) and isinstance(run_id, str) and Path(run_id).name == run_id):
                continue
            try:
                summary = summary_or_none(directory / run_id)
            except (OSError, ValueError):  # no such name can be, or it may not be read: as if it were not there
                continue
            if summary is not None and summary.complete and (case not in found or summary.rows.scored > found[case][1].rows.scored):
                found[case] = (directory.name, summary)
    return found


def _known(
    suite: Suite, case: Case, estimate: plan.Estimate, measured_split: str | None, summaries: Mapping[str, tuple[str, Summary]], wishes: Wishes
) -> _Known:
    """What decides the rows of a dataset."""
    splits = suite.file.datasets[case.dataset].splits
    measured = next((summaries[key] for split in dict.fromkeys([case.split, *splits]) if (key := f"{case.dataset}-{split}") in summaries), None)
    judged, design = _judged(case, measured, wishes.against), _DESIGNS[wishes.against]
    ceilings = [rows for rows in (splits["full"].rows if "full" in splits else None, wishes.ceiling) if rows is not None]
    demand = budget.Demand(
        name=case.dataset,
        rate=estimate.rate,
        mde=lambda rows: design(judged.spread, judged.origin, rows),
        floor=wishes.floor,
        ceiling=min(ceilings, default=None),
        gpus=case.gpus,
        places=None if case.shards == "auto" else case.shards,
    )
    return _Known(case, estimate, measured_split, judged, demand)


def _judged(case: Case, measured: tuple[str, Summary] | None, against: Against) -> Judged:
    """The gate that a dataset's rows are for: that of the headline metric, else the one with the largest MDE; without any, the headline metric itself.

    Only gates with `min` count, and of these only those whose metric was measured, if any was.
    """
    gates = [gate for gate in case.gates if gate.min is not None and not gate.is_speed]
    if measured is not None:
        session, summary = measured
        found: list[Judged] = []
        for metric, label, bound in [*((gate.metric, gate.label, gate.min) for gate in gates), (summary.headline, None, None)]:
            figure = (summary.labels.get(label, {}) if label else summary.metrics).get(metric or "")
            spread = _spread(figure, summary.rows.scored)
            if figure is None or figure.value is None or spread is None or (bound is None and found):
                continue
            origin = figure.value if bound is None or against is Against.BASELINE else bound
            if spread.fixed or origin > 0:  # below a share of 0 there is nothing
                found.append(Judged(metric, label, bound, origin, spread, session))
        if found:
            return next((one for one in found if (one.metric, one.label) == (summary.headline, None)), _worst(found, against))
    assumed = [Judged(gate.metric, gate.label, gate.min, gate.min, power.ONE_UNIT_A_ROW, None) for gate in gates if gate.min is not None and 0 < gate.min <= 1]
    overall = [one for one in assumed if one.label is None]
    return _worst(overall or assumed or [Judged(None, None, None, 0.5, power.ONE_UNIT_A_ROW, None)], against)


def _spread(figure: Figure | None, rows: int) -> power.Spread | None:
    return None if figure is None else power.spread_of(Estimate(figure.value, figure.low, figure.high, figure.n), rows)


def _worst(found: Sequence[Judged], against: Against) -> Judged:
    return max(found, key=lambda one: _DESIGNS[against](one.spread, one.origin, _TYPICAL_ROWS))


def _fitting(known: Sequence[_Known], limits: budget.Limits) -> tuple[dict[str, int], float]:
    """Rows, and the seconds that the plan predicts for them. What items cost of their own is taken off the time until both fit. Raises UsageProblem."""
    demands = [one.demand for one in known]
    for _ in range(_ROUNDS):
        rows = budget.propose(demands, limits)
        seconds = _planned_s(known, rows, limits.gpus)
        if seconds <= limits.seconds:
            break
        # A hair more than what was too long: fewer rows may take nearly as long, and rounds end.
        limits = replace(limits, startup_s=limits.startup_s + seconds - limits.seconds + _HAIR * limits.seconds)
    return rows, seconds


def _planned_s(known: Sequence[_Known], rows: Mapping[str, int], gpus: int) -> float:
    """How long a session with these rows takes on so many GPUs, as `gpueval plan` says. Raises UsageProblem for a case that needs more GPUs."""
    widths = frozenset(one.case.gpus for one in known)
    laid = lanes.on_gpus([Device(index, f"gpu{index}", "") for index in range(gpus)], widths)
    works = [plan.Work("", one.case, rows[one.case.dataset], one.estimate) for one in known]
    counts = shard_counts(plan.pieces_of(works), gpus) if gpus > 1 else {}
    return plan.make(plan.jobs_of(works, counts), [lane.slot for lane in laid]).makespan_s


def _sized(one: _Known, rows: int) -> Sized:
    demand, now = one.demand, one.case.rows
    ceiling = demand.ceiling
    at_floor = rows < demand.floor + budget.STEP
    return Sized(
        dataset=one.case.dataset,
        rate=one.estimate.rate,
        source=one.estimate.source,
        measured_split=one.measured_split,
        rows_now=now,
        rows=rows,
        gpu_seconds=demand.gpu_seconds(rows),
        judged=one.judged,
        mde_now=None if now is None else _finite(demand.mde(now)),
        mde=_finite(demand.mde(rows)),
        limit="ceiling" if rows == ceiling else "floor" if at_floor else None,
        ceiling=ceiling,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _largest(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return max(numbers) if numbers and len(numbers) == len(values) else None
