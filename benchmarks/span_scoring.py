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
from typing import Any

from nervaluate import Evaluator

from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.scoring.task import Sample

DOCUMENTS = 4000
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


def make_data(labels: int, most_spans: int, *, documents: int = DOCUMENTS, seed: int = 20130614) -> Data:
    """Documents with 0 to `most_spans` spans, and a model whose spans are right seven times in ten."""
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
        answers.append(_answer(rng, gold, names, size))
    return Data(SpanDetection(names), names, rows, answers)


def _answer(rng: random.Random, gold: Sequence[Row], names: Sequence[str], size: int) -> Prediction:
    """Predict spans: of thirty errors in a hundred, bounds, labels, misses and inventions each have their share."""
    answer: Prediction = []
    for span in gold:
        start, end, label, luck = span["start"], span["end"], span["label"], rng.random()
        if luck < 0.10:
            start, end = max(0, start - rng.randint(0, 3)), end + rng.randint(1, 4)
        elif luck < 0.18:
            label = rng.choice(names)
        elif luck < 0.25:
            continue
        answer.append((start, end, label, round(rng.uniform(0.5, 1.0), 4)))
    if rng.random() < 0.15:
        start = rng.randint(0, size - 12)
        answer.append((start, start + rng.randint(2, 12), rng.choice(names), 0.55))
    return answer


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
    print("| labels | spans | nervaluate us | pytest-gpueval us | ratio |")
    print("|---:|---:|---:|---:|---:|")
    for labels, most_spans in ((6, 8), (7, 12), (10, 6), (12, 12)):
        taken = microseconds(comparison(make_data(labels, most_spans)), DOCUMENTS)
        theirs, ours = taken["nervaluate"], taken["pytest-gpueval"]
        print(f"| {labels} | 0-{most_spans} | {theirs:.1f} | {ours:.2f} | {theirs / ours:.1f} x |")
    print("\n| stage (10 labels, 0-6 spans) | us |")
    print("|---|---:|")
    for name, taken_us in microseconds(stages(make_data(10, 6)), DOCUMENTS).items():
        print(f"| {name} | {taken_us:.2f} |")


if __name__ == "__main__":
    main()
