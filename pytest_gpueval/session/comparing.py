"""Two sessions, baselines or commits beside each other, sample by sample. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pytest_gpueval.errors import GpuevalError, UsageProblem, valid_values
from pytest_gpueval.processes import aside
from pytest_gpueval.runs import baselines
from pytest_gpueval.scoring.verdicts import Verdicts

from . import conftests, speed, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gpueval.runs.baselines import Baseline, BaselineRecord, Measured
    from pytest_gpueval.runs.baselines.speed import SpeedRecord
    from pytest_gpueval.scoring.paired import Difference
    from pytest_gpueval.scoring.task import Task
    from pytest_gpueval.scoring.terms import Key

    from .baseline_sources import Source

LEVEL = 0.05
# Samples of each side that are read in processes of their own: fewer are read before another one has started.
_MANY: Final = 200_000


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of a case in A and in B. `p` is two-sided, of no difference; `p_adjusted` beside those of all cases' headline metrics (Holm)."""

    suite: str
    case: str
    metric: str
    label: str | None
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    samples: int
    changed: int
    method: str
    headline: bool
    p_adjusted: float | None = None

    @property
    def name(self) -> str:
        """`strict.f1`, `strict.f1[PERSON]`."""
        return f"{self.metric}[{self.label}]" if self.label else self.metric

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, and what a reader should know: cases that only one side has or that cannot be compared, samples that are not common."""

    a: str
    b: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=list)
    # Of the first case that cannot be compared: the exit code of its error; 0 if all can.
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"a": self.a, "b": self.b, "level": LEVEL, "rows": [row.as_dict() for row in self.rows], "notes": list(self.notes)}


def compare(a: Source, b: Source, suites: Collection[str], cases: Collection[str], root: Path, *, everything: bool, intersect: bool) -> Comparison:
    """Compare the cases that both have, of these suites and cases where any are named: the headline metrics or, with `everything`, all.

    `everything` has labels and speeds too. `root` is where the conftest.py files are that add tasks.

    Raises UsageProblem where no case is common, or a named one is missing; MissingExtra.
    """
    there, here = a.cases(), b.cases()
    for known, named, what in (({of for of, _ in there + here}, suites, "suites"), ({name for _, name in there + here}, cases, "cases")):
        for name in named:
            if name not in known:
                raise UsageProblem(f"neither {a.words} nor {b.words} has {name!r}. {valid_values(name, known, what=what)}")
    wanted = [key for key in dict.fromkeys([*there, *here]) if (not suites or key[0] in suites) and (not cases or key[1] in cases)]
    both = [key for key in wanted if key in there and key in here]
    if not both:
        raise UsageProblem(f"{a.words} and {b.words} have no case in common. The first has {_named(there)}; the second has {_named(here)}")
    notes = [f"{'/'.join(key)}: only {(a if key in there else b).words} has it" for key in wanted if key not in both]
    rows: list[Row] = []
    exit_code = 0
    for key in both:
        try:
            found, told = _case(a.get(*key), b.get(*key), root, everything=everything, intersect=intersect)
            if everything:
                fast, said = _speeds(*key, a.speed(*key), b.speed(*key))
                found, told = [*found, *fast], [*told, *said]
        except GpuevalError as error:  # one that cannot be compared does not hide the others
            notes.append(f"{'/'.join(key)}: not compared: {error}")
            exit_code = exit_code or error.exit_code
            continue
        rows += found
        notes += [f"{'/'.join(key)}: {line}" for line in told]
    return Comparison(a.words, b.words, _adjusted(rows), notes, exit_code)


def _case(a: Baseline, b: Baseline, root: Path, *, everything: bool, intersect: bool) -> tuple[list[Row], list[str]]:
    from pytest_gpueval.scoring.paired import differences  # noqa: PLC0415 - heavy

    refused, told = baselines.differences(a.record, b.record.model_dump(mode="json"))
    if refused:
        raise UsageProblem("measured otherwise: " + "; ".join(refused))
    task, asked = _task(b.record, root), _asked(b.record, everything=everything)
    there, here = _measured(a, b, task, {one.key for one in asked})
    found = baselines.align(a, here.keys.ids, here.keys.hashes, sha256=b.record.dataset.sha256, intersect=intersect, keys=there.keys)
    sides = baselines.scored(baselines.Scores(lambda: a.samples, found.baseline, there), baselines.Scores(lambda: b.samples, found.current, here))
    if found.words:
        told = [*told, found.words]
    if apart := found.common - len(sides[0]):
        told = [*told, f"{apart:,} samples have no score on one side, and are left out"]
    compared = differences(task, *sides, asked, level=LEVEL, sides="two")
    return [_row(b.record, one) for one in compared.values()], told


def _measured(a: Baseline, b: Baseline, task: Task, wanted: Collection[Key]) -> tuple[Measured, Measured]:
    """What both sides' samples say of these metrics, read side by side where they are many. Raises DataError, MissingExtra."""
    if min(one.record.rows.scored for one in (a, b)) >= _MANY and aside.cores() > 1:
        with suppress(aside.Lost), aside.Aside(baselines.measured, replace(a), task, wanted) as other:
            here = baselines.measured(b, task, wanted)
            return other.result(), here
    return baselines.measured(a, task, wanted), baselines.measured(b, task, wanted)


def _asked(record: BaselineRecord, *, everything: bool) -> list[Any]:
    from pytest_gpueval.scoring.paired import Asked  # noqa: PLC0415 - heavy

    if not everything:
        return [Asked(record.headline)] if record.headline else []
    labels = [Asked(name, label) for label, figures in record.label_metrics.items() for name in figures]
    return [*(Asked(name) for name in record.metrics), *labels]


def _task(record: BaselineRecord, root: Path) -> Task:
    """The task of a record, as far as its counts go. Raises UsageProblem for one that nobody knows, or that does not take the record's options."""
    known: Mapping[str, tasks.TaskFactory] = tasks.OWN
    if record.task not in known:
        known = {**known, **conftests.tasks_of(root, record.suite)}
    if record.task not in known:
        hint = valid_values(record.task, known, what="tasks")
        raise UsageProblem(f"task {record.task!r} is neither this package's nor of a conftest.py of {root} or its suites/{record.suite}. {hint}")
    verdicts = {} if record.judge is None else {"verdicts": Verdicts("", ())}  # scores are there; nothing is read again
    try:
        return known[record.task](labels=record.labels, label_map=record.label_map, thresholds={}, ignored=set(), **verdicts, **record.task_options)
    except (TypeError, ValueError) as error:
        raise UsageProblem(f"task {record.task!r} cannot be made with the options of {record.name}: {error}") from None


def _speeds(suite: str, case: str, a: SpeedRecord | None, b: SpeedRecord | None) -> tuple[list[Row], list[str]]:
    """How fast a case was on the machines that both sides know, and what cannot be compared."""
    if a is None or b is None:
        return [], []
    rows: list[Row] = []
    notes = [] if a.machines.keys() & b.machines.keys() else ["no machine has speeds on both sides"]
    for key in sorted(a.machines.keys() & b.machines.keys()):
        before, after = a.machines[key], b.machines[key]
        if (before.dataset_sha256, before.rows) != (after.dataset_sha256, after.rows):
            notes.append(f"speeds on {key} are of other data, and not compared")
            continue
        for one in speed.differences(before, after, LEVEL):
            figures = one.baseline, one.value, one.difference, one.low, one.high, _two_sided(one)
            rows.append(Row(suite, case, one.metric, key, *figures, after.rows, one.changed, one.method, headline=False))
    return rows, notes


def _row(record: BaselineRecord, one: Difference) -> Row:
    headline = one.label is None and one.metric == record.headline
    figures = (one.baseline, one.value, one.difference, one.low, one.high, _two_sided(one))
    return Row(record.suite, record.case, one.metric, one.label, *figures, one.n, one.changed, one.method, headline)


def _two_sided(one: Difference) -> float | None:
    return None if one.p is None or one.p_improved is None else min(one.p, one.p_improved)


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    from pytest_gpueval.scoring.paired import holm  # noqa: PLC0415 - heavy

    family = [number for number, row in enumerate(rows) if row.headline and row.p is not None]
    adjusted = dict(zip(family, holm([rows[number].p or 0.0 for number in family]), strict=True))
    return [replace(row, p_adjusted=adjusted.get(number)) for number, row in enumerate(rows)]


def _named(keys: Sequence[tuple[str, str]]) -> str:
    names = ["/".join(key) for key in keys[:8]]
    return (", ".join(names) + (", ..." if len(keys) > 8 else "")) or "none"
