"""What the controller costs: for each item, and for collecting very many: `python -m benchmarks.controller [--quick] [--only NAME]`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence

from .clocked import OURS, STOCK, Clocked, Repository, measured
from .measure import Figure, print_table

TARGET_MS, TARGET_RATIO = 5.0, 2.0
_INSTANT = """import pytest
@pytest.mark.parametrize("number", range({count}))
def test_instant(number):
    pass
"""
# Stops the session at its first item: collecting is what is measured.
_FAILS = """import pytest
@pytest.mark.parametrize("row", [{{"lr": 10 ** -(number % 5), "seed": number}} for number in range({count})])
def test_row(row):
    pytest.fail("the first one ends the session")
"""


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controller", description="The controller's cost for each item, and for collecting")
    parser.add_argument("--quick", action="store_true", help="fewer items, one repetition")
    parser.add_argument("--only", help="run the parts whose names contain this")
    options = parser.parse_args(argv)
    quick = options.quick
    parts: dict[str, Callable[[Repository], list[Figure]]] = {
        "items": lambda repository: items(repository, 300 if quick else 1000, 1 if quick else 3),
        "collection": lambda repository: collection(repository, 2000 if quick else 10_000, 2 if quick else 8, 1 if quick else 2),
    }
    return measured(parts, options.only)


def items(repository: Repository, count: int, repeats: int) -> list[Figure]:
    """Instant tests on two workers: ours and stock xdist, by turns. CPU is that of sessions with `count` items more, so that start-up cancels."""
    few = 50
    for name, number in (("few", few), ("many", few + count)):
        repository.test_file(f"test_{name}.py", _INSTANT.format(count=number))
    sides = {"ours": (*OURS, "--gpus", "none", "-n", "2"), "xdist --dist load": (*STOCK, "-n", "2", "--dist", "load"), "one process, no xdist": ()}
    found: dict[tuple[str, str], list[Clocked]] = {}
    for _ in range(repeats):
        for name in ("few", "many"):
            for side, argv in sides.items():
                found.setdefault((side, name), []).append(_session(repository, argv, f"test_{name}.py", 2 if argv else 1))
    rows, ours_ms = [], 0.0
    for side in sides:
        many = found[side, "many"]
        wall_ms = [session.makespan_s * 1000 / (few + count) for session in many]
        cpu_ms = (min(s.controller_cpu_s() for s in many) - min(s.controller_cpu_s() for s in found[side, "few"])) * 1000 / count
        rows.append((side, f"{statistics.median(wall_ms):.2f} ms", f"{min(wall_ms):.2f} ms", f"{cpu_ms:.2f} ms"))
        if side == "ours":
            ours_ms = max(statistics.median(wall_ms), cpu_ms)
    headers = ("", "wall per item, median", "best", "controller CPU per item")
    print_table(f"{few + count:,} instant items on 2 workers, {repeats} sessions each, by turns", headers, rows)
    return [Figure("controller: per instant item, wall or CPU", f"<= {TARGET_MS:.0f} ms", f"{ours_ms:.2f} ms", ours_ms <= TARGET_MS)]


def _session(repository: Repository, argv: Sequence[str], file: str, together: int) -> Clocked:
    with tempfile.TemporaryDirectory(dir=repository.directory) as output:
        place = ("--gpueval-output-dir", output) if "--gpus" in argv else ()
        return repository.run(*argv, *place, file, together=together)


def collection(repository: Repository, count: int, lanes: int, repeats: int, only: str = "") -> list[Figure]:
    """Very many items collected by each of several workers, until the first can run; beside as many plain pytests that only collect.

    `only` of our sides those whose names contain this.
    """
    repository.test_file("test_rows.py", _FAILS.format(count=count))
    datasets = "".join(f"[datasets.row-{number:05}]\nshards = 1\nsplits.fast = {{ rows = 100 }}\n" for number in range(count))
    head = 'task = "classification"\nlabels = ["a"]\nsplit = "fast"\nruntime = "none"\n[runtimes.none]\nkind = "inprocess"\ntarget = "none:None"\n'
    repository.suite("rows", head + datasets)
    sweep = repository.suite("sweep", 'kind = "sweep"\ncommand = ["/bin/false", "{parameters}"]\n').parent
    (sweep / "sweep.csv").write_text("lr,seed\n" + "".join(f"{10 ** -(number % 5)},{number}\n" for number in range(count)), encoding="utf-8")
    work = ("--gpus", "none", "-n", str(lanes), "-x")
    sides: dict[str, Callable[[], Clocked]] = {
        "plain pytest --collect-only, side by side": lambda: repository.side_by_side([("--collect-only", "test_rows.py")] * lanes),
        "xdist, parametrized test": lambda: repository.run(*STOCK, "-n", str(lanes), "-x", "test_rows.py", together=lanes, accepted=(1, 2), calm_s=0.0),
        "ours, parametrized test": lambda: _collected(repository, lanes, (*OURS, *work, "test_rows.py")),
        "ours, suite.toml": lambda: _collected(repository, lanes, (*OURS, *work, "--gpueval-suite", "rows")),
        "ours, a sweep's rows": lambda: _collected(repository, lanes, (*OURS, *work, "--gpueval-suite", "sweep")),
    }
    sides = {side: program for side, program in sides.items() if only in side or side.startswith("plain")}
    found: dict[str, list[Clocked]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, program in sides.items():
            found[side].append(program())
    plain_s = statistics.median(session.last_s("collected") for session in found["plain pytest --collect-only, side by side"])
    rows, figures = [], []
    for side, sessions in found.items():
        collected_s = statistics.median(session.last_s("collected") for session in sessions)
        begins = [session.first_s("begin") for session in sessions]
        begin_s = statistics.median(begin for begin in begins if begin is not None) if all(begins) else None
        rows.append(
            (side, f"{collected_s:.1f} s", f"{collected_s / plain_s:.2f}", f"{begin_s:.1f} s" if begin_s else "", f"{begin_s / plain_s:.2f}" if begin_s else "")
        )
        if side.startswith("ours") and begin_s:
            ratio = begin_s / plain_s
            name = f"collection: {count:,} items on {lanes} workers, {side.removeprefix('ours, ')}, to the first item"
            figures.append(Figure(name, f"<= {TARGET_RATIO:.0f} x plain pytest", f"{ratio:.2f} x", ratio <= TARGET_RATIO))
    headers = ("", "all have collected", "x plain", "first item begins", "x plain")
    print_table(f"{count:,} items collected by {lanes} processes, seconds from the command's start, median of {repeats}", headers, rows)
    return figures


def _collected(repository: Repository, lanes: int, argv: Sequence[str]) -> Clocked:
    with tempfile.TemporaryDirectory(dir=repository.directory) as output:
        return repository.run(*argv, "--gpueval-output-dir", output, together=lanes, accepted=(1, 2), calm_s=0.0)


if __name__ == "__main__":
    main()
