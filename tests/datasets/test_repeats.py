"""Ids that repeat are found exactly, whatever chance does to hashes, and however little memory there is."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets import parquet, repeats
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.datasets.repeats import find, hashes
from pytest_gpueval.errors import DataError

BATCH = 7


def batches(ids, kind=None):
    column = pa.array(ids, kind or pa.large_string())
    return lambda: (column[at : at + BATCH] for at in range(0, len(ids), BATCH))


def plainly(ids):
    """The same in the simplest way."""
    first, rows, examples = {}, [], []
    for row, one in enumerate(ids):
        if isinstance(one, str) and first.setdefault(one, row) != row:
            rows.append(row)
            examples.append((one, first[one], row))
    return rows, examples[:3]


def poor(texts):
    """A hash that many texts share."""
    return hashes(texts) % np.uint64(5)


TEXTS = st.none() | st.integers(0, 99).map(str) | st.text(max_size=3)


@given(
    ids=st.lists(TEXTS, max_size=200),
    few=st.sampled_from([0, 1000]),
    hashed=st.sampled_from([hashes, poor]),
    kind=st.sampled_from([pa.string(), pa.large_string()]),
)
@settings(max_examples=300, deadline=None)
def test_all_that_repeat_and_nothing_else(ids, few, hashed, kind):
    found = find(batches(ids, kind), len(ids), few=few, hashed=hashed)
    assert (list(found.rows), list(found.examples)) == plainly(ids)
    assert [row for row in range(len(ids)) if found.has(row)] == list(found.rows)
    assert found.within(3, 50) == sum(3 <= row < 50 for row in found.rows)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=50), st.integers(0, 3), st.sampled_from([1, 30, 1 << 20]), st.sampled_from([0, 1, 32]))
def test_a_text_has_its_hash_wherever_it_stands(texts, skip, window, words):
    column = pa.array(["x"] * skip + texts, pa.large_string())[skip:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_WINDOW", window)
        patch.setattr(repeats, "_WORDS", words)
        found = hashes(column)
        assert found.tolist() == [hashes(pa.array([text], pa.large_string()))[0] for text in texts]
    assert len(set(found.tolist())) == len(set(texts))


def test_hashes_of_ids_that_are_much_alike_differ():
    ids = [f"row-{number:07}" for number in range(200_000)]
    assert len(np.unique(hashes(pa.array(ids, pa.large_string())))) == len(ids)


def test_memory_of_many_ids():
    """Eight bytes an id and a window: far less than the ids themselves."""
    column = pa.array([f"a rather long id of row {number:09}" for number in range(400_000)], pa.large_string())
    tracemalloc.start()
    assert not find(lambda: iter([column]), len(column)).rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_ids_of_a_split_of_several_files(tmp_path):
    parts = [["a", "b", "c"], ["d", "b", "a"]]
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for path, part in zip(paths, parts, strict=True):
        pq.write_table(pa.table({"uid": part}), path)
    split = ParquetSplit(paths[0], "", (paths[1],), names={"id": "uid"})
    assert split.repeats().examples == [("b", 1, 4), ("a", 0, 5)]
    assert list(split.repeats(5).rows) == [4]
    assert not split.repeats(3).rows


@pytest.mark.parametrize("values", [[1, 1], [b"x", b"x"], [["x"], ["x"]], [None, None]])
def test_what_is_no_text_is_no_id(tmp_path, values):
    pq.write_table(pa.table({"id": values}), tmp_path / "x.parquet")
    assert not ParquetSplit(tmp_path / "x.parquet", "").repeats().rows


def test_ids_in_a_dictionary_and_none_at_all(tmp_path):
    pq.write_table(pa.table({"id": pa.array(["x", "y", "x"]).dictionary_encode()}), tmp_path / "x.parquet")
    assert list(ParquetSplit(tmp_path / "x.parquet", "").repeats().rows) == [2]
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "y.parquet")
    with pytest.raises(DataError, match="column 'id' is missing"):
        ParquetSplit(tmp_path / "y.parquet", "").repeats()


@pytest.fixture
def searches(monkeypatch, tmp_path):
    """Each search that takes place, with splits of a few rows taken for long ones."""
    found = []
    monkeypatch.setattr(parquet, "FEW", 1)
    monkeypatch.setattr(parquet, "find", lambda ids, count: found.append(count) or find(ids, count))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


def written(path, ids, column="id"):
    pq.write_table(pa.table({column: ids, "other": ids}), path)
    return ParquetSplit(path, "", names={"id": column})


def test_a_split_is_searched_once_for_its_content(tmp_path, searches):
    for name in ("one", "again"):
        assert not written(tmp_path / f"{name}.parquet", ["a", "b", "c"]).repeats().rows
    assert searches == [3]
    assert not written(tmp_path / "one.parquet", ["a", "b", "c"]).repeats(2).rows
    assert list(written(tmp_path / "one.parquet", ["a", "b", "a"]).repeats().rows) == [2]
    assert not ParquetSplit(tmp_path / "one.parquet", "", names={"id": "other"}).repeats(2).rows
    assert searches == [3, 2, 3, 2]


def test_what_repeats_is_told_each_time(tmp_path, searches):
    for _ in range(2):
        assert written(tmp_path / "one.parquet", ["a", "b", "a"]).repeats().examples == [("a", 0, 2)]
    assert searches == [3, 3]


def test_where_nothing_can_be_kept_it_is_searched_again(tmp_path, searches, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert not written(tmp_path / "one.parquet", ["a", "b"]).repeats().rows
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert not written(tmp_path / "one.parquet", ["a", "b"]).repeats().rows
    assert searches == [2, 2, 2]
