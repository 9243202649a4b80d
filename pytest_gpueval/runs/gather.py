"""The files of a merge: hold the sessions, read them, and write the joined one, whole or not at all. What is decided between is in `merge`."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from pytest_gpueval.errors import Conflict, StorageError, UsageProblem

from . import baselines, ownership, validate
from .directory import COMMAND, COMPARED, LOG, METADATA, RESULTS, SUMMARY, read_summary
from .merge import Found, Plan, Session
from .ownership import LOCK, OWNER
from .records import RunMetadata, SessionRecord

SESSION, JUNIT = "session.json", "junit.xml"
_OURS = frozenset({SESSION, JUNIT, LOCK, OWNER, "report.md", "report.html", "servers", COMPARED})
# What `cases.run_id` makes; a name from elsewhere could lead out of the directory, or steer the terminal.
_RUN_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}")
_BLOCK = 1 << 26
# Between file systems, or on one that does not know how.
_CANNOT_SHARE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
_MOST = 20


@contextmanager
def opened(paths: Sequence[Path], *, create_locks: bool = True) -> Iterator[tuple[list[Session], list[str]]]:
    """The sessions, held so that no pytest writes there meanwhile, and what to say about them.

    Raises UsageProblem for what is no session that can be read, Conflict for one that is being written. `create_locks` false touches nothing.
    """
    notes: list[str] = []
    with ExitStack() as held:
        try:
            _check_places(paths)
            for path in paths:
                _hold(path, held, notes, create=create_locks)
            names = [path.resolve().name for path in paths]
            sessions = [_session(path, name if names.count(name) == 1 else str(path), held, notes) for path, name in zip(paths, names, strict=True)]
        except OSError as error:
            raise UsageProblem(f"{error.filename or paths[0]}: cannot be read: {error.strerror or error}") from None
        yield sessions, notes


def state(plan: Plan, record: Mapping[str, Any]) -> bool:
    """Whether the target holds this very merge already. Raises Conflict if it holds something else, UsageProblem if it lies in a session."""
    target = plan.target
    for session in plan.sessions:
        if target.resolve().is_relative_to(session.path.resolve()):
            raise UsageProblem(f"{target}: lies in the session {session.path}; choose a place beside it")
    with _storage(target):
        if not os.path.lexists(target) or (target.is_dir() and not target.is_symlink() and not any(target.iterdir())):
            return False
    if not _is_merge(target, plan, record):
        raise Conflict(f"{target}: exists already, and is not the result of this merge.\nChoose another TARGET, or move it away.")
    return True


def write(plan: Plan, files: Mapping[str, str]) -> list[str]:
    """Copy the runs, write `files` beside them and put all in place at once. Returns what was not copied, and why.

    Raises StorageError if that fails, Conflict if another merge is writing the same target; nothing is left of it then.
    """
    target = plan.target
    skipped: list[str] = []
    with _storage(target), _workshop(target) as workshop:
        session = workshop / target.name
        session.mkdir()
        for run_id, run in plan.taken.items():
            _copy_directory(run.path, session / run_id, skipped)
            _copy_compared(run, session / COMPARED, skipped)
        for name, text in files.items():
            with (session / name).open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        try:
            session.rename(target)
        except OSError as error:
            if target.is_dir():  # it was empty, or not there, when we began
                raise Conflict(f"{target}: something was written there meanwhile ({error.strerror}).\nChoose another TARGET, or move it away.") from None
            raise
    return skipped


# Reading.


def _check_places(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise UsageProblem(f"{path}: no such directory")
        if not _is_regular(path / SESSION):
            inside = sorted(file.parent for file in path.glob(f"*/{SESSION}"))[:3]
            hint = f" Sessions in it: {', '.join(map(str, inside))}." if inside else ""
            raise UsageProblem(f"{path}: is no session: it has no file {SESSION}.{hint}\nGive directories that pytest wrote: <output-dir>/<session>.")
        if path.resolve() in seen:
            raise UsageProblem(f"{path}: is given twice" + (f", also as {seen[path.resolve()]}" if seen[path.resolve()] != path else ""))
        seen[path.resolve()] = path


def _hold(path: Path, held: ExitStack, notes: list[str], *, create: bool) -> None:
    """Take the lock of a directory until `held` is closed. Raises Conflict if somebody else has it."""
    if not create and not os.path.lexists(path / LOCK):
        return
    try:
        lock = ownership.take(path)
    except ownership.Taken as taken:
        raise Conflict(f"{path}: is still being written ({taken}).\nWait for it, and merge then.") from None
    except OSError as error:  # a read-only copy: nobody writes there either
        notes.append(f"{path}: cannot be locked ({error.strerror or error}); read as it is")
    else:
        held.callback(lock.release)


def _session(path: Path, name: str, held: ExitStack, notes: list[str]) -> Session:
    record = _record(path / SESSION)
    if record.ended_at is None:
        notes.append(f"{name}: did not end; its runs are taken as they are")
    listed = {run.run_id: run for run in record.runs}
    runs: dict[str, Found] = {}
    problems: list[str] = []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_symlink():
            notes.append(f"{_quoted(entry.path)}: is a link; not followed")
        elif entry.is_dir() and not entry.name.startswith(".") and entry.name != COMPARED:
            directory = Path(entry.path)
            if not os.path.lexists(directory / METADATA):
                notes.append(f"{_quoted(entry.path)}: has no {METADATA}, so it is no run; not copied")
                continue
            wrong = _wrong(directory)
            problems += wrong
            if not wrong:
                summary = read_summary(directory)
                if summary is None and (directory / LOCK).exists():  # the worker of a session that was killed may still be writing
                    _hold(directory, held, notes, create=False)
                metadata = RunMetadata.model_validate(json.loads((directory / METADATA).read_bytes()))
                size = (directory / RESULTS).stat().st_size if (directory / RESULTS).exists() else 0
                runs[entry.name] = Found(name, directory, metadata, summary, listed.get(entry.name), size)
    if problems:
        more = [f"... and {len(problems) - _MOST} more"] if len(problems) > _MOST else []
        lines = "\n".join(f"  {line}" for line in [*problems[:_MOST], *more])
        raise UsageProblem(f"{path}: holds runs that break the contract:\n{lines}\nMove them away, or run them anew with --gpueval-force.")
    return Session(name, path, record, runs, _junit(path / JUNIT, name, notes))


def _record(file: Path) -> SessionRecord:
    """The record of a session. Raises UsageProblem."""
    try:
        record = SessionRecord.model_validate(json.loads(file.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageProblem(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageProblem(f"{file}: cannot be read: {error}") from None
    for run in record.runs:
        if not _is_run_id(run.run_id):
            raise UsageProblem(f"{file}: run_id {run.run_id!r} is not the name of a run directory (letters, digits and . _ -)")
    return record


def _is_run_id(name: str) -> bool:
    return _RUN_ID.fullmatch(name) is not None and name not in _OURS


def _wrong(directory: Path) -> list[str]:
    """What is wrong with a run directory. One without a summary did not end; that is no fault, it can be gone on with."""
    if not _is_run_id(directory.name):
        return [f"{_quoted(str(directory))}: is not the name of a run directory (letters, digits and . _ -)"]
    for name in (COMMAND, METADATA, SUMMARY, LOG, RESULTS):  # before anything reads them: a pipe never ends, a link leads elsewhere
        if os.path.lexists(directory / name) and not _is_regular(directory / name):
            return [f"{directory / name}: is no regular file"]
    ended = (directory / SUMMARY).exists()
    return [f"{file}: {problem}" for file, problem in validate.of_run(directory, every_line=False) if ended or problem != "missing"]


def _junit(file: Path, name: str, notes: list[str]) -> str | None:
    if not os.path.lexists(file):
        notes.append(f"{name}: has no {JUNIT}")
        return None
    if not _is_regular(file):
        raise UsageProblem(f"{file}: is no regular file.\nMove it away to join the runs without it.")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{file}: cannot be read: {error}.\nMove it away to join the runs without it.") from None


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False


def _quoted(path: str) -> str:
    return path if path.isprintable() else repr(path)


def _is_merge(target: Path, plan: Plan, record: Mapping[str, Any]) -> bool:
    """Whether `target` says what `record` says, the command line excepted, and has the same runs."""
    try:
        there = json.loads((target / SESSION).read_bytes()) if _is_regular(target / SESSION) else None
        same = isinstance(there, dict) and {**there, "argv": None} == {**record, "argv": None}
        return same and all(_sizes(target / run_id) == _sizes(run.path) for run_id, run in plan.taken.items())
    except (OSError, ValueError, RecursionError):
        return False


def _sizes(directory: Path) -> dict[str, int | str]:
    """The files that a copy has, and their sizes; the small ones that say how a run ended by their content."""
    found: dict[str, int | str] = {}
    for entry in _entries(directory):
        if entry.is_dir(follow_symlinks=False):
            found.update({f"{entry.name}/{name}": size for name, size in _sizes(Path(entry.path)).items()})
        elif entry.is_file(follow_symlinks=False):
            small = entry.name in (METADATA, SUMMARY)
            found[entry.name] = Path(entry.path).read_text(encoding="utf-8", errors="replace") if small else entry.stat(follow_symlinks=False).st_size
    return found


# Writing.


@contextmanager
def _storage(target: Path) -> Iterator[None]:
    """Say what an OSError means for a merge. What was written is gone by then."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StorageError(
            f"{target}: cannot be written: {error.strerror or error}{where}.\n"
            "Nothing was left there, and the sessions are as they were. Free some space, or choose another TARGET."
        ) from None


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A directory beside the target that is gone afterwards, however that ends; what a killed merge left in it is cleared.

    Beside it, so that a rename puts the result in place; one level deeper than that, so that nobody takes what is half done for a session.
    """
    place = target.parent / f".{target.name}.merging"
    target.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():  # what is cleared must be ours
        raise Conflict(f"{place}: is in the way of the merge. Move it away, or choose another TARGET.")
    place.mkdir(exist_ok=True)
    lock = FileLock(place / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Conflict(f"{target}: another merge is writing it.\nWait for it, or choose another TARGET.") from None
    try:
        shutil.rmtree(place / target.name, ignore_errors=True)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """What of a directory belongs to a run: not its lock, nor what a write that was cut off left."""
    with os.scandir(directory) as entries:
        return [entry for entry in entries if entry.name != LOCK and not (entry.name.startswith(".") and entry.name.endswith(".tmp"))]


def _copy_directory(source: Path, copy: Path, skipped: list[str]) -> None:
    """Copy regular files and the directories that hold them. Links, pipes and devices are named in `skipped`."""
    copy.mkdir()
    for entry in _entries(source):
        if entry.is_dir(follow_symlinks=False):
            _copy_directory(source / entry.name, copy / entry.name, skipped)
        elif entry.is_file(follow_symlinks=False):
            _copy_file(source / entry.name, copy / entry.name)
        else:
            skipped.append(f"{_quoted(entry.path)}: is no regular file; not copied")


def _copy_compared(run: Found, copy: Path, skipped: list[str]) -> None:
    """Copy what a run was compared with, if it was; of runs of one case, as its shards, once."""
    place = run.path.parent / COMPARED / run.metadata.suite
    told = run.metadata.baseline is not None and run.metadata.shard is None
    safe = _RUN_ID.fullmatch(run.metadata.suite) and _RUN_ID.fullmatch(run.metadata.case) and not (place.is_symlink() or place.parent.is_symlink())
    if not told or not safe or not place.is_dir():
        return
    (copy / run.metadata.suite).mkdir(parents=True, exist_ok=True)
    for ending in baselines.ENDINGS:
        source, target = place / f"{run.metadata.case}{ending}", copy / run.metadata.suite / f"{run.metadata.case}{ending}"
        if not os.path.lexists(source) or target.exists():
            continue
        if _is_regular(source):
            _copy_file(source, target)
        else:
            skipped.append(f"{_quoted(str(source))}: is no regular file; not copied")


def _copy_file(source: Path, copy: Path) -> None:
    """Copy content, permissions and time. The kernel copies, or shares the blocks where the file system can."""
    try:
        origin = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageProblem(f"{source}: cannot be read: {error.strerror}") from None
    with os.fdopen(origin, "rb") as reader, copy.open("xb") as writer:
        status = os.fstat(origin)
        try:
            while os.copy_file_range(origin, writer.fileno(), _BLOCK):
                pass
        except OSError as error:
            if writer.tell() or error.errno not in _CANNOT_SHARE:
                raise
        shutil.copyfileobj(reader, writer, 1 << 20)  # all of it where the kernel cannot; else what came since, which is nothing
        writer.flush()
        os.fchmod(writer.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
        os.utime(writer.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(writer.fileno())
