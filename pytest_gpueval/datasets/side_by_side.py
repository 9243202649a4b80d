"""Several calls at the same time, in threads that Ctrl-C does not wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


def _nobody(_thing: object, _future: object) -> None:
    """Nobody wants to hear of each."""


def side_by_side(
    call: Callable[[Thing], Answer], things: Sequence[Thing], most: int, tell: Callable[[Thing, Future[Answer]], None] = _nobody
) -> list[Future[Answer]]:
    """What became of each, in their order, at most so many at a time; `tell` hears of each as it ends, in this thread.

    If `tell` raises, nothing more begins, and what has begun is waited for first; where we are interrupted, nothing is: those threads end with the process.
    """
    futures: list[Future[Answer]] = [Future() for _ in things]
    waiting, ended = deque(range(len(things))), SimpleQueue[int]()

    def work() -> None:
        while True:
            try:
                number = waiting.popleft()
            except IndexError:
                return
            try:
                futures[number].set_result(call(things[number]))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is asked for
                futures[number].set_exception(error)
            ended.put(number)

    threads = [threading.Thread(target=work, name="gpueval side by side", daemon=True) for _ in range(min(most, len(things)))]
    for thread in threads:
        thread.start()
    try:
        for _ in things:
            number = ended.get()
            tell(things[number], futures[number])
    except BaseException as error:
        waiting.clear()
        for thread in threads if isinstance(error, Exception) else ():
            thread.join()
        raise
    return futures
