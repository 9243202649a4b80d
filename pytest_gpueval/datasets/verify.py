"""Whether a published split is what the suite, the repository and the full split say: looked at in a fresh cache, from a forced download."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import DataError, MissingExtra
from pytest_gpueval.scoring.task import BadRow, Task

from .hub import Hub, Repository
from .labelled import Annotation, read_labelled
from .parquet import ParquetSplit
from .remote import RemoteSplit
from .selection import numpy

_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `ok`, and what was seen."""

    what: str
    ok: bool
    seen: str


@dataclass(frozen=True)
class Subject:
    """A split, and what is expected of it. `source` is the split that its rows must be in, if any."""

    split: str
    annotation: Annotation
    task: Task | None
    rows: int | None = None
    source: str | None = None
    config: str | None = None


def findings(hub: Hub, base: Repository, subject: Subject) -> list[Finding]:
    """Look at a split at one commit. Raises what stands in the way of looking: AccessDenied, Unreachable, StorageError, DataError."""
    remote = hub.split(base.name, base.revision, subject.split, subject.config)
    with tempfile.TemporaryDirectory(prefix="gpueval-verify-") as fresh:
        files = hub.fresh(remote, Path(fresh))
        split = ParquetSplit(files[0], remote.origin, tuple(files[1:]), remote.sha256, names=subject.annotation.columns)
        found = [_tried("content hash", lambda: _hash(split)), _tried("row count", lambda: _rows(split, remote, subject))]
        found += [_tried("schema", lambda: _schema(split, subject)), _tried("labels", lambda: _labels(files, subject))]
        found.append(_tried("duplicates", lambda: _duplicates(files, subject.annotation.columns)))
        if subject.source is not None:
            found.append(_tried(f"rows in {subject.source!r}", lambda: _within(hub, base, subject, files)))
        found.append(_tried("datasets.load_dataset", lambda: _loads(remote, Path(fresh))))
    return found


def _tried(what: str, look: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        ok, seen = look()
    except DataError as problem:
        return Finding(what, ok=False, seen=str(problem).partition("\n")[0])
    return Finding(what, ok, seen)


def _hash(split: ParquetSplit) -> tuple[bool, str]:
    return split.expected in (None, split.sha256), f"SHA-256 {split.sha256[:12]}" + ("" if split.expected else ", the repository tells none")


def _rows(split: ParquetSplit, remote: RemoteSplit, subject: Subject) -> tuple[bool, str]:
    told = {"the repository's metadata": remote.rows, "the suite": subject.rows}
    wrong = [f"{who} says {rows:,}" for who, rows in told.items() if rows not in (None, split.rows)]
    return not wrong and split.rows > 0, f"{split.rows:,} rows" + (f", but {' and '.join(wrong)}" if wrong else "")


def _schema(split: ParquetSplit, subject: Subject) -> tuple[bool, str]:
    """The columns, and every row as the task reads it."""
    task = subject.task
    if task is None:
        return True, f"columns {', '.join(split.columns)} (a task of your own: rows are not looked at)"
    split.check(task.columns, None)
    optional = [column for column in getattr(task, "optional_columns", ()) if column in split.columns]
    bad, first = 0, ""
    for row in split.read([*task.columns, *optional]):
        try:
            task.sample(row)
        except BadRow as problem:
            bad, first = bad + 1, first or f"{row['id']!r}: {problem}"
    return not bad, f"columns {', '.join(task.columns)}" if not bad else f"{bad:,} bad rows, the first {first}"


def _labels(files: Sequence[Path], subject: Subject) -> tuple[bool, str]:
    """Labels that the suite does not know, and labels that it expects and nobody has."""
    read = read_labelled(files, subject.annotation, key=None)
    if read.labels is None:
        return True, "the task has none"
    present = {read.labels.names[index] for index in set(read.labels.indices.tolist())}
    # Without a map nobody says which of the suite's labels this dataset annotates.
    missing = sorted(subject.annotation.expected - present) if subject.annotation.label_map else []
    parts = [f"{len(present)} labels"]
    parts += [f"not known to the suite: {', '.join(f'{name} ({times:,} times)' for name, times in sorted(read.unknown.items()))}"] if read.unknown else []
    parts += [f"without a single row: {', '.join(missing)}"] if missing else []
    return not read.unknown and not missing, "; ".join(parts)


def _duplicates(files: Sequence[Path], columns: Mapping[str, str]) -> tuple[bool, str]:
    """Ids that occur twice; without ids, rows."""
    read = read_labelled(files, Annotation("generation", columns=columns))
    return True, f"every {read.key} once" if read.key else f"{len(read.order):,} rows, told apart by their content"


def _within(hub: Hub, base: Repository, subject: Subject, files: Sequence[Path]) -> tuple[bool, str]:
    """Whether each row, as it stands, is a row of the source too."""
    np = numpy()
    source = hub.fetch(hub.split(base.name, base.revision, str(subject.source), subject.config))
    none = Annotation("generation")
    theirs = read_labelled([source.path, *source.more], none, key=None).order
    ours = read_labelled(files, none, key=None).order
    known = set(zip(theirs[:, 0].tolist(), theirs[:, 1].tolist(), strict=True))
    strangers = np.array([pair not in known for pair in zip(ours[:, 0].tolist(), ours[:, 1].tolist(), strict=True)], bool)
    count = int(strangers.sum())
    return not count, f"all {len(ours):,}" if not count else f"{count:,} of {len(ours):,} rows are not there, the first is row {int(strangers.argmax())}"


def _loads(remote: RemoteSplit, fresh: Path) -> tuple[bool, str]:
    """What everybody else will meet."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(error.name or "datasets", needed_for="loading a split as others do", extra="hub") from None
    given: Mapping[str, Any] = {"split": remote.split, "revision": remote.revision, "cache_dir": str(fresh / "datasets"), "download_mode": "force_redownload"}
    try:
        rows = len(datasets.load_dataset(remote.repo, remote.config, **given))
    except Exception as error:
        return False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return True, f"{rows:,} rows"
