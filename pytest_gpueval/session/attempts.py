"""Items that are tried again because the machines failed them: what became of the attempts before, and what those left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pytest_gpueval.errors import Conflict
from pytest_gpueval.runs import results
from pytest_gpueval.runs.directory import SUMMARY, RunDirectory
from pytest_gpueval.runs.files import back_up, storage, write_json
from pytest_gpueval.runs.records import Attempt

# In the session's directory while the session runs: a file for each run that is tried again, for whichever worker gets it next.
FOLDER = ".attempts/"


def file_of(run_id: str) -> str:
    """Where the attempts of a run are written down, below the session's directory."""
    return f"{FOLDER}{run_id}.json"


def earlier(session_dir: Path, run_id: str) -> list[Attempt]:
    """How the attempts of this session at a run ended, the first one first; empty where it has not been tried."""
    try:
        return [Attempt(**entry) for entry in json.loads((session_dir / file_of(run_id)).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def note(directory: RunDirectory, attempt: Attempt) -> None:
    """Write down how an attempt ended, and make the run's directory ready for another. Raises StorageError.

    Rows that have an answer stay; where some have an error instead, all are asked anew.
    """
    place = directory.path.parent / file_of(directory.run_id)
    told = [*earlier(directory.path.parent, directory.run_id), attempt]
    with storage(place):
        place.parent.mkdir(exist_ok=True)
    write_json(place, directory.redactor.value([entry.model_dump(mode="json") for entry in told]))
    back_up(directory.path / SUMMARY)
    if _has_errors(directory.results_path):
        back_up(directory.results_path)


def forget(session_dir: Path) -> None:
    """A session begins or has ended: attempts are counted anew."""
    shutil.rmtree(session_dir / FOLDER, ignore_errors=True)


def words(ends: Sequence[Attempt]) -> str:
    """`attempt 2: oom: out of memory`."""
    reason = (ends[-1].reason or "").strip().splitlines()
    return f"attempt {len(ends)}: {ends[-1].outcome}" + (f": {reason[0]}" if reason else "")


def _has_errors(path: Path) -> bool:
    """Whether results hold a row's error; also where they cannot be read."""
    if not path.exists():
        return False
    try:
        results.drop_torn_tail(path)
        return any("error" in record for record in results.read(path))
    except Conflict:
        return True
