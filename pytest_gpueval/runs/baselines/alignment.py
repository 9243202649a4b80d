"""Which samples of a run are the same as those of its baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import DataError

from .baseline import Baseline

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from .samples import Hashes, Keys

    Places = np.ndarray[tuple[int], np.dtype[np.int64]]

_EXAMPLES = 3
_COMMON = "compare the samples that both have: --gpueval-baseline-intersect"


@dataclass(frozen=True)
class Alignment:
    """Positions of the common samples, as many in each: sample `baseline[i]` of the baseline is sample `current[i]` of the run.

    They are in the order of the run. `of_baseline` and `of_current` count all samples there are; one whose id an earlier one has is none.
    """

    baseline: Places
    current: Places
    of_baseline: int
    of_current: int

    @property
    def common(self) -> int:
        """The number of common samples."""
        return len(self.current)

    @property
    def words(self) -> str:
        """What a reader must know: empty where all samples are common."""
        if self.common == self.of_baseline == self.of_current:
            return ""
        return f"{self.common:,} common samples of {self.of_current:,} here and {self.of_baseline:,} in the baseline"


def align(
    baseline: Baseline,
    ids: pa.ChunkedArray[Any] | Sequence[str],
    hashes: Hashes | Callable[[], Hashes | None] | None = None,
    *,
    sha256: str | None = None,
    intersect: bool = False,
    keys: Keys | None = None,
) -> Alignment:
    """Find a run's samples in its baseline.

    `ids` are those of the run, `hashes` the `text_hash` of their rows or what makes them, `sha256` the content hash of their dataset; where that is the
    baseline's, hashes are not asked for; `keys` those of the baseline, where they have been read. Of an id that repeats the first sample counts.

    Raises DataError for samples that only one of them has, or whose row is another, with how many and the first of them; with `intersect` only where
    no sample is common, or nobody can tell.
    """
    import numpy as np  # noqa: PLC0415 - heavy
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.compute as pc  # noqa: PLC0415 - heavy

    samples = baseline.samples.keys if keys is None else keys
    mine: Any = ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([pa.array(ids, pa.string())])
    if mine.equals(samples.ids):
        places = np.arange(len(mine))
    else:
        places = (
            pc.index_in(mine, value_set=samples.ids).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) if len(samples) else np.full(len(mine), -1)
        )
    known = np.flatnonzero(places >= 0)
    known = known[np.sort(np.unique(places[known], return_index=True)[1])]
    changed = np.zeros(len(known), bool)
    if sha256 is None or sha256 != baseline.record.dataset.sha256:
        there, here = samples.hashes, hashes() if callable(hashes) else hashes
        if there is None or here is None:
            raise DataError(_unknown(baseline, sha256, of_baseline=there is None))
        changed = there[places[known]] != here[known]
    repeats = int((places >= 0).sum()) - len(known)
    found = Alignment(places[known[~changed]], known[~changed], len(samples), len(mine) - repeats)
    if found.words and not (intersect and found.common):
        lacking = np.setdiff1d(np.arange(len(samples)), places[known])
        groups = {
            "are new here": mine.take(np.flatnonzero(places < 0)),
            "are not here any more": samples.ids.take(lacking),
            "have the same id and another row": mine.take(known[changed]),
        }
        raise DataError(_refusal(baseline, found, {words: named for words, named in groups.items() if len(named)}))
    return found


def _refusal(baseline: Baseline, found: Alignment, groups: dict[str, Any]) -> str:
    """What differs, how much of it, and what to do."""
    lines = [
        f"  {len(named):,} {words}: {', '.join(map(repr, named[:_EXAMPLES].to_pylist()))}{', ...' if len(named) > _EXAMPLES else ''}"
        for words, named in groups.items()
    ]
    if not found.common:
        how = "No sample is common: this is another dataset. Choose another --gpueval-baseline, or write one: --gpueval-update-baseline"
    else:
        how = f"Write the baseline anew (--gpueval-update-baseline), or {_COMMON} ({found.common:,} here)"
    return f"baseline {baseline.record.name} ({baseline.where}) is of other data:\n" + "\n".join(lines) + f"\n{how}"


def _unknown(baseline: Baseline, sha256: str | None, *, of_baseline: bool) -> str:
    """Nobody can tell whether rows of the same id are the same."""
    who = "the baseline is a session, which keeps no hashes of its rows" if of_baseline else "the rows of this run are not at hand"
    return (
        f"baseline {baseline.record.name} ({baseline.where}) is of other data: its dataset has SHA-256 {baseline.record.dataset.sha256[:12]}..., not "
        f"{(sha256 or 'unknown')[:12]}..., and {who}.\nCompare with a baseline that --gpueval-update-baseline wrote: it says which samples are still the same."
    )
