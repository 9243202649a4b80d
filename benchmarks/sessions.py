"""A scratch repository whose suites have instant models, and real sessions in it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from .measure import RunFailed, Usage, run

HERE = Path(__file__).resolve().parent
PLUGINS = ("-p", "xdist", "-p", "gpueval")
DATASETS = {"instant_labels": "tickets", "instant_spans": "letters"}


class Scratch:
    """A repository in a temporary directory. Its splits are generated once, by a session of their own, so that no measured one pays for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Other people's plugins stay out, whatever is installed.
        self._environment = {"XDG_CACHE_HOME": str(directory / "cache"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        self._sessions = 0
        shutil.copytree(HERE / "suites", directory / "suites", ignore=shutil.ignore_patterns("__pycache__"))
        (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")

    def generate(self, suite: str, rows: int) -> Path:
        """Generate a split; returns its file."""
        self._pytest(suite, rows, "--gpueval-limit", "1")
        return next(self.directory.glob(f"cache/pytest-gpueval/{suite}/*/{DATASETS[suite]}/rows-{rows}.parquet"))

    def evaluate(self, suite: str, rows: int) -> Usage:
        """One session over one split, what it wrote checked. Raises RunFailed."""
        usage, directory = self._pytest(suite, rows)
        results, summary = directory / "results.jsonl", json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        with results.open("rb") as file:
            lines = sum(1 for _ in file)
        if lines != rows or summary["rows"]["scored"] != rows:
            raise RunFailed(f"{results} has {lines} lines, {summary['rows']}; expected {rows}")
        headline = summary["metrics"][summary["headline"]]["value"]
        shutil.rmtree(directory.parent)
        return Usage(usage.cpu_s, usage.wall_s, usage.peak_rss_mib, f"{headline:.6f}")

    def _pytest(self, suite: str, rows: int, *more: str) -> tuple[Usage, Path]:
        self._sessions += 1
        name = f"session-{self._sessions}"
        argv = [sys.executable, "-m", "pytest", *PLUGINS, "--gpueval-suite", suite, "--gpueval-split", f"rows-{rows}"]
        usage = run([*argv, "--gpueval-session", name, "--gpueval-output-dir", "out", *more], self.directory, self._environment)
        return usage, self.directory / "out" / name / f"{suite}-{DATASETS[suite]}-rows-{rows}"
