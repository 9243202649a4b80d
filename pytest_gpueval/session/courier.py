"""The files of runs between a worker on another host and the session's directory, over the channel that the worker reports on.

What is written there comes home while the run goes on, and all of it before the run's end is told: so whatever reads the session's directory need not
know where a run ran. What is at home already (of an earlier part of the session, of another host, of a baseline) is brought to the worker that asks.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Lock, Thread
from typing import Any, Final

from pytest_gpueval.errors import GpuevalError, RuntimeFault
from pytest_gpueval.gpus.keeper import KEPT
from pytest_gpueval.hosts.detached.incoming import problem
from pytest_gpueval.runs.directory import COMPARED, LOG, RESULTS, SUMMARY
from pytest_gpueval.runs.files import back_up, storage

from . import attempts

FILES, BRING, ASIDE = "files", "bring", "aside"
# What a receiver hears.
EVENTS: Final = frozenset({FILES, BRING, ASIDE})
# Larger files, checkpoints for the most part, stay on the host.
MOST_BYTES: Final = 256 << 20
_PIECE: Final = 1 << 20
_GROW_S: Final = 0.5
_ANSWER_S: Final = 600.0
# What grows while a run goes on.
_GROWING: Final = (RESULTS, LOG)

Send = Callable[[Mapping[str, Any]], None]
# Of a file: its path below the session's directory, where the piece begins, the piece, and whether it is the last one.
Piece = tuple[str, int, bytes, bool]


@dataclass
class _Copy:
    """So much of a file is on the other side."""

    state: tuple[int, int, int] = (0, 0, 0)
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def grown(self, offset: int, data: bytes) -> None:
        """Now a piece at `offset` is, too."""
        self.digest.update(data)
        self.size = offset + len(data)


class Sender:
    """In a worker on another host. `send` raises KeyboardInterrupt where nobody hears; `kept` hears of files that are too large to come home."""

    def __init__(self, session_dir: Path, send: Send, kept: Callable[[str], None]) -> None:
        self._session_dir, self._send, self._kept = session_dir, send, kept
        self._copies: dict[Path, _Copy] = {}
        self._answers: Queue[Mapping[str, Any]] = Queue()
        self._sending = Lock()
        self._pieces: list[Piece] = []
        self._current: str | None = None
        self._ended = Event()

    def begin(self, name: str) -> None:
        """A run has begun: from now on, what is added to its files goes home."""
        self.whole(name)
        if self._current is None:
            Thread(target=self._grow_on, name="gpueval files home", daemon=True).start()
        self._current = name

    def end(self, name: str) -> None:
        """A run has ended: all of it goes home."""
        self._current = ""
        self.whole(name)

    def close(self) -> None:
        """Nothing more goes home by itself."""
        self._ended.set()

    def _grow_on(self) -> None:
        with suppress(KeyboardInterrupt):  # the controller is gone; whoever runs the item will notice
            while not self._ended.wait(_GROW_S):
                if self._current:
                    self._grow(self._current)

    def bring(self, names: Sequence[str]) -> None:
        """Have here what is at home of these runs, or other parts of the session's directory. Raises RuntimeFault where nobody answers."""
        self._send({"event": BRING, "names": list(names)})
        while True:
            try:
                message = self._answers.get(timeout=_ANSWER_S)
            except Empty:
                raise RuntimeFault(f"nobody at home has sent {', '.join(names)} within {_ANSWER_S:g} s") from None
            if "fault" in message:
                raise RuntimeFault(f"{', '.join(names)} cannot be brought here: {message['fault']}")
            for name in message.get("gone", ()):
                (self._session_dir / name).unlink(missing_ok=True)
            for piece in message["pieces"]:
                self._take(*piece)
            if message["last"]:
                return

    def _take(self, name: str, offset: int, data: bytes, end: bool) -> None:  # noqa: FBT001 - a Piece
        """A piece of a file from home, which need not go back. Other workers of this host may be reading the file as it was."""
        path = self._session_dir / name
        half = path.with_name(f".{path.name}.{os.getpid()}.part")
        with storage(path):
            _write(half, offset, data)
            copy = self._copies[path] = _Copy() if offset == 0 else self._copies[path]
            copy.grown(offset, data)
            if end:
                copy.state = _state(half.stat())
                half.replace(path)

    def hear(self, message: Mapping[str, Any]) -> None:
        """What comes from home, in the thread that receives it."""
        self._answers.put(message)

    def _grow(self, name: str) -> None:
        """Send what was added to a run's results and log."""
        with self._sending:
            for path in (self._session_dir / name / file for file in _GROWING if name == self._current):
                with suppress(FileNotFoundError):
                    self._add(path, path.stat())
            self._flush()

    def whole(self, name: str) -> None:
        """Send what is not at home yet, so that it is the same there."""
        with self._sending:
            there: dict[str, tuple[int, str]] = {}
            # The summary says that a run has ended: it comes last.
            for path, status in sorted(_files(self._session_dir / name), key=lambda file: file[0].name == SUMMARY):
                if status.st_size > MOST_BYTES:
                    (self._session_dir / KEPT).touch()
                    self._kept(f"{path.name} ({status.st_size >> 20} MiB) stays on the host: {path}")
                    continue
                there[path.relative_to(self._session_dir).as_posix()] = self._complete(path, status)
            self._flush(there)

    def aside(self, name: str) -> None:
        """Put a run's summary aside, here and at home."""
        back_up(self._session_dir / name / SUMMARY)
        self._send({"event": ASIDE, "name": name})

    def _complete(self, path: Path, status: os.stat_result) -> tuple[int, str]:
        copy = self._copies.get(path)
        if copy is None or copy.state != _state(status) or copy.size != status.st_size:
            if copy is not None and (path.name not in _GROWING or not _begins_as_sent(path, copy)):
                del self._copies[path]
            copy = self._add(path, status)
        return copy.size, copy.digest.hexdigest()

    def _flush(self, whole: Mapping[str, tuple[int, str]] | None = None) -> None:
        """Send the pieces; `whole` are the sizes and hashes of files that are there completely now."""
        if self._pieces or whole:
            self._send({"event": FILES, "pieces": self._pieces, "whole": dict(whole or {})})
        self._pieces = []

    def _add(self, path: Path, status: os.stat_result) -> _Copy:
        """Send what follows what was sent."""
        copy = self._copies.setdefault(path, _Copy())
        if status.st_size < copy.size or (copy.size and status.st_ino != copy.state[0]):
            copy = self._copies[path] = _Copy()
        name = path.relative_to(self._session_dir).as_posix()
        with path.open("rb") as file:
            file.seek(copy.size)
            while (data := file.read(min(_PIECE, max(0, status.st_size - copy.size)))) or copy.size == 0:
                offset = copy.size
                copy.grown(offset, data)
                self._pieces.append((name, offset, data, not data or copy.size >= status.st_size))
                if sum(len(piece[2]) for piece in self._pieces) >= _PIECE:
                    self._flush()
                if not data:
                    break
        copy.state = _state(status)
        return copy


class Receiver:
    """In the controller. `runs` tells which names workers may write to; `failed` hears what goes wrong, once for each kind of thing."""

    def __init__(self, session_dir: Path, failed: Callable[[GpuevalError], None]) -> None:
        self._session_dir, self._failed = session_dir, failed
        self._digests: dict[str, _Copy] = {}
        # The host that wrote a run last: it has all of it.
        self._last: dict[str, str] = {}
        # Folders that were looked at: nobody here makes links of them.
        self._folders = {""}

    def hear(self, message: Mapping[str, Any], host: str, reply: Send) -> None:
        """A message of a worker of this host, in the thread that receives it."""
        try:
            if message["event"] == BRING:
                self._bring(message["names"], host, reply)
            elif message["event"] == ASIDE:
                back_up(self._path(message["name"]) / SUMMARY)
            else:
                for name, offset, data, end in message["pieces"]:
                    self._take(name, offset, data, host, end=end)
                self._check(message["whole"], host)
        except GpuevalError as error:
            self._failed(error)

    def changed(self, *names: str) -> None:
        """These were changed at home: whoever has them has to be told."""
        for name in names:
            self._last.pop(name, None)

    def _take(self, name: str, offset: int, data: bytes, host: str, *, end: bool) -> None:
        """A piece of a file. What does not grow is whole or not there at all."""
        path = self._path(name)
        self._last[name if name.startswith(attempts.FOLDER) else name.partition("/")[0]] = host
        copy = self._digests.get(name)
        if offset == 0 or copy is None:
            copy = self._digests[name] = _Copy()
        part = path if path.name in _GROWING else path.with_name(f".{path.name}.part")
        with storage(path):
            _write(part, offset, data)
            if end and part != path:
                part.replace(path)
        copy.grown(offset, data)

    def _check(self, files: Mapping[str, Sequence[Any]], host: str) -> None:
        """That what came is what was sent. Raises RuntimeFault."""
        for name, (size, digest) in files.items():
            copy = self._digests.get(name)
            if copy is None or (copy.size, copy.digest.hexdigest()) != (size, digest):
                raise RuntimeFault(f"{host}: {name} did not come home whole; run its item again with --gpueval-force")

    def _bring(self, names: Sequence[str], host: str, reply: Send) -> None:
        """Send what a host lacks of these; the last message says so."""
        pieces: list[Piece] = []
        gone: list[str] = []
        try:
            # A host's workers all ask for what they are compared with: that it was sent to one of them does not say that it is there.
            for name in (name for name in names if name == COMPARED or self._last.get(name) != host):
                place = self._path(name)
                found = [path for path, _ in _files(place)]
                there = {str(path.relative_to(self._session_dir)) for path in found}
                expected = [name] if name.startswith(attempts.FOLDER) else [f"{name}/{file}" for file in (RESULTS, LOG, SUMMARY)]
                gone += [one for one in expected if one not in there]
                for piece in (piece for path in found for piece in self._pieces_of(path)):
                    pieces.append(piece)
                    if sum(len(piece[2]) for piece in pieces) >= _PIECE:
                        reply({"pieces": pieces, "last": False})
                        pieces = []
                self._last[name] = host
        except (GpuevalError, OSError) as error:
            reply({"fault": str(error)})
            raise RuntimeFault(f"{host}: {', '.join(names)} cannot be sent there: {error}") from None
        reply({"pieces": pieces, "gone": gone, "last": True})

    def _pieces_of(self, path: Path) -> Iterator[Piece]:
        name, offset = path.relative_to(self._session_dir).as_posix(), 0
        copy = self._digests[name] = _Copy()
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while True:
                data = file.read(min(_PIECE, size - offset))
                end = not data or offset + len(data) == size
                yield name, offset, data, end
                copy.grown(offset, data)
                offset = copy.size
                if end:
                    break

    def _path(self, name: Any) -> Path:
        """What a host may name. Raises RuntimeFault."""
        why = problem(name) if isinstance(name, str) else "it is no name"
        if why is None and name.startswith(".") and not name.startswith(attempts.FOLDER):
            why = "it is hidden"
        if why is None and not self._is_ours(os.path.dirname(name)):  # noqa: PTH120 - a word that a host has sent
            why = "it is below a link here"
        if why is not None:
            raise RuntimeFault(f"a host has sent a file that may not come here: {str(name)[:100]!r}: {why}")
        return self._session_dir / str(name)

    def _is_ours(self, folder: str) -> bool:
        """Whether a folder here, if it is there, is no link, nor below one. Files are never opened through a link."""
        if folder in self._folders:
            return True
        parts = folder.split("/")
        ours = not any(os.path.islink(os.path.join(self._session_dir, *parts[:depth])) for depth in range(1, len(parts) + 1))  # noqa: PTH114, PTH118 - a tenth of the time
        if ours:
            self._folders.add(folder)
        return ours


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files of a run, or one file itself; those that are hidden (locks, halves) and links are nobody else's."""
    if folder.is_file():
        yield folder, folder.lstat()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place) / name
            with suppress(FileNotFoundError):
                status = path.lstat()
                if not name.startswith(".") and stat.S_ISREG(status.st_mode):
                    yield path, status


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _begins_as_sent(path: Path, copy: _Copy) -> bool:
    """Whether a file still begins with what was sent of it."""
    digest, left = hashlib.sha256(), copy.size
    with path.open("rb") as file:
        while left and (data := file.read(min(_PIECE, left))):
            digest.update(data)
            left -= len(data)
    return left == 0 and digest.digest() == copy.digest.digest()


def _write(path: Path, offset: int, data: bytes) -> None:
    """A piece of a file, which ends with it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, flags, 0o644)
    try:
        os.ftruncate(file, offset)
        view = memoryview(data)
        while view:
            done = os.pwrite(file, view, offset)
            view = view[done:]
            offset += done
    finally:
        os.close(file)
