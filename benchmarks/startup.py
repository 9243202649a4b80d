"""What having the plugin installed costs a pytest that does not use it: `python -m benchmarks.startup [--rounds N]`."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from .measure import Figure, Usage, print_table, run

TARGET_MS = 15
SIDES = {"without": ("-p", "no:gpueval"), "with": ()}
RUNS = {"--collect-only, empty repository": ("--collect-only",), "one passing test": ("test_one.py",)}
HEAVY = ("numpy", "pyarrow", "datasets", "torch", "paramiko", "tritonclient", "pydantic", "rich", "typer", "orjson", "jinja2", "filelock")


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="Start-up with and without the plugin")
    parser.add_argument("--rounds", type=int, default=30, help="pairs of runs of each kind")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        rows = [_compare(Path(directory), name, arguments, options.rounds) for name, arguments in RUNS.items()]
    headers = ("", "CPU without", "with", "ratio", "CPU difference", "of least", "wall difference")
    print_table(f"Start-up, medians of {options.rounds} alternating pairs", headers, [cells for cells, _ in rows])
    worst = max(difference for _, difference in rows)
    heavy = imported("pytest_gpueval.plugin", HEAVY)
    print(f"import pytest_gpueval.plugin: {_import_ms():.1f} ms beyond pytest itself; heavy packages imported: {', '.join(heavy) or 'none'}")
    return [
        Figure("start-up: CPU added to any pytest", f"<= {TARGET_MS} ms", f"{worst:.1f} ms", worst <= TARGET_MS),
        Figure("start-up: heavy packages imported", "none", ", ".join(heavy) or "none", not heavy),
    ]


def _compare(directory: Path, name: str, arguments: tuple[str, ...], rounds: int) -> tuple[tuple[str, ...], float]:
    """A row of the table, and the median CPU difference in milliseconds."""
    place = directory / arguments[0].strip("-")
    place.mkdir()
    (place / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    if "one" in name:
        (place / "test_one.py").write_text("def test_one():\n    pass\n", encoding="utf-8")
    found: dict[str, list[Usage]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        for side in sorted(SIDES, reverse=bool(number % 2)):  # neither side always goes first
            usage = _pytest(place, (*SIDES[side], "-p", "no:cacheprovider", *arguments))
            if number:  # the first round compiles
                found[side].append(usage)
    cpu = [(b.cpu_s - a.cpu_s) * 1000 for a, b in zip(found["without"], found["with"], strict=True)]
    wall = [(b.wall_s - a.wall_s) * 1000 for a, b in zip(found["without"], found["with"], strict=True)]
    without, beside = (statistics.median(usage.cpu_s for usage in found[side]) * 1000 for side in SIDES)
    difference = statistics.median(cpu)
    least = [min(usage.cpu_s for usage in found[side]) * 1000 for side in SIDES]
    figures = [difference, least[1] - least[0], statistics.median(wall)]
    return (name, f"{without:.0f} ms", f"{beside:.0f} ms", f"{beside / without:.3f}", *(f"{figure:+.1f} ms" for figure in figures)), difference


def _pytest(directory: Path, arguments: Sequence[str]) -> Usage:
    """A pytest in which it is no failure to find no test. Plugins are found as ever, but those of others than xdist, which is a dependency, stay out."""
    program = "import sys, pytest; code = pytest.main(sys.argv[1:]); sys.exit(0 if code in (0, 5) else code)"
    others = [entry.name for entry in entry_points(group="pytest11") if not entry.name.startswith(("gpueval", "xdist"))]
    return run([sys.executable, "-c", program, *(part for name in others for part in ("-p", f"no:{name}")), *arguments], directory)


def imported(module: str, packages: Sequence[str]) -> list[str]:
    """Which of the packages a fresh Python has loaded after importing the module."""
    program = f"import sys, {module}; print(*(name for name in {tuple(packages)!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()


def _import_ms() -> float:
    """What `-X importtime` says of our own modules and what they pull in, pytest being imported already; least of five."""
    program = "import pytest, xdist.plugin, sys; sys.stderr.write('---\\n'); import pytest_gpueval.plugin"
    times = []
    for _ in range(5):
        trace = subprocess.run([sys.executable, "-X", "importtime", "-c", program], check=True, capture_output=True, text=True).stderr
        times.append(sum(int(line.split("|")[0].removeprefix("import time:")) for line in trace.partition("---\n")[2].splitlines()))
    return min(times) / 1000


if __name__ == "__main__":
    main()
