"""A split is read whole and in order, or one message says what is wrong with its file."""

import os
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets import parquet
from pytest_gpueval.datasets.parquet import READ_ROWS, ParquetSplit
from pytest_gpueval.errors import DataError, MissingExtra


def written(path, rows, **options):
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(rows)], "text": [f"text {i}" for i in range(rows)]}), path, **options)
    return ParquetSplit(path, "here")


def ids(split, **window):
    return [row["id"] for row in split.read(["id"], **window)]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Two and a half batches in row groups that do not fit them."""
    return written(tmp_path_factory.mktemp("split") / "long.parquet", READ_ROWS * 5 // 2, row_group_size=700)


@given(skip=st.integers(0, READ_ROWS * 3), limit=st.none() | st.integers(0, READ_ROWS * 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_window(long, skip, limit):
    assert ids(long, skip=skip, limit=limit) == [f"r{i}" for i in range(long.rows)][:limit][skip:]


@pytest.mark.parametrize("skip", [0, 1, READ_ROWS - 1, READ_ROWS, READ_ROWS + 1, READ_ROWS * 5 // 2])
@pytest.mark.parametrize("limit", [0, 1, READ_ROWS, READ_ROWS + 1, None])
def test_windows_at_the_edges_of_batches(long, skip, limit):
    assert ids(long, skip=skip, limit=limit) == [f"r{i}" for i in range(long.rows)][:limit][skip:]


def test_only_the_columns_asked_for(long):
    assert next(long.read(["text"])) == {"text": "text 0"}
    assert list(next(long.read(["text", "id"]))) == ["text", "id"]


def test_no_rows(tmp_path):
    split = written(tmp_path / "none.parquet", 0)
    split.check(["id", "text"], 0)
    assert split.rows == 0
    assert ids(split) == []


def test_the_hash_is_of_the_content(tmp_path):
    first, second = written(tmp_path / "a.parquet", 5), written(tmp_path / "b.parquet", 5)
    other = written(tmp_path / "c.parquet", 6)
    assert first.sha256 == second.sha256
    assert first.sha256 != other.sha256


def every_use(split):
    """What can be asked of a split."""
    return [lambda: split.rows, lambda: split.sha256, lambda: split.check(["id"], None), lambda: list(split.read(["id", "text"]))]


def messages(split):
    for use in every_use(split):
        with pytest.raises(DataError) as caught:
            use()
        assert "\n" not in str(caught.value)
        yield str(caught.value)


def test_no_file_there(tmp_path):
    assert set(messages(ParquetSplit(tmp_path / "x.parquet", ""))) == {f"{tmp_path}/x.parquet: no such file"}


def test_a_link_to_nowhere(tmp_path):
    (tmp_path / "x.parquet").symlink_to(tmp_path / "gone")
    assert set(messages(ParquetSplit(tmp_path / "x.parquet", ""))) == {f"{tmp_path}/x.parquet: no such file"}


def test_not_a_regular_file(tmp_path):
    (tmp_path / "d.parquet").mkdir()
    os.mkfifo(tmp_path / "p.parquet")  # whoever opens it waits for a writer
    for name in ("d", "p"):
        assert set(messages(ParquetSplit(tmp_path / f"{name}.parquet", ""))) == {f"{tmp_path}/{name}.parquet: not a regular file"}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,text\n1,2\n", b"PAR1" + b"\xff" * 50 + b"PAR1", b"\0" * 4096])
def test_not_parquet(tmp_path, content):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    uses = every_use(ParquetSplit(path, ""))
    del uses[1]  # every file has a hash
    for use in uses:
        with pytest.raises(DataError, match=r"x\.parquet: not a whole parquet file: \S"):
            use()


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98, -1, -4, -8, -9, -200])
def test_a_file_that_was_cut(tmp_path, kept):
    path = tmp_path / "x.parquet"
    split = written(path, 3000)
    size = path.stat().st_size
    os.truncate(path, int(size * kept) if kept > 0 else size + kept)
    with pytest.raises(DataError, match=r"x\.parquet: not a whole parquet file: \S"):
        list(split.read(["id"]))


def test_a_damaged_page_names_the_last_good_row(tmp_path):
    path = tmp_path / "x.parquet"
    split = written(path, READ_ROWS * 3, row_group_size=READ_ROWS, write_page_checksum=True, use_dictionary=False)
    group = pq.read_metadata(path).row_group(2).column(1)
    with path.open("r+b") as file:
        file.seek(group.data_page_offset + group.total_compressed_size // 2)
        file.write(b"\xff" * 8)
    rows = split.read(["id", "text"])
    assert [next(rows)["id"] for _ in range(READ_ROWS * 2)][-1] == f"r{READ_ROWS * 2 - 1}"
    with pytest.raises(DataError, match=rf"x\.parquet: damaged after row {READ_ROWS * 2}: \S"):
        next(rows)


def test_text_that_is_no_text(tmp_path):
    path = tmp_path / "x.parquet"
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"id": column}), path)
    with pytest.raises(DataError, match=r"x\.parquet: damaged after row 0: .*utf-8"):
        list(ParquetSplit(path, "").read(["id"]))


def test_a_missing_column(long):
    expected = r"long\.parquet: column 'txt' is missing\. Did you mean 'text'\? Valid columns: id, text\."
    with pytest.raises(DataError, match=expected):
        long.check(["id", "txt"], None)
    with pytest.raises(DataError, match=expected):
        list(long.read(["txt"]))


def test_the_number_of_rows_that_the_suite_names(long):
    long.check(["id"], READ_ROWS * 5 // 2)
    with pytest.raises(DataError, match=rf"has {long.rows} rows, but the suite says 7\.\n.*suite\.toml"):
        long.check(["id"], 7)


def test_without_pyarrow_the_extra_is_named(long, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"(?s)'pyarrow'.*pip install 'pytest-gpueval\[data\]'"):
        ParquetSplit(long.path, long.origin).check(["id"], None)


_MEMORY = """
    import sys
    from pathlib import Path
    import pyarrow as pa
    from pytest_gpueval.datasets.parquet import ParquetSplit
    print(sum(1 for _ in ParquetSplit(Path(sys.argv[1]), "").read(["id", "text"])), pa.default_memory_pool().max_memory())
"""


def test_memory_does_not_grow_with_the_split(tmp_path):
    """One row group, as most writers leave it: its column chunks must not be held whole."""
    most = {}
    for rows in (20_000, 200_000):
        path = tmp_path / f"{rows}.parquet"
        text = pa.array([os.urandom(60).hex() for _ in range(rows)])
        pq.write_table(pa.table({"id": pa.array([str(i) for i in range(rows)]), "text": text}), path, row_group_size=rows)
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(_MEMORY), str(path)], capture_output=True, text=True, check=True)
        counted, most[rows] = map(int, done.stdout.split())
        assert counted == rows
    assert most[200_000] < most[20_000] * 2
    assert most[200_000] < path.stat().st_size / 2


def test_words_about_errors_stay_on_one_short_line():
    assert parquet._one_line(ValueError("a\n  b" + "x" * 500)) == "a b" + "x" * 197
