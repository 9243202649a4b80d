"""Where baselines come from: a folder, a session, a commit. Knows nothing of pytest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.hosts import git
from pytest_gpueval.runs import baselines
from pytest_gpueval.runs.baselines import Baseline, files, speed
from pytest_gpueval.runs.baselines.baseline import read_metadata, runs_of
from pytest_gpueval.runs.baselines.speed import SpeedRecord
from pytest_gpueval.runs.directory import read_summary

GIT = "git:"
_SESSION = "session.json"
_FORMS = "a folder of baselines, a session (its name or its folder), or git:REF"


class Source(Protocol):
    """Baselines by suite and case."""

    @property
    def words(self) -> str:
        """Where they are from."""

    def get(self, suite: str, case: str) -> Baseline:
        """The baseline of a case. Raises UsageProblem where there is none, DataError for a damaged one; StorageError, Conflict."""

    def speed(self, suite: str, case: str) -> SpeedRecord | None:
        """How fast a case was; None where nobody knows. Raises DataError for a damaged file; StorageError, Conflict."""

    def cases(self) -> list[tuple[str, str]]:
        """(suite, case) of all there are."""


class Folder:
    """Files below a folder."""

    def __init__(self, path: Path, words: str) -> None:
        self._path = path
        self.words = words

    def get(self, suite: str, case: str) -> Baseline:
        """As Source."""
        return baselines.read(self._path, suite, case)

    def speed(self, suite: str, case: str) -> SpeedRecord | None:
        """As Source."""
        return speed.read(self._path, suite, case)

    def cases(self) -> list[tuple[str, str]]:
        """As Source."""
        return [(suite, case) for suite in files.suites_of(self._path) for case in files.cases_of(self._path, suite)]


class Session:
    """The runs of a session."""

    def __init__(self, path: Path, words: str) -> None:
        self._path = path
        self.words = words

    def get(self, suite: str, case: str) -> Baseline:
        """As Source."""
        return baselines.from_session(self._path, suite, case)

    def speed(self, suite: str, case: str) -> SpeedRecord | None:
        """As Source."""
        run = runs_of(self._path).get((suite, case))
        summary = read_summary(run) if run is not None else None
        entry = speed.of_run(read_metadata(run), summary) if run is not None and summary is not None else None
        return None if entry is None else speed.record(suite, case, entry)

    def cases(self) -> list[tuple[str, str]]:
        """As Source."""
        return sorted(runs_of(self._path))


class Commit:
    """Files below baselines/ as a commit has them. Raises UsageProblem for a commit that there is not."""

    def __init__(self, ref: str, root: Path) -> None:
        self._sha = git.commit(ref, root)
        self._root = root
        self._place = f"{GIT}{ref}:{baselines.DIRECTORY}"
        self.words = f"{GIT}{ref}" if self._sha.startswith(ref) else f"{GIT}{ref} ({self._sha[:12]})"

    def get(self, suite: str, case: str) -> Baseline:
        """As Source."""
        found = files.fetched(partial(self._blob), suite, case, self._place)
        if found is None:
            raise files.missing(suite, case, f"{self._place} ({self._sha[:12]})", [name for of, name in self.cases() if of == suite])
        return found

    def speed(self, suite: str, case: str) -> SpeedRecord | None:
        """As Source."""
        return speed.fetched(self._blob, suite, case, self._place)

    def cases(self) -> list[tuple[str, str]]:
        """As Source."""
        folders = git.names(self._sha, baselines.DIRECTORY, self._root)
        return [
            (suite, Path(name).stem)
            for suite in folders
            for name in git.names(self._sha, f"{baselines.DIRECTORY}/{suite}", self._root)
            if name.endswith(".json") and not name.endswith(files.SPEED)
        ]

    def _blob(self, name: str) -> bytes | None:
        return git.blob(self._sha, f"{baselines.DIRECTORY}/{name}", self._root)


def source(spec: str, root: Path, output_dir: Path, here: Path | None = None, *, option: str = "--gpueval-baseline ") -> Source:
    """What `--gpueval-baseline SPEC` names: `git:REF`, else a path, relative to `here` or `root`, else a session of `output_dir`.

    `option` is what messages put before it. Raises UsageProblem.
    """
    if spec.startswith(GIT):
        return Commit(spec.removeprefix(GIT), root)
    for path in dict.fromkeys([(here or root) / Path(spec).expanduser(), root / Path(spec).expanduser(), output_dir / spec]):
        if (path / _SESSION).is_file():
            return Session(path, spec)
        if path.is_dir() and path.parent != output_dir:
            return _folder(path, spec, option)
    sessions = [path.parent.name for path in output_dir.glob(f"*/{_SESSION}")]
    if (output_dir / spec).is_dir():
        raise UsageProblem(f"{option}{spec}: {output_dir / spec} is no session: it has no {_SESSION}")
    raise UsageProblem(f"{option}{spec}: there is no such folder, and no such session in {output_dir}. Give {_FORMS}.\n{_known(spec, sessions)}")


def _folder(path: Path, spec: str, option: str) -> Source:
    """The folder of all suites, also where the one of a suite is named."""
    if files.suites_of(path):
        return Folder(path, spec)
    if path.name in files.suites_of(path.parent):
        return Folder(path.parent, spec)
    raise UsageProblem(
        f"{option}{spec}: {path} holds neither a baseline (<suite>/<case>.json) nor a session.\n"
        "Make baselines of what a suite's model does now:  pytest --gpueval-suite NAME --gpueval-update-baseline"
    )


def _known(spec: str, sessions: list[str]) -> str:
    return valid_values(spec, sessions, what="sessions") if len(sessions) <= 50 else f"There are {len(sessions):,} sessions."
