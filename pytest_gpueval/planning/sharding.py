"""How many shards each dataset is cut into. Pure, and the same on every process that is given the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Literal

# The makespan may exceed its bound by this share; the predictions are not better than that.
TOLERANCE: Final = 0.02
# An item costs some 20 ms of its own (a run directory, a report): below this length that is a tenth of it.
LEAST_SHARD_S: Final = 0.2
# A lane that must first load the model should then run a quarter of that time at least, or it loads for nothing.
LEAST_SHARE_OF_STARTUP: Final = 0.25
# More than this many shards of one dataset for each lane gain nothing: 8 lanes x 8 shards leave 1/64 of a dataset as the last piece.
MOST_SHARDS_PER_LANE: Final = 8
# Counts grow by this share of all pieces between two looks at the makespan, and by one where there are fewer than 64.
_STRIDE: Final = 64
# More shards must end the session earlier by this share to be worth it.
_LEAST_GAIN: Final = 0.001
# Makespans are compared as rounded to these digits: two sums of the same numbers are one number.
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A dataset that may be cut: `seconds` are those of all its rows on one worker, its start-up excluded."""

    group: str
    rows: int
    seconds: float
    startup_s: float = 0.0
    shards: int | Literal["auto"] = "auto"
    model: str | None = None
    gpus: int = 1


def shard_counts(pieces: Sequence[Piece], lanes: int, overhead_s: float = 0.0) -> dict[str, int]:
    """Group -> number of shards, 1 where it is not cut. Every item costs `overhead_s` beside its rows.

    A number is taken as it is, but never above the rows. "auto" cuts as little as brings the makespan of LPT (Graham 1969) within TOLERANCE of
    the larger of total/lanes and the longest piece that cannot be cut. Where that cannot be reached, it takes the fewest shards of the best makespan
    seen. Pieces that need several GPUs are cut for the `lanes // gpus` of them that run at the same time, on their own: they go first.
    """
    counts = {piece.group: min(piece.shards, max(piece.rows, 1)) if isinstance(piece.shards, int) else 1 for piece in pieces}
    for gpus in sorted({piece.gpus for piece in pieces}):
        alike = [piece for piece in pieces if piece.gpus == gpus]
        places = lanes // gpus
        if places > 1 and any(piece.shards == "auto" for piece in alike):
            counts.update(_cut(alike, {piece.group: counts[piece.group] for piece in alike}, places, overhead_s))
    return counts


def _cut(pieces: Sequence[Piece], counts: Mapping[str, int], lanes: int, overhead_s: float) -> Mapping[str, int]:
    """Cut the dataset with the longest shard one finer, again and again; look at the makespan now and then.

    The cuts made so are the fewest for the length of the longest shard that they lead to. Once that is below TOLERANCE of total/lanes, LPT is
    within TOLERANCE: its makespan is at most total/lanes + longest (Graham 1969), so the loop is short.
    """
    state = _State(pieces, dict(counts), lanes, overhead_s)
    # Work on a lane begins after a start-up that no plan avoids, so what matters is the share of both.
    unavoidable_s = min(piece.startup_s for piece in pieces)
    even_s = sum(piece.seconds + overhead_s * counts[piece.group] for piece in pieces) / lanes
    best, least_s = dict(counts), state.makespan_s()
    while True:
        allowed_s = max(even_s, state.uncuttable_s) + TOLERANCE * (max(even_s, state.uncuttable_s) + unavoidable_s)
        if least_s <= allowed_s or not state.finer(1 + sum(state.counts.values()) // _STRIDE):
            return best
        makespan_s = state.makespan_s()
        if makespan_s < least_s * (1 - _LEAST_GAIN):
            best, least_s = dict(state.counts), makespan_s


class _State:
    """Counts on their way to finer ones."""

    def __init__(self, pieces: Sequence[Piece], counts: dict[str, int], lanes: int, overhead_s: float) -> None:
        self.counts = counts
        self.uncuttable_s = 0.0  # the longest shard of those that stay as they are
        self._pieces = pieces
        self._lanes = lanes
        self._overhead_s = overhead_s
        self._longest = [(-self._longest_s(piece), number) for number, piece in enumerate(pieces)]
        heapify(self._longest)

    def finer(self, steps: int) -> int:
        """Cut up to `steps` times; returns how often it could."""
        made = 0
        while made < steps and self._longest:
            length_s, number = heappop(self._longest)
            piece = self._pieces[number]
            count = self._next(piece)
            if count is None:
                self.uncuttable_s = max(self.uncuttable_s, -length_s)
                continue
            self.counts[piece.group] = count
            heappush(self._longest, (-self._longest_s(piece), number))
            made += 1
        return made

    def makespan_s(self) -> float:
        """What LPT makes of the counts, rounded: start-ups excluded, every lane pays those alike."""
        lengths = sorted(-seconds for piece in self._pieces for seconds in self._lengths_s(piece))
        if len(lengths) <= self._lanes:
            return round(-lengths[0], _DIGITS) if lengths else 0.0
        ends = [0.0] * self._lanes
        for length_s in lengths:
            heapreplace(ends, ends[0] - length_s)
        return round(max(ends), _DIGITS)

    def _next(self, piece: Piece) -> int | None:
        """The next count with a shorter longest shard, None if the piece is not to be cut further."""
        if piece.shards != "auto" or piece.rows < 1:
            return None
        rows = -(-piece.rows // self.counts[piece.group])
        if rows == 1:
            return None
        count = -(-piece.rows // (rows - 1))
        least_s = max(LEAST_SHARD_S, piece.startup_s * LEAST_SHARE_OF_STARTUP)
        small = piece.seconds * -(-piece.rows // count) / piece.rows < least_s
        return None if small or count > MOST_SHARDS_PER_LANE * self._lanes else count

    def _longest_s(self, piece: Piece) -> float:
        rows = -(-piece.rows // self.counts[piece.group])
        return self._overhead_s + (piece.seconds * rows / piece.rows if piece.rows else 0.0)

    def _lengths_s(self, piece: Piece) -> Iterator[float]:
        """The lengths of all shards: of consecutive rows, so they differ by one row at most."""
        count = self.counts[piece.group]
        rows, more = divmod(piece.rows, count)
        row_s = piece.seconds / piece.rows if piece.rows else 0.0
        for number in range(count):
            yield self._overhead_s + row_s * (rows + (number < more))
