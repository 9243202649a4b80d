"""Where the rows of a session come from: settled once on the controller, before a GPU is taken, and the same on every worker."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_gpueval.datasets import locks, mirror, sources
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.datasets.remote import MAIN, RemoteSplit
from pytest_gpueval.datasets.side_by_side import side_by_side
from pytest_gpueval.errors import DataError, GpuevalError, MissingExtra, UsageProblem, valid_values
from pytest_gpueval.runtimes.inprocess import load_file
from pytest_gpueval.suites import load
from pytest_gpueval.suites.model import Case, Suite, Unit

from .cases import read_suite

if TYPE_CHECKING:
    from pytest_gpueval.datasets.hub import Hub

    from .settings import Settings

EMBEDDED, HUB = "embedded", "hub"
_AT_ONCE = 8
T = TypeVar("T")
# Suite folder, dataset, split.
Key = tuple[str, str, str]


class Data:
    """The splits of a session's suites. `pins` are commits that the controller has settled on."""

    def __init__(self, settings: Settings, pins: Sequence[tuple[Key, Mapping[str, Any]]] = ()) -> None:
        self._settings = settings
        self._pins = {(key[0], key[1], key[2]): RemoteSplit.of(entry) for key, entry in pins}
        self._commits: dict[tuple[str, str | None], str] = {}
        self._locks: dict[Path, dict[tuple[str, str], RemoteSplit]] = {}
        self._asked_hub: Hub | None = None
        self._making = Lock()
        self._brought: set[Key] = set()
        # What nobody wants to run now, and the Hub does not show.
        self._strangers: set[Key] = set()

    @property
    def pins(self) -> list[tuple[Key, dict[str, Any]]]:
        """What another process needs to know, in JSON's types."""
        return [(key, remote.as_dict()) for key, remote in self._pins.items()]

    @property
    def notes(self) -> list[str]:
        """What a user should know of where data came from."""
        return self._asked_hub.notes if self._asked_hub else []

    @property
    def _hub(self) -> Hub:
        """The same for all threads: it remembers who has answered, and what there is to say. From Python 3.12 on, a cached_property may be made twice."""
        from pytest_gpueval.datasets.hub import Hub  # noqa: PLC0415 - only where it is asked

        with self._making:
            self._asked_hub = self._asked_hub or Hub()
            return self._asked_hub

    @cached_property
    def _mirror(self) -> mirror.Mirror:
        return mirror.open_mirror(Path(self._settings.data))

    def settle(self, units: Sequence[Unit], wanted: Sequence[Unit] | None = None) -> None:
        """Find out which commits the splits of the cases among these are. One that is not `wanted`, where that is known, need not be there.

        Raises whatever stands in the way of the first: DataError, AccessDenied, Unreachable, UsageProblem.
        """
        if self._settings.data != HUB:
            return
        cases = _cases(units)
        needed = {_key(case) for case in (cases if wanted is None else _cases(wanted))}

        def look(case: Case) -> RemoteSplit | None:
            try:
                return self._resolved(case)
            except GpuevalError:
                if _key(case) in needed:
                    raise
                return None

        for key, remote in zip(map(_key, cases), _at_once(look, cases), strict=True):
            if remote is None:
                self._strangers.add(key)
            else:
                self._pins[key] = remote

    def bring(self, units: Sequence[Unit]) -> None:
        """Have here what cases that are about to run need, and see that it is whole, once.

        Raises what stands in the way of the first, and for a directory lists all that is missing: DataError, AccessDenied, Unreachable, UsageProblem.
        """
        needed = {_key(case): case for case in _cases(units) if _key(case) not in self._brought}
        self._brought.update(needed)
        if not needed or self._settings.data == EMBEDDED:
            return
        if self._settings.data == HUB:
            self._fetch_all({self._pins.get(key) or self._resolved(case) for key, case in needed.items()})
        elif problems := self._mirror.problems((case.dataset, case.split) for case in needed.values()):
            raise DataError(
                f"--gpueval-data {self._settings.data}: {len(problems)} of {len(needed)} splits cannot be used:\n  "
                + "\n  ".join(problems)
                + "\nCopy what is missing, or choose other datasets with -k."
            )

    def told_rows(self, case: Case) -> int | None:
        """The rows of a case as the suite or the Hub says, without a look at any file."""
        pinned = self._pins.get(_key(case))
        return case.rows if pinned is None else pinned.rows

    def rows(self, case: Case, where: sources.Location) -> int | None:
        """The rows of a case that the session's limit leaves, as the suite or its data says; None if nobody knows.

        `where` is what `location` says of its suite. Raises DataError for a file that is no parquet, UsageProblem.
        """
        rows, limit = case.rows, self._settings.limit
        if self._settings.data == HUB:
            rows = (None if _key(case) in self._strangers else self._resolved(case).rows) or rows
        elif self._settings.data != EMBEDDED or rows is None:
            rows = self._rows_of_file(case, where) or rows
        return rows if rows is None or limit is None else min(rows, limit)

    def _rows_of_file(self, case: Case, where: sources.Location) -> int | None:
        path = sources.locate(where, case.dataset, case.split)
        found = ParquetSplit(path, "") if self._settings.data == EMBEDDED else self._mirror.split(case.dataset, case.split)
        return found.rows if found.path.exists() else None

    def open(self, case: Case, dataset: str | None = None, split: str | None = None) -> ParquetSplit:
        """The split of a case, or another of its suite, generated or fetched first. Raises DataError, UsageProblem, AccessDenied, Unreachable."""
        suite = _suite_of(case)
        dataset, split = dataset or case.dataset, split or case.split
        datasets = suite.file.datasets
        if dataset not in datasets:
            raise UsageProblem(f"suite {case.suite!r} has no dataset {dataset!r}. {valid_values(dataset, datasets, what='datasets')}")
        if split not in datasets[dataset].splits:
            raise UsageProblem(f"dataset {dataset!r} has no split {split!r}. {valid_values(split, datasets[dataset].splits, what='splits')}")
        found = self._opened(case, suite, dataset, split)
        return replace(found, names=datasets[dataset].columns) if datasets[dataset].columns else found

    def _opened(self, case: Case, suite: Suite, dataset: str, split: str) -> ParquetSplit:
        """A split that the suite has, by the names of its files. Raises as `open`."""
        if self._settings.data == HUB:
            return self._fetched(self.settled(suite, dataset, split))
        if self._settings.data != EMBEDDED:
            return self._mirror.split(dataset, split)
        where = location(suite)
        path = sources.locate(where, dataset, split)
        try:
            module = load_file(where.generator) if where.generator is not None and not path.exists() else None
        except ModuleNotFoundError as error:
            raise MissingExtra(error.name or "?", needed_for=f"generating {dataset}/{split}", extra=case.runtime.extra or "all") from None
        return sources.ensure(path, dataset, split, self.words([suite]), module)

    def check(self) -> None:
        """Raise UsageProblem for a `--gpueval-data` that cannot serve."""
        if self._settings.data not in (EMBEDDED, HUB):
            _ = self._mirror

    def words(self, suites: Sequence[load.AnySuite]) -> str:
        """The data of a session in words: `embedded: synthetic`."""
        if self._settings.data != EMBEDDED:
            return self._settings.data
        notes = sorted({suite.file.data.note for suite in suites if isinstance(suite, Suite) and suite.file.data.note})
        return f"embedded: {', '.join(notes)}" if notes else EMBEDDED

    def _resolved(self, case: Case) -> RemoteSplit:
        return self.settled(_suite_of(case), case.dataset, case.split)

    def settled(self, suite: Suite, dataset: str, split: str) -> RemoteSplit:
        """The commit and the files of a split: as settled before, as locked, or as the Hub says now. Raises UsageProblem, and as `Hub.split`."""
        key = (str(suite.directory), dataset, split)
        if key in self._pins:
            return self._pins[key]
        entry = suite.file.datasets[dataset]
        if entry.repo is None:
            raise UsageProblem(f"{suite.path}: datasets.{dataset}.repo: missing; --gpueval-data hub needs the repository that holds it")
        locked = None if self._settings.refresh else self._lock(suite.directory).get((dataset, split))
        if locked is not None and (locked.repo, locked.config) == (entry.repo, entry.config) and entry.revision in (None, locked.revision):
            return locked
        return self._hub.split(entry.repo, self._commit(entry.repo, entry.revision), split, entry.config)

    def _commit(self, repo: str, revision: str | None) -> str:
        """What a branch or tag names, found out once: all splits of a repository are of one commit. Raises as `Hub.repository`."""
        if (repo, revision) not in self._commits:
            self._commits.setdefault((repo, revision), self._hub.repository(repo, revision or MAIN).revision)
        return self._commits[repo, revision]

    def _lock(self, directory: Path) -> dict[tuple[str, str], RemoteSplit]:
        if directory not in self._locks:
            self._locks[directory] = locks.read(directory)
        return self._locks[directory]

    def _fetched(self, remote: RemoteSplit) -> ParquetSplit:
        """A split, fetched by the process that reads it: what there is to say goes to the log of its run."""
        before = len(self.notes)
        found = self._hub.fetch(remote)
        for note in self.notes[before:]:
            sys.stderr.write(f"gpueval: {note}\n")
        return found

    def _fetch_all(self, splits: Iterable[RemoteSplit]) -> None:
        """Have the files of splits here, and say so where that takes a while."""
        again = self._settings.refresh
        missing = {remote: remote.bytes if again else self._hub.to_fetch(remote) for remote in splits}
        sizes = [size for size in missing.values() if size != 0]
        if sizes:
            size = f", {sum(size or 0 for size in sizes) / 1e6:,.1f} MB" if None not in sizes else ""
            sys.stderr.write(f"gpueval: fetching {len(sizes)} split{'s' if len(sizes) > 1 else ''}{size}\n")
        _at_once(lambda remote: self._hub.fetch(remote, again=again), list(missing))


def _cases(units: Iterable[Unit]) -> list[Case]:
    return [unit for unit in units if isinstance(unit, Case)]


def _suite_of(case: Case) -> Suite:
    return load.evaluation(read_suite(case.directory / load.FILE_NAME))


def location(suite: Suite) -> sources.Location:
    """Where a suite keeps its embedded data."""
    data, directory = suite.file.data, suite.directory
    return sources.Location(suite.name, directory / data.directory, data.note, directory / data.generator if data.generator else None)


def _key(case: Case) -> Key:
    return str(case.directory), case.dataset, case.split


def _at_once(call: Any, given: Sequence[Any]) -> list[Any]:
    """The results in order, several calls at a time. Raises the first error of ours with a count of those like it."""
    futures = side_by_side(call, given, _AT_ONCE)
    errors = [error for future in futures if (error := future.exception()) is not None]
    if not errors:
        return [future.result() for future in futures]
    first = errors[0]
    texts = {str(error).partition("\n")[0]: None for error in errors if isinstance(error, type(first))}
    if isinstance(first, GpuevalError) and len(texts) > 1:
        raise type(first)("\n".join([*texts, *str(first).split("\n")[1:]])) from None
    raise first
