"""A program of any language: a row is a line of JSON on its stdin, its answer a line of JSON on its stdout, in the same order.

    {"id": "r-1", "text": "..."}  ->  {"id": "r-1", "prediction": ...}  or  {"id": "r-1", "error": "why there is none"}

The id shows that no answer is missing, and none too many. It is started once and kept; what it writes to stderr is part of the run's log.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import ModelFault, RuntimeFault
from pytest_gpueval.processes.command import supervised

from .base import A, Answer
from .suspects import most_ends
from .window import Gone, Window

_LAST_LINES = 30
_LONGEST_LINE = 64 << 20
_END_S = 10.0
_GRACE_S = 2.0
# For some six rows that end it, each with 16 in flight.
_MOST_STARTS = 32
# Of the supervisor: the program is not there, or cannot be run.
_NOT_RUN = (126, 127)


class Command:
    """Runs `argv` in `directory`, with `in_flight` rows on their way at a time.

    A row that gets no answer within `deadline_s` has the program started anew, and so has its end; a row that ends it twice by itself is an error.
    """

    # Its address, as other servers have one.
    url = "stdin"

    def __init__(
        self, argv: Sequence[str], directory: Path, *, in_flight: int = 16, deadline_s: float = 300.0, environment: Mapping[str, str] | None = None
    ) -> None:
        self.generation = 0
        self._argv = list(argv)
        self._directory = directory
        self._in_flight = in_flight
        self._deadline_s = deadline_s
        self._environment = dict(os.environ if environment is None else environment)
        # So many starts one after another without a single answer, and it is the program: its very first rows may end it too.
        self._most_barren = most_ends(in_flight) + 2
        self._barren = 0
        self._window: Window[Any] | None = None
        self._process: _Process | None = None

    def start(self) -> None:
        """Start the program. That it cannot be run shows with the first row. Raises RuntimeFault if no process can be started."""
        self._window = Window(self._serve, self._in_flight, self, self._argv[0])
        self._window.call(self._begin())

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """Answer in order. Raises RuntimeFault for output that is no answer, or a program that keeps ending."""
        if self._window is None:
            raise RuntimeFault(f"{self._argv[0]} is asked before it was started")
        yield from self._window.answers([sample] for sample in samples)

    def close(self) -> None:
        """Close its stdin, wait for its end, and end it if it does not."""
        window, self._window = self._window, None
        if window is not None:
            window.call(self._finish())
            window.close()

    def recover(self, generation: int, problem: str) -> None:
        """Start the program anew. Raises RuntimeFault if that has been done too often."""
        assert self._window is not None  # noqa: S101 - only the window's requests find it gone
        self._window.call(self._again(generation, problem))

    async def _begin(self) -> None:
        self._process = await _Process.start(self._argv, self._directory, self._environment)
        self.generation += 1

    async def _finish(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()

    async def _again(self, generation: int, problem: str) -> None:
        if generation != self.generation:
            return
        process = self._process
        if process is None:
            raise RuntimeFault(f"{self._argv[0]} was closed")
        await process.kill()
        self._barren = 0 if process.answered else self._barren + 1
        if self._barren >= self._most_barren or process.exit_code in _NOT_RUN:
            raise RuntimeFault(f"{self._argv[0]} answers nothing: {problem}{process.last_words()}")
        if self.generation >= _MOST_STARTS:
            raise RuntimeFault(f"{self._argv[0]} was started {_MOST_STARTS} times, and again: {problem}{process.last_words()}")
        await self._begin()

    async def _serve(self, batch: list[A]) -> list[Answer[A]]:
        (sample,) = batch
        process = self._process
        if process is None:
            raise RuntimeFault(f"{self._argv[0]} was closed")
        begin = time.perf_counter()
        try:
            value, error = await asyncio.wait_for(process.ask(sample.inputs), self._deadline_s)
        except TimeoutError:
            raise Gone(f"no answer within {self._deadline_s:g} s") from None
        return [Answer(sample, value, error, (time.perf_counter() - begin) * 1000)]


class _Process:
    """One start of the program, its pipes, and the rows that wait for their answers."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.answered = False
        self._name = name
        self._process = process
        self._waiting: deque[tuple[str, asyncio.Future[tuple[Any, str | None]]]] = deque()
        self._words: deque[str] = deque(maxlen=_LAST_LINES)
        self._broken: Exception | None = None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._listen())]

    @classmethod
    async def start(cls, argv: Sequence[str], directory: Path, environment: Mapping[str, str]) -> _Process:
        """Raises RuntimeFault."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *supervised(argv, grace_s=_GRACE_S), stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory, env=environment, limit=_LONGEST_LINE
            )
        except OSError as error:
            raise ModelFault(f"{argv[0]} cannot be started: {error.strerror}") from None
        return cls(process, argv[0])

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal that ended it."""
        return self._process.returncode

    async def ask(self, inputs: Mapping[str, Any]) -> tuple[Any, str | None]:
        """The prediction and the error of one row. Raises Gone, RuntimeFault."""
        if self._broken is not None:
            raise self._broken
        future: asyncio.Future[tuple[Any, str | None]] = asyncio.get_running_loop().create_future()
        self._waiting.append((str(inputs["id"]), future))
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - opened as a pipe
        with suppress(BrokenPipeError, ConnectionResetError):  # its end is being read, and says more
            stdin.write(json.dumps(inputs, ensure_ascii=True).encode() + b"\n")
            await stdin.drain()
        return await future

    def last_words(self) -> str:
        """The end of its stderr, as lines to add to a message."""
        return "\nLast lines of its stderr:\n" + "\n".join(f"  {line}" for line in self._words) if self._words else ""

    async def end(self) -> None:
        """Close its stdin, and wait for it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _GRACE_S + _END_S)
        except TimeoutError:
            await self.kill()
        await self._settle()

    async def kill(self) -> None:
        """End it now."""
        if self._process.returncode is None:
            for _ in range(2):  # the second one cuts the grace short
                self._process.send_signal(signal.SIGTERM)
        await self._process.wait()
        await self._settle()

    async def _settle(self) -> None:
        """Read its pipes to their ends: only then is everything of it closed."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe
        while await self._process.stdout.read(1 << 16):
            continue

    async def _read(self) -> None:
        """Answers, until it ends or says something else."""
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe
        try:
            while line := await self._process.stdout.readline():
                self._take(line)
            code = await self._process.wait()
            problem: Exception = Gone(f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}")
        except RuntimeFault as error:
            problem = error
        except ValueError:
            problem = ModelFault(f"{self._name} wrote a line of more than {_LONGEST_LINE >> 20} MiB to stdout")
        self._broken = problem
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(problem)

    def _take(self, line: bytes) -> None:
        told: Any = None
        with suppress(ValueError):
            told = json.loads(line)
        if not isinstance(told, dict) or "id" not in told or not ("prediction" in told) ^ (told.get("error") is not None):
            raise ModelFault(
                f"{self._name} wrote {line[:200]!r} to stdout.\n"
                'Each line of its stdout must answer one row: {"id": ..., "prediction": ...} or {"id": ..., "error": "..."}. Everything else belongs to stderr.'
            )
        if not self._waiting:
            raise ModelFault(f"{self._name} wrote more answers to stdout than it was given rows: {line[:200]!r}")
        name, future = self._waiting.popleft()
        if str(told["id"]) != name:
            if not future.done():
                self._waiting.appendleft((name, future))
            raise ModelFault(f"{self._name} answered row {told['id']!r} where row {name!r} was next; answers come in the order of the rows")
        self.answered = True
        if not future.done():
            future.set_result((told.get("prediction"), None if told.get("error") is None else str(told["error"])))

    async def _listen(self) -> None:
        """Pass on what it says on stderr: descriptor 2 leads into the log of the run that is under way."""
        assert self._process.stderr is not None  # noqa: S101 - opened as a pipe
        while chunk := await self._process.stderr.read(1 << 16):
            text = chunk.decode("utf-8", "backslashreplace")
            self._words.extend(text.splitlines())
            os.write(2, chunk)
