"""How an attempt at a row ended, told apart by what is known of it. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pytest_gpueval.suites.model import Status
from pytest_gpueval.suites.sweep_schema import Fault, RetryEntry

Kind = Literal["passed", "stopped", "interrupted"] | Fault

# torch; the CUDA driver and runtime; XLA; cuBLAS and friends that report no memory in words of their own.
_CUDA_OOM: Final = re.compile(
    r"(?i)CUDA out of memory|OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|cudaMalloc failed: out of memory"
    r"|RESOURCE_EXHAUSTED: (Out of memory|Failed to allocate)|CUBLAS_STATUS_ALLOC_FAILED"
)
_HOST_OOM: Final = re.compile(r"(?m)^MemoryError\b|std::bad_alloc|Cannot allocate memory|can't allocate memory: you tried to allocate")
_KILLED_BY_SHELL: Final = 128


@dataclass(frozen=True, slots=True)
class End:
    """What is known when a program has ended. `exit_code` is minus the signal that ended it; None: there was no program."""

    exit_code: int | None
    seconds: float
    timed_out_s: float | None = None
    asked_to: str | None = None
    oom_kills: int = 0
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, and why in a line."""

    kind: Kind
    reason: str | None

    @property
    def status(self) -> Status:
        """The status of a run that ended so, as the contract names it."""
        return _STATUS[self.kind]


_STATUS: Final[Mapping[Kind, Status]] = {
    "passed": "passed",
    "stopped": "skipped",
    "interrupted": "interrupted",
    "exit": "failed",
    "diverged": "failed",
    "missing_file": "failed",
    "cuda_oom": "oom",
    "host_oom": "oom",
    "signal": "crashed",
    "timeout": "timeout",
    "not_started": "error",
}


def judge(end: End, tail: str, *, diverged: str | None = None, missing: Sequence[str] = (), own: Mapping[str, Any] | None = None) -> Outcome:
    """Tell apart how a program ended.

    `tail` is the end of its output; `diverged` names a value that was not finite, `missing` the expected files that are not there, `own` is the summary
    that the program wrote itself.
    """
    if end.exit_code is None:
        return Outcome("not_started", end.why_not)
    if end.timed_out_s is not None:
        return Outcome("timeout", f"not done after {end.timed_out_s:,g} s (timeout_s)")
    if diverged is not None:
        return Outcome("diverged", f"diverged: {diverged}")
    if end.asked_to is not None:
        return Outcome("stopped", end.asked_to)
    return _failed(end, tail) if end.exit_code else _left(own, missing)


def _left(own: Mapping[str, Any] | None, missing: Sequence[str]) -> Outcome:
    """A program that ended well must have left what the suite expects of it."""
    if own is not None and own.get("ok") is False:
        return Outcome("exit", f"exit code 0, but its summary.json says ok: false{_quoted(own.get('error') or own.get('reason'))}")
    if missing:
        return Outcome("missing_file", f"exit code 0, but expected files are missing: {', '.join(missing)}")
    return Outcome("passed", None)


def _failed(end: End, tail: str) -> Outcome:
    code = end.exit_code or 0
    number = -code if code < 0 else max(0, code - _KILLED_BY_SHELL)
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    how = f"died of {name or f'signal {number}'}" if code < 0 else f"exit code {code}{f' ({name})' if name else ''}"
    if line := _last_line_with(_CUDA_OOM, tail):
        return Outcome("cuda_oom", f"out of GPU memory ({how}): {line}")
    if number == signal.SIGKILL and end.oom_kills:
        return Outcome("host_oom", f"out of memory ({how}): the kernel ended it; the memory limit of this machine or container is too small for it")
    if line := _last_line_with(_HOST_OOM, tail):
        return Outcome("host_oom", f"out of memory ({how}): {line}")
    last = last_words(tail)
    said = f"; its last line: {last}" if last else ""
    if number == signal.SIGKILL:
        said = f"; nobody of this session sent it, `dmesg` says whether the kernel did{said}"
    return Outcome("signal" if code < 0 or number == signal.SIGKILL else "exit", how + said)


def last_words(tail: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def wait_s(attempt: int, entry: RetryEntry) -> float:
    """Seconds between the failed `attempt`, counted from 1, and the next one."""
    return min(entry.wait_s * 2.0 ** (attempt - 1), entry.most_wait_s)


def may_retry(attempt: int, kind: Kind, entry: RetryEntry) -> bool:
    """Whether the suite lets a row be tried again after this attempt, counted from 1, ended so."""
    return attempt <= entry.times and kind in entry.on


def _last_line_with(pattern: re.Pattern[str], text: str) -> str:
    """The last line in which a pattern is found: before it stand the lines of the program that a traceback quotes."""
    place = max((match.start() for match in pattern.finditer(text)), default=-1)
    if place < 0:
        return ""
    end = text.find("\n", place)
    return text[text.rfind("\n", 0, place) + 1 : len(text) if end < 0 else end].strip()[:300]


def _quoted(words: Any) -> str:
    return f": {' '.join(str(words).split())[:200]}" if words else ""
