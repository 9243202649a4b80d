"""What the cases of a session are compared with: looked for before anything runs, kept in the session's directory, where its workers find it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pytest_gpueval.errors import GpuevalError, UsageProblem
from pytest_gpueval.runs import baselines
from pytest_gpueval.runs.baselines import Alignment, Baseline, Samples, files, samples, speed
from pytest_gpueval.runs.baselines.files import missing
from pytest_gpueval.runs.baselines.speed import SpeedRecord
from pytest_gpueval.runs.directory import COMPARED
from pytest_gpueval.runs.files import storage

from . import baseline_sources, foresight
from . import speed as speeds

if TYPE_CHECKING:
    from pytest_gpueval.datasets.parquet import ParquetSplit
    from pytest_gpueval.runs.redact import Redactor
    from pytest_gpueval.scoring.task import Task
    from pytest_gpueval.suites.model import Case

    from .settings import Settings


@dataclass(frozen=True)
class Compared:
    """The baselines of a session, and what a reader should know of them."""

    found: Mapping[tuple[str, str], Baseline] = field(default_factory=dict)
    notes: Sequence[str] = ()
    speeds: Mapping[tuple[str, str], SpeedRecord] = field(default_factory=dict)

    def keep(self, session_dir: Path) -> None:
        """Write them into the session's directory: its workers, wherever they are, and its reports see what the controller saw. Raises StorageError."""
        directory = session_dir / COMPARED
        if directory.exists():
            with storage(directory):
                shutil.rmtree(directory)
        for baseline in self.found.values():
            baselines.write(directory, replace(baseline))  # a copy: what is read to be written need not stay in memory
        for known in self.speeds.values():
            speed.write(directory, known)


@dataclass(frozen=True)
class Paired:
    """A run beside its baseline: sample `alignment.current[i]` of `now` is sample `alignment.baseline[i]` of `baseline.samples`."""

    baseline: Baseline
    now: Samples
    alignment: Alignment


def resolve(settings: Settings, cases: Sequence[Case], redactor: Redactor, *, certain: bool = True) -> Compared:
    """The baselines of these cases, each looked at as a whole. Without `certain`, some of them may not be wanted, and need none.

    Raises UsageProblem for a source that there is not and cases that it lacks, DataError for what is damaged or measured otherwise; StorageError, Conflict.
    """
    if settings.baseline is None or _is_to_be_made(settings, settings.baseline):
        return Compared()
    source = baseline_sources.source(settings.baseline, settings.root, settings.output_dir, settings.here)
    found: dict[tuple[str, str], Baseline] = {}
    notes, lacking, there = [], [], set(source.cases())
    for case in cases:
        key = case.suite, case.whole_id
        if key not in there:
            lacking.append(key)
            continue
        baseline = source.get(*key)
        len(replace(baseline).samples)  # damaged files are met now, not after hours; a copy, so that they do not stay in memory
        refused, told = baselines.differences(baseline.record, _measure(case, redactor))
        if refused:
            what = "\n".join(f"  {line}" for line in refused)
            raise UsageProblem(f"--gpueval-baseline {settings.baseline}: {baseline.where} was measured otherwise:\n{what}\n{_ANEW}")
        notes += [f"{case.suite}/{case.whole_id}: compared with a baseline of another {line}" for line in told]
        found[key] = baseline
    if lacking and certain and not settings.update_baseline:
        raise _lacking(lacking, sorted(there), f"--gpueval-baseline {settings.baseline}: {source.words}")
    timed = [case for case in cases if case.speed_gates]
    known = {key: known for key in [(case.suite, case.whole_id) for case in timed] if (known := source.speed(*key)) is not None}
    return Compared(found, [*notes, *foresight.warnings(cases, found), *speeds.warnings(timed, known)], known)


def speed_of(case: Case, settings: Settings, session_dir: Path) -> SpeedRecord | None:
    """How fast a case was that is compared; None where nobody knows, or nothing was asked for. Raises DataError for a damaged file."""
    return None if settings.baseline is None else speed.read(session_dir / COMPARED, case.suite, case.whole_id)


def baseline_of(case: Case, settings: Settings, session_dir: Path) -> Baseline | None:
    """What a case is compared with; None where nothing was asked for, or its first baseline is about to be written.

    Raises UsageProblem where it has none, DataError for a damaged one.
    """
    if settings.baseline is None:
        return None
    directory = session_dir / COMPARED
    found = baselines.remembered(directory, case.suite, case.whole_id)
    if found is None:
        if settings.update_baseline:
            return None
        raise missing(case.suite, case.whole_id, settings.baseline, baselines.cases_of(directory, case.suite))
    return replace(found, where=settings.baseline)


def agree(baseline: Baseline, split: ParquetSplit, task: Task, settings: Settings) -> None:
    """Before a model loads: see that the rows can be compared with a baseline's. Raises DataError."""
    record = baseline.record
    if split.sha256 == record.dataset.sha256 and settings.limit is None and record.samples == split.rows:
        return
    names, hashes = [], []
    for name, value in baselines.text_hashes(split.read(row_columns(task, split), 0, settings.limit)):
        names.append(name)
        hashes.append(value)
    baselines.align(baseline, names, lambda: _array(hashes), sha256=split.sha256, intersect=settings.baseline_intersect)


def paired(baseline: Baseline, results: Path, split: ParquetSplit, task: Task, settings: Settings) -> Paired:
    """A run's samples, of its results.jsonl, beside those of its baseline. Raises DataError."""
    now = samples.of_results(results)

    def hashes() -> Any:
        return now.with_hashes(baselines.text_hashes(split.read(row_columns(task, split)))).hashes

    return Paired(baseline, now, baselines.align(baseline, now.ids, hashes, sha256=split.sha256, intersect=settings.baseline_intersect))


def row_columns(task: Task, split: ParquetSplit) -> list[str]:
    """The columns of a row that its hash is made of, and its id: those that its task reads."""
    optional = [column for column in getattr(task, "optional_columns", ()) if column in split.columns]
    return [*task.columns, *optional]


_ANEW = "Score parts of one cannot stand beside those of the other. Write the baseline anew (--gpueval-update-baseline, without --gpueval-baseline)."


def _is_to_be_made(settings: Settings, spec: str) -> bool:
    """Whether the first baselines of all are about to be written to where they are to be read from: an ini file may name that folder for every session."""
    path = settings.root / baselines.DIRECTORY
    return settings.update_baseline and (settings.here / spec).resolve() == path.resolve() and not files.suites_of(path)


def _measure(case: Case, redactor: Redactor) -> dict[str, Any]:
    """What decides what a case's scores mean, in the words of BaselineRecord."""
    value = {
        "task": case.task,
        "labels": list(case.labels),
        "label_map": dict(case.label_map),
        "task_options": dict(case.task_options),
        "columns": dict(case.columns),
        "judge": case.judge.as_dict() if case.judge else None,
        "policy": {"name": case.policy_name, **case.policy.model_dump(mode="json", exclude={"gates"})},
        "runtime": case.runtime_name,
    }
    found: dict[str, Any] = orjson.loads(orjson.dumps(redactor.value(value)))
    return found


def _array(hashes: list[int]) -> Any:
    import numpy as np  # noqa: PLC0415 - heavy

    return np.array(hashes, np.uint64)


def _lacking(cases: Sequence[tuple[str, str]], there: Sequence[tuple[str, str]], place: str) -> GpuevalError:
    """One error for all cases that have none."""
    suite, case = cases[0]
    if len(cases) == 1:
        return missing(suite, case, place, [name for of, name in there if of == suite])
    names = ", ".join("/".join(key) for key in cases[:5]) + (", ..." if len(cases) > 5 else "")
    have = ", ".join("/".join(key) for key in there[:10]) + (", ..." if len(there) > 10 else "")
    suites = ",".join(dict.fromkeys(of for of, _ in cases))
    return UsageProblem(
        f"{place}: there is no baseline of {len(cases)} cases: {names}. {f'There are those of {have}.' if have else 'There is none at all.'}\n"
        f"Make them of what the model does now:  pytest --gpueval-suite {suites} --gpueval-update-baseline"
    )
