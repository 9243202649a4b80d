"""What the report of a sweep is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One row of a sweep. `series`: metric -> (step, value), finite numbers only."""

    run_id: str
    parameters: Mapping[str, Value]
    ok: bool
    status: str
    reason: str | None
    attempts: int
    seconds: float
    metrics: Mapping[str, float | None]
    series: Mapping[str, Sequence[tuple[float, float]]]

    def metric(self, name: str | None) -> float | None:
        """A metric's value; None where there is none, or where it is no finite number."""
        value = None if name is None else self.metrics.get(name)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True, eq=False)  # known by itself: what is made of it is kept
class Sweep:
    """Rows in the order of the sweep's file. `metric` is what they are compared by; None where nothing is."""

    name: str
    metric: str | None
    goal: Literal["min", "max"]
    rows: Sequence[SweepRow]

    def cost(self, row: SweepRow) -> float | None:
        """The metric of a row, turned so that lower is better."""
        value = row.metric(self.metric)
        return None if value is None else value if self.goal == "min" else -value

    def parameters(self) -> list[str]:
        """The names of all parameters, in the order they appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row.parameters))

    def varying(self) -> list[str]:
        """The parameters that are not the same in all rows. One that a row does not name is None there."""
        return [name for name in self.parameters() if len({identity(row.parameters.get(name)) for row in self.rows}) > 1]


def identity(value: Value) -> tuple[str, object]:
    """A key that tells values apart as a reader does: 1 is 1.0, but neither is true, and nan is nan."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, float) and math.isnan(value):
        return "nan", None
    return type(value).__name__ if isinstance(value, (str, type(None))) else "number", value


def shown(value: object) -> str:
    """A parameter or a figure as a reader sees it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
