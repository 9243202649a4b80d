"""Writes the rows of the suite `llm_smoke`: `python suites/llm_smoke/generate.py [--check]`.

All are made here: sums are drawn by a fixed seed, the others are written by hand. Raise VERSION whenever a row changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VERSION = "1"
DATA = Path(__file__).resolve().parent / "data"
SPLIT = "fast"
_COLUMNS = [("id", pa.string()), ("prompt", pa.string()), ("answer", pa.string())]
_CHOICES = ("choices", pa.list_(pa.string()))

_CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Russia": "Moscow",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Austria": "Vienna",
    "Norway": "Oslo",
    "Hungary": "Budapest",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Cuba": "Havana",
}
_YES_NO = {
    "Is water wet?": "Yes",
    "Can a stone swim?": "No",
    "Is the sun a star?": "Yes",
    "Is Paris the capital of Germany?": "No",
    "Do birds have wings?": "Yes",
    "Can people breathe under water without help?": "No",
    "Is ice colder than boiling water?": "Yes",
    "Is ten less than two?": "No",
    "Do cows eat grass?": "Yes",
    "Is the Moon larger than the Earth?": "No",
    "Is snow white?": "Yes",
    "Do fish live in trees?": "No",
    "Does a triangle have three sides?": "Yes",
    "Does a year have twenty months?": "No",
    "Is gold a metal?": "Yes",
    "Is a whale an insect?": "No",
}
# The first of each is right; where it stands in a row is drawn.
_MULTIPLE = {
    "Which is a fruit:": ("apple", "hammer", "river", "Tuesday"),
    "Which is an animal:": ("horse", "table", "cloud", "song"),
    "Which is a colour:": ("green", "quickly", "seven", "bread"),
    "Which is a day of the week:": ("Monday", "July", "winter", "noon"),
    "Which can fly:": ("eagle", "snake", "sheep", "turtle"),
    "Which is a number:": ("twelve", "window", "purple", "walk"),
    "What do bees make:": ("honey", "steel", "paper", "glass"),
    "What falls from clouds:": ("rain", "sand", "oil", "wool"),
    "Where do fish live:": ("in water", "in books", "in the air", "in fire"),
    "What do we use to cut bread:": ("a knife", "a pillow", "a candle", "a letter"),
    "Which season is the coldest:": ("winter", "summer", "spring", "autumn"),
    "What gives us light by day:": ("the sun", "the sea", "the ground", "the wind"),
    "Who treats sick people:": ("a doctor", "a painter", "a pilot", "a baker"),
    "What has four legs and barks:": ("a dog", "a chair", "a bird", "a snake"),
    "What do you drink from:": ("a cup", "a shoe", "a hat", "a wall"),
    "What do you read:": ("a book", "a spoon", "a stone", "a tree"),
}


def arithmetic() -> Iterator[dict[str, Any]]:
    """Sums of one digit, answered by a number."""
    rng = random.Random("llm_smoke arithmetic")
    pairs = [(a, b) for a in range(1, 10) for b in range(1, 10)]
    for a, b in rng.sample(pairs, 16):
        yield {"prompt": f"What is {a} + {b}? Answer with a number.", "answer": str(a + b)}


def capitals() -> Iterator[dict[str, Any]]:
    """The capital of a country, in a text that names it."""
    for country, capital in _CAPITALS.items():
        yield {"prompt": f"What is the capital of {country}?", "answer": capital}


def yes_no() -> Iterator[dict[str, Any]]:
    """Questions that a child can answer."""
    for question, answer in _YES_NO.items():
        yield {"prompt": question, "answer": answer, "choices": ["Yes", "No"]}


def multiple_choice() -> Iterator[dict[str, Any]]:
    """One of four."""
    rng = random.Random("llm_smoke multiple_choice")
    for question, (right, *others) in _MULTIPLE.items():
        choices = [right, *others]
        rng.shuffle(choices)
        *first, last = choices
        yield {"prompt": f"{question} {', '.join(first)} or {last}?", "answer": right, "choices": choices}


DATASETS = {"arithmetic": arithmetic, "capitals": capitals, "multiple_choice": multiple_choice, "yes_no": yes_no}


def rows(dataset: str) -> list[dict[str, Any]]:
    """All rows of a dataset, with their ids."""
    return [{"id": f"{dataset}-{number:03d}", **row} for number, row in enumerate(DATASETS[dataset]())]


def write(dataset: str, split: str, path: Path) -> None:
    """Write a split through a temporary file beside it. Raises ValueError for one that there is not."""
    if split != SPLIT:
        raise ValueError(f"there is no split {split!r}; only {SPLIT!r}")
    made = rows(dataset)
    metadata: dict[bytes | str, bytes | str] = {
        "synthetic": "true",
        "generator_version": VERSION,
        "dataset": dataset,
        "content_hash": _hash(made),
        "license": "CC0-1.0",
    }
    schema = pa.schema([*_COLUMNS, *([_CHOICES] if "choices" in made[0] else [])], metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist(made, schema=schema), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def differences() -> list[str]:
    """What the files beside this one hold that fresh rows do not."""
    found = []
    for dataset in DATASETS:
        path = DATA / dataset / f"{SPLIT}.parquet"
        if not path.is_file():
            found.append(f"{path} is missing; run generate.py to write it")
        elif _hash(pq.read_table(path).to_pylist()) != _hash(rows(dataset)):
            found.append(f"{path} holds other rows than those that generate.py makes")
    return found


def _hash(made: list[dict[str, Any]]) -> str:
    lines = "\n".join(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in made)
    return hashlib.sha256(lines.encode()).hexdigest()


def main() -> int:
    """Write all files, or compare them; 1 if they differ."""
    parser = argparse.ArgumentParser(description="Rows of the suite llm_smoke")
    parser.add_argument("--check", action="store_true", help="compare the files with fresh rows")
    if parser.parse_args().check:
        problems = differences()
        print("\n".join(problems) or "as made")
        return bool(problems)
    for dataset in DATASETS:
        write(dataset, SPLIT, DATA / dataset / f"{SPLIT}.parquet")
        print(f"{dataset}: {len(rows(dataset))} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
