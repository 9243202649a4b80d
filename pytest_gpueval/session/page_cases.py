"""A run's own files -> what the page of its session says of it. Knows nothing of pytest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpueval.reports.session_page import CasePage, Change, Comparison, Gate, Samples
from pytest_gpueval.reports.table import Figure, Row

from .rows import metadata, summary_or_none

if TYPE_CHECKING:
    from pytest_gpueval.runs.records import Summary


def page_of(path: Path, row: Row, samples: Samples | None = None) -> CasePage:
    """A case of the page, from the run's directory; what cannot be read there is left out."""
    summary = summary_or_none(path)
    provenance = tuple(_provenance(metadata(path)))
    if summary is None:
        return CasePage(row, samples=samples, provenance=provenance)
    gates = [
        Gate(gate.metric, gate.label, gate.bound, Figure(gate.value, gate.low, gate.high), gate.n, gate.outcome, gate.unit, gate.note) for gate in summary.gates
    ]
    return CasePage(
        row,
        latency=summary.latency.model_dump() if summary.latency else None,
        gates=gates,
        startup_s=summary.startup_s,
        tokens=summary.tokens.model_dump() if summary.tokens else None,
        gpu=summary.gpu,
        notes=summary.notes,
        provenance=provenance,
        samples=samples,
        comparison=_comparison(path, summary),
    )


def _comparison(path: Path, summary: Summary) -> Comparison | None:
    """What the gates against a baseline found; None where none spoke."""
    paired = [(gate, gate.change) for gate in summary.gates if gate.change is not None]
    if not paired:
        return None
    changes = [
        Change(
            gate.metric,
            gate.label,
            baseline=Figure(change.baseline, None, None),
            value=Figure(gate.value, None, None),
            difference=Figure(change.difference, change.low, change.high),
            p=change.p_adjusted,
            detectable=change.detectable,
            n=gate.n,
            outcome=gate.outcome,
            unit=gate.unit,
        )
        for gate, change in paired
    ]
    where = metadata(path).get("baseline") or {}
    changed = [change.changed for gate, change in paired if gate.unit is None]
    words = f"; {changed[0]:,} samples count otherwise than they did" if changed else ""
    return Comparison(str(where.get("where", "?")), changes, note=f"p beside all such gates of the suite{words}")


def _provenance(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was run on what, as names and texts."""
    if not said:
        return
    code, dataset, runtime, policy, model = (said.get(key) or {} for key in ("code", "dataset", "runtime", "policy", "model"))
    yield "test", str(said.get("nodeid"))
    yield "commit", f"{code.get('commit') or 'unknown'}{' with changes ' + str(code.get('diff_sha256'))[:12] if code.get('dirty') else ''}"
    yield "dataset", " · ".join(str(part) for part in (dataset.get("name"), dataset.get("split"), dataset.get("origin")) if part)
    for name, key in (("repository", "repo"), ("revision", "revision"), ("content SHA-256", "sha256")):
        if dataset.get(key):
            yield name, str(dataset[key])
    yield "runtime", " · ".join(str(runtime[key]) for key in ("name", "kind", "target", "url") if runtime.get(key))
    if runtime.get("options"):
        yield "options", json.dumps(runtime["options"], ensure_ascii=False, sort_keys=True)
    yield from ((f"model {name.replace('_sha256', ' SHA-256')}", str(value)) for name, value in model.items() if value)
    if said.get("judge"):
        yield "judge", json.dumps(said["judge"], ensure_ascii=False, sort_keys=True)
    yield "policy", json.dumps(policy, ensure_ascii=False)
    if said.get("limit"):
        yield "limit", f"the first {said['limit']} rows"
    if said.get("parameters"):
        yield "parameters", json.dumps(said["parameters"], ensure_ascii=False)
    if said.get("gpu"):
        yield "GPU", " · ".join(str(value) for value in [*said["gpu"].values(), *(said.get("gpus") or ())] if value)
    yield "host", f"{said.get('host')} · {said.get('platform')} · Python {said.get('python')}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in (said.get("packages") or {}).items())
    yield "began", str(said.get("started_at"))
