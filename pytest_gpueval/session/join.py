"""The results of a dataset's shards, joined in the order of its rows: what follows cannot tell them from those of one run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_gpueval.errors import Conflict, RuntimeFault
from pytest_gpueval.runs.directory import RESULTS, unlike
from pytest_gpueval.runs.files import storage
from pytest_gpueval.runs.records import Speed, Summary

from . import speed
from .rows import summary_or_none


class NoVerdict(RuntimeFault):
    """A shard is missing, so there is nothing to judge. The results of the others are kept."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What the shards of a dataset say together."""

    seconds: float
    samples_per_s: float | None
    startup_s: float | None
    gpu: dict[str, float] | None
    notes: list[str]
    speed: Speed | None = None


def join(name: str, shards: Sequence[Path], target: Path) -> Joined:
    """Write the shards' results to `target` in the directory of the whole, one after the other. Raises NoVerdict if one has none, StorageError."""
    summaries = [summary_or_none(path) for path in shards]
    reasons = [_why_not(path, summary, target.parent) for path, summary in zip(shards, summaries, strict=True)]
    missing = [f"  {path.name}: {reason}" for path, reason in zip(shards, reasons, strict=True) if reason is not None]
    if missing:
        raise NoVerdict(f"no verdict on {name}: {len(missing)} of {len(shards)} shards have no result\n" + "\n".join(missing))
    half = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with storage(target):
        try:
            with half.open("wb") as file:
                for path in (path for path in shards if (path / RESULTS).exists()):
                    with (path / RESULTS).open("rb") as part:
                        shutil.copyfileobj(part, file, 1 << 20)
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
    return _together([summary for summary in summaries if summary is not None])


def _why_not(path: Path, summary: Summary | None, whole: Path) -> str | None:
    """Why a shard's results cannot be joined to those of the whole; None if they can."""
    if summary is None:
        return "did not run to its end"
    if not (summary.ok and summary.complete):
        return summary.status + (f": {summary.reason.splitlines()[0]}" if summary.reason else "")
    if summary.rows.total and not (path / RESULTS).exists():  # a shard of no rows leaves none
        return f"{RESULTS} is missing"
    try:
        changed = unlike(path, whole)
    except Conflict as problem:
        return str(problem).splitlines()[0]
    return f"holds an earlier run with another {' and '.join(changed)}" if changed else None


def _together(summaries: Sequence[Summary]) -> Joined:
    """Seconds add up, since workers spent them side by side; the rate is that of one worker."""
    rated = [(summary.rows.scored + summary.rows.errors, summary.samples_per_s) for summary in summaries]
    serving = sum(rows / rate for rows, rate in rated if rate)
    startups = [summary.startup_s for summary in summaries if summary.startup_s is not None]
    return Joined(
        seconds=round(sum(summary.seconds for summary in summaries), 3),
        samples_per_s=round(sum(rows for rows, rate in rated if rate) / serving, 2) if serving else None,
        startup_s=round(sum(startups), 3) if startups else None,
        gpu=_usage([summary.gpu for summary in summaries if summary.gpu]),
        notes=[f"{summary.run_id}: {note}" for summary in summaries for note in summary.notes],
        speed=speed.joined(summaries),
    )


def _usage(found: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """Peaks are the highest, energy adds up, means are weighted by their samples."""
    if not found:
        return None
    joined: dict[str, float] = {}
    for key in dict.fromkeys(key for usage in found for key in usage):
        values = [(usage[key], usage.get("samples", 1)) for usage in found if key in usage]
        if len(values) < len(found):  # a shard was too short to tell: a sum without it would be wrong
            continue
        if key.endswith("_mean") or key.startswith("power"):
            joined[key] = round(sum(value * weight for value, weight in values) / max(1, sum(weight for _, weight in values)), 3)
        else:
            joined[key] = round(sum(value for value, _ in values) if key in ("energy_j", "samples") else max(value for value, _ in values), 3)
    return joined
