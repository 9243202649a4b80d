"""Other evaluation frameworks, each in a virtual environment of its own."""

from __future__ import annotations

import os
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import RunFailed, Usage, run

HERE = Path(__file__).resolve().parent
# What peers must not do while they are measured: ask the network.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Peer:
    """A framework at a version: what to install, in that order, and the two sizes its cost is measured on (fewer rows where it is slow)."""

    name: str
    steps: tuple[str, ...]
    few: int
    many: int

    @property
    def script(self) -> Path:
        """The program that evaluates the benchmark's tickets with it."""
        return HERE / f"{self.name.replace('-', '_')}_peer.py"

    def install(self) -> Path:
        """Make its environment in the cache, once; returns its Python. Raises RunFailed."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        directory = cache / "pytest-gpueval" / "benchmarks" / f"{'+'.join(self.steps)}-py{version}"
        python, finished = directory / "bin" / "python", directory / "installed"
        if not finished.exists():
            venv.create(directory, with_pip=True, clear=True)
            for step in self.steps:
                run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", step], directory)
            finished.touch()
        return python

    def evaluate(self, python: Path, rows: Path) -> Usage:
        """Evaluate a file of tickets. Raises RunFailed, also if it prints no figure."""
        usage = run([str(python), str(self.script), str(rows)], rows.parent, _OFFLINE)
        lines = usage.output.split()
        if not lines:
            raise RunFailed(f"{self.script.name} printed nothing")
        return Usage(usage.cpu_s, usage.wall_s, usage.peak_rss_mib, lines[-1])


# torch comes first and pinned: point pip at an index with its CPU build, or lm-eval fetches several GB of CUDA.
PEERS = (
    Peer("pydantic-evals", ("pydantic-evals==2.62.0",), 2_000, 20_000),
    Peer("lm-eval", ("torch==2.13.0", "lm-eval==0.4.13"), 500, 2_000),
    Peer("inspect-ai", ("inspect-ai==0.3.285",), 500, 2_000),
)
