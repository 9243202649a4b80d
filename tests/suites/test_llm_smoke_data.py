"""The rows of `llm_smoke` are those that its generator makes, and can be asked and judged."""

import importlib.util
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SUITE = Path(__file__).resolve().parents[2] / "suites" / "llm_smoke"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("llm_smoke_generate", SUITE / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_hold_what_the_generator_makes(generate, tmp_path):
    assert generate.differences() == []
    for dataset in generate.DATASETS:
        generate.write(dataset, "fast", tmp_path / dataset / "fast.parquet")
        assert pq.read_table(tmp_path / dataset / "fast.parquet").equals(pq.read_table(SUITE / "data" / dataset / "fast.parquet"))


def test_every_row_can_be_asked_and_judged(generate):
    rows = [row for dataset in generate.DATASETS for row in generate.rows(dataset)]
    assert len({row["id"] for row in rows}) == len(rows) == 64
    assert len({row["prompt"] for row in rows}) == 64
    for row in rows:
        assert row["answer"] in row.get("choices", [row["answer"]])
        assert len(set(row.get("choices", ()))) == len(row.get("choices", ()))


def test_right_choices_stand_everywhere(generate):
    places = {row["choices"].index(row["answer"]) for row in generate.rows("multiple_choice")}
    assert places == {0, 1, 2, 3}
