"""The samples of a run for the page of its session: results.jsonl beside the rows of the split that it is about. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import Conflict, GpuevalError
from pytest_gpueval.reports.session_page import Budget, Collector, Given, Samples, Texts
from pytest_gpueval.runs import results
from pytest_gpueval.runs.directory import RESULTS
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.scoring.task import BadRow, Task
from pytest_gpueval.suites.garbage import no_garbage
from pytest_gpueval.suites.model import Shard

from .rows import metadata

Split = Callable[[], tuple[ParquetSplit, Task]]


def of_run(path: Path, split: Split, *, texts: Texts, redactor: Redactor, budget: Budget) -> Samples | None:
    """The samples of an evaluation's run; None for anything else."""
    said, file = metadata(path), path / RESULTS
    scoring, shard = said.get("scoring") or {}, said.get("shard")
    if not said.get("task") or said.get("program") or not file.is_file() or not file.stat().st_size:
        return None
    kind = kind_of(said["task"], scoring.get("task_options") or {})
    collector = Collector(kind, scoring.get("labels") or (), texts=texts, redact=redactor.text, budget=budget, threshold=_threshold(said.get("policy") or {}))
    part = Shard(*map(int, shard.split("of"))) if shard else None
    with no_garbage():  # which would look at all that is kept time and again: a third of the whole
        return collect(file, collector, kind=kind, split=split, shard=part, limit=said.get("limit"))


def _threshold(policy: Mapping[str, Any]) -> str:
    """What a policy drops, in words."""
    least = policy.get("threshold") or 0
    own = ", ".join(f"{label} {value}" for label, value in (policy.get("thresholds") or {}).items())
    return f"scores below {least}" + (f" ({own})" if own else "") if least or own else ""


def kind_of(task: str, options: Mapping[str, Any]) -> str:
    """What the page calls a task."""
    return "multilabel" if task == "classification" and options.get("multilabel") else task


def collect(path: Path, collector: Collector, *, kind: str, split: Split, shard: Shard | None, limit: int | None) -> Samples:
    """All samples of a results file. A split that cannot be read, or is not the one it was, leaves them without texts, and the note says why.

    So does a line that is no result: the samples before it are there.
    """
    given: Iterator[tuple[Any, Given | None]] = iter(())
    note = None
    try:
        opened, task = split()
        given = _given(opened, task, kind, shard, limit)
        first = next(given, None)
    except GpuevalError as problem:
        note, first = f"The split cannot be read, so there are no texts: {str(problem).splitlines()[0]}", None
    try:
        for record in results.read(path):
            found = None
            if first is not None and first[0] == record["id"]:
                found = first[1]
                try:
                    first = next(given, None)
                except GpuevalError as problem:
                    note, first = f"The split cannot be read to its end: {str(problem).splitlines()[0]}", None
            elif first is not None:
                note, first = "The split is not the one that was evaluated: texts are left out from the first difference on.", None
            collector.add(record, found)
    except Conflict as problem:  # no results of ours from there on: what was read before is still worth a look
        note = str(problem).splitlines()[0]
    return collector.done(note)


def _given(split: ParquetSplit, task: Task, kind: str, shard: Shard | None, limit: int | None) -> Iterator[tuple[Any, Given | None]]:
    """For each row its id, and what it says; None for a bad row, which has no sample. Raises DataError."""
    rows = split.rows if limit is None else min(split.rows, limit)
    first, stop = (0, rows) if shard is None else shard.bounds(rows)
    optional = [column for column in getattr(task, "optional_columns", ()) if column in split.columns]
    for row in split.read([*task.columns, *optional], first, stop):
        try:
            sample = task.sample(row)
        except BadRow:
            yield row["id"], None
            continue
        yield row["id"], _of_kind(kind, row, sample.inputs, sample.gold)


def _of_kind(kind: str, row: Mapping[str, Any], inputs: Mapping[str, Any], gold: Any) -> Given:
    if kind == "generation":
        messages = inputs.get("messages")
        text = inputs.get("prompt") if messages is None else [(message["role"], message["content"]) for message in messages]
        return Given(text, row["answer"], inputs.get("choices"))
    if kind in ("span_detection", "classification", "multilabel"):
        return Given(inputs["text"], gold)
    rest = {name: value for name, value in inputs.items() if name != "id"}
    return Given(rest["text"] if list(rest) == ["text"] else rest, gold)
