"""A fast split is chosen from a full one and written: the same bytes wherever its rows stood."""

import hashlib
import os
import random
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets import fast
from pytest_gpueval.datasets.labelled import Annotation
from pytest_gpueval.errors import DataError, StorageError, UsageProblem

SUITE = Path(__file__).resolve().parents[2] / "suites" / "guardrails_ru"
SPANS = Annotation("span_detection")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        ("text", pa.large_string()),
        ("spans", pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("when", pa.timestamp("ns")),
    ],
    metadata={"huggingface": '{"info": {"features": {}}}', "note": "kept"},
)


def full(rows, seed=0):
    """Rows in a random order, always the same rows."""
    made = []
    for number in range(rows):
        rng = random.Random(number)
        labels = rng.choices("AAAABBC", k=rng.choice([0, 1, 1, 2]))
        spans = [{"start": at, "end": at + 1, "label": label} for at, label in enumerate(labels)]
        made.append({"id": f"r{number}", "text": None if number % 7 == 0 else f"text {number}", "spans": spans, "source": f"s{number % 5}", "when": number})
    random.Random(seed).shuffle(made)
    return made


def written(path, rows, schema=SCHEMA, **options):
    pq.write_table(pa.Table.from_pylist(rows, schema), path, **options)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_written_rows_are_those_of_the_full_split(tmp_path):
    rows = full(3000)
    files = [written(tmp_path / "0.parquet", rows[:1700]), written(tmp_path / "1.parquet", rows[1700:])]
    selection = fast.choose(files, SPANS, rows=500)
    split = fast.write(files, selection, tmp_path / "fast.parquet")
    table = pq.read_table(split.path)
    assert table.select(["id", "text", "spans", "source"]).to_pylist() == [
        {name: rows[row][name] for name in ("id", "text", "spans", "source")} for row in selection.rows
    ]
    assert table["when"].cast(pa.int64()).to_pylist() == [rows[row]["when"] for row in selection.rows]
    assert split.rows == 500
    assert split.origin == "500 of 3,000 rows"
    assert [path.name for path in tmp_path.iterdir() if "half" in path.name] == []


@pytest.mark.parametrize("compliant", [True, False])
def test_the_schema_stays_as_it_is(tmp_path, compliant):
    nested = pa.list_(pa.struct([("label", pa.dictionary(pa.int8(), pa.string())), ("lang", pa.fixed_shape_tensor(pa.int8(), (2,)).storage_type)]))
    schema = SCHEMA.set(2, pa.field("spans", nested, metadata={"of": "the field"})).append(pa.field("tensor", pa.fixed_shape_tensor(pa.int8(), (2,))))
    rows = [{**row, "tensor": [1, 2], "spans": [{"label": span["label"], "lang": [1, 2]} for span in row["spans"]]} for row in full(300)]
    files = [tmp_path / "full.parquet"]
    pq.write_table(pa.Table.from_pylist(rows, schema), files[0], use_compliant_nested_type=compliant)
    selection = fast.choose(files, SPANS, rows=40)
    fast.write(files, selection, tmp_path / "fast.parquet")
    table = pq.read_table(tmp_path / "fast.parquet")
    assert table.schema.equals(pq.read_schema(files[0]), check_metadata=True)
    assert pq.read_metadata(tmp_path / "fast.parquet").schema.equals(pq.read_metadata(files[0]).schema)
    expected = pq.read_table(files[0]).take(list(selection.rows))
    assert table.drop(["when"]).to_pylist() == expected.drop(["when"]).to_pylist()
    assert table["when"].equals(expected["when"])


def test_the_bytes_do_not_depend_on_where_rows_stood(tmp_path):
    hashes = set()
    for seed in range(3):
        rows, cut = full(2500, seed), (0, 900, 2500)[seed]
        files = [
            written(tmp_path / f"{seed}-0.parquet", rows[:cut], row_group_size=100 + 700 * seed, compression="zstd" if seed else "none"),
            written(tmp_path / f"{seed}-1.parquet", rows[cut:], use_dictionary=not seed),
        ]
        target = tmp_path / f"fast-{seed}.parquet"
        fast.write(files, fast.choose(files, SPANS, rows=1200), target)
        hashes.add(digest(target))
    assert len(hashes) == 1


def test_smaller_is_within_larger_on_disk(tmp_path):
    files = [written(tmp_path / "full.parquet", full(2000))]
    ids = []
    for rows in (100, 101, 400):
        fast.write(files, fast.choose(files, SPANS, rows=rows), tmp_path / "fast.parquet")
        ids.append(pq.read_table(tmp_path / "fast.parquet")["id"].to_pylist())
    for small, large in pairwise(ids):
        assert [row for row in large if row in set(small)] == small


def test_rows_without_ids(tmp_path):
    """Told apart by their content; of identical ones, one."""
    schema = pa.schema({"text": pa.string(), "label": pa.string()})
    rows = [{"text": f"t{number % 60}", "label": "AB"[number % 2]} for number in range(90)]
    hashes = []
    for seed in (0, 1):
        random.Random(seed).shuffle(rows)
        files = [written(tmp_path / "full.parquet", rows, schema)]
        selection = fast.choose(files, Annotation("classification"), rows=20)
        assert selection.notes == ("30 rows are the copy of another: such rows count once", "there is no column 'id': rows are told apart by their content")
        fast.write(files, selection, tmp_path / "fast.parquet")
        hashes.append(digest(tmp_path / "fast.parquet"))
    assert hashes[0] == hashes[1]
    assert pq.read_table(tmp_path / "fast.parquet")["text"].to_pylist() != sorted(pq.read_table(tmp_path / "fast.parquet")["text"].to_pylist())
    with pytest.raises(UsageProblem, match="61 rows are asked for, but 60 can be selected"):
        fast.choose(files, Annotation("classification"), rows=61)


def test_what_falls_short_is_said(tmp_path):
    files = [written(tmp_path / "full.parquet", full(300))]
    wanted = Annotation("span_detection", labels=("X", "Y", "Z"), label_map={"A": "X", "B": "Y", "nobody": "Z"})
    selection = fast.choose(files, wanted, rows=50)
    assert selection.notes == ("label 'Z' is expected, but no row has it", "label 'C' is not known and does not count (38 times)")
    assert list(selection.labels) == ["X", "Y", "Z"]


def test_one_label_each_knows_no_negatives(tmp_path):
    schema = pa.schema({"id": pa.int64(), "label": pa.string()})
    files = [written(tmp_path / "full.parquet", [{"id": number, "label": ("A", "B", None)[number % 3]} for number in range(90)], schema)]
    selection = fast.choose(files, Annotation("classification"), rows=30)
    assert {name: tally.selected for name, tally in selection.labels.items()} == {"A": 15, "B": 15}
    assert selection.notes == ("30 rows are without a label, and left out", "label '(missing)' is not known and does not count (30 times)")


def test_generation_takes_rows_in_hash_order_and_strata_evenly(tmp_path):
    schema = pa.schema({"id": pa.int64(), "prompt": pa.string(), "topic": pa.string()})
    files = [written(tmp_path / "full.parquet", [{"id": number, "prompt": "?", "topic": "abc"[number % 7 % 3]} for number in range(300)], schema)]
    assert fast.choose(files, Annotation("generation"), rows=30).labels == {}
    strata = fast.choose(files, Annotation("generation", stratify="topic"), rows=30).labels
    assert [tally.selected for tally in strata.values()] == [10, 10, 10]


def test_a_split_of_the_suite_that_ships():
    suite = tomllib.loads((SUITE / "suite.toml").read_text(encoding="utf-8"))
    for name, dataset in suite["datasets"].items():
        wanted = Annotation("span_detection", labels=tuple(suite["labels"]), label_map=dataset.get("label_map"))
        selection = fast.choose([SUITE / "data" / name / "fast.parquet"], wanted, rows=200)
        assert len(selection.rows) == 200
        assert selection.negatives.selected == min(40, selection.negatives.available)
        assert all(tally.selected >= min(tally.available, 160 // len(selection.labels)) for tally in selection.labels.values())
        assert not [note for note in selection.notes if "not known" in note]


def test_files_that_changed_since(tmp_path):
    files = [written(tmp_path / "full.parquet", full(100))]
    selection = fast.choose(files, SPANS, rows=10)
    written(files[0], full(101))
    with pytest.raises(DataError, match=r"full\.parquet: has 101 rows, but 100 when they were selected: the split has changed, select anew"):
        fast.write(files, selection, tmp_path / "fast.parquet")
    assert not (tmp_path / "fast.parquet").exists()


def test_files_of_different_columns(tmp_path):
    first = written(tmp_path / "0.parquet", full(100))
    second = written(tmp_path / "1.parquet", full(100), SCHEMA.set(1, pa.field("text", pa.string())))
    third = written(tmp_path / "2.parquet", full(100), SCHEMA.remove(1))
    selection = replace(fast.choose([first], SPANS, rows=10), total=200)
    with pytest.raises(DataError, match=r"1\.parquet: column 'text' is string, but large_string in 0\.parquet"):
        fast.write([first, second], selection, tmp_path / "fast.parquet")
    with pytest.raises(DataError, match=r"2\.parquet: column 'text' is missing, but large_string in 0\.parquet"):
        fast.write([first, third], selection, tmp_path / "fast.parquet")


def test_a_place_that_cannot_be_written(tmp_path):
    files = [written(tmp_path / "full.parquet", full(100))]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/fast\.parquet: cannot be written: .*choose another place"):
        fast.write(files, fast.choose(files, SPANS, rows=10), tmp_path / "file" / "fast.parquet")


_MEMORY = """
    import sys
    from pathlib import Path
    import pyarrow as pa
    from pytest_gpueval.datasets import fast
    from pytest_gpueval.datasets.labelled import Annotation
    files = [Path(sys.argv[1])]
    fast.write(files, fast.choose(files, Annotation("classification"), rows=1000), Path(sys.argv[2]))
    print(pa.default_memory_pool().max_memory())
"""


def test_memory_does_not_grow_with_the_split(tmp_path):
    most = {}
    for rows in (10_000, 100_000):
        path = tmp_path / f"{rows}.parquet"
        text = pa.array([os.urandom(250).hex() for _ in range(rows)])
        pq.write_table(pa.table({"id": pa.array(range(rows)), "text": text, "label": pa.array(["A", "B"] * (rows // 2))}), path, row_group_size=rows)
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(_MEMORY), path, tmp_path / "fast.parquet"], capture_output=True, text=True, check=True)
        most[rows] = int(done.stdout)
    assert most[100_000] < most[10_000] * 2
    assert most[100_000] < path.stat().st_size / 2
