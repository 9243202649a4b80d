"""Which lane ran what and when, and how busy its GPUs were: session.json -> places in percent of the session."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_gpueval.reports.table import clock

# The end of a shard's id; the room of suites, whose it is, imports what reports may not.
_SHARD: Final = re.compile(r"-\d+of\d+$")


@dataclass(frozen=True, slots=True)
class Block:
    """A run: its place in percent, and what it is."""

    left: float
    width: float
    name: str
    status: str
    words: str


@dataclass(frozen=True, slots=True)
class Load:
    """One GPU: its utilisation as the points of a line in a box of 100 x 100, and figures over the session."""

    gpu: str
    model: str
    points: str
    utilization: float | None
    memory_gib: float | None
    power_w: float | None


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker. `busy`: percent of the session in runs; `gap_s`: the longest time between two of them, or before the first."""

    name: str
    blocks: Sequence[Block]
    loads: Sequence[Load]
    busy: float
    gap_s: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """All lanes over `seconds`; `ticks`: place in percent, and what the clock says there."""

    seconds: float
    lanes: Sequence[Lane]
    ticks: Sequence[tuple[float, str]]


def timeline(record: Mapping[str, Any]) -> Timeline | None:
    """The timeline of a session; None where nothing ran that says when."""
    runs = [run for run in record.get("runs") or () if run.get("begin_s") is not None and run.get("seconds") is not None and not run.get("reused")]
    cut = {(run["suite"], whole) for run in runs if (whole := _SHARD.sub("", run["case"])) != run["case"]}
    runs = [run for run in runs if (run["suite"], run["case"]) not in cut]  # what joins shards tells their seconds, not its own
    series = record.get("gpus") or {}
    ends = [run["begin_s"] + run["seconds"] for run in runs] + [t_s for one in series.values() for t_s in one["t_s"] if t_s is not None]
    if not ends:
        return None
    end_s = max(*ends, 1e-3)
    told = {lane["name"]: lane for lane in record.get("lanes") or ()}
    names = [name for name in dict.fromkeys([*told, *(run["worker"] for run in runs)]) if name in told or any(run["worker"] == name for run in runs)]
    lanes = [_lane(name, told.get(name, {}), [run for run in runs if run["worker"] == name], series, end_s) for name in names]
    known = {gpu for lane in told.values() for gpu in lane.get("gpus") or ()}
    strangers = sorted(set(series) - known)
    if strangers:  # of a merged session: nobody says whose they were
        lanes.append(Lane("other GPUs", (), [_load(gpu, "", series[gpu], end_s) for gpu in strangers], 0.0, 0.0))
    return Timeline(end_s, lanes, [(25.0 * quarter, clock(end_s * quarter / 4)) for quarter in range(5)])


def _lane(name: str, told: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], series: Mapping[str, Any], end_s: float) -> Lane:
    runs = sorted(runs, key=lambda run: run["begin_s"])
    blocks, busy_s, gap_s, until_s = [], 0.0, 0.0, 0.0
    for run in runs:
        begin_s, last_s = run["begin_s"], run["begin_s"] + run["seconds"]
        gap_s = max(gap_s, begin_s - until_s)
        busy_s += max(0.0, last_s - max(begin_s, until_s))
        until_s = max(until_s, last_s)
        words = f"{run['case']}: {run['status']}, {clock(begin_s)} to {clock(last_s)}" + (f", {run['rows']:,} rows" if run.get("rows") is not None else "")
        blocks.append(Block(100 * begin_s / end_s, max(100 * run["seconds"] / end_s, 0.15), run["case"], run["status"] or "unknown", words))
    gap_s = max(gap_s, end_s - until_s)
    loads = [_load(gpu, told.get("gpu_name") or "", series[gpu], end_s) for gpu in told.get("gpus") or () if gpu in series]
    return Lane(name, blocks, loads, 100 * busy_s / end_s, gap_s)


def _load(gpu: str, model: str, series: Mapping[str, Any], end_s: float) -> Load:
    known = [(t_s, rate) for t_s, rate in zip(series["t_s"], series["utilization"], strict=True) if t_s is not None and rate is not None]
    memory = [value / 1024 for value in series["memory_mib"] if value is not None]
    return Load(
        gpu=gpu,
        model=model,
        points=" ".join(f"{100 * t_s / end_s:.1f},{100 - rate:.1f}" for t_s, rate in known),
        utilization=_mean([rate for _, rate in known]),
        memory_gib=max(memory, default=None),
        power_w=_mean([value for value in series["power_w"] if value is not None]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
