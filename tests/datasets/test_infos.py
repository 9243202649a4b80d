"""The JSON files beside a card keep their layout when their numbers change."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets import infos
from pytest_gpueval.datasets.card import ConfigInfo, SplitInfo
from pytest_gpueval.errors import DataError

FAST = SplitInfo("fast", 800, 123_456)

TABLE = {
    "default": {
        "description": "Наборы 😀",
        "features": {"text": {"dtype": "string"}},
        "splits": {
            "full": {"name": "full", "num_bytes": 999, "num_examples": 66000, "shard_lengths": [60000, 6000], "dataset_name": "x"},
            "fast": {"name": "fast", "num_bytes": 10, "num_examples": 20, "shard_lengths": [15, 5], "dataset_name": "x"},
        },
        "download_checksums": {"https://hub/a.parquet": {"num_bytes": 5, "checksum": None}},
        "download_size": 5,
        "post_processing_size": None,
        "dataset_size": 1009,
        "size_in_bytes": 1014,
    },
    "other": {"splits": {}, "download_size": 1.50},
}
DUMPS = [{}, {"indent": 4}, {"indent": 2, "ensure_ascii": False}, {"separators": (",", ":")}, {"indent": "\t"}]


def expected(table, config="default"):
    info = table[config]
    del info["download_checksums"]
    info["splits"]["fast"].update(num_bytes=123_456, num_examples=800)
    del info["splits"]["fast"]["shard_lengths"]
    return table


@pytest.mark.parametrize("options", DUMPS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_text_is_what_the_same_tool_would_have_written(options, ending):
    def dumped(table):
        return json.dumps(table, **options).replace("\n", ending) + ending

    after = infos.with_splits(dumped(TABLE), "default", [FAST, SplitInfo("new", 3, 4)], removed=["full"], download_size=7, dataset_size=9)
    table = expected(json.loads(json.dumps(TABLE)))
    table["default"].update(download_size=7, dataset_size=9, size_in_bytes=16)
    table["default"]["splits"]["new"] = {"name": "new", "num_bytes": 4, "num_examples": 3, "dataset_name": "x"}
    del table["default"]["splits"]["full"]
    assert after == dumped(table)
    assert infos.with_splits(after, "default", [FAST, SplitInfo("new", 3, 4)], removed=["full"], download_size=7, dataset_size=9) == after


def test_a_layout_of_ones_own_stays():
    text = '{ "a" : {"splits": {\n "fast":{"num_examples" :  20,"name":"fast", "num_bytes":1e1}  },\n"x":[1.10 , 2]}\n  , "b":{}}'
    assert infos.with_splits(text, "a", [FAST]) == text.replace("  20", "  800").replace("1e1", "123456")


@pytest.mark.parametrize("options", DUMPS)
def test_what_is_not_there_is_added(options):
    def dumped(table):
        return json.dumps(table, **options)

    added = {"fast": {"name": "fast", "num_bytes": 123_456, "num_examples": 800}}
    for before, after in [
        ({"a": {"x": 1}, "b": {}}, {"a": {"x": 1, "splits": added, "dataset_size": 9}, "b": {}}),
        ({"a": {"x": 1, "y": 2}, "b": {}}, {"a": {"x": 1, "y": 2, "splits": added, "dataset_size": 9}, "b": {}}),
        ({"a": {"splits": None}, "b": {}}, {"a": {"splits": added, "dataset_size": 9}, "b": {}}),
    ]:
        assert infos.with_splits(dumped(before), "a", [FAST], dataset_size=9) == dumped(after)
    for before in ({"a": {}, "b": {}}, {"a": {"splits": {}}, "b": {}}):
        table = json.loads(infos.with_splits(dumped(before), "a", [FAST], dataset_size=9))
        assert table == {"a": {"splits": added, "dataset_size": 9}, "b": {}}


def test_nothing_changes_where_the_numbers_are_right_or_the_config_is_another():
    text = json.dumps(TABLE)
    assert infos.with_splits(text, "default", [SplitInfo("fast", 20, 10)], download_size=5, dataset_size=1009) == text
    assert infos.with_splits(text, "third", [FAST]) == text
    one = json.dumps(TABLE["default"])
    assert infos.with_splits_of_one(one, "third", [FAST]) == one


def test_one_config_alone_is_the_default_one():
    text = json.dumps({"user--name": TABLE["default"]})
    assert infos.read(text) == (ConfigInfo("default", (SplitInfo("full", 66000, 999), SplitInfo("fast", 20, 10)), 5, 1009, {"text": {"dtype": "string"}}),)
    assert json.loads(infos.with_splits(text, "default", [FAST])) == expected({"user--name": json.loads(json.dumps(TABLE))["default"]}, "user--name")
    assert [info.name for info in infos.read(json.dumps(TABLE))] == ["default", "other"]


def test_the_info_of_one_config():
    text = json.dumps({"config_name": "a", **TABLE["default"]}, indent=4)
    assert infos.read_one(text).name == "a"
    table = expected({"default": json.loads(text)})["default"]
    assert infos.with_splits_of_one(text, "a", [FAST]) == json.dumps(table, indent=4)
    assert infos.read_one("{}") == ConfigInfo("default")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"dataset_infos\.json:1: not valid JSON"),
        ('{"a": {},\n}', r"dataset_infos\.json:\d: not valid JSON"),
        ("\ufeff{}", r"dataset_infos\.json:1: not valid JSON: Unexpected UTF-8 BOM"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", r"dataset_infos\.json: expected an object \({\.\.\.}\), found \[1\]"),
        ('{"a": 5}', r"dataset_infos\.json: a: expected an object"),
        ('{"a": {"splits": []}}', r"dataset_infos\.json: a: splits: expected an object with an entry for each split"),
        ('{"a": {"splits": {"x": 5}}}', r"dataset_infos\.json: a: splits: x: expected an object"),
    ],
)
def test_broken_files(text, message):
    with pytest.raises(DataError, match=message):
        infos.read(text)
    with pytest.raises(DataError, match=message):
        infos.with_splits(text, "a", [FAST])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SPLITS = st.dictionaries(
    st.sampled_from(["fast", "full", "a.b"]),
    st.fixed_dictionaries({"num_examples": st.integers(0), "num_bytes": VALUES}, optional={"shard_lengths": VALUES}),
    max_size=3,
)
INFO = st.fixed_dictionaries({}, optional={"splits": st.none() | SPLITS, "download_checksums": VALUES, "download_size": VALUES, "z": VALUES})


@given(
    st.dictionaries(st.sampled_from(["default", "b", "c"]), INFO, min_size=2),
    st.sampled_from(DUMPS),
    st.sampled_from(["fast", "new"]),
    st.integers(0),
    st.integers(0),
)
@settings(max_examples=100, deadline=None)
def test_any_file_says_the_new_numbers_and_nothing_else_new(table, options, name, rows, size):
    text = json.dumps(table, **options)
    after = infos.with_splits(text, "b", [SplitInfo(name, rows, size)], dataset_size=size)
    read = json.loads(after)
    if "b" in table:
        info = read["b"]
        assert (info["splits"][name]["num_examples"], info["splits"][name]["num_bytes"], info["dataset_size"]) == (rows, size, size)
        others = {key: value for key, value in (table["b"].get("splits") or {}).items() if key != name}
        assert {key: value for key, value in info["splits"].items() if key != name} == others
        assert {key: value for key, value in info.items() if key in ("z", "download_size")} == {
            key: table["b"][key] for key in ("download_size", "z") if key in table["b"]
        }
    assert {key: value for key, value in read.items() if key != "b"} == {key: value for key, value in table.items() if key != "b"}
    assert list(read) == list(table)
    assert infos.with_splits(after, "b", [SplitInfo(name, rows, size)], dataset_size=size) == after
    compact = options.get("indent") is None
    assert not compact or after == json.dumps(read, **options)
