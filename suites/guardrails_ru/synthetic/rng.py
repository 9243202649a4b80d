"""One random stream per row, the same on every supported Python version."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

VERSION = "1"
"""Version of the generator: change it with anything that alters a row."""


def row_rng(dataset: str, index: int) -> random.Random:
    """The generator of row `index`; it depends on version, dataset and index alone."""
    key = f"gpueval|guardrails_ru|{VERSION}|{dataset}|{index}".encode()
    return random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big"))


def chance(rng: random.Random, probability: float) -> bool:
    """True with the given probability."""
    return rng.random() < probability


def pick(rng: random.Random, items: Sequence[str]) -> str:
    """One item, uniformly."""
    return items[rng.randrange(len(items))]


def weighted(rng: random.Random, items: Sequence[tuple[str, float]]) -> str:
    """One item of `(item, weight)` pairs; weights need not add up to one."""
    point = rng.random() * sum(weight for _, weight in items)
    for item, weight in items:
        point -= weight
        if point < 0:
            return item
    return items[-1][0]


def between(rng: random.Random, low: int, high: int) -> int:
    """An integer of `[low, high]`, both ends included."""
    return low + rng.randrange(high - low + 1)


def digits(rng: random.Random, count: int) -> str:
    """`count` decimal digits, the first one never zero."""
    return str(1 + rng.randrange(9)) + "".join(str(rng.randrange(10)) for _ in range(count - 1))
