"""A function called in a Python process of its own, beside what this one does: for work that Python does on one core and that is worth its start (0.3 s).

Neither a fork, which a process with threads must not do, nor `multiprocessing`, which runs the main module again. The function, what it takes and what it
gives travel through pipes, pickled between two processes of the same user.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

# sys.path comes first, so that what is pickled is found; whatever the function prints goes nowhere.
_PROGRAM: Final = (
    "import sys, pickle; source, target = sys.stdin.buffer, sys.stdout.buffer; sys.stdout = sys.stderr; sys.path[:] = pickle.load(source); "
    "from pytest_gpueval.processes.aside import answer; answer(source, target)"
)


class Lost(RuntimeError):
    """The other process could not be started, or gave no answer: do the work here."""


class Aside(Generic[Answer]):
    """Started at once; a context, at whose end nothing of it is left.

    Raises Lost where it cannot be started, or the function or what it takes cannot be sent.
    """

    def __init__(self, function: Callable[Parameters, Answer], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            request = pickle.dumps(sys.path) + pickle.dumps((function, args, kwargs), protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
            raise Lost(str(error)) from None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - an argv list
                [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            raise Lost(str(error)) from None
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        try:
            with self._process.stdin as stdin:
                stdin.write(request)
        except OSError as error:
            self.close()
            raise Lost(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def result(self) -> Answer:
        """What the function gave, once it is there. Raises what the function raised; Lost."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        try:
            raised, value = pickle.load(self._process.stdout)  # noqa: S301 - our own child's
        except Exception as error:  # noqa: BLE001 - pickle raises anything for what was cut off
            raise Lost(f"{type(error).__name__}: {error}") from None
        if raised:
            raise value
        found: Answer = value
        return found

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def cores() -> int:
    """How many processes of ours can run at the same time."""
    return len(os.sched_getaffinity(0))


def answer(source: Any, target: Any) -> None:
    """The other process: call what comes, send what it gives or raises."""
    function, args, kwargs = pickle.load(source)  # noqa: S301 - our own parent's
    try:
        found = False, function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - raised where it is asked for
        found = True, error
    pickle.dump(found, target, protocol=5)
    target.flush()
