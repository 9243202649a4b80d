"""Run guardrails_ru and print its figures as the table of the README: `python -m benchmarks.figures`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("strict.f1", "type.f1", "char.f1", "document.recall", "document.false_positive_rate")


def main() -> int:
    """Run the suite in a temporary directory and print Markdown."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pytest", "-q", "--gpueval-suite=guardrails_ru", "--gpus=auto"]
        place = [f"--gpueval-output-dir={directory}", "--gpueval-session=figures", f"--rootdir={ROOT}"]
        done = subprocess.run([*command, *place], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            sys.stderr.write(done.stdout + done.stderr)
            return done.returncode
        print(table(Path(directory, "figures")))
    return 0


def table(session: Path) -> str:
    """The Markdown table of a session's figures."""
    suite = tomllib.loads((ROOT / "suites/guardrails_ru/suite.toml").read_text(encoding="utf-8"))
    lines = [f"| dataset | rows | {' | '.join(METRICS)} |", f"|{'---|' * (len(METRICS) + 2)}"]
    for dataset in suite["datasets"]:
        summary = json.loads((session / f"guardrails_ru-{dataset}-fast/summary.json").read_text(encoding="utf-8"))
        cells = [_cell(summary["metrics"][name]) for name in METRICS]
        lines.append(f"| {dataset} | {summary['rows']['scored']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figure: dict[str, float | None]) -> str:
    return "-" if figure["value"] is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
