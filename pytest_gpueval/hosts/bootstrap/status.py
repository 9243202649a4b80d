"""How hosts are: all of them at once, each in one request, and none held up by another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import GpuevalError, Unreachable
from pytest_gpueval.hosts.declared import Declared, opened
from pytest_gpueval.hosts.detached.client import DetachedRun, parsed_run
from pytest_gpueval.hosts.detached.gpus import Gpu, gpus
from pytest_gpueval.hosts.detached.submission import DEFAULT_ROOT

from .checks import problems
from .prepare import facts


@dataclass(frozen=True, slots=True)
class Status:
    """One host: what it said, or why it did not. `clock_s` is its clock less ours, give or take half of `seconds`, which the request took."""

    declared: Declared
    error: GpuevalError | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] | None = None
    problems: tuple[str, ...] = ()
    runs: tuple[DetachedRun, ...] = ()
    clock_s: float = 0.0
    seconds: float = 0.0


def look(declared: Declared, root: Path, timeout_s: float, runs: str = DEFAULT_ROOT) -> Status:
    """Ask one host, also about its `runs`. Raises nothing that says something of the host."""
    try:
        with opened(declared) as host:
            host_ready = time.time()
            seen = facts(declared, host, root, runs=runs, verify=False, timeout_s=timeout_s)
            now = time.time()
    except GpuevalError as error:
        return Status(declared, error)
    wrong = tuple(str(problem) for problem in problems(declared.entry, seen, installing=False, assets=False))
    going = tuple(parsed_run({**seen["runs"], "gpus": seen["gpus"]}, run) for run in seen["runs"]["runs"])
    return Status(declared, None, seen, gpus(seen["gpus"]), wrong, going, seen["now"] - (host_ready + now) / 2, now - host_ready)


def statuses(hosts: Sequence[Declared], root: Path, timeout_s: float, *, ask: Callable[[Declared, Path, float], Status] = look) -> Iterator[Status]:
    """Each as it comes; one that has not answered after `timeout_s` is unreachable."""
    answers: queue.SimpleQueue[Status] = queue.SimpleQueue()

    def one(declared: Declared) -> None:
        try:
            answers.put(ask(declared, root, timeout_s))
        except GpuevalError as error:
            answers.put(Status(declared, error))
        except Exception as error:  # noqa: BLE001 - of one host; the others are shown
            answers.put(Status(declared, GpuevalError(f"{declared.name}: {type(error).__name__}: {error}")))

    for declared in hosts:
        threading.Thread(target=one, args=(declared,), name=f"gpueval status {declared.name}", daemon=True).start()
    waiting = {declared.name: declared for declared in hosts}
    limit = time.monotonic() + timeout_s
    while waiting:
        try:
            status = answers.get(timeout=max(0.0, limit - time.monotonic()))
        except queue.Empty:
            break
        if waiting.pop(status.declared.name, None) is not None:
            yield status
    for name, declared in waiting.items():
        yield Status(declared, Unreachable(f"{name} ({declared.address}): no answer within {timeout_s:g} s (--timeout)"))
