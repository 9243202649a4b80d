"""Sums of columns over resampled units, for all columns at once.

Where units are few, or are alike in few ways, each resample is the bootstrap's own: a multinomial draw of as many units, those alike drawn together.
Elsewhere each unit gets a weight of its own: 0 to 5 in shares of 94, 95, 46, 16, 4 and 1 of 256, so that a random byte makes a weight with mean and
variance exactly 1 and a third moment of 4.98, Poisson's being 5. For ratios of sums, such exchangeable weights give the bootstrap's distribution
(Praestgaard and Wellner 1993, *Exchangeably weighted bootstraps of the general empirical process*, Annals of Probability 21; Chamandy et al. 2012,
*Estimating uncertainty for massive data streams*, for Poisson weights).

Columns are whole numbers, or are rounded to whole multiples of a tiny unit, so that sums are exact: how many threads compute them changes nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, cast

from pytest_gpueval.scoring.terms import numpy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Table = npt.NDArray[np.float64]

TIMES: Final = (94, 95, 46, 16, 4, 1)  # of 256, how often a weight is 0, 1, ... 5
_WEIGHTS: Final = b"".join(bytes([weight]) * times for weight, times in enumerate(TIMES))
_MOST_WEIGHT: Final = len(TIMES) - 1
# Units beyond so many are drawn in bundles, which tell the variance of a sum as well.
BUNDLES: Final = 20_000
# Drawing a group's number costs as much as this many bytes; so few units are drawn by number in any case.
_GROUP_COST: Final = 64
_FEW: Final = 256
# Resamples and units at once: what fits the processor's cache.
_ROWS, _UNITS = 256, 8192
# So many units share weights between resamples, in four parts: weights are independent within a resample, and draws of neighbours next to independent.
_MANY: Final = 4096
_EXACT: Final = {"float32": 2.0**24, "float64": 2.0**53}


def resampled(columns: Table, resamples: int, seed: int) -> Table:
    """The sums of each column over `resamples` resamples of its units: shape (units, k) -> (resamples, k). The same seed gives the same sums."""
    np = numpy()
    units, k = columns.shape
    if not units or not k:
        return cast("Table", np.zeros((resamples, k)))
    scales = np.array([_scale(column) for column in columns.T])
    whole = columns * scales
    np.rint(whole, out=whole)
    generator = np.random.PCG64(seed)
    groups, times = _alike(whole)
    if units <= _FEW or len(times) * _GROUP_COST <= units:
        sums = _by_number(groups, times, resamples, np.random.Generator(generator))
    else:
        sums = _by_weight(_bundled(whole[whole.any(axis=1)]), resamples, generator)
    found: Table = sums / scales
    return found


def _scale(column: npt.NDArray[np.float64]) -> float:
    """What makes a column whole: 1, 2 for halves, else the power of 2 at which sums over a resample just stay exact."""
    np = numpy()
    most = float(np.abs(column).max()) * len(column)  # at least the sum of sizes
    for scale in (1.0, 2.0):
        if most * scale * _MOST_WEIGHT < _EXACT["float64"] and (np.rint(column * scale) == column * scale).all():
            return scale
    return math.ldexp(1.0, min(1000, math.floor(52 - math.log2(most / len(column)) - math.log2(len(column) * _MOST_WEIGHT))))


def _alike(whole: Table) -> tuple[Table, npt.NDArray[np.int64]]:
    """Distinct rows, and how often each occurs."""
    np = numpy()
    # Rows are told apart by a hash of 64 bits with random odd factors: two of a million rows share one with a probability of 1e-8.
    factors = np.random.default_rng(0).integers(1, 2**63, size=whole.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.zeros(len(whole), dtype=np.uint64)
    for column, factor in zip(whole.T, factors, strict=True):
        bits = column.astype(np.int64).view(np.uint64) * factor
        hashes += bits ^ (bits >> np.uint64(29))
    _, first, times = np.unique(hashes, return_index=True, return_counts=True)
    return whole[first], times


def _by_number(groups: Table, times: npt.NDArray[np.int64], resamples: int, random: np.random.Generator) -> Table:
    """Multinomial resamples of groups of `times` units."""
    np = numpy()
    n = int(times.sum())
    at_once = max(1, 2**21 // len(times))
    sums = np.empty((resamples, groups.shape[1]))
    for start in range(0, resamples, at_once):
        drawn = random.multinomial(n, times / n, size=min(at_once, resamples - start))
        np.matmul(drawn.astype(np.float64), groups, out=sums[start : start + len(drawn)])
    found: Table = sums
    return found


def _bundled(whole: Table) -> Table:
    """At most BUNDLES units, each the sum of those whose places leave the same remainder."""
    np = numpy()
    if len(whole) <= BUNDLES:
        return whole
    place = np.arange(len(whole)) % BUNDLES
    found: Table = np.stack([np.bincount(place, weights=column) for column in whole.T], axis=1)
    return found


def _by_weight(whole: Table, resamples: int, generator: np.random.PCG64) -> Table:
    """Sums under weights of random bytes. Of many units, each of four parts takes the weights of another of the next four resamples."""
    np = numpy()
    k, parts = whole.shape[1], 4 if len(whole) >= _MANY else 1
    padding = np.zeros((-len(whole) % (8 * parts), k))  # random bytes come by eight
    units = np.concatenate([whole, padding]).reshape(parts, -1, k).transpose(1, 0, 2).reshape(-1, parts * k)
    sums = _weighted(units, resamples, generator)
    found: Table = sum((np.roll(sums[:, part * k : (part + 1) * k], -part, axis=0) for part in range(parts)), np.zeros((resamples, k)))
    return found


def _weighted(units: Table, resamples: int, generator: np.random.PCG64) -> Table:
    """Sums of columns whose number of units 8 divides, each resample's units with independent weights."""
    np = numpy()
    sums = np.zeros((resamples, units.shape[1]))
    for start in range(0, len(units), _UNITS):
        chunk = units[start : start + _UNITS]
        small = np.abs(chunk).sum(axis=0) * _MOST_WEIGHT < _EXACT["float32"]
        kinds = (small, np.float32), (~small, np.float64)
        parts = [(slice(None) if here.all() else here, np.ascontiguousarray(chunk[:, here], dtype=kind)) for here, kind in kinds if here.any()]
        for row in range(0, resamples, _ROWS):
            rows = min(_ROWS, resamples - row)
            drawn = generator.random_raw(rows * len(chunk) // 8).astype("<u8", copy=False).tobytes().translate(_WEIGHTS)
            weights = np.frombuffer(drawn, dtype=np.uint8).reshape(rows, len(chunk))
            for where, part in parts:
                sums[row : row + rows, where] += weights.astype(part.dtype) @ part
    found: Table = sums
    return found
