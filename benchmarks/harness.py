"""What a sample costs beside the model: `python -m benchmarks.harness [--peers] [--quick]`.

Every program evaluates the same rows with a model that answers instantly. Cost is the CPU time (user and system) of the whole process on many rows
minus that on few, divided by the difference: start-up cancels. Ours costs so little a row that it takes 200,000 of them to rise above the noise of
start-up; peers are measured on 20,000 rows or, where they are slow, fewer. The headline figure of every program must agree: all do the same work.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .measure import Cost, Figure, RunFailed, Usage, costs, print_table, run
from .peers import PEERS, Peer
from .sessions import HERE, Scratch
from .suites.instant_labels import generate as labels

FEW, MANY, MOST = 20_000, 200_000, 1_000_000
TARGET_MS = {"labels": 0.02, "spans": 0.05}
TARGET_GROWTH_MIB = 50
HEADERS = ("", "CPU ms/sample", "x limit", "x ours", "rows", "samples/s, whole process", "peak MiB")


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness", description="What a sample costs beside the model")
    parser.add_argument("--peers", action="store_true", help="beside pydantic-evals, lm-eval and inspect-ai, each installed into the cache first")
    parser.add_argument("--quick", action="store_true", help="one repetition, memory up to 200,000 rows only")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Scratch(Path(directory))
        figures = [_compare(scratch, kind, 1 if options.quick else 3, peers=options.peers and kind == "labels") for kind in TARGET_MS]
        return [*figures, _memory(scratch, [FEW, MANY] if options.quick else [FEW, MANY, MOST])]


def _compare(scratch: Scratch, kind: str, repeats: int, *, peers: bool) -> Figure:
    """One task: ours, the practical limit and, if asked, the peers."""
    suite = f"instant_{kind}"
    files = {rows: scratch.generate(suite, rows) for rows in (FEW, MANY)}
    model = {"PYTHONPATH": str(scratch.directory / "suites")}

    def by_hand(rows: int) -> Usage:
        usage = run([sys.executable, str(HERE / "plain_loop.py"), str(files[rows]), kind], scratch.directory, model)
        return Usage(usage.cpu_s, usage.wall_s, usage.peak_rss_mib, usage.output.strip())

    own = {"pytest-gpueval": lambda rows: scratch.evaluate(suite, rows), "plain loop (the practical limit)": by_hand}
    found: dict[str, Cost | str] = {**costs(own, FEW, MANY, repeats)}
    if peers:
        found |= {peer.name: _peer(peer, scratch.directory) for peer in PEERS}
    measured = {name: cost for name, cost in found.items() if isinstance(cost, Cost)}
    _require_agreement(measured)
    ours, limit = list(measured.values())[:2]
    print_table(f"Harness cost, {kind}, instant model, one flushed line a sample", HEADERS, [_cells(*item, ours, limit) for item in found.items()])
    target = TARGET_MS[kind]
    return Figure(f"harness, {kind}: CPU per sample", f"<= {target} ms", f"{ours.marginal_ms:.4f} ms", ours.marginal_ms <= target)


def _peer(peer: Peer, directory: Path) -> Cost | str:
    """The cost of a peer, or why it was not run."""
    files = {rows: directory / f"tickets-{rows}.jsonl" for rows in (peer.few, peer.many)}
    for rows, file in files.items():
        file.write_text("".join(json.dumps(row) + "\n" for row in labels.rows(rows)), encoding="utf-8")
    try:
        python = peer.install()
        return costs({peer.name: lambda rows: peer.evaluate(python, files[rows])}, peer.few, peer.many, 1)[peer.name]
    except RunFailed as problem:
        print(f"{peer.name} was not run: {problem}", file=sys.stderr)
        return str(problem)


def _require_agreement(measured: Mapping[str, Cost]) -> None:
    """Who reaches another figure did other work. Raises RunFailed."""
    seen: dict[int, dict[str, str]] = {}
    for name, cost in measured.items():
        seen.setdefault(cost.few, {})[name] = cost.of_few.output
        seen.setdefault(cost.many, {})[name] = cost.of_many.output
    for rows, outputs in seen.items():
        if len(set(outputs.values())) > 1:
            raise RunFailed(f"programs disagree on {rows:,} rows: {outputs}")


def _cells(name: str, found: Cost | str, ours: Cost, limit: Cost) -> tuple[str, ...]:
    if isinstance(found, str):
        return name, "not run", "", "", "", "", ""
    ms = found.marginal_ms
    rate, peak = found.many / found.of_many.wall_s, found.of_many.peak_rss_mib
    return name, f"{ms:.4f}", f"{ms / limit.marginal_ms:.1f}", f"{ms / ours.marginal_ms:.1f}", f"{found.few:,}/{found.many:,}", f"{rate:,.0f}", f"{peak:.0f}"


def _memory(scratch: Scratch, sizes: Sequence[int]) -> Figure:
    """Peak memory of sessions on more and more rows."""
    peaks: dict[str, list[float]] = {}
    for kind in TARGET_MS:
        for size in sizes:
            scratch.generate(f"instant_{kind}", size)
        peaks[kind] = [scratch.evaluate(f"instant_{kind}", size).peak_rss_mib for size in sizes]
    growth = {kind: max(found) - found[0] for kind, found in peaks.items()}
    rows = [(kind, *(f"{peak:.0f}" for peak in found), f"{growth[kind]:+.0f}") for kind, found in peaks.items()]
    print_table("Peak memory of a session, MiB", ("", *(f"{size:,} rows" for size in sizes), "growth"), rows)
    worst = max(growth.values())
    return Figure(f"memory: growth from {sizes[0]:,} to {sizes[-1]:,} rows", f"<= {TARGET_GROWTH_MIB} MiB", f"{worst:.0f} MiB", worst <= TARGET_GROWTH_MIB)


if __name__ == "__main__":
    main()
