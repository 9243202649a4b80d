"""Many tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p values for how many there are: with those at or below alpha rejected, the probability of any false alarm among them is at most alpha.

    Holm 1979, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6. In the order given. Raises ValueError for
    what is no p value.
    """
    if not all(0 <= value <= 1 for value in p):
        raise ValueError(f"not all of these are p values: {list(p)}")
    adjusted, most = [0.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        most = max(most, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = most
    return adjusted
