"""The names of labels that are whole numbers, as the library `datasets` writes them: its own files are the judge."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets.features import features_of, namer, names_at
from pytest_gpueval.datasets.labelled import Annotation, read_labelled
from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import DataError

datasets = pytest.importorskip("datasets")

NAMES = ["negative", "positive"]
CLASS = datasets.ClassLabel(names=NAMES)


def split(path, columns, features, **names):
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(path))
    return ParquetSplit(path, "", names=names)


def labels(found):
    return [
        {found.labels.names[at] for at in found.labels.indices[start:end]} for start, end in zip(found.labels.indptr, found.labels.indptr[1:], strict=False)
    ]


def test_a_column_of_classes(tmp_path):
    found = split(tmp_path / "x.parquet", {"id": list("abc"), "label": [1, 0, -1]}, {"id": datasets.Value("string"), "label": CLASS})
    assert [row["label"] for row in found.read(["id", "label"])] == ["positive", "negative", None]
    assert labels(read_labelled([found.path], Annotation("classification"))) == [{"positive"}, {"negative"}, set()]
    assert pq.read_table(found.path)["label"].to_pylist() == [1, 0, -1]


def test_lists_of_classes(tmp_path):
    features = {"id": datasets.Value("string"), "label": datasets.List(CLASS)}
    found = split(tmp_path / "x.parquet", {"id": list("abc"), "label": [[1, 0], [], [0]]}, features)
    assert [row["label"] for row in found.read(["label"])] == [["positive", "negative"], [], ["negative"]]
    assert labels(read_labelled([found.path], Annotation("classification", multilabel=True))) == [{"positive", "negative"}, set(), {"negative"}]


def test_spans_with_classes(tmp_path):
    span = {"start": datasets.Value("int64"), "end": datasets.Value("int64"), "label": CLASS}
    features = {"id": datasets.Value("string"), "text": datasets.Value("string"), "spans": datasets.List(span)}
    rows = [[{"start": 0, "end": 1, "label": 1}], []]
    found = split(tmp_path / "x.parquet", {"id": ["a", "b"], "text": ["xy", ""], "spans": rows}, features)
    assert [row["spans"] for row in found.read(["spans"])] == [[{"start": 0, "end": 1, "label": "positive"}], []]
    assert labels(read_labelled([found.path], Annotation("span_detection"))) == [{"positive"}, set()]
    known = Annotation("span_detection", labels=("GOOD", "BAD"), label_map={"positive": "GOOD", "negative": "BAD"})
    assert labels(read_labelled([found.path], known)) == [{"GOOD"}, set()]


def test_columns_of_other_names(tmp_path):
    columns = {"uid": list("ab"), "body": ["x", "y"], "text": ["no", "no"], "target": [1, 0]}
    features = {"uid": datasets.Value("string"), "body": datasets.Value("string"), "text": datasets.Value("string"), "target": CLASS}
    names = {"id": "uid", "text": "body", "label": "target"}
    found = split(tmp_path / "x.parquet", columns, features, **names)
    found.check(["id", "text", "label"], 2)
    assert list(found.read(["id", "text", "label", "body"])) == [
        {"id": "a", "text": "x", "label": "positive", "body": "x"},
        {"id": "b", "text": "y", "label": "negative", "body": "y"},
    ]
    assert found.sha256 == ParquetSplit(found.path, "").sha256
    read = read_labelled([found.path], Annotation("classification", columns=names))
    assert (read.key, labels(read)) == ("uid", [{"positive"}, {"negative"}])


def test_a_column_that_is_not_there(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["a"], "body": ["x"], "label": ["y"]}), path)
    with pytest.raises(DataError) as plain:
        ParquetSplit(path, "").check(["id", "text"], None)
    assert str(plain.value) == (
        f"{path}: column 'text' is missing. Valid columns: body, id, label.\n"
        'If the file calls it otherwise, say so for the dataset in suite.toml: columns = { text = "..." }'
    )
    with pytest.raises(DataError) as told:
        ParquetSplit(path, "", names={"text": "bdoy"}).check(["id"], None)
    assert str(told.value) == (
        f"{path}: column 'bdoy', which `columns` in suite.toml names for 'text', is missing. Did you mean 'body'? Valid columns: body, id, label."
    )


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {b"huggingface": b"{"}, {b"huggingface": b'{"info": 1}'}, {b"huggingface": b"[]"}, {b"huggingface": b'{"info": {"features": []}}'}],
)
def test_metadata_that_says_nothing(metadata):
    assert features_of(pa.schema([("label", pa.int64())], metadata)) == {}


@pytest.mark.parametrize(
    "feature", [None, 3, "x", [], [1, 2], {}, {"_type": "Value", "dtype": "int64"}, {"_type": "ClassLabel"}, {"_type": "List", "feature": {}}]
)
def test_features_without_names(feature):
    assert namer(feature) is None
    assert names_at(feature) is None
    assert names_at(feature, "label") is None


def test_numbers_without_a_name_stay():
    put = namer({"_type": "ClassLabel", "names": NAMES})
    assert [put(value) for value in (0, 1, 2, -1, -2, None, "a", 0.5)] == ["negative", "positive", 2, None, -2, None, "a", 0.5]


def test_older_forms_of_lists():
    of_list = namer([{"label": {"_type": "ClassLabel", "names": NAMES}, "start": {"_type": "Value"}}])
    assert of_list([{"label": 1, "start": 5}, None]) == [{"label": "positive", "start": 5}, None]
    assert of_list(None) is None
    assert names_at([{"label": {"_type": "ClassLabel", "names": NAMES}}], "label") == NAMES
