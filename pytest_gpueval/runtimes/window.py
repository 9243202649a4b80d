"""Several requests at a time, answers in the order of the samples, bounded memory; and what happens when a server goes away.

Whoever sends requests raises `Gone` when the server, and `TooMuch` when the batch is at fault. A server that is gone is brought back. What was in flight
then is asked again in two halves, and in ever smaller groups if that ends the server again, until a row which does so stands alone (`suspects.py`).
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pytest_gpueval.errors import RuntimeFault

from .base import A, Answer, Endpoint
from .suspects import Suspects, most_ends

T = TypeVar("T")

_CLOSE_S = 5.0
# So many times as one row may end a server before it is found, a server may end without an answer in between: for some rows one after the other do that.
_BARREN = 5


class Gone(Exception):
    """The server does not answer any more; the text says how that shows."""


class TooMuch(Exception):
    """The batch cannot be answered as a whole; fewer rows perhaps can. The text is the error of a row that cannot either."""


class Batching(Generic[A]):
    """Cuts samples into batches of at most `rows` rows and `most_bytes` bytes, a single larger row apart."""

    def __init__(self, rows: int, most_bytes: int, size: Callable[[A], int]) -> None:
        self.rows = rows
        self._most_bytes = most_bytes
        self._size = size

    def cut(self, samples: Iterable[A]) -> Iterator[list[A]]:
        """The batches. `rows` may be lowered meanwhile."""
        batch: list[A] = []
        held = 0
        for sample in samples:
            size = self._size(sample)
            if batch and (len(batch) >= self.rows or held + size > self._most_bytes):
                yield batch
                batch, held = [], 0
            batch.append(sample)
            held += size
        if batch:
            yield batch


@dataclass(eq=False, slots=True)
class _Unanswered(Generic[A]):
    """The `turn`-th batch, which the end of the server's start `generation` left without all its answers; those `found`, by the id() of their samples."""

    turn: int
    serve: Callable[[list[A]], Awaitable[list[Answer[A]]]]
    batch: list[A]
    found: dict[int, Answer[A]]
    generation: int
    problem: str
    failure: BaseException | None = None

    @property
    def rows(self) -> list[A]:
        return [sample for sample in self.batch if id(sample) not in self.found]


class Window(Generic[A]):
    """Sends batches through `serve`, `in_flight` at a time, in an event loop of a thread of its own."""

    def __init__(self, serve: Callable[[list[A]], Awaitable[list[Answer[A]]]], in_flight: int, endpoint: Endpoint, name: str) -> None:
        self._serve = serve
        self._in_flight = in_flight
        self._endpoint = endpoint
        self._name = name
        self._traffic = _Traffic(in_flight)
        self._turns = count()
        self._unanswered: list[_Unanswered[A]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"gpueval-{name}", daemon=True)
        self._thread.start()

    def beside(self, serve: Callable[[list[A]], Awaitable[list[Answer[A]]]]) -> Window[A]:
        """Other requests to the same server, through the same places: both together keep to `in_flight`, and who must be alone is. Not to be closed."""
        other = copy.copy(self)
        other._serve = serve
        return other

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def answers(self, batches: Iterable[list[A]]) -> Iterator[Answer[A]]:
        """The answers, in order. Holds twice as many batches as are in flight: a slow one does not keep the others waiting. Raises RuntimeFault."""
        pending: deque[Future[list[Answer[A]]]] = deque()
        try:
            for batch in batches:
                pending.append(asyncio.run_coroutine_threadsafe(self._answer(batch), self._loop))
                while pending and (len(pending) >= 2 * self._in_flight or pending[0].done()):
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """End the loop; again is harmless."""
        if self._loop.is_closed():
            return
        with suppress(TimeoutError):  # what does not let itself be cancelled ends with the process
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _answer(self, batch: list[A]) -> list[Answer[A]]:
        turn = next(self._turns)
        found: dict[int, Answer[A]] = {}
        async with self._traffic.beside_others():
            generation = self._endpoint.generation
            problem = await self._served(batch, found, self._serve)
            if problem is not None:
                unanswered = _Unanswered(turn, self._serve, batch, found, generation, problem)
                self._unanswered.append(unanswered)  # before the place is left: whoever is alone then knows of all
        if problem is not None:
            await self._settled(unanswered)
        return [found[id(sample)] for sample in batch]

    async def _served(self, batch: Sequence[A], found: dict[int, Answer[A]], serve: Callable[[list[A]], Awaitable[list[Answer[A]]]]) -> str | None:
        """Answers into `found`; in halves what is too much at once. Returns how the server went away, None where it did not. Raises RuntimeFault."""
        try:
            answers = await serve(list(batch))
        except Gone as problem:
            return str(problem)
        except TooMuch as problem:
            if len(batch) > 1:
                first, second = _halves(batch)
                gone = await self._served(first, found, serve)
                return await self._served(second, found, serve) if gone is None else gone
            answers = [_failed(batch[0], str(problem), 0.0)]
        else:
            self._traffic.barren = 0
        found.update((id(answer.sample), answer) for answer in answers)
        return None

    async def _settled(self, mine: _Unanswered[A]) -> None:
        """Wait until nothing else is on its way and `mine` has its answers: whoever comes first asks for all. Raises RuntimeFault."""
        try:
            async with self._traffic.alone():
                together = sorted(self._unanswered, key=attrgetter("turn"))
                self._unanswered.clear()  # the list is that of the windows beside this one too
                if together:
                    await self._ask_again(together)
        finally:
            if mine in self._unanswered:  # cancelled meanwhile
                self._unanswered.remove(mine)
        if mine.failure is not None and mine.rows:
            raise mine.failure

    async def _ask_again(self, together: Sequence[_Unanswered[A]]) -> None:
        """Bring the server back, and find out which rows end it. A failure is that of all who have no answer then."""
        found: dict[int, Answer[A]] = {}
        suspects = Suspects([one.rows for one in together])
        serve = {id(sample): one.serve for one in together for sample in one.rows}
        generation, problem = max(one.generation for one in together), together[0].problem
        most = 1 + _BARREN * most_ends(len(together), max(len(one.batch) for one in together))
        try:
            await self._recover(generation, problem, most)
            while batches := suspects.group:
                generation, begin = self._endpoint.generation, time.perf_counter()
                problems = await _all([self._served(batch, found, serve[id(batch[0])]) for batch in batches])
                if not problems:
                    suspects.answered()
                    continue
                row = suspects.ended([left for batch in batches if (left := [sample for sample in batch if id(sample) not in found])])
                if row is not None:
                    found[id(row)] = _failed(row, f"{self._name} does not survive this row: {problems[0]}", (time.perf_counter() - begin) * 1000)
                await self._recover(generation, problems[0], most)
        except (Exception, asyncio.CancelledError) as failure:
            for one in together:
                one.failure = failure
        for one in together:
            one.found.update((id(sample), found[id(sample)]) for sample in one.rows if id(sample) in found)

    async def _recover(self, generation: int, problem: str, most: int) -> None:
        """Raises RuntimeFault, also for a server that has ended so many times since its last answer."""
        if self._traffic.barren >= most:
            raise RuntimeFault(f"{self._name} was brought back {most} times and has answered nothing: {problem}")
        self._traffic.barren += 1
        await _in_thread(self._endpoint.recover, generation, problem)


class _Traffic:
    """Lets so many pass side by side, or one alone. Of one event loop, so that it needs no lock: a place changes hands in one turn of the loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        # How often the server ended since its last answer.
        self.barren = 0
        self._inside = 0
        self._waiting_alone = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def beside_others(self) -> AsyncIterator[None]:
        while self._inside >= self._most or self._waiting_alone:
            await self._wait()
        self._inside += 1
        try:
            yield
        finally:
            self._leave(1)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._waiting_alone += 1
        try:
            while self._inside:
                await self._wait()
        finally:
            self._waiting_alone -= 1
        self._inside += self._most
        try:
            yield
        finally:
            self._leave(self._most)

    async def _wait(self) -> None:
        """Until something has changed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:  # whoever would have taken the place is not to miss it
            self._wake(len(self._waiting))
            raise

    def _leave(self, many: int) -> None:
        self._inside -= many
        # One for one place; all where it matters who: waking all for each batch would cost as much as there are batches in flight.
        self._wake(1 if many == 1 and not self._waiting_alone else len(self._waiting))

    def _wake(self, most: int) -> None:
        while most and self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                most -= 1


async def _in_thread(call: Callable[[int, str], None], generation: int, problem: str) -> None:
    """Not `asyncio.to_thread`: the interpreter would wait at its end for a server that is being brought back."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            call(generation, problem)
        except BaseException as failure:
            outcome = partial(done.set_exception, failure)
        else:
            outcome = partial(done.set_result, None)
        with suppress(InvalidStateError):  # nobody waits any more
            outcome()

    threading.Thread(target=run, name="gpueval-recover", daemon=True).start()
    await asyncio.wrap_future(done)


async def _all(served: Iterable[Coroutine[Any, Any, str | None]]) -> list[str]:
    """How the server went away, for each request that met it; once all have ended. Raises what one of them raised."""
    ends = await asyncio.gather(*served, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ends if isinstance(end, str)]


def _failed(sample: A, problem: str, latency_ms: float) -> Answer[A]:
    return Answer(sample, None, problem, latency_ms)


def _halves(batch: Sequence[A]) -> tuple[Sequence[A], Sequence[A]]:
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
