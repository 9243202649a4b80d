"""Rows from the Hub and from disk beside the library `datasets`: `python -m benchmarks.data [--quick]`.

The Hub is the stand-in of the tests, on loopback: what is compared is what a client asks of it and does with it, not a network. Each measurement is a
process of its own, imports included; cold is an empty cache, warm the one that was left. The repository also has a split `full` of a million rows.
Ours also looks for ids that repeat, as a run does before it asks its model; of a split that it has looked through before, it knows the outcome.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.hub.server import FakeHub

from .measure import Figure, Usage, print_table, run

ROOT = Path(__file__).resolve().parent.parent
SIZES, FULL, MOST = (1_000, 100_000, 1_000_000), 1_000_000, 10_000_000
TARGET_RATIO, TARGET_RATE, TARGET_MIB, TARGET_DEAD_S = 0.5, 500_000, 300, 10.0
REPO = "acme/rows"


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description="The first row, all rows, and how much memory they take")
    parser.add_argument("--quick", action="store_true", help="one repetition, and no ten million rows")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        return [*_first_row(place, 1 if options.quick else 7), *_all_rows(place, FULL if options.quick else MOST), _dead(place)]


def _step(step: str, what: object, *more: str, environment: Mapping[str, str] | None = None) -> tuple[dict[str, Any], Usage]:
    usage = run([sys.executable, "-m", "benchmarks.data_steps", step, str(what), *more], ROOT, environment)
    return json.loads(usage.output.splitlines()[-1]), usage


def _first_row(place: Path, repeats: int) -> list[Figure]:
    """Cold and warm, ours and theirs, by turns."""
    _step("make", place / "full.parquet", "--rows", str(FULL))
    full = (place / "full.parquet").read_bytes()
    table, worst, fetched = [], {"cold": 0.0, "warm": 0.0}, []
    for rows in SIZES:
        _step("make", place / "fast.parquet", "--rows", str(rows))
        fast = (place / "fast.parquet").read_bytes()
        files = {"README.md": _card(rows), "data/fast-00000-of-00001.parquet": fast, "data/full-00000-of-00001.parquet": full}
        found: dict[tuple[str, str], list[float]] = {}
        sent: dict[str, int] = {}
        with FakeHub(place / f"hub-{rows}") as hub:
            hub.repo(REPO, files)
            for turn in range(repeats):
                for side in ("ours", "library"):
                    environment = {**hub.variables(home=place / f"{side}-{rows}-{turn}"), "XDG_CACHE_HOME": str(place / f"cache-{rows}-{turn}")}
                    for state in ("cold", "warm"):
                        hub.forget_requests()
                        found.setdefault((side, state), []).append(_step(side, REPO, environment=environment)[0]["seconds"])
                        if state == "cold":
                            sent[side] = sum(request.bytes_sent for request in hub.requests if re.search("/download/", request.path))
        least = {key: min(seconds) for key, seconds in found.items()}
        ratios = {state: least["ours", state] / least["library", state] for state in worst}
        worst = {state: max(worst[state], ratios[state]) for state in worst}
        fetched.append(sent["ours"] == len(fast))
        cells = [cell for state in worst for cell in (f"{least['ours', state]:.2f}", f"{least['library', state]:.2f}", f"{ratios[state]:.2f}")]
        table.append((f"{rows:,}", *cells, f"{sent['ours'] / 1e6:.1f}", f"{sent['library'] / 1e6:.1f}"))
    headers = ("rows of fast", "cold: ours, s", "datasets", "ratio", "warm: ours, s", "datasets", "ratio", "MB fetched", "datasets")
    print_table(f"From nothing to the first row of fast, beside a full split of {FULL:,} rows", headers, table)
    figures = [
        Figure(f"time to the first row, {state}, over datasets", f"<= {TARGET_RATIO} x", f"{ratio:.2f} x", ratio <= TARGET_RATIO)
        for state, ratio in worst.items()
    ]
    return [*figures, Figure("bytes fetched for fast: those of its file alone", "yes", "yes" if all(fetched) else "no", all(fetched))]


def _card(rows: int) -> bytes:
    splits = "".join(f"  - name: {name}\n    num_bytes: 1\n    num_examples: {count}\n" for name, count in (("fast", rows), ("full", FULL)))
    return f"---\ndataset_info:\n  splits:\n{splits}  download_size: 1\n  dataset_size: 1\n---\n".encode()


def _all_rows(place: Path, most: int) -> list[Figure]:
    """Speed, and memory from few rows to many."""
    peaks, rates = [], []
    for rows in (most // 100, most):
        _step("make", place / "rows.parquet", "--rows", str(rows))
        answer, usage = _step("read", place / "rows.parquet")
        peaks.append(usage.peak_rss_mib)
        rates.append(answer["found"])
        print(f"{rows:,} rows of a local file: {answer['found']:,.0f} rows/s, {usage.peak_rss_mib:.0f} MiB")
    (place / "rows.parquet").unlink()
    return [
        Figure("rows/s from a local parquet file", f">= {TARGET_RATE:,}", f"{rates[-1]:,.0f}", rates[-1] >= TARGET_RATE),
        Figure(f"memory at {most:,} rows", f"<= {TARGET_MIB} MiB", f"{peaks[-1]:.0f} MiB ({peaks[-1] - peaks[0]:+.0f})", peaks[-1] <= TARGET_MIB),
    ]


def _dead(place: Path) -> Figure:
    """How long until a Hub that is not there is given up."""
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(place / "dead"), "XDG_CACHE_HOME": str(place / "dead")}
    ours, library = (_step(f"{side}-dead", REPO, environment=environment)[0]["seconds"] for side in ("ours", "library"))
    print(f"A Hub that is not there: given up after {ours:.1f} s (datasets {library:.1f} s)")
    return Figure("until a dead Hub is given up", f"<= {TARGET_DEAD_S:.0f} s", f"{ours:.1f} s", ours <= TARGET_DEAD_S)


if __name__ == "__main__":
    main()
