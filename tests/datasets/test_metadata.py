"""Which of a dataset's files counts, where they differ from the splits, and the files put right. `datasets` itself is the judge where one is needed."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets import metadata
from pytest_gpueval.datasets.card import CARD, SplitInfo
from pytest_gpueval.datasets.metadata import YAML, Disagreement, Metadata
from pytest_gpueval.errors import DataError, UsageProblem
from tests.datasets_library import Library

FILES = {"card": CARD, "yaml": YAML, "infos": "dataset_infos.json", "info": "dataset_info.json"}


def front(text):
    return f"---\n{text}---\n# Body\n"


def said(**rows):
    """The `splits` of a card, one line."""
    return "[" + ", ".join(f"{{name: {name}, num_bytes: {5 * count}, num_examples: {count}}}" for name, count in rows.items()) + "]"


def table(**rows):
    """The `splits` of dataset_infos.json."""
    return {name: {"name": name, "num_bytes": 5 * count, "num_examples": count, "dataset_name": "x"} for name, count in rows.items()}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    library = Library(tmp_path_factory.mktemp("home"))
    yield library
    library.close()


@pytest.fixture
def repository(tmp_path):
    """A directory with `rows` in each split and the files of a Metadata; `.actual` are its splits, as they are."""

    def make(found, prefix="data", **rows):
        actual = {}
        (tmp_path / prefix).mkdir(parents=True, exist_ok=True)
        for name, count in rows.items():
            pq.write_table(pa.table({"id": [str(number % 10) for number in range(count)]}), tmp_path / prefix / f"{name}-00000-of-00001.parquet")
            actual[name] = SplitInfo(name, count, pq.read_table(tmp_path / prefix / f"{name}-00000-of-00001.parquet").nbytes)
        for field, name in FILES.items():
            text = getattr(found, field)
            (tmp_path / name).unlink(missing_ok=True)
            if text is not None:
                (tmp_path / name).write_bytes(text.encode())
        return actual

    return make


# What is expected

EXPECTED = {
    "nothing at all": (Metadata(), None),
    "a card that says nothing": (Metadata(card=front("license: mit\n")), None),
    "infos without splits": (Metadata(card=front("dataset_info:\n  features:\n  - name: id\n    dtype: string\n")), None),
    "the card": (Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3, full=5)}\n")), {"fast": 3, "full": 5}),
    "no splits": (Metadata(card=front("dataset_info:\n  splits: []\n")), {}),
    "a number is missing": (Metadata(card=front("dataset_info:\n  splits: [{name: fast, num_bytes: 15}]\n")), {"fast": 0}),
    "json alone": (Metadata(infos=json.dumps({"user--name": {"splits": table(fast=3)}})), {"fast": 3}),
    "the card over json": (
        Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3)}\n"), infos=json.dumps({"default": {"splits": table(fast=4)}})),
        {"fast": 3},
    ),
    "json where the card has another config": (
        Metadata(
            card=front(f"configs:\n- config_name: b\n- config_name: default\ndataset_info:\n- config_name: b\n  splits: {said(fast=3)}\n"),
            infos=json.dumps({"a": {"splits": table(fast=4)}}),
        ),
        {"fast": 4},
    ),
    "a card that says no splits over json": (
        Metadata(card=front("dataset_info:\n  download_size: 4\n"), infos=json.dumps({"default": {"splits": table(fast=4)}})),
        None,
    ),
    "the yaml over the card": (
        Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3)}\n"), yaml=f"dataset_info:\n  splits: {said(fast=4)}\n"),
        {"fast": 4},
    ),
    "the yaml over the card, with nothing": (Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3)}\n"), yaml="dataset_info:\n"), None),
    "a yaml about something else": (Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3)}\n"), yaml="license: mit\n"), {"fast": 3}),
    "dataset_info.json alone": (Metadata(info=json.dumps({"splits": table(fast=3)})), None),
    "an unnamed info of a named config": (Metadata(card=front(f"configs:\n- config_name: foo\ndataset_info:\n  splits: {said(fast=3)}\n")), None),
    "crlf": (Metadata(card="\ufeff" + front(f"dataset_info:\n  splits: {said(fast=3)}\n").replace("\n", "\r\n")), {"fast": 3}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_expected_is_what_datasets_expects(name, repository, library, tmp_path):
    found, rows = EXPECTED[name]
    repository(found, fast=3, full=5)
    assert metadata.expected(found) == rows
    assert library.ask("plan", tmp_path)["rows"] == rows


def test_expected_of_a_named_config():
    found = Metadata(
        card=front(
            f"dataset_info:\n- config_name: a\n  splits: {said(x=1)}\n- config_name: b\n  splits: {said(y=2)}\nconfigs:\n- config_name: a\n- config_name: b\n"
        )
    )
    assert (metadata.expected(found, "a"), metadata.expected(found, "b"), metadata.expected(found, "c")) == ({"x": 1}, {"y": 2}, None)
    with pytest.raises(UsageProblem, match="several configs and no default"):
        metadata.expected(found)


# What is wrong

WRONG = {
    "nothing is said": Metadata(),
    "a card without front matter": Metadata(card="# Заголовок\r\n\r\nText"),
    "no dataset_info": Metadata(card=front("# comment\nversion: 1.10\nlicense: mit\n")),
    "no splits": Metadata(card=front("dataset_info:\n  features:\n  - name: id\n    dtype: string\n")),
    "rows": Metadata(card=front(f"dataset_info:\n  splits: {said(fast=20, full=5)}\n  download_size: 3\n")),
    "rows, in a block": Metadata(
        card=front(
            "dataset_info:\r\n  splits:\r\n  - name: fast # ё\r\n    num_bytes: 1\r\n    num_examples: 20\r\n"
            "  - name: full\r\n    num_bytes: 25\r\n    num_examples: 5\r\n"
        )
    ),
    "text for a number": Metadata(card=front("dataset_info:\n  splits:\n  - {name: fast, num_examples: '3', num_bytes: 15}\n  - {name: full}\n")),
    "a split is missing": Metadata(card=front(f"dataset_info:\n  splits: {said(full=5)}\n")),
    "a split is too many": Metadata(card=front(f"dataset_info:\n  splits: {said(old=1, fast=3, full=5, older=2)}\n")),
    "others altogether": Metadata(card=front("dataset_info:\n  splits:\n  - name: old\n    num_bytes: 1\n    num_examples: 1\n  # two\n  - name: older\n")),
    "no data file": Metadata(
        card=front(
            f"dataset_info:\n  splits: {said(fast=3, full=5)}\nconfigs:\n- config_name: default\n  data_files:\n  - split: full\n    path: data/full-*\n"
        )
    ),
    "json": Metadata(infos=json.dumps({"user--name": {"splits": table(fast=4, full=5), "download_size": 4}}, indent=4)),
    "json, checksums": Metadata(
        infos=json.dumps({"default": {"splits": table(full=5, old=1), "download_checksums": {"a": {"num_bytes": 1, "checksum": "b"}}}})
    ),
    "json and a card": Metadata(
        card=front(f"dataset_info:\n  splits: {said(fast=20, full=5)}\n"),
        infos=json.dumps({"default": {"splits": table(fast=9)}}),
        info=json.dumps({"splits": table(fast=7)}),
    ),
    "the yaml": Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3, full=5)}\n"), yaml=f"dataset_info:\n  splits: {said(fast=20)}\n"),
    "the yaml, empty": Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3)}\n"), yaml="dataset_info:\n"),
    "configs in the yaml": Metadata(
        card=front(f"dataset_info:\n  splits: {said(full=5)}\n"), yaml="configs:\n- config_name: default\n  data_files: [{split: full, path: data/full-*}]\n"
    ),
    "another config beside it": Metadata(
        card=front(f"configs:\n- config_name: default\n- config_name: b\ndataset_info:\n  config_name: b\n  splits: {said(x=1)}\n")
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_put_right_loads(name, repository, library, tmp_path):
    found = WRONG[name]
    actual = repository(found, fast=3, full=5)
    wrong = metadata.disagreements(found, actual, download_size=77)
    assert wrong
    refused = library.ask("load", tmp_path)
    assert ("error" in refused) == any(difference.refused for difference in wrong), refused
    right = metadata.repaired(found, actual, download_size=77)
    assert metadata.disagreements(right, actual, download_size=77) == []
    assert metadata.repaired(right, actual, download_size=77) == right
    assert metadata.expected(right) == {"fast": 3, "full": 5}
    repository(right, fast=3, full=5)
    plan = library.ask("plan", tmp_path)
    assert (plan["rows"], plan["bytes"]) == ({"fast": 3, "full": 5}, {"fast": actual["fast"].num_bytes, "full": actual["full"].num_bytes})
    assert plan["sizes"] == [77, actual["fast"].num_bytes + actual["full"].num_bytes]
    loaded = library.ask("load", tmp_path)
    assert loaded == {split.name: [split.num_examples, split.num_bytes] for split in actual.values()}
    assert {field for field in FILES if getattr(found, field) is None and getattr(right, field) is not None} <= {"card"}


def test_stale_checksums_would_be_refused(repository, library, tmp_path):
    found = WRONG["json, checksums"]
    splits = json.loads(found.infos)["default"] | {"splits": table(fast=3, full=5)}
    actual = repository(Metadata(infos=json.dumps({"default": splits})), fast=3, full=5)
    assert library.ask("load", tmp_path, checksums=True)["error"] == "ExpectedMoreDownloadedFilesError"
    repository(metadata.repaired(found, actual), fast=3, full=5)
    assert library.ask("load", tmp_path, checksums=True) == {"fast": [3, 15], "full": [5, 25]}


def test_every_difference_is_named():
    found = WRONG["json and a card"]
    wrong = metadata.disagreements(found, {"fast": SplitInfo("fast", 3, 15), "full": SplitInfo("full", 5, 25)}, download_size=77)
    assert Disagreement(CARD, "default", "fast", "num_examples", 20, 3, refused=True) in wrong
    assert Disagreement("dataset_infos.json", "default", "full", "num_examples", None, 5, refused=False) in wrong
    assert Disagreement("dataset_info.json", "default", "fast", "num_bytes", 35, 15, refused=False) in wrong
    assert [str(difference) for difference in wrong if difference.where == CARD] == [
        "README.md: config default, split fast: num_examples says 20, should be 3",
        "README.md: config default, split fast: num_bytes says 100, should be 15",
        "README.md: config default: download_size says nothing, should be 77",
        "README.md: config default: dataset_size says nothing, should be 40",
    ]
    assert [str(difference) for difference in metadata.disagreements(WRONG["no data file"], {"fast": SplitInfo("fast", 3)})] == [
        "README.md: config default, split full: is listed, but there is no such split",
        "README.md: config default, split fast: data_files says nothing, should be data/fast-*",
    ]


def test_only_what_is_known_is_compared():
    found = Metadata(card=front(f"dataset_info:\n  splits: {said(fast=3)}\n"))
    assert metadata.disagreements(found, {"fast": SplitInfo("fast", 3)}) == []
    right = metadata.repaired(found, {"fast": SplitInfo("fast", 4)})
    assert right.card == found.card.replace("num_examples: 3", "num_examples: 4")


def test_repairs_that_cannot_be_made():
    with pytest.raises(ValueError, match="no splits"):
        metadata.repaired(Metadata(), {})
    with pytest.raises(DataError, match=r"\.huggingface\.yaml:2: the key 'a' is there twice"):
        metadata.expected(Metadata(yaml="a: 1\na: 2\n"))


NEW_SPLIT = {
    "nothing is said": Metadata(),
    "no dataset_info": Metadata(card=front("version: 1.10 # not 1.1\n")),
    "no splits": Metadata(card=front("dataset_info:\n  download_size: 5\n")),
    "the others are there": Metadata(card=front(f"dataset_info:\n  splits: {said(full=5)}\n  dataset_size: 25\n")),
    "the split has other numbers": Metadata(card=front(f"dataset_info:\n  splits: {said(fast=9, full=5)}\n")),
    "the yaml counts": Metadata(card=front(f"dataset_info:\n  splits: {said(fast=9)}\n"), yaml=f"dataset_info:\n  splits: {said(full=5)}\n"),
    "the yaml has the configs": Metadata(
        card=front(f"dataset_info:\n  splits: {said(full=5)}\n"),
        yaml="configs:\n- config_name: default\n  data_files: [{split: full, path: data/full-*}]\n",
    ),
    "the card has the configs": Metadata(
        card=front("configs:\n- config_name: default\n  data_files: [{split: full, path: data/full-*}]\n"), yaml=f"dataset_info:\n  splits: {said(full=5)}\n"
    ),
    "json": Metadata(infos=json.dumps({"user--name": {"splits": table(full=5), "download_checksums": {"a": {}}}}), info=json.dumps({"splits": None})),
}


@pytest.mark.parametrize("name", NEW_SPLIT)
def test_a_new_split_loads_with_the_others(name, repository, library, tmp_path):
    found = NEW_SPLIT[name]
    actual = repository(found, fast=3, full=5)
    after = metadata.with_split(found, actual["fast"], {"full": actual["full"]}, download_size=77)
    assert metadata.with_split(after, actual["fast"], {"full": actual["full"]}, download_size=77) == after
    repository(after, fast=3, full=5)
    plan = library.ask("plan", tmp_path)
    assert (plan["rows"], plan["sizes"]) == ({"full": 5, "fast": 3}, [77, 40])
    assert library.ask("load", tmp_path) == {split.name: [split.num_examples, split.num_bytes] for split in actual.values()}
    assert not any(difference.refused for difference in metadata.disagreements(after, actual, download_size=77))


def test_a_new_split_alone_would_be_refused(repository, library, tmp_path):
    """Why the others are entered with it."""
    alone = metadata.with_split(Metadata(), SplitInfo("fast", 3, 15), {})
    repository(alone, fast=3, full=5)
    assert library.ask("load", tmp_path)["error"] == "UnexpectedSplitsError"


def test_other_splits_are_left_as_they_are_told():
    found = Metadata(card=front(f"dataset_info:\n  splits: {said(full=6)}\n"))
    after = metadata.with_split(found, SplitInfo("fast", 3, 15), {"full": SplitInfo("full", 5, 25)})
    assert metadata.expected(after) == {"full": 6, "fast": 3}


def test_several_configs_load(repository, library, tmp_path):
    """Each config is put right by itself; comments, quotes, CRLF and `version: 1.10` stay."""
    text = (
        "---\nversion: 1.10 # not 1.1\nname: 'Ёж 😀'\nconfigs:\n- config_name: ru\n  data_files:\n  - split: full\n    path: ru/full-*\n- config_name: en\n"
        "  data_dir: en\ndataset_info:\n- config_name: ru\n  # ru\n  splits:\n  - name: full\n    num_bytes: 1\n    num_examples: 1\n---\n# Body\n"
    ).replace("\n", "\r\n")
    found = Metadata(card=text)
    ru = repository(found, "ru", fast=3, full=5)
    en = repository(found, "en/data", fast=4, full=6)
    assert library.ask("load", tmp_path, config="ru")["error"] == "NonMatchingSplitsSizesError"
    for config, actual in (("ru", ru), ("en", en)):
        found = metadata.repaired(found, actual, config)
    repository(found, "ru")
    assert library.ask("load", tmp_path, config="ru") == {"fast": [3, 15], "full": [5, 25]}
    assert library.ask("load", tmp_path, config="en") == {"fast": [4, 20], "full": [6, 30]}
    assert library.ask("infos", tmp_path) == {
        "ru": {"splits": {"fast": [3, 15], "full": [5, 25]}, "sizes": [None, 40]},
        "en": {"splits": {"fast": [4, 20], "full": [6, 30]}, "sizes": [None, 50]},
    }
    seen = library.ask("card", tmp_path)
    assert seen["text"] == "# Body\r\n"
    assert found.card.startswith("---\r\nversion: 1.10 # not 1.1\r\nname: 'Ёж 😀'\r\nconfigs:\r\n")
    assert "\n" not in found.card.replace("\r\n", "")
