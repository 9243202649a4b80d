"""How fast a case was, on what, and what its gates on speed and memory say. Knows nothing of pytest."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any, Final

from pytest_gpueval import gates
from pytest_gpueval.runs.records import Figure, Speed
from pytest_gpueval.scoring import power, timing
from pytest_gpueval.scoring.estimates import Z_95, Estimate
from pytest_gpueval.suites.schema import SPEED

from .foresight import PROMISED, rules_of

if TYPE_CHECKING:
    from pytest_gpueval.runs.baselines.speed import SpeedEntry, SpeedRecord
    from pytest_gpueval.runs.records import Summary
    from pytest_gpueval.scoring.paired import Difference
    from pytest_gpueval.suites.model import Case
    from pytest_gpueval.suites.schema import Gate

    from .evaluation import Evaluation
    from .settings import Settings

ELSEWHERE: Final = "a server elsewhere"
RATE, LATENCY, MEMORY = SPEED
# The rate's interval is Student's, with a degree of freedom less than its `n`.
_STUDENT: Final = frozenset({RATE})
# From so many runs on, what runs differ by is known well enough: of three, Student's t would let hardly anything fail.
LEAST_RUNS: Final = 5


def conditions(case: Case, settings: Settings, gpu: Mapping[str, str | None] | None, workers: int) -> dict[str, Any]:
    """What a speed depends on beside the model, as fields of Speed. `gpu`: that of the worker, None on the CPU."""
    entry = case.runtime
    outside = settings.triton_url is not None if entry.kind == "triton" else entry.kind == "openai" and not (entry.vllm or entry.server)
    device = ELSEWHERE if outside else (gpu["name"] or "unknown GPU") if gpu else cpu()
    batch: dict[str, Any] = {"samples_in_flight": settings.workers}
    if entry.kind == "triton":
        batch |= entry.triton.model_dump(include={"engine", "instances", "batch_rows", "most_rows", "in_flight"})
    if entry.vllm is not None:
        batch["tensor_parallel"] = entry.vllm.tensor_parallel
    return {"device": device, "gpus": case.gpus if gpu and not outside else 0, "workers": workers, "runtime": case.runtime_name, "batch": batch}


@lru_cache(maxsize=1)
def cpu() -> str:
    """`cpu: <model> (<cores> cores)`: of the cores that this process may use."""
    name = None
    with suppress(OSError):  # not on Linux
        name = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    return f"cpu: {name[1].strip() if name else platform.processor() or platform.machine()} ({cores} core{'s' if cores != 1 else ''})"


def measured(evaluation: Evaluation, known: Mapping[str, Any], usage: Mapping[str, float] | None) -> Speed | None:
    """The speed of the rows that a run computed; None where there were none. `known`: its `conditions`."""
    rate = evaluation.pace.estimate()
    if rate.value is None:
        return None
    memory = usage.get("memory_peak_mib") if usage else None
    return Speed(
        **known, rows=evaluation.pace.rows, samples_per_s=_figure(rate), latency_p95_ms=_figure(evaluation.latencies.p95()), gpu_peak_memory_mib=memory
    )


def joined(summaries: Sequence[Summary]) -> Speed | None:
    """The speed of one worker over shards; None unless all that have rows were measured, under the same conditions. Latencies are told by all rows."""
    speeds = [summary.speed for summary in summaries if summary.rows.scored + summary.rows.errors]
    known = [speed for speed in speeds if speed is not None]
    if not known or len(known) < len(speeds) or len({speed.key for speed in known}) > 1:
        return None
    rate = timing.joined_rate([(speed.rows, _estimate(speed.samples_per_s)) for speed in known])
    memories = [speed.gpu_peak_memory_mib for speed in known if speed.gpu_peak_memory_mib is not None]
    changes = {"rows": sum(speed.rows for speed in known), "samples_per_s": _figure(rate), "gpu_peak_memory_mib": max(memories, default=None)}
    return known[0].model_copy(update=changes)


def with_latencies(speed: Speed | None, evaluation: Evaluation) -> Speed | None:
    """The same with the latencies of all rows that were read."""
    return None if speed is None else speed.model_copy(update={"latency_p95_ms": _figure(evaluation.latencies.p95())})


def judge(case: Case, speed: Speed | None, sha256: str, baseline: SpeedRecord | None, *, compared: bool) -> list[gates.Verdict]:
    """What the gates on speed and memory say. `sha256`: of the case's data; `compared`: whether there is a baseline at all; else drops do not speak.

    Raises MissingExtra.
    """
    rules, found = rules_of(case), []
    entry, why_not = _entry(speed, sha256, baseline)
    for gate in (gate for gate in case.gates if gate.is_speed and (compared or not gate.is_paired)):
        now = estimate(speed, gate.metric)
        bound = gates.bound_of(gate) if gate.is_paired else gates.bounds_of(gate)
        if now.value is None:
            found.append(gates.unjudged(gate.metric, bound, _unmeasured(gate.metric, speed), None, rules))
        elif not gate.is_paired:
            found.append(_bounded(gate, now, bound, rules))
        elif entry is None:
            found.append(gates.unjudged(gate.metric, bound, why_not, now.value, rules))
        else:
            found.append(_beside(case, gate, now, entry, rules))
    return found


def _bounded(gate: Gate, now: Estimate, bound: str, rules: gates.Rules) -> gates.Verdict:
    """A figure beside fixed bounds."""
    if gate.judge == "interval" and (now.low is None or now.high is None):
        return gates.unjudged(gate.metric, bound, _few(gate.metric, now), now.value, rules)
    return gates.of_machine(gates.judge([gate], {gate.metric: now}, {})[0])


def _beside(case: Case, gate: Gate, now: Estimate, entry: SpeedEntry, rules: gates.Rules) -> gates.Verdict:
    """A figure beside its baseline's."""
    before = estimate(entry, gate.metric)
    if before.value is None or now.value is None:
        return gates.unjudged(gate.metric, gates.bound_of(gate), f"the baseline has no {gate.metric}", now.value, rules)
    if gate.metric == MEMORY:
        return gates.exact(gate, before.value, now.value, rules)
    from pytest_gpueval.scoring.paired import Asked, Level, beside_runs, independent  # noqa: PLC0415 - heavy

    share = gate.max_drop if gate.max_drop is not None else gate.max_rise or 0.0
    margin, relative = (0.0, share) if gate.relative else (share, 0.0)
    asked = Asked(gate.metric, None, margin, relative, lower_is_better=SPEED[gate.metric])
    level = Level(rules.own_level, case.comparison.sides)
    runs = entry.runs.get(gate.metric, ())
    if len(runs) >= LEAST_RUNS:
        return gates.of_machine(gates.judge_drops([gate], {(gate.metric, None): beside_runs(asked, runs, now, level)}, rules)[0])
    found = independent(asked, before, now, level, student=gate.metric in _STUDENT)
    few = next((side for side in (now, before) if side.low is None or side.high is None), None)
    return gates.of_machine(gates.judge_drops([gate], {(gate.metric, None): found}, rules)[0], _few(gate.metric, few) if few else None)


def differences(before: Speed, now: Speed, level: float) -> list[Difference]:
    """What lies between two runs under the same conditions, figure by figure, two-sided; memory is compared as it is. Raises MissingExtra."""
    from pytest_gpueval.scoring.paired import Asked, Difference, Level, independent  # noqa: PLC0415 - heavy

    found = []
    for metric, lower_is_better in SPEED.items():
        there, here = estimate(before, metric), estimate(now, metric)
        if there.value is None or here.value is None:
            continue
        if metric == MEMORY:
            nothing = (None, None, 1 - level, None, None, 1, 0, None)
            found.append(Difference(metric, None, there.value, here.value, here.value - there.value, *nothing, "as sampled"))
        else:
            asked = Asked(metric, lower_is_better=lower_is_better)
            found.append(independent(asked, there, here, Level(level, "two"), student=metric in _STUDENT))
    return found


def _entry(speed: Speed | None, sha256: str, baseline: SpeedRecord | None) -> tuple[SpeedEntry | None, str]:
    """What a speed is compared with; None, and why, where nothing will do."""
    if baseline is None or not baseline.machines:
        return None, "the baseline has no speeds: write them on this machine with --gpueval-update-baseline"
    if speed is None:
        return None, ""
    entry = baseline.machines.get(speed.key)
    if entry is None:
        return None, f"the baseline has no speed of {speed.key}; it has: {'; '.join(sorted(baseline.machines))}"
    if entry.dataset_sha256 != sha256:
        return None, "the baseline's speed is of other data"
    if entry.rows != speed.rows:
        return None, f"{speed.rows:,} rows were measured, and {entry.rows:,} for the baseline"
    return entry, ""


def _unmeasured(metric: str, speed: Speed | None) -> str:
    if speed is None:
        return "nothing was measured: no row was computed in this run"
    if metric == MEMORY:
        return "no GPU was used" if not speed.gpus else "the driver did not tell the memory"
    return "nothing was measured"


def _few(metric: str, figure: Estimate) -> str:
    if metric == RATE:
        return f"too few calls for an interval: {figure.n}, and a rate needs {timing.LEAST_BLOCKS}"
    return f"too few calls for an interval: as {figure.n} that are not alike, and the 95th percentile needs {timing.LEAST_CALLS}"


def words(verdicts: Iterable[gates.Verdict]) -> list[str]:
    """What a reader must know of gates that could not judge, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.unit is not None and verdict.note is not None:
            reasons.setdefault(verdict.note, []).append(f"{verdict.metric} ({verdict.bound})")
    return [f"not judged: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def estimate(speed: Speed | None, metric: str) -> Estimate:
    """A figure of a speed."""
    found = getattr(speed, metric) if speed is not None else None
    return Estimate(found, found, found, 1) if isinstance(found, float) else _estimate(found)


def warnings(cases: Iterable[Case], known: Mapping[tuple[str, str], SpeedRecord], devices: Sequence[str] = ()) -> list[str]:
    """Before a session: gates on changes of speed that have no baseline, or none of these `devices`, or cannot see what they promise to see."""
    found = []
    for case in cases:
        own = case.speed_gates
        there = known.get((case.suite, case.whole_id))
        name = f"{case.suite}/{case.whole_id}"
        if own and (there is None or not there.machines):
            metrics = ", ".join(gate.metric for gate in own)
            found.append(f"{name}: {metrics}: no baseline of any machine; write one where it is to be judged: --gpueval-update-baseline")
        elif own and there is not None:
            lacking = [device for device in dict.fromkeys(devices) if device not in {entry.device for entry in there.machines.values()}]
            found += [f"{name}: {', '.join(gate.metric for gate in own)}: no baseline of {device}" for device in lacking]
            found += [f"{name}: {line}" for gate in own for line in _blind(case, gate, there)]
    return found


def _blind(case: Case, gate: Gate, there: SpeedRecord) -> Iterator[str]:
    """Machines where the noise of one run is larger than what a gate allows."""
    word, allowed = ("max_drop", gate.max_drop) if gate.max_drop is not None else ("max_rise", gate.max_rise or 0.0)
    for key, entry in there.machines.items():
        figure, runs = estimate(entry, gate.metric), entry.runs.get(gate.metric, ())
        if gate.metric == MEMORY or figure.value is None or not allowed:
            continue
        if len(runs) >= LEAST_RUNS:
            error, remedy = stdev(runs) * math.sqrt(1 + 1 / len(runs)), f"its {len(runs)} runs differ so much"
        elif figure.low is not None and figure.high is not None:
            error, remedy = math.sqrt(2) * (figure.high - figure.low) / 2 / Z_95, "give it more rows, or allow more"
        else:
            continue
        rules = rules_of(case)
        margin = allowed * figure.value if gate.relative else allowed
        least = power.least_apart(margin, error, rules.own_level / (1 if case.comparison.sides == "one" else 2))
        if least > PROMISED * margin:
            found = f"a change must be about {least:.3g} to be found with 80 % power; {remedy}"
            yield f"{gate.metric}: {word} {allowed:g}, but on {key} {found}"


def _figure(found: Estimate) -> Figure:
    return Figure(**{key: round(value, 6) if isinstance(value, float) else value for key, value in found.as_dict().items()})


def _estimate(figure: Figure | None) -> Estimate:
    return Estimate(None, None, None, 0) if figure is None else Estimate(figure.value, figure.low, figure.high, figure.n)
