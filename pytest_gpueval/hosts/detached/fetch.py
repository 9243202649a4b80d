"""Brings a run's files here: what changed alone, from where a broken link left off, and in quarantine until their hashes are right."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_gpueval.errors import Conflict, GpuevalError, StorageError
from pytest_gpueval.hosts.host import Host

from .client import Agent
from .incoming import Entry, Wanted, check_size, wanted

_RECORD = "verified.jsonl"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a fetch. `changing` names files that were rewritten while they were read: they stay in quarantine."""

    target: Path
    files: tuple[Entry, ...]
    unchanged: tuple[str, ...]
    refused: Mapping[str, str]
    changing: tuple[str, ...]


class Place:
    """Where the files of a run go: `<to>/<run_id>`, by way of `<to>/.<run_id>.incoming`."""

    def __init__(self, to: Path, run_id: str) -> None:
        self.target, self.incoming = to / run_id, to / f".{run_id}.incoming"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else brings files there meanwhile. Raises Conflict, StorageError."""
        lock = FileLock(self.incoming / "lock")
        try:
            self.target.mkdir(parents=True, exist_ok=True)
            self.incoming.mkdir(mode=0o700, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            raise Conflict(f"{self.target}: another fetch brings files there right now") from None
        except OSError as error:
            raise StorageError(f"{self.target}: cannot be written: {error.strerror or error}. Choose another place with --to.") from None
        try:
            yield
        finally:
            lock.release()

    def verified(self) -> dict[str, Entry]:
        """Files that were fetched before and have not been touched since."""
        try:
            lines = (self.incoming / _RECORD).read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        entries: dict[str, Entry] = {}
        for line in lines:
            with suppress(ValueError, TypeError):  # the last one of a fetch that was killed
                entry = Entry(**json.loads(line))
                entries[entry.name] = entry
        return {name: entry for name, entry in entries.items() if self._is(entry)}

    def _is(self, entry: Entry) -> bool:
        try:
            about = (self.target / entry.name).lstat()
        except OSError:
            return False
        return (about.st_size, about.st_mtime_ns) == (entry.size, entry.mtime_ns)

    def part(self, entry: Entry) -> Path:
        """Where a file is while it comes: no name of the host's."""
        return self.incoming / f"{hashlib.sha256(entry.name.encode()).hexdigest()[:32]}.part"

    def take(self, entry: Entry) -> None:
        """Move a file that is whole to its place. Raises StorageError."""
        path = self.target / entry.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(self.target.resolve()):
                raise StorageError(f"{path}: a link leads out of {self.target}; remove it, or choose another place with --to")
            part = self.part(entry)
            os.utime(part, ns=(entry.mtime_ns, entry.mtime_ns))
            part.replace(path)
            with (self.incoming / _RECORD).open("a", encoding="utf-8") as record:
                record.write(json.dumps(asdict(entry)) + "\n")
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror or error}. Choose another place with --to.") from None


def look(agent: Agent, run_id: str, place: Place, most_files: int) -> tuple[str, Wanted, dict[str, Entry]]:
    """The run's directory there, what of it is wanted, and what is here. Raises what the agent raises."""
    here = place.verified()
    known = {name: [entry.size, entry.mtime_ns, entry.sha256] for name, entry in here.items()}
    answer = agent.manifest(run_id, known=known, most_files=most_files)
    return answer["directory"], wanted(answer["files"], answer["skipped"], here), here


def fetch(agent: Agent, run_id: str, to: Path, *, most_bytes: int, most_files: int) -> Fetched:
    """Bring the files of a run to `to/run_id`. Raises Unreachable where the link breaks: what came stays, and the next fetch goes on from there."""
    place = Place(to, run_id)
    with place.alone():
        directory, plan, here = look(agent, run_id, place, most_files)
        check_size(plan, most_bytes, shutil.disk_usage(place.incoming).free)
        done: list[Entry] = []
        changing: list[str] = []
        for entry in plan.files:
            if _bring(agent.host, f"{directory}/{entry.name}", entry, place, seed=entry.name in here):
                place.take(entry)
                done.append(entry)
            else:
                changing.append(entry.name)
        return Fetched(place.target, tuple(done), plan.unchanged, plan.refused, tuple(changing))


def _bring(host: Host, source: str, entry: Entry, place: Place, *, seed: bool) -> bool:
    """Fetch a file into quarantine; False if it is not what was listed, twice. What is here of it is continued: logs grow."""
    part = place.part(entry)
    if seed and not part.exists():
        shutil.copyfile(place.target / entry.name, part)
    for _ in range(2):
        have = part.stat().st_size if part.exists() else 0
        if have < entry.size or not have:
            part.touch()
            if entry.size:
                host.get(source, part, offset=have)
        with part.open("r+b") as file:
            file.truncate(min(entry.size, part.stat().st_size))  # it may have grown since it was listed
            file.seek(0)
            whole = hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        if whole:
            return True
        part.unlink()  # the beginning was another file's, or it is being rewritten
    return False


def explain(done: Fetched) -> None:
    """Raises GpuevalError where something did not come."""
    if done.changing:
        raise GpuevalError(f"{', '.join(done.changing)}: changed while being read; fetch again once the run has ended")
