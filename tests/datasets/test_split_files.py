"""The files of a split are those that `datasets` finds; where we cannot be sure, we say so."""

import shutil
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets import split_files
from pytest_gpueval.datasets.metadata import Metadata
from pytest_gpueval.errors import MissingExtra, UsageProblem
from tests.datasets_library import Library

SHARDS = ["data/fast-00000-of-00001.parquet", "data/full-00000-of-00002.parquet", "data/full-00001-of-00002.parquet"]


def configs(text):
    return f"---\nconfigs:\n{text}---\n"


# Layout: its files, its card, the config, and the files of each split, or None where `datasets` must tell.
LAYOUTS = {
    "shards": (SHARDS, "", None, {"fast": SHARDS[:1], "full": SHARDS[1:]}),
    "shards with the usual things beside them": (
        [*SHARDS, "README.md", ".gitattributes", "dataset_infos.json", "train.py", "LICENSE"],
        "",
        None,
        {"fast": SHARDS[:1], "full": SHARDS[1:]},
    ),
    "shards with a checksum in their names": (["data/train-00000-of-00001-a1b2c3.parquet"], "", None, {"train": ["data/train-00000-of-00001-a1b2c3.parquet"]}),
    "shards under a name with a dash": (["data/a-b-00000-of-00001.parquet"], "", None, None),
    "shards of another format": (["data/fast-00000-of-00001.csv"], "", None, None),
    "shards and one of another format": ([*SHARDS, "data/x-00000-of-00001.json"], "", None, None),
    "files named after splits": (
        ["train.parquet", "sub/test.parquet", "my_valid_1.parquet"],
        "",
        None,
        {"train": ["train.parquet"], "test": ["sub/test.parquet"], "validation": ["my_valid_1.parquet"]},
    ),
    "directories named after splits": (
        ["data/train/b.parquet", "data/train/a.parquet", "data/dev/x.parquet", "other.parquet"],
        "",
        None,
        {"train": ["data/train/a.parquet", "data/train/b.parquet"], "validation": ["data/dev/x.parquet"]},
    ),
    "a name of a split that only shards may have": (
        ["data/fast.parquet", "data/full/a.parquet"],
        "",
        None,
        {"train": ["data/fast.parquet", "data/full/a.parquet"]},
    ),
    "a file that two patterns find is read twice": (["train train.parquet"], "", None, {"train": ["train train.parquet"] * 2}),
    "one file": (["x.parquet", "notes.ipynb", "Makefile"], "", None, {"train": ["x.parquet"]}),
    "one file and a text": (["x.parquet", "notes.txt"], "", None, None),
    "a script named after a split": (["train.py", "data/x.parquet"], "", None, None),
    "hidden and special": (["a.parquet", ".cache/b.parquet", "__pycache__/c.parquet", ".d.parquet"], "", None, {"train": ["a.parquet"]}),
    "metadata of a folder of images": (["metadata.parquet"], "", None, None),
    "an evaluation log": (["x.parquet", "y.eval"], "", None, None),
    "nothing": (["README.md"], "", None, None),
    "a config that is not there": (SHARDS, "", "other", None),
    "data_files": (
        ["a/fast-1.parquet", "a/fast-2.parquet", "b.parquet", "c.csv"],
        configs("- config_name: default\n  data_files:\n  - split: full\n    path: b.parquet\n  - split: fast\n    path: [a/fast-2*, 'a/*-[0-1].parquet']\n"),
        None,
        {"full": ["b.parquet"], "fast": ["a/fast-2.parquet", "a/fast-1.parquet"]},
    ),
    "data_files as text": (SHARDS, configs("- config_name: x\n  data_files: data/full-*\n"), None, {"train": SHARDS[1:]}),
    "data_files as a list": (
        SHARDS,
        configs("- config_name: x\n  data_files: ['data/full-*', '**/fast-*.parquet']\n"),
        "x",
        {"train": [*SHARDS[1:], SHARDS[0]]},
    ),
    "data_files that find nothing": (SHARDS, configs("- config_name: x\n  data_files: [{split: a, path: data/a-*}]\n"), None, None),
    "data_files that find another format": ([*SHARDS, "data/full.csv"], configs("- config_name: x\n  data_files: data/full*\n"), None, None),
    "data_files that a card may not have": (SHARDS, configs("- config_name: x\n  data_files: {full: data/full-*}\n"), None, None),
    "data_files with a split twice": (SHARDS, configs("- config_name: x\n  data_files: [{split: a, path: data/*}, {split: a, path: data/*}]\n"), None, None),
    "data_files of an unknown form": (SHARDS, configs("- config_name: x\n  data_files: [{split: a, path: [5]}]\n"), None, None),
    "more of another suffix": (["train.csv.csv.parquet"], "", None, None),
    "data_files elsewhere": (SHARDS, configs("- config_name: x\n  data_files: hf://datasets/a/b/c.parquet\n"), None, None),
    "two stars within a name": (SHARDS, configs("- config_name: x\n  data_files: 'data/**.parquet'\n"), None, None),
    "a hidden directory that is asked for": (
        [".h/a.parquet", "b.parquet"],
        configs("- config_name: x\n  data_files: .h/*\n"),
        None,
        {"train": [".h/a.parquet"]},
    ),
    "directories of configs": (
        [*SHARDS, "ru/train-0.parquet", "ru/test.parquet"],
        configs("- config_name: default\n- config_name: ru\n  data_dir: ru\n"),
        "ru",
        {"train": ["ru/train-0.parquet"], "test": ["ru/test.parquet"]},
    ),
    "the first config decides on the format": (
        ["a.csv", "b.parquet"],
        configs("- config_name: a\n  data_files: a.csv\n- config_name: b\n  data_files: b.parquet\n"),
        "b",
        None,
    ),
    "a directory that is not for the first config's patterns": (
        ["d/a.parquet"],
        configs("- config_name: a\n  data_dir: d\n  data_files: '*.parquet'\n"),
        None,
        None,
    ),
    "another config without files": (SHARDS, configs("- config_name: x\n- config_name: y\n  data_dir: none\n"), "x", None),
    "another config with files that are not there": (
        SHARDS,
        configs("- config_name: x\n- config_name: y\n  data_files: y/*\n"),
        "x",
        {"fast": SHARDS[:1], "full": SHARDS[1:]},
    ),
    "columns": (SHARDS, configs("- config_name: x\n  columns: [a]\n"), None, None),
    "no such config": (SHARDS, configs("- config_name: x\n"), "y", None),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    library = Library(tmp_path_factory.mktemp("home"))
    yield library
    library.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts") / "repository"


def asked(library, place, files, card, config):
    """What `datasets` finds in a directory with these files, which are empty: only reading them would tell."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text("{}" if file.endswith(".json") else "")
    if card:
        (place / "README.md").write_text(card)
    return library.ask("plan", place, config=config)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, library, place):
    files, card, config, splits = LAYOUTS[name]
    metadata = Metadata(card=card or None)
    assert split_files.files_of_splits(files, metadata, config) == splits
    assert split_files.split_files(files[::-1], metadata, config, "full") == (None if splits is None else splits.get("full", []))
    if splits is not None:
        plan = asked(library, place, files, card, config)
        assert (plan["format"], plan["files"]) == ("parquet", splits)


def test_several_configs_and_no_default():
    with pytest.raises(UsageProblem, match="several configs and no default"):
        split_files.split_files(SHARDS, Metadata(card=configs("- config_name: a\n- config_name: b\n")), None, "fast")


def test_the_yaml_overrides_the_card():
    metadata = Metadata(card=configs("- config_name: a\n  data_files: data/fast-*\n"), yaml="configs:\n- config_name: b\n  data_files: data/full-*\n")
    assert split_files.files_of_splits(SHARDS, metadata) == {"train": SHARDS[1:]}


def test_without_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.utils", None)
    split_files._matcher.cache_clear()
    with pytest.raises(MissingExtra, match=r"pytest-gpueval\[hub\]"):
        split_files.split_files(SHARDS, Metadata(), None, "fast")


WORDS = [
    "train",
    "test",
    "dev",
    "fast",
    "x",
    "validation",
    "data",
    "a.b",
    "__x",
    ".h",
    "training_1",
    "metadata",
    "eval",
    "train-00000-of-00001",
    "fast-00001-of-00002",
]
ENDINGS = [".parquet", ".parquet", ".parquet", ".parquet", ".csv", ".py", "", ".json", ".PARQUET", ".parquet.gz", ".txt.parquet"]
PATHS = st.builds(
    lambda folders, name, ending: "/".join([*folders, name + ending]),
    st.lists(st.sampled_from(["data", *WORDS]), max_size=2),
    st.sampled_from(WORDS),
    st.sampled_from(ENDINGS),
)
PLAIN = st.builds(
    lambda folder, name: f"{folder}{name}.parquet", st.sampled_from(["", "data/", "data/train/", "test/", "a/b/"]), st.sampled_from(WORDS[:5] + WORDS[-2:])
)
PATTERNS = st.sampled_from(
    [
        "data/*",
        "**",
        "*.parquet",
        "data/**",
        "**/train*",
        "data/fast-*",
        "train.parquet",
        "**/*.parquet",
        "[td]*",
        "?.parquet",
        "data/train/*",
        "./x",
        "data",
        "*",
        "**/x",
        "a//b",
        "data/fast-0*.parquet",
    ]
)
FILES = (
    PATTERNS
    | st.lists(PATTERNS, min_size=1, max_size=2)
    | st.lists(
        st.fixed_dictionaries({"split": st.sampled_from(["train", "fast", "a-b", "test"]), "path": PATTERNS | st.lists(PATTERNS, min_size=1, max_size=2)}),
        min_size=1,
        max_size=2,
    )
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"config_name": st.sampled_from(["default", "a"])},
        optional={"data_files": FILES, "data_dir": st.sampled_from(["data", "a", "a/b", "./data", "", "data/"])},
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda entry: entry["config_name"],
)


def distinct(paths):
    """No file is also a directory."""
    return [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]


@given(st.lists(PATHS, max_size=5) | st.lists(PLAIN, max_size=5), st.none() | ENTRIES)
@example(["data/x.parquet", "train.py"], None)
@example(["train.parquet"], [{"config_name": "default", "data_dir": "data"}, {"config_name": "a"}])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layout_is_found_as_datasets_does_or_left_to_it(library, place, paths, entries):
    import yaml

    files = distinct(sorted(set(paths)))
    card = f"---\n{yaml.safe_dump({'configs': entries})}---\n" if entries else ""
    config = entries[-1]["config_name"] if entries else None
    ours = split_files.files_of_splits(files, Metadata(card=card or None), config)
    if ours is not None:
        plan = asked(library, place, files, card, config)
        assert "error" not in plan, plan
        assert (plan["format"], plan["files"]) == ("parquet", ours)
