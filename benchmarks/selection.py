"""Rows of a fast split out of a million, and out of ten: `python -m benchmarks.selection [--quick]`.

Rows have 12 labels, of which the most frequent is 20 times as frequent as the least, several to a row; a quarter of the rows have none. Time is the
CPU time of the step alone, the least of three; what selects has one thread. Memory is the peak of the process that reads the file and selects.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measure import Figure, Usage, print_table, run

ROOT = Path(__file__).resolve().parent.parent
ROWS, MOST, K, MORE = 1_000_000, 10_000_000, 2000, 2400
TARGET_S, TARGET_SPREAD, TARGET_MIB = 2.0, 0.02, 2048


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description="Rows of a fast split, chosen")
    parser.add_argument("--quick", action="store_true", help="one repetition, memory up to a million rows only")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        _step("make", place / "rows.parquet", ROWS)
        found = [_choose(place / "rows.parquet", K, "--beside") for _ in range(1 if options.quick else 3)]
        figures = [*_compare([answer for answer, _ in found]), *_same(place, found[0][0])]
        (place / "rows.parquet").unlink()
        return [*figures, _memory(place, ROWS if options.quick else MOST, found[0][1])]


def _step(*words: object) -> Usage:
    return run([sys.executable, "-m", "benchmarks.selection_rows", *map(str, words)], ROOT)


def _choose(path: Path, k: int, *more: str) -> tuple[dict[str, Any], Usage]:
    usage = _step("choose", path, k, *more)
    return json.loads(usage.output), usage


def _compare(answers: Sequence[dict[str, Any]]) -> list[Figure]:
    """The selection beside simpler ones."""
    least = {name: min(answer["ways"][name]["seconds"] for answer in answers) for name in answers[0]["ways"]}
    ours, plain = answers[0]["ways"]["max-min"], least["the first k by hash"]
    rows = [
        (
            name,
            f"{seconds:.2f}",
            f"{seconds / plain:.1f}",
            *(f"{answers[0]['ways'][name][end]:,}" for end in ("least", "most")),
            f"{_spread(answers[0]['ways'][name]):.1%}",
        )
        for name, seconds in least.items()
    ]
    print_table(f"{K:,} of {ROWS:,} rows, a fifth of them without a label", ("", "CPU s", "x by hash", "fewest of a label", "most", "apart"), rows)
    read_s, hash_s = (min(answer[name] for answer in answers) for name in ("read_s", "hash_s"))
    seconds = least["max-min"]
    print(f"Before that: {read_s:.2f} s of CPU to read labels and keys, {hash_s:.2f} s of it to hash keys; the selection takes {seconds / read_s:.0%} of that")
    return [
        Figure(f"selection: CPU for {K:,} of {ROWS:,} rows", f"<= {TARGET_S} s", f"{seconds:.2f} s", seconds <= TARGET_S),
        Figure("selection: rows of the 12 labels, fewest and most apart", f"<= {TARGET_SPREAD:.0%}", f"{_spread(ours):.1%}", _spread(ours) <= TARGET_SPREAD),
    ]


def _spread(way: dict[str, Any]) -> float:
    return float((way["most"] - way["least"]) / way["most"])


def _same(place: Path, first: dict[str, Any]) -> list[Figure]:
    """The same rows in another order; more rows."""
    _step("make", place / "shuffled.parquet", ROWS, "--shuffled")
    shuffled, _ = _choose(place / "shuffled.parquet", K)
    (place / "shuffled.parquet").unlink()
    more, _ = _choose(place / "rows.parquet", MORE)
    same, kept = shuffled["digest"] == first["digest"], len(set(first["keys"]) & set(more["keys"]))
    return [
        Figure("selection: the same after the rows were shuffled", "yes", "yes" if same else "no", same),
        Figure(f"selection: rows of {K:,} that are among {MORE:,}", f"{K:,}", f"{kept:,}", kept == K),
    ]


def _memory(place: Path, rows: int, few: Usage) -> Figure:
    """The peak of reading and selecting."""
    _step("make", place / "most.parquet", rows)
    answer, usage = _choose(place / "most.parquet", K)
    way = answer["ways"]["max-min"]
    lines = [
        (f"{ROWS:,}, simpler ways beside it", "", "", f"{few.peak_rss_mib:,.0f}"),
        (f"{rows:,}", f"{answer['read_s']:.1f}", f"{way['seconds']:.1f}", f"{usage.peak_rss_mib:,.0f}"),
    ]
    print_table("Peak memory of the whole process", ("rows", "CPU s to read", "CPU s to select", "MiB"), lines)
    return Figure(f"selection: peak memory of {rows:,} rows", f"<= {TARGET_MIB:,} MiB", f"{usage.peak_rss_mib:,.0f} MiB", usage.peak_rss_mib <= TARGET_MIB)


if __name__ == "__main__":
    print_table("Targets", ("figure", "target", "measured", ""), [figure.cells() for figure in main()])
