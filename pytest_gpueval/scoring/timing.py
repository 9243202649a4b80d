"""How fast answers come: rates and percentiles whose intervals know that time is noisy, in memory that does not grow with the samples.

Rows of one call (a batch) come together, and calls that follow each other are alike: a machine that is busy now is still busy a moment later. So calls,
not rows, are the units, and consecutive calls are gathered in at most 64 blocks, whose spread tells the variance as it is, correlation within blocks
included (batch means: Schmeiser 1982, *Batch size effects in the analysis of simulation output*, Operations Research 30, 556-568, who finds 10 to 30
batches enough). A session is one sample of a machine's moods: what differs between sessions and not within one, no interval here can know.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from .estimates import UNSCORED, Z_95, Estimate, t_95

MOST_BLOCKS: Final = 64
# With fewer, their spread says nothing.
LEAST_BLOCKS: Final = 10
# Of fewer, the 95th percentile has no upper limit.
LEAST_CALLS: Final = 72
_SHARE: Final = 0.95
_TAIL: Final = 0.025


@dataclass(slots=True)
class _Block:
    """Consecutive calls: their rows, the seconds they took, how many of their rows lie in each bin of latencies."""

    calls: int = 0
    rows: int = 0
    seconds: float = 0.0
    bins: Counter[int] = field(default_factory=Counter)

    def joined(self, other: _Block) -> _Block:
        return _Block(self.calls + other.calls, self.rows + other.rows, self.seconds + other.seconds, self.bins + other.bins)


class _Blocks:
    """Blocks of as many calls each; once there are too many, pairs become one."""

    def __init__(self) -> None:
        self.open = _Block()  # the one that the next call belongs to
        self._blocks = [self.open]
        self._stride = 1

    def next(self) -> None:
        """A call has been told: its block may be full."""
        self.open.calls += 1
        if self.open.calls >= self._stride:
            if len(self._blocks) == MOST_BLOCKS:
                self._blocks = _pairs(self._blocks)
                self._stride *= 2
            self.open = _Block()
            self._blocks.append(self.open)

    def all(self) -> list[_Block]:
        """All that have rows."""
        return [block for block in self._blocks if block.rows]

    def batches(self) -> list[_Block]:
        """At most half of MOST_BLOCKS, a last one that is cut short joined to the one before."""
        found = self.all()
        if len(found) > 1 and found[-1].calls < self._stride / 2:
            found[-2:] = [found[-2].joined(found[-1])]
        return _pairs(found) if len(found) > MOST_BLOCKS // 2 else found


def _pairs(blocks: Sequence[_Block]) -> list[_Block]:
    """Neighbours joined; of an odd number, the last three."""
    found = [one.joined(other) for one, other in zip(blocks[::2], blocks[1::2], strict=False)]
    if len(blocks) % 2:
        found[-1] = found[-1].joined(blocks[-1])
    return found


class Pace:
    """Rows per second, told row by row. Rows of one call follow each other and have its latency."""

    def __init__(self) -> None:
        self._blocks = _Blocks()
        self._call: float | None = None
        self._of_call = 0
        self._since = self._last = 0.0

    def begin(self, now_s: float) -> None:
        """The first call is about to be made."""
        self._since = self._last = now_s

    def add(self, latency_ms: float, now_s: float) -> None:
        """A row was done at `now_s`, by a call that took `latency_ms`."""
        if latency_ms != self._call:
            self._end_call()
            self._call = latency_ms
        self._of_call += 1
        self._last = now_s

    def _end_call(self) -> None:
        if self._of_call:
            block = self._blocks.open
            block.rows += self._of_call
            block.seconds += self._last - self._since
            self._since, self._of_call, self._call = self._last, 0, None
            self._blocks.next()

    @property
    def rows(self) -> int:
        """Rows so far."""
        return sum(block.rows for block in self._blocks.all()) + self._of_call

    def estimate(self) -> Estimate:
        """Rows per second with its 95 % interval, None from less than ten calls; `n` counts blocks.

        The ratio of rows to seconds over blocks (Taylor linearisation, as `estimates.ratio`), Student's t with one degree of freedom less than blocks.
        """
        self._end_call()
        blocks = self._blocks.batches()
        rows, seconds, n = sum(block.rows for block in blocks), sum(block.seconds for block in blocks), len(blocks)
        if not rows or seconds <= 0:
            return UNSCORED
        rate = rows / seconds
        if n < LEAST_BLOCKS:
            return Estimate(rate, None, None, n)
        residual = sum((block.rows - rate * block.seconds) ** 2 for block in blocks)
        half = t_95(n - 1) * math.sqrt(residual * n / (n - 1)) / seconds
        return Estimate(rate, max(0.0, rate - half), rate + half, n)


class Latencies:
    """Percentiles of latencies over rows, from histograms with 0.5 % wide bins. Rows of one call follow each other and have its latency."""

    _WIDTH = math.log(1.005)

    def __init__(self) -> None:
        self._blocks = _Blocks()
        self._call: float | None = None
        self._of_call = 0
        self._squares = 0

    def add(self, ms: float) -> None:
        """Add one row's."""
        if ms != self._call:
            self._end_call()
            self._call = ms
        self._of_call += 1

    def _end_call(self) -> None:
        if self._call is not None:
            block, key = self._blocks.open, math.floor(math.log(max(self._call, 1e-3)) / self._WIDTH)
            block.bins[key] = block.bins.get(key, 0) + self._of_call
            block.rows += self._of_call
            self._squares += self._of_call**2
            self._of_call, self._call = 0, None
            self._blocks.next()

    def percentiles(self) -> dict[str, float] | None:
        """p50, p95 and p99 in milliseconds, or None without a latency."""
        bins = self._bins()
        if not bins:
            return None
        return {name: self._at(bins, share) for name, share in (("p50_ms", 0.50), ("p95_ms", _SHARE), ("p99_ms", 0.99))}

    def p95(self) -> Estimate:
        """The 95th percentile in milliseconds with its 95 % interval, which 72 calls have, if they are not alike; `n` counts calls, fewer where they are alike.

        The interval is that of order statistics: as many of n independent calls lie below the true percentile as a binomial distribution says (Conover,
        *Practical Nonparametric Statistics*, 3rd ed. 1999, ch. 3.2). Rows that are not independent count as fewer ones: by the sizes of their calls
        (Kish 1965, *Survey Sampling*, ch. 11.7), and by how unevenly blocks have their share of slow rows, the percentile's limits being those of
        that share (Woodruff 1952, *Confidence intervals for medians and other position measures*, JASA 47, 635-646).
        """
        bins = self._bins()
        rows = bins.total()
        if not rows:
            return UNSCORED
        value, n = self._at(bins, _SHARE), int(self._independent(bins))
        low, high = order_statistics(n)
        if low < 1 or high > n:
            return Estimate(value, None, None, n)
        return Estimate(value, min(value, self._at(bins, low / n)), max(value, self._at(bins, high / n)), n)

    def _independent(self, bins: Counter[int]) -> float:
        """As many independent rows would tell as much of the percentile."""
        rows = bins.total()
        trials = rows * rows / self._squares
        blocks, limit = self._blocks.batches(), self._key(bins, _SHARE)
        slow = [sum(times for key, times in block.bins.items() if key > limit) for block in blocks]
        share, n = sum(slow) / rows, len(blocks)
        if n < LEAST_BLOCKS or not share:
            return trials
        residual = sum((count - share * block.rows) ** 2 for count, block in zip(slow, blocks, strict=True))
        variance = residual * n / (n - 1) / rows**2
        return min(trials, share * (1 - share) / variance * (Z_95 / t_95(n - 1)) ** 2) if variance else trials

    def _bins(self) -> Counter[int]:
        self._end_call()
        found: Counter[int] = Counter()
        for block in self._blocks.all():
            found.update(block.bins)
        return found

    def _at(self, bins: Counter[int], share: float) -> float:
        """The middle of the bin where this share of rows is reached."""
        return round(math.exp((self._key(bins, share) + 0.5) * self._WIDTH), 3)

    @staticmethod
    def _key(bins: Counter[int], share: float) -> int:
        wanted, seen, key = share * bins.total() * (1 - 1e-12), 0, 0
        for key in sorted(bins):
            seen += bins[key]
            if seen >= wanted:
                break
        return key


def order_statistics(n: int) -> tuple[int, int]:
    """The places, counted from 1, between which the true 95th percentile lies with 95 % confidence; 0 or n + 1 where n independent values have no such."""
    return _binomial_quantile(_TAIL, n), _binomial_quantile(1 - _TAIL, n) + 1


def _binomial_quantile(tail: float, n: int) -> int:
    """The least number of n trials, each of probability 0.95, that is not exceeded with probability `tail`: exact sums, from where nothing lies below."""
    if n < 1:
        return 0
    p = _SHARE
    k = max(0, math.floor(n * p - 12 * math.sqrt(n * p * (1 - p)) - 12))
    mass = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p))
    seen = mass
    while seen < tail and k < n:
        mass *= (n - k) / (k + 1) * p / (1 - p)
        k += 1
        seen += mass
    return k


def joined_rate(parts: Sequence[tuple[int, Estimate]]) -> Estimate:
    """The rate of one worker over shards that were measured one by one: (rows, rate) of each. Seconds add up, and so do their variances."""
    known = [(rows, rate.value, rate.low, rate.high, rate.n) for rows, rate in parts if rows and rate.value]
    if not known:
        return UNSCORED
    rows, seconds = sum(part[0] for part in known), sum(part[0] / part[1] for part in known)
    rate, n = rows / seconds, sum(part[-1] for part in known)
    variance = 0.0
    for count, value, low, high, _ in known:
        if low is None or high is None:
            return Estimate(rate, None, None, n)
        variance += (count / value * (high - low) / 2 / value) ** 2
    half = rate * math.sqrt(variance) / seconds
    return Estimate(rate, max(0.0, rate - half), rate + half, n)
