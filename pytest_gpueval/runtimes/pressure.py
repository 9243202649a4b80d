"""How many requests may be on their way at once, and when the next may leave: what a server that refuses for load asks for."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_FIRST_S = 0.5
_LONGEST_S = 30.0


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks to wait, `now` being Unix time; None where it asks for nothing that can be understood.

    Seconds or an HTTP date. Source: RFC 9110, 10.2.3.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass  # then a date
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value.strip()).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def back_off(attempt: int, draw: float | None = None) -> float:
    """Seconds to wait after `attempt` failures, from 1 on: doubled each time up to half a minute, and then spread, so that those who failed together part."""
    spread = random.random() if draw is None else draw
    return float(min(_LONGEST_S, _FIRST_S * 2 ** (attempt - 1))) * (0.5 + spread / 2)


class Pressure:
    """Lets `most` requests pass side by side; fewer after a refusal, and none until its pause is over.

    A refusal halves the number, once for all that were on their way together; each answer gives back a part of one. So the number settles
    at what the server takes. Source: additive increase, multiplicative decrease, as in TCP (RFC 5681).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._inside = 0
        self._turn = 0
        self._resume_s = 0.0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def limit(self) -> int:
        """How many may be on their way now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """Wait for leave to send; the number tells `refused` when that was."""
        while True:
            pause_s = self._resume_s - time.monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            elif self._inside < self.limit:
                break
            else:
                future = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                await future
        self._inside += 1
        try:
            yield self._turn
        finally:
            self._inside -= 1
            self._wake()

    def answered(self) -> None:
        """A request was answered."""
        if self._limit < self._most:
            self._limit = min(float(self._most), self._limit + 1 / self._limit)

    def refused(self, sent: int, pause_s: float) -> None:
        """A request of turn `sent` was refused for load: nobody sends for so long."""
        self._resume_s = max(self._resume_s, time.monotonic() + pause_s)
        if sent == self._turn:
            self._turn += 1
            self._limit = max(1.0, self._limit / 2)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
