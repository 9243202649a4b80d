"""A small suite in a directory of its own, and what tests want to know of a session's directory."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Sessions in this process must all meet the same modules: pytester forgets those that a session imports first.
import pytest_gpueval.session.collect  # noqa: F401

SUITE = """
description = "A toy"
task = "span_detection"
labels = ["A", "B"]
split = "fast"
runtime = "cpu"
policy = "open"
[data]
note = "synthetic"
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
[policies.open]
[policies.closed]
threshold = 0.95
[datasets.one]
splits.fast = {}
[datasets.two]
splits.fast = {}
"""

# Finds "aaa" at the start of every text; texts may ask for trouble.
MODEL = """
import os, time
class Model:
    def predict(self, batch):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        return [self.one(item["text"]) for item in batch]
    def one(self, text):
        if "BOOM" in text:
            raise ValueError("cannot read " + text)
        return [(0, 3, "A", float("nan") if "NAN" in text else 0.9)]
"""


def rows(count: int, name: str = "r", *, wrong_every: int = 10) -> list[dict]:
    """`count` rows of which every tenth has a gold span that the toy model gets half right."""
    return [{"id": f"{name}-{i}", "text": "aaaaabbbbb", "spans": [{"start": 0, "end": 5 if i % wrong_every == 0 else 3, "label": "A"}]} for i in range(count)]


class Toy:
    """A repository with one suite."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        pytester.makeini("[pytest]\n")
        self.suite("toy")

    def suite(self, name: str, toml: str = SUITE, model: str = MODEL) -> None:
        directory = self.root / "suites" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "suite.toml").write_text(textwrap.dedent(toml))
        (directory / "model.py").write_text(textwrap.dedent(model))
        for dataset in ("one", "two"):
            self.split(rows(50, dataset), dataset, name)

    def edit(self, old: str, new: str) -> None:
        file = self.root / "suites/toy/suite.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def append(self, toml: str) -> None:
        file = self.root / "suites/toy/suite.toml"
        file.write_text(file.read_text() + textwrap.dedent(toml))

    def split(self, table: list[dict], dataset: str = "one", suite: str = "toy") -> Path:
        path = self.root / "suites" / suite / "data" / dataset / "fast.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table), path)
        return path

    def run(self, *args: str) -> pytest.RunResult:
        """A session in this process: quick, no xdist."""
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)

    def spawn(self, *args: str) -> pytest.RunResult:
        """A session in a process of its own."""
        return self.pytester.runpytest_subprocess(*args, timeout=60)

    @property
    def output(self) -> Path:
        return self.root / "reports/evaluations"

    def session(self, name: str | None = None) -> Path:
        if name:
            return self.output / name
        (only,) = self.output.iterdir()
        return only

    def summary(self, run: str = "toy-one-fast", session: str | None = None) -> dict:
        return json.loads((self.session(session) / run / "summary.json").read_text())

    def lines(self, run: str = "toy-one-fast", session: str | None = None) -> list[dict]:
        return [json.loads(line) for line in (self.session(session) / run / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def toy(pytester: pytest.Pytester) -> Toy:
    return Toy(pytester)
