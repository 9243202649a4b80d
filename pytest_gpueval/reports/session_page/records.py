"""What the page of a session shows: plain data, made by whoever reads files, and shown by `page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_gpueval.reports.table import Figure, Row


@dataclass(frozen=True, slots=True)
class Gate:
    """What one gate said. `unit`: of speed and memory; `note`: why there was nothing to judge by."""

    metric: str
    label: str | None
    bound: str
    figure: Figure
    n: int
    outcome: str
    unit: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One metric beside its baseline. `difference` is value minus baseline; `detectable`: the smallest drop that would be found with 80 % power."""

    metric: str
    label: str | None
    baseline: Figure
    value: Figure
    difference: Figure
    p: float | None
    detectable: float | None
    n: int
    outcome: str
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A case beside its baseline. `samples`: ids of those that changed most, the most changed first; the page opens them."""

    baseline: str
    changes: Sequence[Change]
    samples: Sequence[str] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines over a threshold in [0, 1]: name -> points (x, y), x ascending. `note` says what they are."""

    title: str
    note: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Bin:
    """Samples whose latency lies in [low_ms, high_ms)."""

    low_ms: float
    high_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a case, packed for the browser (`samples.Collector`), and what all of them say together.

    `blocks`: base64 of gzip of JSON, the columns first, then chunks of rows. `seen`: samples of the run; `kept`: those in the page; `texts`: those whose text is too.
    `curves`: of all labels together; `label_curves`: those of each, packed, empty where there are none.
    """

    blocks: Sequence[str]
    seen: int
    kept: int
    texts: int
    wrong: int
    support: Mapping[str, int] = field(default_factory=dict)
    latencies: Sequence[Bin] = ()
    curves: Sequence[Curve] = ()
    label_curves: str = ""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class CasePage:
    """One case. `latency`: p50_ms, p95_ms, p99_ms; `gpu`: peaks and means of its GPUs; `provenance`: names and texts, in order."""

    row: Row
    latency: Mapping[str, float] | None = None
    gates: Sequence[Gate] = ()
    support: Mapping[str, int] = field(default_factory=dict)
    startup_s: float | None = None
    tokens: Mapping[str, Any] | None = None
    gpu: Mapping[str, float] | None = None
    notes: Sequence[str] = ()
    provenance: Sequence[tuple[str, str]] = ()
    comparison: Comparison | None = None
    samples: Samples | None = None
