"""Keys and labels of rows, from parquet files of any layout."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets import labelled
from pytest_gpueval.datasets.labelled import Annotation, read_labelled
from pytest_gpueval.datasets.selection import RowLabels, hash_order
from pytest_gpueval.errors import DataError, UsageProblem

SPANS = Annotation("span_detection")
LABELS = Annotation("classification")
MANY = Annotation("classification", multilabel=True)
SPAN_TYPE = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32(), "label": pa.string()}))


def spans(*labels):
    return [{"start": at, "end": at + 1, "label": label} for at, label in enumerate(labels)]


def split(path, columns, types=None, **options):
    arrays = {name: pa.array(values, (types or {}).get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, **options)
    return [path]


def sets(labels):
    """For each row the set of its labels."""
    return [{labels.names[at] for at in labels.indices[first:last]} for first, last in zip(labels.indptr[:-1], labels.indptr[1:], strict=True)]


def test_labels_of_spans(tmp_path):
    files = split(tmp_path / "x.parquet", {"id": ["a", "b", "c", "d"], "spans": [spans("X", "Y", "X"), [], None, spans("Y")]}, {"spans": SPAN_TYPE})
    found = read_labelled(files, SPANS)
    assert sets(found.labels) == [{"X", "Y"}, set(), set(), {"Y"}]
    assert found.order.tolist() == hash_order([b"a", b"b", b"c", b"d"]).tolist()
    assert (found.key, found.unknown) == ("id", {})


@pytest.mark.parametrize("type_", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.dictionary(pa.int8(), pa.string()))], ids=str)
def test_lists_of_labels(tmp_path, type_):
    files = split(tmp_path / "x.parquet", {"id": [1, 2, 3], "label": [["B", "A"], [], ["B", "B"]]}, {"label": type_})
    assert sets(read_labelled(files, MANY).labels) == [{"A", "B"}, set(), {"B"}]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_one_label_each(tmp_path, type_):
    files = split(tmp_path / "x.parquet", {"id": [1, 2, 3], "label": ["B", "A", None]}, {"label": type_})
    found = read_labelled(files, LABELS)
    assert sets(found.labels) == [{"B"}, {"A"}, set()]
    assert found.unknown == {"(missing)": 1}


def test_a_task_without_labels(tmp_path):
    files = split(tmp_path / "x.parquet", {"id": [1, 2], "prompt": ["a", "b"], "topic": ["B", None], "level": [1, 2]})
    assert read_labelled(files, Annotation("generation")).labels is None
    assert sets(read_labelled(files, Annotation("generation", stratify="topic")).labels) == [{"B"}, {"(missing)"}]
    assert sets(read_labelled(files, Annotation("of a conftest", stratify="level")).labels) == [{"1"}, {"2"}]


def test_the_map_comes_first_and_what_it_leaves_out_does_not_count(tmp_path):
    rows = [spans("name", "surname"), spans("hobby"), spans("PERSON", "hobby", "hobby")]
    files = split(tmp_path / "x.parquet", {"id": ["a", "b", "c"], "spans": rows}, {"spans": SPAN_TYPE})
    wanted = Annotation("span_detection", labels=("PERSON", "PHONE", "URL"), label_map={"name": "PERSON", "surname": "PERSON", "tel": "PHONE"})
    found = read_labelled(files, wanted)
    assert sets(found.labels) == [{"PERSON"}, set(), {"PERSON"}]
    assert found.unknown == {"hobby": 3}
    assert found.labels.names == ("PERSON", "PHONE")  # nothing maps to URL: it is not annotated here
    assert read_labelled(files, Annotation("span_detection", labels=("PERSON", "PHONE"))).labels.names == ("PERSON", "PHONE")
    assert read_labelled(files, SPANS).labels.names == ("PERSON", "hobby", "name", "surname")


@given(rows=st.lists(st.lists(st.sampled_from("ABCDE")), min_size=1, max_size=40), group=st.integers(1, 9), batch=st.integers(1, 9), cut=st.integers(0, 40))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_row_groups_and_batches_do_not_matter(tmp_path, monkeypatch, rows, group, batch, cut):
    monkeypatch.setattr(labelled, "_BATCH_ROWS", batch)
    columns = {"id": [f"row-{number}" for number in range(len(rows))], "spans": [spans(*labels) for labels in rows]}
    files = []
    for part in (slice(None, cut), slice(cut, None)):
        files += split(tmp_path / f"{part.start}.parquet", {name: values[part] for name, values in columns.items()}, {"spans": SPAN_TYPE}, row_group_size=group)
    found = read_labelled(files, SPANS)
    expected = RowLabels.of(rows)
    assert (found.labels.names, found.labels.indptr.tolist(), sets(found.labels)) == (expected.names, expected.indptr.tolist(), sets(expected))
    assert np.array_equal(found.order, hash_order([key.encode() for key in columns["id"]]))


@pytest.mark.parametrize(
    "ids",
    [pa.array([3, 10], pa.int8()), pa.array([3, 10], pa.uint64()), pa.array(["3", "10"]), pa.array(["3", "10"]).dictionary_encode(), pa.array([b"3", b"10"])],
)
def test_a_key_is_what_is_written_not_its_type(tmp_path, ids):
    files = split(tmp_path / "x.parquet", {"id": ids, "label": ["A", "B"]})
    assert read_labelled(files, LABELS).order.tolist() == hash_order([b"3", b"10"]).tolist()


def test_without_ids_content_is_the_key(tmp_path):
    columns = {"text": ["a", "b", "a"], "label": ["A", "B", "A"]}
    found = read_labelled(split(tmp_path / "x.parquet", columns), LABELS)
    turned = read_labelled(split(tmp_path / "y.parquet", dict(reversed(columns.items())), {"text": pa.large_string()}), LABELS)
    assert found.key is None
    assert found.order.tolist() == turned.order.tolist()
    assert found.order.tolist() == hash_order([b"m2:s5:labels1:%bs4:texts1:%b" % pair for pair in ((b"A", b"a"), (b"B", b"b"), (b"A", b"a"))]).tolist()


def test_another_column_of_keys_or_content_by_choice(tmp_path):
    files = split(tmp_path / "x.parquet", {"id": ["a", "a"], "url": ["x", "y"], "label": ["A", "B"]})
    assert read_labelled(files, LABELS, key="url").order.tolist() == hash_order([b"x", b"y"]).tolist()
    assert read_labelled(files, LABELS, key=None).key is None
    assert read_labelled(files, LABELS, key="label").key == "label"
    with pytest.raises(DataError, match=r"column 'ulr' is missing\. Did you mean 'url'\?"):
        read_labelled(files, LABELS, key="ulr")


def test_keys_that_are_not_unique(tmp_path):
    ids = [f"row-{number}" for number in range(50_000)]
    ids[49_999], ids[7] = ids[3], ids[20_000]
    files = split(tmp_path / "x.parquet", {"id": ids, "label": ["A"] * 50_000})
    with pytest.raises(DataError) as caught:
        read_labelled(files, LABELS)
    assert str(caught.value) == (
        f"{files[0]}: column 'id' is not unique: 'row-3' (rows 3 and 49999), 'row-20000' (rows 7 and 20000); 2 of 50,000 rows repeat a key.\n"
        "Make it unique, name another column, or none: rows are then told apart by their content, and identical ones count once."
    )
    with pytest.raises(DataError, match=r"'z' \(rows 0 and 1\), 'z' \(rows 1 and 2\), 'z' \(rows 2 and 3\) and others; 9 of 10 rows repeat a key"):
        read_labelled(split(tmp_path / "y.parquet", {"id": ["z"] * 10, "label": ["A"] * 10}), LABELS)


@pytest.mark.parametrize(
    ("columns", "annotation", "message"),
    [
        ({"id": ["a", None], "label": ["A", "B"]}, LABELS, r"column 'id' is empty in row 1\. Name another column"),
        ({"id": [0.5, 1.5], "label": ["A", "B"]}, LABELS, r"column 'id' is double: keys are text or whole numbers"),
        ({"id": ["a", "b"], "label": [1, 2]}, LABELS, r"column 'label' is int64, not text; a list of them is multilabel = true"),
        ({"id": ["a", "b"], "label": [["A"], ["B"]]}, LABELS, r"column 'label' is list<.*>, not text"),
        ({"id": ["a", "b"], "label": ["A", "B"]}, MANY, r"column 'label' is string, not a list of texts"),
        ({"id": ["a"], "spans": ["[]"]}, SPANS, r"column 'spans' is string, not a list of \{start, end, label\}"),
        ({"id": ["a"], "spans": [[1]]}, SPANS, r"column 'spans' is list<.*>, not a list of \{start, end, label\}"),
        ({"id": ["a"], "spans": [[{"start": 1}]]}, SPANS, r"column 'spans' is list<.*>, not a list of \{start, end, label\}"),
        ({"id": ["a"], "text": [""]}, SPANS, r"column 'spans' is missing\. Valid columns: id, text"),
        ({"id": ["a"], "x": [[1]]}, Annotation("generation", stratify="x"), r"column 'x' is list<.*>, not a value of text or a whole number"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, columns, annotation, message):
    with pytest.raises(DataError, match=rf"x\.parquet: {message}"):
        read_labelled(split(tmp_path / "x.parquet", columns), annotation)


def test_no_spans_at_all(tmp_path):
    files = split(tmp_path / "x.parquet", {"id": ["a", "b"], "spans": [[], None]}, {"spans": pa.list_(pa.null())})
    assert sets(read_labelled(files, SPANS).labels) == [set(), set()]
    files = split(tmp_path / "x.parquet", {"id": pa.array([], pa.string()), "spans": []}, {"spans": SPAN_TYPE})
    assert sets(read_labelled(files, SPANS).labels) == []


def test_an_unknown_task():
    with pytest.raises(UsageProblem, match=r"labels of task 'classify': unknown\. Did you mean 'classification'\? (.|\n)* Or name a column to stratify by\."):
        Annotation("classify")


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    split(path, {"id": [hashlib.sha256(b"%d" % i).hexdigest() for i in range(5000)], "label": ["A"] * 5000}, write_page_checksum=True, use_dictionary=False)
    with path.open("r+b") as file:
        file.seek(pq.read_metadata(path).row_group(0).column(0).data_page_offset + 5000)
        file.write(b"\xff" * 8)
    with pytest.raises(DataError, match=r"x\.parquet: damaged after row 0: \S"):
        read_labelled([path], LABELS)
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        read_labelled([tmp_path / "gone.parquet"], LABELS)
