"""What was asked and what was answered."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Request:
    """One request. `status` is 0 until it is answered, and stays 0 where the connection went first; `bytes_sent` counts the answer's body."""

    method: str
    path: str  # with the query, percent-encoding decoded
    status: int = 0
    bytes_sent: int = 0
    range: str | None = None
    user: str | None = None  # the account's name; "?" for a token that no account has
    user_agent: str = ""
    origin: str = "hub"  # or "storage", where large files come from


class Journal:
    """Requests in the order in which they came. What was sent is noted before it is sent: a client that has its answer finds it here."""

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._next = 0
        self._changed = threading.Condition()

    def open(self, request: Request) -> int:
        with self._changed:
            self._next += 1
            self._requests[self._next] = request
            self._changed.notify_all()
            return self._next

    def note(self, number: int, *, sent: int = 0, **changes: int | str | None) -> None:
        with self._changed:
            if number in self._requests:  # it may have been forgotten meanwhile
                request = self._requests[number]
                self._requests[number] = replace(request, bytes_sent=request.bytes_sent + sent, **changes)  # type: ignore[arg-type]
                self._changed.notify_all()

    def all(self) -> tuple[Request, ...]:
        with self._changed:
            return tuple(self._requests.values())

    def forget(self) -> None:
        with self._changed:
            self._requests.clear()

    def wait_for(self, path: str, *, method: str | None = None, count: int = 1, answered: bool = False, timeout_s: float = 30.0) -> tuple[Request, ...]:
        """The requests that match, once there are `count` of them. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = tuple(
                    one for one in self._requests.values() if re.search(path, one.path) and method in (None, one.method) and (one.status or not answered)
                )
                if len(found) >= count:
                    return found
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise TimeoutError(f"{len(found)} of {count} requests for {path} in {timeout_s:.0f} s")
