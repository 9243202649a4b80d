"""How the datasets of a session are cut into shards: the same in every process, from the same numbers. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

import orjson

from pytest_gpueval.planning.sharding import Piece, shard_counts
from pytest_gpueval.suites.model import Unit

from . import cases

# Of each item of a suite: node id, case, number of shards that it joins, number of shards that it is one of.
Collected = Sequence[tuple[str, str, int, int]]

_VALUES = attrgetter(*(field.name for field in fields(Piece)))


def as_text(collected: Collected) -> str:
    """What was collected, for the way to the controller: execnet is slow with thousands of small values."""
    return orjson.dumps(collected).decode()


@dataclass(frozen=True)
class Cutting:
    """What decides the cut, the same in every process of a session.

    `pieces` are the datasets as the plan sees them, by their groups; `counts` are cuts that an earlier part of the session made; `part` is what
    `--gpueval-shard-index` and `--gpueval-shard-count` leave to this session.
    """

    lanes: int = 1
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    part: tuple[int, int] | None = None

    def as_json(self) -> str:
        """One text, for the way to a worker."""
        return orjson.dumps([self.lanes, [_VALUES(piece) for piece in self.pieces.values()], self.counts, self.part]).decode()

    @classmethod
    def of(cls, given: str) -> Cutting:
        """What `as_json` gave."""
        lanes, pieces, counts, part = orjson.loads(given)
        return cls(lanes, {piece[0]: Piece(*piece) for piece in pieces}, counts, (part[0], part[1]) if part else None)

    @staticmethod
    def made(collected: Collected, earlier: Mapping[str, int]) -> dict[str, int]:
        """The cuts that were made of these items and `earlier`. Shards that the command line names do not change those of the whole."""
        found = dict(earlier)
        for _, key, _, count in collected:
            if count > 1:
                found.setdefault(key, count)
        return found | {key: parts for _, key, parts, _ in collected if parts > 1}

    def of_datasets(self, chosen: Sequence[Unit]) -> dict[str, int]:
        """How many shards each of the chosen cases is cut into."""
        keys = [cases.key(case) for case in chosen]
        free = [self.pieces[key] for key in keys if key in self.pieces and key not in self.counts]
        if self.part is not None:  # measured rates differ from machine to machine: only what the suite fixes is the same for all
            free = [replace(piece, shards=1) if piece.shards == "auto" else piece for piece in free]
        return {**shard_counts(free, self.lanes), **{key: self.counts[key] for key in keys if key in self.counts}}
