"""Ratios of sums, compared by resampling what each unit adds to both runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_gpueval.scoring.power import against_same_rows
from pytest_gpueval.scoring.terms import Ratio, numpy, total

from .intervals import Resampled, acceleration
from .records import Asked, Evidence, Level
from .resampling import resampled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pytest_gpueval.scoring.terms import Column

    Draws = npt.NDArray[np.float64]

# A metric that fewer of the resamples define has no distribution.
_LEAST_DEFINED: Final = 0.5


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric of both runs, in columns over the same units."""

    baseline: Ratio
    current: Ratio

    def values(self) -> tuple[float | None, float | None]:
        """The metric of both runs; None where it is undefined."""
        baseline, current = (_value(*map(_total, side)) for side in (self.baseline, self.current))
        return baseline, current

    def differ(self) -> npt.NDArray[np.bool_]:
        """The units that add something else than before."""
        found: npt.NDArray[np.bool_] = (total(self.baseline.numerator) != total(self.current.numerator)) | (
            total(self.baseline.denominator) != total(self.current.denominator)
        )
        return found

    def speaks(self) -> npt.NDArray[np.bool_]:
        """The units that have a say on either side."""
        found: npt.NDArray[np.bool_] = (total(self.baseline.denominator) != 0) | (total(self.current.denominator) != 0)
        return found

    def summed(self, units: npt.NDArray[np.int64], n: int) -> Pair:
        """The same over `n` units of several samples each."""
        np = numpy()
        found: dict[int, Column] = {}

        def sums(columns: Sequence[Column]) -> tuple[Column, ...]:
            for column in columns:
                if id(column) not in found:
                    found[id(column)] = np.bincount(units, weights=column, minlength=n)
            return tuple(found[id(column)] for column in columns)

        return Pair(*(Ratio(sums(side.numerator), sums(side.denominator)) for side in (self.baseline, self.current)))


def _total(columns: Sequence[Column]) -> float:
    with numpy().errstate(over="ignore"):  # a sum that is infinite is no figure
        return float(sum(column.sum() for column in columns))


def _value(numerator: float, denominator: float) -> float | None:
    value = numerator / denominator if denominator > 0 else math.nan
    return value if math.isfinite(value) else None


class Bootstrap:
    """Resamples of many metrics at once: every column is drawn one time, and all metrics from the same draws."""

    def __init__(self, pairs: Mapping[Asked, Pair], resamples: int, seed: int, unit: str) -> None:
        np = numpy()
        self._pairs = pairs
        self._unit = unit
        columns = {id(column): column for pair in pairs.values() for side in (pair.baseline, pair.current) for part in side for column in part}
        contents = {key: column.tobytes() for key, column in columns.items()}
        # What is alike in both runs, such as gold, has one place; the order hangs on contents alone, so that swapped runs have the same draws.
        places = {content: place for place, content in enumerate(sorted(set(contents.values())))}
        self._at = {key: places[content] for key, content in contents.items()}
        table = np.stack([np.frombuffer(content) for content in places], axis=1)
        del contents, places  # as large as the columns
        self._sums = np.ascontiguousarray(resampled(table, resamples, seed).T)

    def _draws(self, ratio: Ratio) -> Draws:
        np = numpy()
        numerator, denominator = (total([self._sums[self._at[id(column)]] for column in side]) for side in ratio)
        found: Draws = np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
        return found

    def compared(self, asked: Asked, level: Level) -> Evidence:
        """What the resamples say about one of the metrics, which is defined on both sides and differs somewhere."""
        np = numpy()
        pair = self._pairs[asked]
        method = f"paired bootstrap over {self._unit}"
        base, value = (_value(*map(_total, side)) or 0.0 for side in (pair.baseline, pair.current))
        before, after = self._draws(pair.baseline), self._draws(pair.current)
        defined = np.isfinite(before) & np.isfinite(after)
        if defined.mean() < _LEAST_DEFINED:
            return Evidence(None, None, None, None, None, method)
        before, after = before[defined], after[defined]
        terms_before, terms_after = (_linear(side, r) for side, r in ((pair.baseline, base), (pair.current, value)))
        if not _spread(terms_after - terms_before, abs(base) + abs(value)):
            return Evidence(None, None, None, None, None, method)
        df = max(1, int(pair.differ().sum()) - 1)
        sign = -1.0 if asked.lower_is_better else 1.0

        def of(share: float) -> Resampled:
            """Of current - baseline, better being higher, plus a share of the baseline."""
            kept = share * math.copysign(1.0, base)
            draws = np.sort(sign * (after - before) + kept * before)
            estimate, terms = sign * (value - base) + kept * base, sign * (terms_after - terms_before) + kept * terms_before
            return Resampled(draws, estimate, acceleration(terms), df)

        plain = of(0.0)
        tested = of(asked.relative) if asked.relative else plain
        backwards = Resampled(-plain.draws[::-1], -plain.estimate, -plain.acceleration, df)
        ends = sorted(sign * plain.end(tail) for tail in (level.tail, 1 - level.tail))
        margin = asked.margin + asked.relative * abs(base)
        least = _detectable(terms_after - terms_before, value - base if sign > 0 else base - value, margin, level.tail)
        return Evidence(ends[0], ends[1], tested.p_below(-asked.margin), backwards.p_below(0.0), least, method)


def _linear(ratio: Ratio, value: float) -> Column:
    """What each unit adds to a ratio in first order."""
    found: Column = (total(ratio.numerator) - value * total(ratio.denominator)) / _total(ratio.denominator)
    return found


def _spread(terms: Column, figures: float) -> bool:
    """Whether units tell a variance: a single one, or several with the same figures, do not."""
    most = float(numpy().abs(terms).max())
    return math.isfinite(most) and most * len(terms) > 1e-12 * figures


def _detectable(terms: Column, difference: float, margin: float, tail: float) -> float:
    """The smallest true worsening that is found, where a further drop comes from more changes like those seen.

    A unit's change of u adds u^2 to the variance: per drop of 1, sum u^2 / sum |u|. What changed besides the drop seen stays.
    """
    sizes = numpy().abs(terms)
    most, moved = float(sizes.max()), float(sizes.sum())
    each = float((sizes / most * sizes).sum()) / moved * most
    return against_same_rows(each * max(0.0, moved - max(0.0, -difference)), each, 1, margin, tail)
