"""Several hosts at the same time, each by a thread that Ctrl-C does not wait for: what it holds there is given back for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")
# What giving back may take altogether: a host that does not answer will find out by itself that we are gone.
_LET_GO_S: Final = 6.0


class LetGo(Exception):
    """Nobody waits for this any more."""


class Grip:
    """What one thread holds; whoever waits for it may let go of it in its place."""

    def __init__(self) -> None:
        self._held: list[Callable[[], object]] = []
        self._gone = False
        self._lock = threading.Lock()

    def hold(self, give_back: Callable[[], object]) -> None:
        """`give_back` ends what was begun, from any thread. Raises LetGo, once that is done, where nobody waits any more."""
        with self._lock:
            self._held.append(give_back)
            gone = self._gone
        if gone:
            give_back()
            raise LetGo

    def let_go(self) -> None:
        """Give all back, the last first."""
        with self._lock:
            self._gone, held = True, self._held[::-1]
        for give_back in held:
            give_back()


def together(work: Callable[[Thing, Grip], Answer], things: Sequence[Thing]) -> list[Answer]:
    """What `work` makes of each, in threads of their own. Raises what the first of them raised that did; where we are interrupted, all let go first."""
    futures: list[Future[Answer]] = [Future() for _ in things]
    grips = [Grip() for _ in things]

    def one(thing: Thing, future: Future[Answer], grip: Grip) -> None:
        try:
            future.set_result(work(thing, grip))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)

    try:
        for part in zip(things, futures, grips, strict=True):
            threading.Thread(target=one, args=part, name="gpueval host", daemon=True).start()
        return [future.result() for future in futures]
    except BaseException:
        _let_go(grips)
        raise


def _let_go(grips: Sequence[Grip]) -> None:
    threads = [threading.Thread(target=grip.let_go, name="gpueval let go", daemon=True) for grip in grips]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + _LET_GO_S
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))
