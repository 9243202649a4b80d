"""Rows of every dataset: counts, generation by index, canonical hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from . import chat_ru, essays_en, forms_ru, mail_en, medical_ru, mixed_ru, templated_en
from .labels import raw_label
from .rng import row_rng
from .scene import SceneEn, SceneRu

FAST_ROWS: dict[str, int] = {
    "russian-pii-66k": 4000, "meddies": 800, "scanpatch": 1500, "rubai": 2500, "kaggle": 800, "hf-sample-en": 800,
    "presidio-test": 800,
}  # fmt: skip
"""Rows of the embedded split, dataset by dataset."""
FULL_FACTOR = 5
"""The full split has this many times the rows; its first rows are the fast split."""
SPLITS = ("fast", "full")

_RUSSIAN: dict[str, Callable[[SceneRu], None]] = {
    "russian-pii-66k": mixed_ru.build, "meddies": medical_ru.build, "scanpatch": forms_ru.build,
    "rubai": chat_ru.build,
}  # fmt: skip
_ENGLISH: dict[str, Callable[[SceneEn], None]] = {
    "kaggle": essays_en.build, "hf-sample-en": mail_en.build, "presidio-test": templated_en.build,
}  # fmt: skip


def row_count(dataset: str, split: str) -> int:
    """Rows of a split; a `ValueError` lists what exists."""
    if dataset not in FAST_ROWS:
        raise ValueError(f"unknown dataset {dataset!r}; known: {', '.join(FAST_ROWS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    return FAST_ROWS[dataset] * (FULL_FACTOR if split == "full" else 1)


def make_row(dataset: str, index: int) -> dict[str, Any]:
    """Row `index`; it depends on nothing but the generator's version, the dataset and the index."""
    rng = row_rng(dataset, index)
    scene: SceneRu | SceneEn
    if dataset in _RUSSIAN:
        scene = SceneRu(rng)
        _RUSSIAN[dataset](scene)
    else:
        scene = SceneEn(rng)
        _ENGLISH[dataset](scene)
    text, spans = scene.builder.result()
    return {
        "id": f"{dataset}-{index:07d}",
        "text": text,
        "spans": [{"start": s.start, "end": s.end, "label": raw_label(dataset, s.label)} for s in spans],
        "language": scene.language,
        "source": "synthetic",
    }


def generate(dataset: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a split in order, one at a time."""
    for index in range(row_count(dataset, split)):
        yield make_row(dataset, index)


class RowHash:
    """Sha256 over rows as canonical JSON lines, fed one row at a time."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in one row."""
        line = json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        self._digest.update(line.encode("utf-8") + b"\n")
        self.rows += 1

    def hexdigest(self) -> str:
        """The hash so far, 64 hexadecimal digits."""
        return self._digest.hexdigest()


def content_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Sha256 of rows in order; the same whatever parquet library wrote or read them."""
    digest = RowHash()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()
