"""Which parameters matter: shares of the metric's variance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_gpueval.errors import MissingExtra

from .records import Sweep, SweepRow, Value

FEWEST: Final = 10
RELIABLE_R2: Final = 0.3
_FOLDS: Final = 5
_TREES: Final = 100
_SHUFFLES: Final = 10


@dataclass(frozen=True, slots=True)
class Importance:
    """What the parameters explain.

    `shares`: parameter, or parameters that always change together joined by " = " -> share of the metric's variance in [0, 1], largest first; None where
    nothing can be said, and `reason` says why. `r2`: out-of-bag R2 of the forest that says so, seen on rows it was not fitted to. `rows`: rows it is of.
    """

    shares: Mapping[str, float] | None
    reason: str | None
    r2: float | None
    rows: int

    @property
    def reliable(self) -> bool:
        """Whether the forest predicts well enough for its shares to mean something."""
        return self.r2 is not None and self.r2 >= RELIABLE_R2


def importance(sweep: Sweep) -> Importance:
    """Share of the metric's variance that each parameter explains, its interactions with others included.

    A random forest is fitted to four fifths of the rows; in the last fifth the parameter's values are shuffled; the rise of the mean squared error, halved,
    over the variance of the metric is the share (Gregorutti, Michel and Saint-Pierre, "Correlation and variable importance in random forests", Statistics
    and Computing 27, 2017: the rise is twice the variance that the parameter explains). The mean over all fifths; the same for the same rows. Parameters
    that explain nothing get about 0, unlike with shares found on the fitted rows. Parameters that are alike share what they explain.

    Only rows that passed and have the metric count. Raises MissingExtra without scikit-learn.
    """
    rows = [row for row in sweep.rows if row.ok and row.metric(sweep.metric) is not None]
    if sweep.metric is None:
        return Importance(None, "The sweep names no metric.", None, 0)
    if len(rows) < FEWEST:
        return Importance(None, f"{len(rows)} rows passed and have {sweep.metric}; fewer than {FEWEST} say nothing about parameters.", None, len(rows))
    features = _features(sweep.parameters(), rows)
    if not features:
        return Importance(None, "No parameter varies in a way that could be told from the row itself.", None, len(rows))
    values = [float(row.metrics[sweep.metric] or 0.0) for row in rows]
    if min(values) == max(values):
        return Importance(None, f"{sweep.metric} is the same in all rows.", None, len(rows))
    r2, shares = _fitted(list(features.values()), values)
    ranked = sorted(zip(features, shares, strict=True), key=lambda pair: -pair[1])
    return Importance(dict(ranked), None, r2, len(rows))


def _features(names: Sequence[str], rows: Sequence[SweepRow]) -> dict[str, list[float]]:
    """One column of numbers for each parameter that varies; those that always change together are one.

    Texts that differ in every row are left out: they name the row, and would explain everything.
    """
    together: dict[tuple[float, ...], list[str]] = {}
    columns: dict[str, list[float]] = {}
    for name in names:
        values = [row.parameters.get(name) for row in rows]
        codes = _codes(values)
        distinct = len(set(codes))
        if distinct == 1 or (distinct == len(rows) and any(isinstance(value, str) for value in values)):
            continue
        first: dict[float, float] = {}
        # Rows that share a value; where none do, the order of the rows by it, up or down.
        likeness = tuple(first.setdefault(code, float(len(first))) for code in codes)
        if distinct == len(rows):
            likeness = min(tuple(codes), tuple(distinct - 1 - code for code in codes))
        together.setdefault(likeness, []).append(name)
        columns.setdefault(together[likeness][0], codes)
    return {" = ".join(names): columns[names[0]] for names in together.values()}


def _codes(values: Sequence[Value]) -> list[float]:
    """Places in the order of the values: numbers by size, then texts, then what is missing. A tree asks for nothing but the order."""

    def order(value: Value) -> tuple[int, float, str]:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return 2, 0.0, ""
        return (1, 0.0, value) if isinstance(value, str) else (0, value, "")

    keys = [order(value) for value in values]
    places = {key: float(place) for place, key in enumerate(sorted(set(keys)))}
    return [places[key] for key in keys]


def _fitted(columns: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[float, list[float]]:
    """Out-of-bag R2 of a forest over all rows, and the share of the variance for each column."""
    try:
        import numpy as np  # noqa: PLC0415 - only where a sweep is reported
        from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415
        from sklearn.model_selection import KFold  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("scikit-learn", needed_for="The importance of a sweep's parameters", extra="sweeps") from None

    def forest(**options: Any) -> Any:
        return RandomForestRegressor(_TREES, random_state=0, n_jobs=1, **options)

    x = np.asarray(columns, dtype=float).T
    # Scaled, so that squares of large figures stay numbers.
    y = np.asarray(values, dtype=float) / max(map(abs, values))
    y = (y - y.mean()) / (y.std() or 1.0)
    with warnings.catch_warnings():  # a row that no tree left out: one in 1e20 with this many trees
        warnings.simplefilter("ignore", UserWarning)
        r2 = float(forest(oob_score=True).fit(x, y).oob_score_)
    rises = np.zeros(len(columns))
    dice = np.random.default_rng(0)
    for fitted, held in KFold(_FOLDS, shuffle=True, random_state=0).split(x):
        # As sklearn.inspection.permutation_importance, but all shuffles of all columns in one call: that is a tenth of the time for a few hundred rows.
        asked = np.tile(x[held], (1 + len(columns) * _SHUFFLES, 1, 1))
        for number in range(len(columns) * _SHUFFLES):
            asked[1 + number, :, number // _SHUFFLES] = dice.permutation(x[held, number // _SHUFFLES])
        answers = forest().fit(x[fitted], y[fitted]).predict(asked.reshape(-1, len(columns))).reshape(len(asked), len(held))
        errors = ((answers - y[held]) ** 2).mean(axis=1)
        rises += (errors[1:].reshape(len(columns), _SHUFFLES).mean(axis=1) - errors[0]) * len(held) / len(values)
    return r2, [min(1.0, max(0.0, float(rise) / 2)) for rise in rises]
