"""The instant detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .generate import GOLD, LABELS, VARIANTS, Span

Answer = list[tuple[int, int, str, float]]


def _nearly(variant: int, gold: Sequence[Span]) -> Answer:
    """Every second answer is right; the others move a bound, mistake a label, miss a span or invent one."""
    answer = [(start, end, label, 0.9) for start, end, label in gold]
    start, end, label, score = answer[-1]
    match variant % 8:
        case 1:
            answer[-1] = (start, end + 1, label, score)
        case 3:
            answer[-1] = (start, end, LABELS[(LABELS.index(label) + 1) % len(LABELS)], score)
        case 5:
            answer.pop()
        case 7:
            answer.append((end + 10, end + 18, label, score))
    return answer


class Prepared:
    """Looks its answers up."""

    def __init__(self) -> None:
        self._answers = [_nearly(variant, gold) for variant, gold in enumerate(GOLD)]

    def predict(self, batch: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """A list of spans for each row."""
        answers = self._answers
        return [answers[int(row["id"][4:]) % VARIANTS] for row in batch]
