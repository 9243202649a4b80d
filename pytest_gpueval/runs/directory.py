"""One run's directory: what state it is in, and how a run may begin in it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from pytest_gpueval.errors import Conflict

from . import results
from .files import back_up, storage, sync, to_json, write_atomically, write_json
from .records import RunMetadata, Summary
from .redact import Redactor, arguments

COMMAND, METADATA, SUMMARY, LOG, RESULTS = "command.sh", "run_metadata.json", "summary.json", "stdout.log", "results.jsonl"

# The folder of a session that has what it was compared with.
COMPARED = "compared"

# What must be equal for an earlier run's results to count as this run's.
IDENTITY = ("suite", "case", "shard", "task", "dataset", "runtime", "model", "judge", "policy", "scoring", "gates", "limit", "parameters", "program")

State = Literal["new", "finished", "resumable", "blocked"]
_Version: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Beginning:
    """How a run begins: anew, reusing a finished one (`summary`), or after `done` results."""

    state: State
    summary: Summary | None = None


class RunDirectory:
    """`<session>/<run_id>/` under the contract. All text written through it is redacted."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self.redactor = redactor

    @property
    def run_id(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def results_path(self) -> Path:
        """Where results.jsonl is."""
        return self.path / RESULTS

    def state(self) -> Beginning:
        """Look, without touching anything. Raises Conflict for a summary that cannot be read."""
        summary = read_summary(self.path)
        if summary is None:
            return Beginning("resumable" if self.results_path.exists() else "new")
        if summary.ok and summary.complete:
            return Beginning("finished", summary)
        if (summary.status == "interrupted" or summary.ok) and self.results_path.exists():
            return Beginning("resumable", summary)
        # Nothing is lost by starting a run anew that was skipped, interrupted before its first result, or left without its shards.
        harmless = summary.ok or not summary.complete or summary.status in ("interrupted", "skipped")
        return Beginning("new" if harmless else "blocked", summary)

    def begin(self, metadata: RunMetadata, command: Sequence[str], *, force: bool, reuse: bool = True) -> Beginning:
        """Make the directory ready for a run and write command.sh and run_metadata.json.

        Without `reuse` a finished run is gone through again from its results, which need no model.
        Raises Conflict if an earlier run here ended otherwise, or was another run; StorageError if the directory cannot be written.
        """
        if force:
            stamp = datetime.now(UTC)
            for name in (LOG, SUMMARY, RESULTS, METADATA, COMMAND):
                back_up(self.path / name, lambda: stamp)
        beginning = self.look(metadata)
        if beginning.state == "finished":
            if reuse:
                return beginning
            beginning = Beginning("resumable" if self.results_path.exists() else "new", beginning.summary)
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / SUMMARY).unlink(missing_ok=True)
        if beginning.state == "resumable":
            results.drop_torn_tail(self.results_path)
        else:
            back_up(self.results_path)  # a skipped run may have left some
        # A power cut may cost a run its first seconds, not more: `finish` makes these durable.
        write_atomically(self.path / COMMAND, self._script(command), durable=False)
        write_json(self.path / METADATA, self.redactor.value(metadata.model_dump(mode="json")), durable=False)
        return beginning

    def is_of(self, identity: Mapping[str, Any]) -> bool:
        """Whether these fields of IDENTITY are, to the letter, those of the run that is here; where secrets were redacted, they are not. Raises Conflict."""
        there = read_metadata(self.path) or {}
        return all(there.get(key) == identity.get(key) for key in IDENTITY)

    def look(self, metadata: RunMetadata) -> Beginning:
        """How this run could begin, without touching anything. Raises Conflict as `begin`."""
        beginning = self.state()
        if beginning.state == "blocked":
            raise Conflict(blocked_message([self.path]))
        if beginning.state in ("finished", "resumable"):
            self._require_same(metadata)
        return beginning

    def baseline(self) -> Mapping[str, Any] | None:
        """What the run that is here was compared with; None where it was not, or there is none. Raises Conflict."""
        found: Mapping[str, Any] | None = (read_metadata(self.path) or {}).get("baseline")
        return found

    def finish(self, summary: Summary) -> None:
        """Write summary.json. Raises StorageError."""
        sync(self.path / METADATA)
        write_json(self.path / SUMMARY, self.redactor.value(summary.model_dump(mode="json")))

    def _script(self, command: Sequence[str]) -> str:
        comment = f"# Run again: sh {COMMAND}. Secrets are not written here; they are taken from the environment."
        return f"#!/bin/sh\n{comment}\n{shlex.join(arguments(command, self.redactor))}\n"

    def _require_same(self, metadata: RunMetadata) -> None:
        earlier = _read_json(self.path / METADATA)
        now = json.loads(to_json(self.redactor.value(metadata.model_dump(mode="json", include=set(IDENTITY)))))
        changed = [key for key in IDENTITY if earlier.get(key) != now.get(key)]
        if changed:
            details = "\n".join(line for key in changed for line in _differences(key, earlier.get(key), now.get(key)))
            raise Conflict(
                f"{self.path}: holds an earlier run with another {' and '.join(changed)}:\n{details}\n"
                "Choose another --gpueval-session, or run anew with --gpueval-force (the old files are backed up)."
            )


def read_metadata(path: Path) -> Mapping[str, Any] | None:
    """run_metadata.json of a run directory, None if there is none. It is shared: do not change it. Raises Conflict if it cannot be read."""
    file = path / METADATA
    version = _version(file)
    return None if version is None else _json_as_of(file, version)


def read_summary(path: Path) -> Summary | None:
    """The summary of a run directory, or None if the run did not end. It is shared: do not change it. Raises Conflict if it cannot be read."""
    file = path / SUMMARY
    version = _version(file)
    return None if version is None else _summary_as_of(file, version)


def _version(file: Path) -> _Version | None:
    """Changes with the file: who writes one puts a new file in its place. None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=2048)  # a session looks at each several times
def _json_as_of(file: Path, _version: _Version) -> Mapping[str, Any]:
    return _read_json(file)


@lru_cache(maxsize=16384)
def _summary_as_of(file: Path, _version: _Version) -> Summary | None:
    if _is_of_a_program(file.parent):
        return None
    try:
        return Summary.model_validate(_read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise Conflict(f"{file}: {key}: {first['msg']}.\nRun anew with --gpueval-force (the file is backed up).") from None


def _is_of_a_program(path: Path) -> bool:
    """Whether a row's program wrote the summary, perhaps not to its end, and its session was gone before it could conclude the run."""
    try:
        return b'"schema_version"' not in (path / SUMMARY).read_bytes() and _read_json(path / METADATA).get("program") is not None
    except (OSError, Conflict):
        return False


def unlike(part: Path, whole: Path) -> list[str]:
    """What differs between the runs of a shard and of the whole that it belongs to, and must not. Raises Conflict for metadata that cannot be read."""
    one, other = _read_json(part / METADATA), _read_json(whole / METADATA)
    return [key for key in IDENTITY if key not in ("case", "shard") and one.get(key) != other.get(key)]


def blocked_message(paths: Sequence[Path]) -> str:
    """What an operator reads who is about to overwrite runs that failed."""
    lines = []
    for path in paths:
        summary = read_summary(path)
        if summary is not None:
            lines.append(f"  {path}: {summary.status}" + (f": {summary.reason.splitlines()[0]}" if summary.reason else ""))
    return (
        f"{len(lines)} earlier run(s) in this session did not pass:\n" + "\n".join(lines) + "\n"
        "Run them anew with --gpueval-force (their files are backed up; with --lf too, only those that failed), "
        "choose another --gpueval-session, or delete the directories."
    )


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Conflict(f"{file}: cannot be read: {error}.\nRun anew with --gpueval-force (the files are backed up).") from None
    if not isinstance(value, dict):
        raise Conflict(f"{file}: not a JSON object.\nRun anew with --gpueval-force (the files are backed up).")
    return value


def _differences(key: str, there: Any, now: Any) -> list[str]:
    """What differs, entry by entry of a table."""
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        names = [name for name in dict.fromkeys([*there, *now]) if there.get(name) != now.get(name)]
        return [line for name in names for line in _differences(f"{key}.{name}", there.get(name), now.get(name))]
    return [f"  {key}: {_short(there)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
