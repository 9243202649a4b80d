"""How fast cases ran before: read from what earlier sessions left."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeGuard

import orjson

from pytest_gpueval.suites.model import Unit, without_shard
from pytest_gpueval.suites.sweep import PROGRAM

from .plan import Estimate

# Samples/s where neither a session nor the suite says anything: a small model on one GPU. Then only the order of the items follows from it.
DEFAULT_RATE: Final = 50.0
# The median of so many: one slow run moves nothing, and a new GPU driver shows after three.
_NEWEST: Final = 5
# The same for a row of a sweep, where none of its sweep was measured either.
DEFAULT_ROW_S: Final = 60.0

_Rates = tuple[str, str, str, str | None]  # suite, dataset and split, runtime, GPU model
_Startups = tuple[str, str, str | None]  # suite, runtime, GPU model


@dataclass(frozen=True)
class History:
    """What runs measured, newest first; on the CPU the GPU model is None."""

    rates: Mapping[_Rates, tuple[float, ...]] = field(default_factory=dict)
    startups: Mapping[_Startups, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, output_dir: Path, sessions: int = 30) -> History:
        """The newest sessions below a directory. What cannot be read, or was written by another version, is passed over: a plan must not fail for it."""
        rates: dict[_Rates, list[float]] = {}
        startups: dict[_Startups, list[float]] = {}
        for _, runs in islice(newest_sessions(output_dir), sessions):
            for run in runs:
                suite, case, runtime, gpu = run.get("suite"), run.get("case"), run.get("runtime"), run.get("gpu")
                if not (isinstance(suite, str) and isinstance(case, str) and isinstance(runtime, str) and isinstance(gpu, str | None)):
                    continue
                if run.get("status") not in ("passed", "failed") or run.get("reused"):
                    continue
                rate, startup_s = run.get("samples_per_s"), run.get("startup_s")
                if runtime == PROGRAM and _is_number(run.get("seconds")) and run["seconds"] > 0:  # a row of a sweep is one sample
                    rate = 1 / run["seconds"]
                if _is_number(rate) and rate > 0:
                    rates.setdefault((suite, without_shard(case), runtime, gpu), []).append(rate)
                if _is_number(startup_s) and startup_s >= 0:
                    startups.setdefault((suite, runtime, gpu), []).append(startup_s)
        return cls({key: tuple(values[:_NEWEST]) for key, values in rates.items()}, {key: tuple(values[:_NEWEST]) for key, values in startups.items()})

    def models(self, suite: str, runtime: str) -> set[str | None]:
        """The GPU models on which this runtime of a suite was measured; None stands for the CPU."""
        return {gpu for of, _, by, gpu in self.rates if (of, by) == (suite, runtime)}

    def estimate(self, case: Unit, gpu: str | None) -> Estimate:
        """What one worker on this GPU model is expected to reach: measured, else what the suite says, else a default."""
        rates = self.rates.get((case.suite, case.whole_id, case.runtime_name, gpu), ())
        startups = self.startups.get((case.suite, case.runtime_name, gpu), ())
        startup_s = median(startups) if startups else case.startup_s or 0.0
        if rates:
            return Estimate(median(rates), startup_s, "measured")
        if case.rate is not None:
            return Estimate(case.rate, startup_s, "suite")
        if case.runtime_name == PROGRAM:
            others = [median(found) for (suite, _, runtime, model), found in self.rates.items() if (suite, runtime, model) == (case.suite, PROGRAM, gpu)]
            return Estimate(median(others) if others else 1 / DEFAULT_ROW_S, 0.0, "default")
        return Estimate(DEFAULT_RATE, startup_s, "default")

    def pace(self, units: Iterable[Unit], gpu: str | None, beside: str | None) -> float:
        """How many times longer these take on a GPU model than on another: the median of what was measured on both; 1 where nothing was."""
        pairs = ((self.estimate(unit, gpu), self.estimate(unit, beside)) for unit in units)
        ratios = [other.rate / one.rate for one, other in pairs if one.source == other.source == "measured"]
        return median(ratios) if ratios else 1.0


def newest_sessions(output_dir: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Each session's directory and its runs, as session.json has them, unchecked; newest session and run first. Files are read only as they are asked for."""
    found: list[tuple[int, str]] = []
    with suppress(OSError), os.scandir(output_dir) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir():
                    found.append((entry.stat().st_mtime_ns, entry.path))
    for _, path in sorted(found, reverse=True):
        try:
            record = orjson.loads((Path(path) / "session.json").read_bytes())
        except (OSError, ValueError):
            continue
        runs = record.get("runs") if isinstance(record, dict) else None
        if isinstance(runs, list):
            measured = [run for run in runs if isinstance(run, dict)]
            yield Path(path), sorted(measured, key=_begin_s, reverse=True)


def _begin_s(run: Mapping[str, Any]) -> float:
    begin_s = run.get("begin_s")
    return float(begin_s) if _is_number(begin_s) else 0.0


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
