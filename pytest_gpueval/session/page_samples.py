"""The samples of a run for the page of its session: results.jsonl beside the rows of the split that it is about. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import Conflict, GpuevalError
from pytest_gpueval.processes import aside
from pytest_gpueval.processes.aside import Aside, Lost
from pytest_gpueval.reports.session_page import CHUNK, MOST_ALIKE, Budget, Collector, Given, Part, Samples, Texts
from pytest_gpueval.runs import results
from pytest_gpueval.runs.directory import RESULTS
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.scoring.task import BadRow, Task
from pytest_gpueval.suites.garbage import no_garbage
from pytest_gpueval.suites.model import Shard

from .rows import metadata

Split = Callable[[], tuple[ParquetSplit, Task]]
# Samples that are worth a process of their own, which takes as long to start as 5,000 take, and how many of them, whatever the machine has.
_WORTH_IT: Final = 15_000
_MOST_PROCESSES: Final = 4
_NO_TEXTS: Final = "The split cannot be read, so there are no texts"


def of_run(path: Path, split: Split, *, texts: Texts, redactor: Redactor, budget: Budget) -> Samples | None:
    """The samples of an evaluation's run; None for anything else."""
    said, file = metadata(path), path / RESULTS
    scoring, shard = said.get("scoring") or {}, said.get("shard")
    if not said.get("task") or said.get("program") or not file.is_file() or not file.stat().st_size:
        return None
    kind = kind_of(said["task"], scoring.get("task_options") or {})
    labels, threshold = scoring.get("labels") or (), _threshold(said.get("policy") or {})
    collector = partial(Collector, kind, labels, texts=texts, redact=redactor.text, budget=budget, threshold=threshold)
    part = Shard(*map(int, shard.split("of"))) if shard else None
    with no_garbage():  # which would look at all that is kept time and again: a third of the whole
        return _Run(file, kind, part, said.get("limit"), collector).samples(split)


def _threshold(policy: Mapping[str, Any]) -> str:
    """What a policy drops, in words."""
    least = policy.get("threshold") or 0
    own = ", ".join(f"{label} {value}" for label, value in (policy.get("thresholds") or {}).items())
    return f"scores below {least}" + (f" ({own})" if own else "") if least or own else ""


def kind_of(task: str, options: Mapping[str, Any]) -> str:
    """What the page calls a task."""
    return "multilabel" if task == "classification" and options.get("multilabel") else task


@dataclass(frozen=True)
class _Run:
    """A results file, and what its rows are: of a shard, up to a limit. `collector` makes one of its samples, or of those from `start` on."""

    path: Path
    kind: str
    shard: Shard | None
    limit: int | None
    collector: Callable[..., Collector]

    def samples(self, split: Split) -> Samples:
        """All samples. A split that cannot be read, or is not the one it was, leaves them without texts, and the note says why.

        So does a line that is no result: the samples before it are there.
        """
        collector = self.collector()
        try:
            opened, task = split()
            first, last = self._bounds(opened)
        except GpuevalError as problem:
            _, note = self._added(collector, iter(()), 0, None, f"{_NO_TEXTS}: {str(problem).splitlines()[0]}")
            return collector.done(note)
        with ExitStack() as others:
            cuts = _cuts(last - first)
            stretches = [self._aside(others, opened, task, start, stop) for start, stop in pairwise(cuts)]
            ended, note = self._added(collector, self._given(opened, task, 0), 0, cuts[0])
            for start, other in zip(cuts, [*stretches, None], strict=True):
                if ended:
                    break
                part = None if other is None else _result(other)
                if part is None or not collector.join(part):
                    ended, note = self._added(collector, self._given(opened, task, start), start, None)
        return collector.done(note)

    def part(self, split: ParquetSplit, task: Task, start: int, stop: int) -> Part | None:
        """The samples from `start` to before `stop`; None where there is something to be said of them."""
        with no_garbage():
            collector = self.collector(start=start)
            _, note = self._added(collector, self._given(split, task, start), start, stop)
            return None if note else collector.part()

    def _aside(self, others: ExitStack, split: ParquetSplit, task: Task, start: int, stop: int) -> Aside[Part | None] | None:
        """A process that packs a stretch; None where it cannot be started."""
        try:
            return others.enter_context(Aside(self.part, split, task, start, stop))
        except Lost:
            return None

    def _bounds(self, split: ParquetSplit) -> tuple[int, int]:
        """The first of the split's rows, and the one behind the last. Raises DataError."""
        rows = split.rows if self.limit is None else min(split.rows, self.limit)
        return (0, rows) if self.shard is None else self.shard.bounds(rows)

    def _added(
        self, collector: Collector, given: Iterator[tuple[Any, Given | None]], start: int, stop: int | None, note: str | None = None
    ) -> tuple[bool, str | None]:
        """Add the results from `start` to before `stop`, or beyond where there is something to be noted; whether they ended, and the note."""
        try:
            first = next(given, None)
        except GpuevalError as problem:
            note, first = f"{_NO_TEXTS}: {str(problem).splitlines()[0]}", None
        try:
            for number, record in enumerate(results.read(self.path, start), start):
                if number == stop and note is None:
                    return False, None
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
        return True, note

    def _given(self, split: ParquetSplit, task: Task, skip: int) -> Iterator[tuple[Any, Given | None]]:
        """For each row, but for the first `skip`, its id, and what it says; None for a bad row, which has no sample. Raises DataError."""
        first, last = self._bounds(split)
        optional = [column for column in getattr(task, "optional_columns", ()) if column in split.columns]
        for row in split.read([*task.columns, *optional], first + skip, last):
            try:
                sample = task.sample(row)
            except BadRow:
                yield row["id"], None
                continue
            yield row["id"], _of_kind(self.kind, row, sample.inputs, sample.gold)


def _cuts(rows: int) -> list[int]:
    """Where to cut the first rows of a run, of which a page leaves out none: this process packs those before the first cut, others those between two."""
    rows = min(rows, MOST_ALIKE)
    parts = min(aside.cores(), _MOST_PROCESSES, rows // _WORTH_IT)
    if parts < 2:
        return [rows]
    return [*(rows * part // parts // CHUNK * CHUNK for part in range(1, parts)), rows]


def _result(other: Aside[Part | None]) -> Part | None:
    try:
        return other.result()
    except Lost:
        return None


def _of_kind(kind: str, row: Mapping[str, Any], inputs: Mapping[str, Any], gold: Any) -> Given:
    if kind == "generation":
        messages = inputs.get("messages")
        text = inputs.get("prompt") if messages is None else [(message["role"], message["content"]) for message in messages]
        return Given(text, row["answer"], inputs.get("choices"))
    if kind in ("span_detection", "classification", "multilabel"):
        return Given(inputs["text"], gold)
    rest = {name: value for name, value in inputs.items() if name != "id"}
    return Given(rest["text"] if list(rest) == ["text"] else rest, gold)
