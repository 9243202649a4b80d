"""Two sessions of a million samples beside each other: `python -m benchmarks.compare [--quick]`.

Each session has one run of a million lines, of labels (one of sixteen pairs each) or of spans (some three labels a document, nearly no two scored alike).
Seconds are those of the whole command `gpueval compare A B --json`, its start included, the least of three; memory is that of all its processes at one
time, from one more run. Beside it, by turns, a plain loop: orjson reads every line of both files, the scores of each id are kept, and the two figures are
told, without an interval, a p-value or a check.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .measure import Figure, memory_together_mib, print_table, run

SAMPLES = 1_000_000
TARGET_S, TARGET_MIB = 5.0, 500
LABELS = ("DATE", "EMAIL", "LOCATION", "PERSON")
_COMMAND = "from pytest_gpueval.cli.main import run; run()"
_PLAIN = """
import sys, orjson
def figures(path):
    scores = {}
    with open(path, "rb") as file:
        for line in file:
            record = orjson.loads(line)
            score = record["score"]
            if "labels" in score:
                entries = score["labels"].values()
                scores[record["id"]] = sum(one[0] for one in entries), sum(one[2] + one[3] for one in entries) / 2
            else:
                scores[record["id"]] = score["gold"] == score["predicted"], 1
    return scores
first, second = map(figures, sys.argv[1:])
both = first.keys() & second.keys()
print([sum(side[name][0] for name in both) / sum(side[name][1] for name in both) for side in (first, second)])
"""
TASKS = {"labels": "classification", "spans": "span_detection"}
HEADLINES = {"labels": "accuracy", "spans": "strict.f1"}


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description="Two sessions of many samples beside each other")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, once")
    parser.add_argument("--all", action="store_true", help="all metrics, and those of labels, instead of the headline")
    options = parser.parse_args(argv)
    samples = SAMPLES // 10 if options.quick else SAMPLES
    figures, rows = [], []
    for kind in TASKS:
        with tempfile.TemporaryDirectory() as scratch:
            for name, seed in (("first", 1), ("second", 2)):
                session(Path(scratch) / name, kind, samples, seed)
            command = [sys.executable, "-c", _COMMAND, "compare", "first", "second", "--json", *(["--all"] if options.all else [])]
            plain = [sys.executable, "-c", _PLAIN, *(f"{name}/made-up-{kind}/results.jsonl" for name in ("first", "second"))]
            pairs = [(run(command, Path(scratch)), run(plain, Path(scratch))) for _ in range(1 if options.quick else 3)]
            found = [ours for ours, _ in pairs]
            peak = memory_together_mib(command, Path(scratch))
        answer = json.loads(found[0].output)
        if not answer["rows"] or any(row["samples"] == 0 or row["p"] is None for row in answer["rows"] if row["headline"]):
            raise RuntimeError(f"nothing was compared: {answer}")
        wall, cpu = (min(getattr(usage, name) for usage in found) for name in ("wall_s", "cpu_s"))
        beside_s = min(usage.wall_s for _, usage in pairs)
        rows.append((kind, f"{wall:.2f}", f"{cpu:.2f}", f"{peak:,.0f}", f"{wall / beside_s:.2f}", f"{max(usage.peak_rss_mib for _, usage in pairs):,.0f}"))
        name = f"gpueval compare, two sessions of {samples:,} samples, {kind}"
        figures.append(Figure(f"{name}: time", f"{TARGET_S:g} s", f"{wall:.2f} s", wall <= TARGET_S))
        figures.append(Figure(f"{name}: peak memory", f"{TARGET_MIB} MiB", f"{peak:,.0f} MiB", peak <= TARGET_MIB))
    print_table("gpueval compare A B", ("", "wall s", "CPU s", "peak MiB", "x plain loop", "its peak MiB"), rows)
    return figures


def session(directory: Path, kind: str, samples: int, seed: int) -> None:
    """A session as far as a comparison reads it: one run, its metadata, its summary, its results."""
    path = directory / f"made-up-{kind}"
    path.mkdir(parents=True)
    (directory / "session.json").write_text("{}", encoding="utf-8")
    (path / "run_metadata.json").write_text(json.dumps(_metadata(kind, samples)), encoding="utf-8")
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": samples}
    counts = {"total": samples, "scored": samples, "errors": 0, "skipped": 0}
    overall = {"strict.f1": figure, "document.recall": figure} if kind == "spans" else {"accuracy": figure}
    of_labels = {label: {"strict.f1" if kind == "spans" else "f1": figure} for label in LABELS}
    summary = {"run_id": path.name, "ok": True, "status": "passed", "headline": HEADLINES[kind], "metrics": overall, "labels": of_labels, "rows": counts}
    (path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    with (path / "results.jsonl").open("w", encoding="ascii") as file:
        file.writelines((_spans if kind == "spans" else _labelled)(samples, seed))


def _spans(samples: int, seed: int) -> Iterator[str]:
    """Lines as an evaluation of spans leaves them; gold is the same whatever the seed."""
    gold, answers = random.Random(0), random.Random(seed)  # noqa: S311 - no secret
    for number in range(samples):
        prediction, entries = [], []
        for label in gold.sample(LABELS, 1 + int(gold.random() * 4)):
            size, found = 3 + int(gold.random() * 20), answers.random() < 0.9
            entries.append(f'"{label}":[{found:d},0,1,{found:d},{size * found},0,{size * (not found)}]')
            prediction += [f'[{20 * len(entries)},{20 * len(entries) + size},"{label}",{0.5 + answers.random() / 2:.4f}]'] * found
        score = f'{{"labels":{{{",".join(entries)}}},"cross":[0,0]}}'
        yield f'{{"id":"document-{number:07}","prediction":[{",".join(prediction)}],"score":{score},"latency_ms":{5 + 20 * answers.random():.3f}}}\n'


def _labelled(samples: int, seed: int) -> Iterator[str]:
    """Lines as a classification leaves them."""
    gold, answers = random.Random(0), random.Random(seed)  # noqa: S311 - no secret
    for number in range(samples):
        right = gold.choice(LABELS)
        given = right if answers.random() < 0.9 else answers.choice(LABELS)
        yield (
            f'{{"id":"ticket-{number:07}","prediction":"{given}","score":{{"gold":"{right}","predicted":"{given}"}},'
            f'"latency_ms":{5 + 20 * answers.random():.3f}}}\n'
        )


def _metadata(kind: str, samples: int) -> dict[str, Any]:
    """What such a run says of itself."""
    return {
        "run_id": f"made-up-{kind}",
        "nodeid": "suites/made/suite.toml::test_eval[up-fast]",
        "suite": "made",
        "case": "up-fast",
        "task": TASKS[kind],
        "dataset": {"repo": None, "name": "up", "split": "fast", "revision": None, "rows": samples, "sha256": "0" * 64},
        "runtime": {"name": "instant"},
        "model": {},
        "scoring": {"labels": LABELS, "label_map": {}, "task_options": {}, "columns": {}},
        "policy": {},
        "gates": [],
        "code": {"commit": None, "dirty": None},
        "environment": {},
        "packages": {},
        "python": "3",
        "host": "here",
        "platform": "Linux",
        "worker": "cpu0",
        "gpus": [],
        "started_at": "2026-01-01T00:00:00+00:00",
        "plugin_version": "0",
    }


if __name__ == "__main__":
    if found := main():
        print_table("Targets", ("figure", "target", "measured", ""), [figure.cells() for figure in found])
