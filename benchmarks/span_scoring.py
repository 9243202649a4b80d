"""Span scoring against nervaluate, side by side on the same documents: `python -m benchmarks.span_scoring`.

Ours is what the harness does for each sample once it has an answer (score, add to the counts), and the metrics at the end. nervaluate is
`Evaluator(gold, predicted, tags=..., loader="dict").evaluate()`, loading included. Repetitions alternate, so that a busy machine slows both
sides alike; the figures are medians of CPU time.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nervaluate import Evaluator

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.runtimes.inprocess import load_object
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.scoring.task import Sample
from pytest_gpueval.suites import load

ROOT = Path(__file__).resolve().parent.parent

DOCUMENTS = 3000
REPETITIONS = 5

Row = dict[str, Any]
Prediction = list[tuple[int, int, str, float]]


@dataclass(frozen=True)
class Data:
    """Documents in the forms that both sides take."""

    task: SpanDetection
    labels: Sequence[str]
    rows: Sequence[Row]
    answers: Sequence[Prediction]


@dataclass(frozen=True)
class Work:
    """Something to time, `documents` at once."""

    name: str
    run: Callable[[], object]


def make_data(labels: int, most_spans: int, errors: float, *, documents: int = DOCUMENTS, seed: int = 20130614) -> Data:
    """Documents with 0 to `most_spans` spans, and a model that gets the share `errors` of them wrong and invents a span in half as many documents."""
    rng = random.Random(seed)  # noqa: S311 - benchmark data
    names = [f"LABEL_{number}" for number in range(labels)]
    rows: list[Row] = []
    answers: list[Prediction] = []
    for number in range(documents):
        position = 0
        gold: list[Row] = []
        for _ in range(rng.randint(0, most_spans)):
            start = position + rng.randint(5, 60)
            position = start + rng.randint(2, 30)
            gold.append({"start": start, "end": position, "label": rng.choice(names)})
        size = position + 40
        rows.append({"id": f"row-{number}", "text": "x" * size, "spans": gold})
        answers.append(_answer(rng, gold, names, size, errors))
    return Data(SpanDetection(names), names, rows, answers)


def _answer(rng: random.Random, gold: Sequence[Row], names: Sequence[str], size: int, errors: float) -> Prediction:
    """Predict spans: of the errors, four in ten shift bounds, three change the label, three miss the span."""
    answer: Prediction = []
    for span in gold:
        start, end, label, luck = span["start"], span["end"], span["label"], rng.random() / errors
        if luck < 0.4:
            start, end = max(0, start - rng.randint(0, 3)), end + rng.randint(1, 4)
        elif luck < 0.7:
            label = rng.choice([name for name in names if name != label])
        elif luck < 1.0:
            continue
        answer.append((start, end, label, round(rng.uniform(0.5, 1.0), 4)))
    if rng.random() < errors / 2:
        start = rng.randint(0, size - 12)
        answer.append((start, start + rng.randint(2, 12), rng.choice(names), 0.55))
    return answer


def real_data(dataset: str = "russian-pii-66k", documents: int = DOCUMENTS) -> Data:
    """The first documents of a dataset of the main suite, and what its detector really finds in them."""
    suite = load.evaluation(load.read(ROOT / "suites/guardrails_ru/suite.toml"))
    labels = suite.file.labels
    split = ParquetSplit(ROOT / f"suites/guardrails_ru/data/{dataset}/fast.parquet", "embedded")
    mapped = suite.file.datasets[dataset].label_map
    rows = list(split.read(("id", "text", "spans"), limit=documents))
    for row in rows:
        row["spans"] = [{**span, "label": mapped[span["label"]]} for span in row["spans"]]
    model = load_object("detector.py:Detector", suite.directory)()
    return Data(SpanDetection(labels), labels, rows, model.predict(rows))


def comparison(data: Data) -> list[Work]:
    """Both sides over the same parsed documents."""
    samples = [data.task.sample(row) for row in data.rows]
    predictions = [data.task.prediction(answer, sample) for answer, sample in zip(data.answers, samples, strict=True)]
    gold_spans = [[{**span, "end": span["end"] - 1} for span in row["spans"]] for row in data.rows]
    predicted_spans = [[{"start": start, "end": end - 1, "label": label} for start, end, label, _ in answer] for answer in data.answers]

    def ours() -> object:
        counts, score = data.task.counts(), data.task.score
        for sample, prediction in zip(samples, predictions, strict=True):
            counts.add(score(sample, prediction))
        return counts.metrics()

    def theirs() -> object:
        return Evaluator(gold_spans, predicted_spans, tags=list(data.labels), loader="dict").evaluate()

    return [Work("nervaluate", theirs), Work("pytest-gpueval", ours)]


def stages(data: Data) -> list[Work]:
    """Where our own time goes, from a row and a raw answer to counts."""
    task = data.task
    samples = [task.sample(row) for row in data.rows]
    predictions = [task.prediction(answer, sample) for answer, sample in zip(data.answers, samples, strict=True)]
    parts = [task.score(sample, prediction) for sample, prediction in zip(samples, predictions, strict=True)]

    def each(step: Callable[[Any, Sample], object], items: Sequence[Any]) -> Callable[[], object]:
        def run() -> None:
            for item, sample in zip(items, samples, strict=True):
                step(item, sample)

        return run

    counts = task.counts()
    for part in parts:
        counts.add(part)
    return [
        Work("sample", each(lambda row, _: task.sample(row), data.rows)),
        Work("prediction", each(task.prediction, data.answers)),
        Work("score", each(lambda prediction, sample: task.score(sample, prediction), predictions)),
        Work("counts.add", each(lambda part, _: counts.add(part), parts)),
        Work("counts.metrics", counts.metrics),
    ]


def microseconds(works: Sequence[Work], documents: int) -> dict[str, float]:
    """The median CPU time per document of each work, taking turns."""
    times: dict[str, list[float]] = {work.name: [] for work in works}
    for _ in range(REPETITIONS):
        for work in works:
            gc.collect()
            begin = time.process_time()
            work.run()
            times[work.name].append(time.process_time() - begin)
    return {name: statistics.median(taken) / documents * 1e6 for name, taken in times.items()}


def main() -> None:
    """Print one table of both sides, and one of our stages."""
    print(f"CPU time per document, median of {REPETITIONS} alternating repetitions over {DOCUMENTS} documents\n")
    print("| documents | nervaluate us | pytest-gpueval us | ratio |")
    print("|---|---:|---:|---:|")
    data = {"guardrails_ru, what its detector finds": real_data()}
    for labels, most_spans, errors in ((6, 8, 0.3), (7, 12, 0.1), (7, 12, 0.3), (10, 6, 0.3), (12, 12, 0.1)):
        data[f"{labels} labels, 0-{most_spans} spans, {errors:.0%} of them wrong"] = make_data(labels, most_spans, errors)
    for name, documents in data.items():
        taken = microseconds(comparison(documents), len(documents.rows))
        theirs, ours = taken["nervaluate"], taken["pytest-gpueval"]
        print(f"| {name} | {theirs:.1f} | {ours:.2f} | {theirs / ours:.1f} x |", flush=True)
    print("\n| stage (10 labels, 0-6 spans, 30% errors) | us |")
    print("|---|---:|")
    for name, taken_us in microseconds(stages(make_data(10, 6, 0.3)), DOCUMENTS).items():
        print(f"| {name} | {taken_us:.2f} |")


if __name__ == "__main__":
    main()
