"""One case from rows to metrics, in one pass: every sample is scored and on its way to disk before the next answer is taken."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.datasets.repeats import Repeats
from pytest_gpueval.errors import Conflict, DataError, UsageProblem
from pytest_gpueval.runs import results
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.runs.results import ResultsWriter
from pytest_gpueval.runtimes.base import Answer, Runtime
from pytest_gpueval.scoring.estimates import MeanMoments
from pytest_gpueval.scoring.task import BadPrediction, BadRow, Metrics, Sample, SampleMetric, Task
from pytest_gpueval.scoring.terms import OWN as _EXTRA
from pytest_gpueval.scoring.timing import Latencies, Pace
from pytest_gpueval.suites.model import Shard

_BAD_ROWS = "Mend the data, or count such rows without scoring them: --gpueval-on-bad-row skip"
_MOST_NOTES = 20

Pair = tuple[Sample, Any]
Report = Callable[[int, int], None]


@dataclass
class Tally:
    """Rows of a case so far."""

    scored: int = 0
    errors: int = 0
    skipped: int = 0
    tokens: tuple[int, int] | None = None
    judge_tokens: tuple[int, int] | None = None
    first_error: str | None = None

    @property
    def done(self) -> int:
        """All rows accounted for."""
        return self.scored + self.errors + self.skipped


class Evaluation:
    """Streams a split through a runtime. Iterate over it once; then ask for `metrics()`."""

    def __init__(
        self,
        *,
        split: ParquetSplit,
        task: Task,
        runtime: Callable[[], Runtime],
        results_path: Path,
        redactor: Redactor,
        extra: Mapping[str, SampleMetric] | None = None,
        limit: int | None = None,
        shard: Shard | None = None,
        prepare: Callable[[], None] = lambda: None,
        on_bad_row: Literal["fail", "skip"] = "fail",
        report: Report = lambda _done, _total: None,
        public: Collection[str] = (),
        check_ids: bool = True,
    ) -> None:
        self.split = split
        self.task = task
        self.tally = Tally()
        self.latencies = Latencies()
        self.pace = Pace()
        self.seconds = 0.0
        self.fresh = 0
        self.fresh_tokens = 0
        # What runtimes told of how answers came about; the first of them.
        self.notes: list[str] = []
        self._runtime = runtime
        self._path = results_path
        self._redactor = redactor
        self._extra = dict(extra or {})
        self._means = {name: MeanMoments() for name in self._extra}
        self._counts = task.counts()
        self._limit = limit
        self._shard = shard
        self._prepare = prepare
        self._skip_bad = on_bad_row == "skip"
        self._report = report
        self._public = frozenset(public)
        self._check_ids = check_ids
        self._begun = False
        # Rows that were read and wait for their answer, in the order of the split; a bad row waits as its finished record.
        self._waiting: deque[Sample | dict[str, Any]] = deque()

    @property
    def total(self) -> int:
        """Rows of the split that this run covers."""
        first, stop = self._bounds
        return stop - first

    @property
    def _bounds(self) -> tuple[int, int]:
        """The first row and the row after the last."""
        rows = self.split.rows if self._limit is None else min(self.split.rows, self._limit)
        return (0, rows) if self._shard is None else self._shard.bounds(rows)

    def __iter__(self) -> Iterator[Pair]:
        """Scored samples with their predictions: first those that an earlier, interrupted run left, then fresh ones.

        Raises UsageProblem on the second pass: every sample counts once.
        """
        if self._begun:
            raise UsageProblem("predictions can be read once; keep them: pairs = list(predictions)")
        self._begun = True
        self._prepare()
        rows = self._samples(self._repeats() if self._check_ids else None)
        if self._path.exists():
            yield from self._replay(rows)
        self._report(self.tally.done, self.total)
        ahead = [row for row in self._waiting if isinstance(row, Sample)]  # read while replaying
        if not ahead:
            ahead = list(islice(rows, 1))
        if not self._waiting:  # nothing left: no need to load a model
            return
        writer = ResultsWriter(self._path, self._redactor, self._public)
        begin = time.perf_counter()
        try:
            if ahead:
                runtime = self._runtime()
                begin = time.perf_counter()  # loading the model is not serving
                self.pace.begin(begin)
                for answer in runtime.answers(chain(ahead, rows)):
                    self._write_skipped(writer)
                    self._waiting.popleft()
                    pair = self._take(answer, writer)
                    self._report(self.tally.done, self.total)
                    if pair is not None:
                        yield pair
            self._write_skipped(writer)
        finally:
            self.seconds += time.perf_counter() - begin
            writer.close()

    @property
    def complete(self) -> bool:
        """Whether every row has its result."""
        return self.tally.done >= self.total

    def metrics(self) -> Metrics:
        """The metrics of all samples scored so far, the user's own ones included."""
        own = self._counts.metrics()
        means = {name: moments.estimate() for name, moments in self._means.items()}
        return replace(own, overall={**own.overall, **means})

    def _repeats(self) -> Repeats:
        """Rows whose id an earlier row has: nobody could tell their results apart. Raises DataError for such, unless they are to be skipped."""
        found = self.split.repeats(self._limit)
        count = found.within(*self._bounds)
        if count and not self._skip_bad:
            told = ", ".join(f"{name!r:.80} (rows {first + 1} and {row + 1})" for name, first, row in found.examples) + (" ..." if len(found.rows) > 3 else "")
            rows = f"{count:,} rows have the id" if count > 1 else "1 row has the id"
            raise DataError(f"{self.split.path}: {rows} of an earlier one: {told}.\n{_BAD_ROWS}")
        return found

    def _samples(self, repeats: Repeats | None) -> Iterator[Sample]:
        """Rows as samples. A bad row raises DataError, or waits among the others as a skipped record."""
        first, stop = self._bounds
        optional = [column for column in getattr(self.task, "optional_columns", ()) if column in self.split.columns]
        for number, row in enumerate(self.split.read([*self.task.columns, *optional], first, stop), first + 1):
            name = row["id"]
            try:
                if not isinstance(name, str):
                    raise BadRow(f"'id' is {type(name).__name__}, not a string")
                if repeats and repeats.has(number - 1):
                    raise BadRow("an earlier row has this id")
                sample = self.task.sample(row)
            except BadRow as problem:
                if not self._skip_bad:
                    raise DataError(f"{self.split.path}: row {number} (id {name!r}): {problem}.\n{_BAD_ROWS}") from None
                self._waiting.append({"id": str(name), "skipped": self._redactor.text(str(problem))})
                continue
            self._waiting.append(sample)
            yield sample

    def _replay(self, rows: Iterator[Sample]) -> Iterator[Pair]:
        """Fold the results of an interrupted run into the counts, checking that they are of these rows."""
        for number, record in enumerate(results.read(self._path), 1):
            if not self._waiting:
                next(rows, None)  # puts at least one row among the waiting, unless the split ends
            expected = self._waiting.popleft() if self._waiting else None
            name = expected["id"] if isinstance(expected, dict) else expected.id if expected is not None else None
            if record["id"] != name:
                raise Conflict(
                    f"{self._path}:{number}: holds the result of {record['id']!r}, but the split has {name!r} there.\n"
                    "The data changed since: run anew with --gpueval-force (the file is backed up)."
                )
            self._fold(record)
            if isinstance(expected, Sample) and "score" in record:
                yield expected, record["prediction"]

    def _write_skipped(self, writer: ResultsWriter) -> None:
        """Write the bad rows that stand before the next sample."""
        while self._waiting and isinstance(self._waiting[0], dict):
            record = self._waiting.popleft()
            assert isinstance(record, dict)  # noqa: S101 - for the type checker
            writer.write(record)
            self._fold(record)

    def _take(self, answer: Answer[Sample], writer: ResultsWriter) -> Pair | None:
        """Score one answer, write it, count it."""
        sample, error = answer.sample, answer.error
        record: dict[str, Any]
        prediction: Any = None
        if error is None:
            try:
                prediction = self.task.prediction(answer.value, sample)
            except BadPrediction as problem:
                error = str(problem)
        if error is not None:
            record = {"id": sample.id, "error": self._redactor.text(error), "latency_ms": round(answer.latency_ms, 3)}
        else:
            parts = self.task.score(sample, prediction)
            if self._extra:
                parts[_EXTRA] = {name: self._own(name, sample, prediction) for name in self._extra}
            record = {"id": sample.id, "prediction": prediction, "score": parts, "latency_ms": round(answer.latency_ms, 3)}
        if answer.tokens is not None:
            record["tokens"] = list(answer.tokens)
            self.fresh_tokens += answer.tokens[1]
        if answer.judge_tokens is not None:
            record["judge_tokens"] = list(answer.judge_tokens)
        if answer.note is not None:
            self._tell(answer.note)
        writer.write(record)
        self._fold(record)
        self.fresh += 1
        self.pace.add(answer.latency_ms, time.perf_counter())
        return None if error is not None else (sample, prediction)

    def _tell(self, note: str) -> None:
        """Write a note into the log of the run, and keep it."""
        text = self._redactor.text(note)
        sys.stderr.write(f"gpueval: {text}\n")
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(text)

    def _own(self, name: str, sample: Sample, prediction: Any) -> float | None:
        """The user's metric of one sample. Raises UsageProblem if it is not a number."""
        value = self._extra[name](sample, prediction)
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            raise UsageProblem(f"metric {name!r} returned {value!r:.80} for row {sample.id!r}; a metric returns a number or None") from None

    def _fold(self, record: dict[str, Any]) -> None:
        """Add one record to the counts. The only way in: fresh and replayed results cannot differ."""
        if "score" in record:
            parts = record["score"]
            self._counts.add(parts)
            self.tally.scored += 1
            for name, value in parts.get(_EXTRA, {}).items():
                if value is not None:
                    self._means[name].add(value)
        elif "error" in record:
            self.tally.errors += 1
            self.tally.first_error = self.tally.first_error or f"{record['id']}: {record['error']}"
        else:
            self.tally.skipped += 1
        self.tally.tokens = _added(self.tally.tokens, record.get("tokens"))
        self.tally.judge_tokens = _added(self.tally.judge_tokens, record.get("judge_tokens"))
        if "latency_ms" in record:
            self.latencies.add(record["latency_ms"])


def _added(so_far: tuple[int, int] | None, more: Sequence[int] | None) -> tuple[int, int] | None:
    """Tokens read and written; None where nobody has counted any."""
    if more is None:
        return so_far
    read, written = so_far or (0, 0)
    return read + more[0], written + more[1]
