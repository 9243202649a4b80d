"""Datasets whose files call things otherwise: columns by other names, labels as numbers whose names the file knows, ids that repeat."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.scoring.classification import Classification
from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.multilabel import MultiLabel
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.suites.schema import TASK_COLUMNS

CLASSES = {"info": {"features": {"target": {"_type": "ClassLabel", "names": ["bad", "good"]}}}}
SUITE = """
task = "classification"
labels = ["bad", "good"]
split = "fast"
runtime = "cpu"
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
[[gates]]
metric = "accuracy"
min = 1.0
[datasets.one]
splits.fast = {}
columns = { text = "body", label = "target" }
"""
MODEL = """
class Model:
    def predict(self, batch):
        assert all(set(item) == {"id", "text"} for item in batch), batch
        return [item["text"].split()[0] for item in batch]
"""


@pytest.fixture
def renamed(toy):
    toy.suite("toy", SUITE, MODEL)
    table = pa.table({"id": ["a", "b"], "body": ["good one", "bad one"], "target": [1, 0]})
    path = toy.root / "suites/toy/data/one/fast.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(CLASSES)}), path)
    return toy


def test_columns_are_called_otherwise_and_numbers_have_names(renamed):
    renamed.run("--gpueval-suite", "toy", "--gpueval-session", "it").assert_outcomes(passed=1)
    assert renamed.summary(session="it")["tables"]["confusion"] == {"bad": {"bad": 1}, "good": {"good": 1}}
    known = json.loads((renamed.session("it") / "toy-one-fast/run_metadata.json").read_text())
    assert known["scoring"]["columns"] == {"text": "body", "label": "target"}


def test_other_columns_are_another_run(renamed):
    renamed.run("--gpueval-suite", "toy", "--gpueval-session", "it").assert_outcomes(passed=1)
    renamed.edit('text = "body", ', 'text = "body", id = "id", ')
    result = renamed.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*another scoring*"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"body"',
            '"bdoy"',
            "column 'bdoy', which `columns` in suite.toml names for 'text', is missing. Did you mean 'body'? Valid columns: body, id, target.",
        ),
        ("text =", "txet =", "datasets.one.columns: unknown 'txet'. Did you mean 'text'? Valid columns of task 'classification': id, label, text."),
        ('text = "body"', "text = 1", "datasets.one.columns.text: expected a string, found 1"),
        ("columns =", "column =", "datasets.one.column: unknown key. Did you mean 'columns'?"),
    ],
)
def test_columns_that_cannot_be(renamed, old, new, said):
    renamed.edit(old, new)
    result = renamed.run("--gpueval-suite", "toy")
    assert result.ret != 0
    assert said in (result.stdout.str() + result.stderr.str()).replace("\nE   ", " ")


def test_the_columns_that_a_suite_may_name_are_those_that_tasks_ask_for():
    tasks = [("span_detection", SpanDetection), ("classification", Classification), ("classification", MultiLabel), ("generation", Generation)]
    for name, task in tasks:
        assert TASK_COLUMNS[name] == (*task.columns, *getattr(task, "optional_columns", ()))
