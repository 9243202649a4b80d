"""How an attempt at a row ended, told apart by what is known of it. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

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
    timed_out: bool = False
    asked_to: str | None = None
    oom_kills: int = 0
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, and why in a line."""

    kind: Kind
    reason: str | None

    @property
    def status(self) -> str:
        """The status of a run that ended so, as records.Status."""
        return _STATUS[self.kind]


_STATUS: Final[Mapping[Kind, str]] = {
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
    if end.timed_out:
        return Outcome("timeout", f"not done after {end.seconds:,.1f} s (timeout_s)")
    if diverged is not None:
        return Outcome("diverged", f"diverged: {diverged}")
    if end.asked_to is not None:
        return Outcome("stopped", end.asked_to)
    if end.exit_code != 0:
        return _failed(end, tail)
    if own is not None and own.get("ok") is False:
        return Outcome("exit", f"exit code 0, but its summary.json says ok: false{_quoted(own.get('error') or own.get('reason'))}")
    if missing:
        return Outcome("missing_file", f"exit code 0, but expected files are missing: {', '.join(missing)}")
    return Outcome("passed", None)


def _failed(end: End, tail: str) -> Outcome:
    code = end.exit_code or 0
    number = -code if code < 0 else code - _KILLED_BY_SHELL if code > _KILLED_BY_SHELL else 0
    how = f"died of {signal.Signals(number).name}" if number in set(signal.Signals) else f"exit code {code}"
    if code > 0 and number in set(signal.Signals):
        how = f"exit code {code} ({signal.Signals(number).name})"
    last = last_words(tail)
    said = f": {last}" if last else ""
    if found := _CUDA_OOM.search(tail):
        return Outcome("cuda_oom", f"out of GPU memory ({how}): {_line_at(tail, found.start())}")
    if number == signal.SIGKILL and end.oom_kills:
        return Outcome("host_oom", f"out of memory: the kernel ended it ({how}); the memory limit of this machine or container is too small for it")
    if found := _HOST_OOM.search(tail):
        return Outcome("host_oom", f"out of memory ({how}): {_line_at(tail, found.start())}")
    if code < 0 or number == signal.SIGKILL:
        hint = "; nobody of this session sent it. `dmesg` says whether the kernel did, for want of memory" if number == signal.SIGKILL else ""
        return Outcome("signal", f"{how}{hint}{said}")
    return Outcome("exit", f"{how}{said}")


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


def _line_at(text: str, place: int) -> str:
    begin = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    return text[begin : len(text) if end < 0 else end].strip()[:300]


def _quoted(words: Any) -> str:
    return f": {' '.join(str(words).split())[:200]}" if words else ""
