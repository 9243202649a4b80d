"""A card is read whole, and edited so that only the numbers meant are others."""

import contextlib
import difflib
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets import card, yaml_text
from pytest_gpueval.datasets.card import Card, Config, ConfigInfo, SplitInfo
from pytest_gpueval.errors import DataError, GpuevalError, MissingExtra, UsageProblem

FAST = SplitInfo("fast", 800, 123_456)

REAL = """\
---
# Метаданные набора — не сортировать
license: apache-2.0   # as the source
version: 1.10
language: [ru, en]
pretty_name: "Наборы 😀 данных"
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': no
          '1': yes
  splits:
  - name: full          # everything
    num_bytes: 999
    num_examples: 66_000
  # rebalanced on Mondays
  - name: fast
    num_bytes: 10
    num_examples: 20    # see the runbook

  download_size: 5
  dataset_size: 1009
configs:
- config_name: default
  data_files:
  - split: full
    path: data/full-*
  - split: fast
    path: data/fast-*
---

# Наборы{trailing}
dataset_info: not this one
---
""".replace("{trailing}", "  ")


def front(text, body="# Body\n"):
    return f"---\n{text}---\n{body}"


def changed(before, after):
    """The lines taken out and put in."""
    diff = list(difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), n=0))[2:]
    return [line[1:] for line in diff if line[0] == "-"], [line[1:] for line in diff if line[0] == "+"]


# Reading


def test_a_whole_card():
    read = card.read(REAL)
    info = read.info("default")
    assert info.splits == (SplitInfo("full", 66_000, 999), SplitInfo("fast", 20, 10))
    assert (info.download_size, info.dataset_size) == (5, 1009)
    assert [feature["name"] for feature in info.features] == ["text", "label"]
    assert read.config("default").data_files == [{"split": "full", "path": "data/full-*"}, {"split": "fast", "path": "data/fast-*"}]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Title\n",
        "---\n---\n",
        "---\n\n---\n",
        "---\n# a comment\n---\nbody",
        "---\n---",
        "\ufeff# Title",
        "---\n~\n---\n",
        "---\nlicense: mit\n",
        "--- \na: 1\n---\n",
    ],
)
def test_a_card_that_says_nothing(text):
    assert card.read(text) == Card()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "\ufeff", "\n \n"])
def test_every_ending_and_beginning(ending, head):
    assert card.read(head + REAL.replace("\n", ending)) == card.read(REAL)


@pytest.mark.parametrize(
    ("said", "files"),
    [
        ("data/*.parquet", {"train": ("data/*.parquet",)}),
        ("[a.parquet, b.parquet]", {"train": ("a.parquet", "b.parquet")}),
        ("{fast: a.parquet, full: [b.parquet, c.parquet]}", {"fast": ("a.parquet",), "full": ("b.parquet", "c.parquet")}),
        ("[{split: fast, path: a.parquet}, {split: full, path: [b.parquet, c.parquet]}]", {"fast": ("a.parquet",), "full": ("b.parquet", "c.parquet")}),
    ],
)
def test_data_files_in_all_forms(said, files):
    read = card.read(front(f"configs:\n- config_name: a\n  data_files: {said}\n- config_name: b\n  data_dir: b\n  default: true\n"))
    assert card.files_by_split(read.config("a").data_files) == files
    assert read.config("b") == Config("b", None, "b", default=True, options={})


def test_several_configs():
    read = card.read(front("dataset_info:\n- config_name: a\n  splits:\n  - {name: x, num_examples: 1, num_bytes: 2}\n- config_name: b\n- splits: []\n"))
    assert read.infos == (ConfigInfo("a", (SplitInfo("x", 1, 2),)), ConfigInfo("b"), ConfigInfo("default", ()))


def test_anchors_and_merge_keys():
    read = card.read(
        front(
            "sizes: &s {num_bytes: 7, num_examples: 3}\ndataset_info:\n- config_name: a\n  splits: &l\n  - {name: x, <<: *s}\n- config_name: b\n  splits: *l\n"
        )
    )
    assert read.info("a").splits == read.info("b").splits == (SplitInfo("x", 3, 7),)


@pytest.mark.parametrize("said", ["'20'", "20.5", "yes", "[20]", "~", ""])
def test_what_is_no_whole_number_is_not_said(said):
    assert card.read(front(f"dataset_info:\n  splits:\n  - name: x\n    num_examples: {said}\n")).info("default").splits == (SplitInfo("x"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [\n", r"README\.md:4: the YAML is broken: "),
        ("a: 1\n\tb: 2\n", r"README\.md:3: the YAML is broken: found character '\\t' that cannot start any token"),
        ("a: 1\nb: 2\na: 3\n", r"README\.md:4: the key 'a' is there twice"),
        ("a:\n  b: 1\n  b: 1\n", r"README\.md:4: the key 'b' is there twice"),
        ("a: *b\n", r"README\.md:2: the YAML is broken: found undefined alias 'b'"),
        ("a: !python/name:os.system x\n", r"README\.md:2: the YAML is broken: could not determine a constructor"),
        ("a: b\nwhen: 2026-13-01\n", r"README\.md:3: the YAML is broken: '2026-13-01' cannot be read: month"),
        ("a: !!int ''\n", r"README\.md:2: the YAML is broken"),
        ("a: \x07\n", r"README\.md:2: the YAML is broken: the character U\+0007 is not allowed"),
        ("a: &a [*a]\n", r"README\.md:2: the YAML contains itself"),
        ("- a\n", r"README\.md:2: expected a mapping .*, found a list"),
        ("just text\n", r"README\.md:2: expected a mapping .*, found 'just text'"),
        ("a: 1\n--- b\n", r"README\.md:3: the YAML is broken: but found another document"),
        ("x: 1\nconfigs: {a: 1}\n", r"README\.md:3: configs: expected a list, found a mapping"),
        ("configs:\n- config_name: a\n- data_files: x\n", r"README\.md:4: configs: each entry must be a mapping with `config_name`"),
        ("configs:\n- config_name: a\n- config_name: a\n", r"README\.md:4: configs: 'a' is there twice"),
        ("configs:\n- config_name: no\n", r"README\.md:3: config_name: expected text, found False. Put it in quotes"),
        ("configs:\n- config_name: a\n  data_files:\n", r"README\.md:4: configs: data_files of 'a' is empty"),
        ("dataset_info:\n- a\n", r"README\.md:3: dataset_info: expected a mapping for each config, found 'a'"),
        ("dataset_info:\n- splits: []\n- splits: []\n", r"README\.md:4: dataset_info: config 'default' is there twice"),
        ("dataset_info:\n  splits: 5\n", r"README\.md:3: splits: expected a list of splits, found 5"),
        ("dataset_info:\n  splits:\n  - num_bytes: 5\n", r"README\.md:4: splits: each must be a mapping with `name`"),
        ("dataset_info:\n  splits:\n  - name: a\n\n  - name: a\n", r"README\.md:6: splits: 'a' is there twice"),
        ("dataset_info:\n  splits:\n  - name: 2020\n", r"README\.md:4: name: expected text, found 2020. Put it in quotes"),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_broken_card_is_named_with_its_line(text, message, ending):
    with pytest.raises(DataError, match=message):
        card.read(front(text).replace("\n", ending))


@pytest.mark.parametrize("text", ["---\ndataset_info:\n  splits: []\n", "--- \nlicense: mit\nconfigs: []\n---\n"])
def test_a_front_matter_that_nobody_reads_is_an_error(text):
    with pytest.raises(DataError, match=r"README\.md:[23]: the front matter is not read"):
        card.read(text)


def test_aliases_that_stand_for_too_much():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(DataError, match="aliases stand for more than 1,000,000 values"):
        card.read(front(bomb))


def test_too_deep():
    with pytest.raises(DataError, match=r"README\.md:2: the YAML is nested too deeply"):
        card.read(front("a: " + "[" * 1000 + "]" * 1000 + "\n"))


@given(st.text(alphabet=st.sampled_from("ab:-[]{},&*!|>'\"#%@`? \n\r\t01\u2028é😀<"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text):
    for whole in (text, front(text + "\n")):
        with contextlib.suppress(DataError):
            assert isinstance(card.read(whole), Card)


def test_without_pyyaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra, match=r"pytest-gpueval\[hub\]"):
        card.read(REAL)


# The default config


@pytest.mark.parametrize(
    ("text", "infos", "name"),
    [
        ("", [], "default"),
        ("", ["only"], "only"),
        ("", ["a", "b"], "default"),
        ("configs: [{config_name: a}]", ["b"], "a"),
        ("configs: [{config_name: a}, {config_name: default}]", [], "default"),
        ("configs: [{config_name: a}, {config_name: b, default: true}]", [], "b"),
    ],
)
def test_the_default_config(text, infos, name):
    assert card.default_config(card.read(front(f"{text}\n")), infos) == name


def test_no_default_config():
    with pytest.raises(UsageProblem, match=r"several configs and no default\. Valid configs: a, b\."):
        card.default_config(card.read(front("configs: [{config_name: a}, {config_name: b}]\n")))
    with pytest.raises(DataError, match="'default' and 'b' are both the default"):
        card.default_config(card.read(front("configs: [{config_name: default}, {config_name: b, default: true}]\n")))


# Editing


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "\ufeff"])
def test_only_the_numbers_change(ending, head):
    before = head + REAL.replace("\n", ending)
    after = card.with_split(before, "default", FAST, download_size=77, dataset_size=124_455)
    out, put = changed(before, after)
    assert [line.strip() for line in out] == ["num_bytes: 10", "num_examples: 20    # see the runbook", "download_size: 5", "dataset_size: 1009"]
    assert put == [
        f"    num_bytes: 123456{ending}",
        f"    num_examples: 800    # see the runbook{ending}",
        f"  download_size: 77{ending}",
        f"  dataset_size: 124455{ending}",
    ]
    assert card.with_split(after, "default", FAST, download_size=77, dataset_size=124_455) == after


def test_a_new_split_comes_after_the_others():
    new = card.with_split(REAL, "default", SplitInfo("tiny", 5, 6))
    assert changed(REAL, new) == (
        [],
        ["  - name: tiny\n", "    num_bytes: 6\n", "    num_examples: 5\n", "  - split: tiny\n", "    path: data/tiny-*\n"],
    )


def test_a_card_without_front_matter_gets_one():
    new = card.with_split("# Title\r\n\r\ntext", "default", FAST, download_size=1, dataset_size=2)
    said = [
        "---",
        "dataset_info:",
        "  splits:",
        "  - name: fast",
        "    num_bytes: 123456",
        "    num_examples: 800",
        "  download_size: 1",
        "  dataset_size: 2",
        "---",
    ]
    assert new == "\r\n".join(said) + "\r\n# Title\r\n\r\ntext"


NEW = "  splits:\n  - name: fast\n    num_bytes: 123456\n    num_examples: 800\n"
ENTRY = "- name: fast\n    num_bytes: 123456\n    num_examples: 800\n"
FLOW = "{name: fast, num_bytes: 123456, num_examples: 800}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"dataset_info:\n{NEW}"),
        ("# just this\n", f"# just this\ndataset_info:\n{NEW}"),
        ("version: 1.10\n# end\n", f"version: 1.10\ndataset_info:\n{NEW}# end\n"),
        ("text: |+\n  a\n\n", f"text: |+\n  a\n\ndataset_info:\n{NEW}"),
        ("{license: mit}\n", "{license: mit, dataset_info: {splits: [" + FLOW + "]}}\n"),
        ("dataset_info:\n", f"dataset_info:\n{NEW}"),
        ("dataset_info: null # todo\nz: 1\n", f"dataset_info: # todo\n{NEW}z: 1\n"),
        ("dataset_info: {}\n", "dataset_info: {splits: [" + FLOW + "]}\n"),
        ("~\n", f"\ndataset_info:\n{NEW}"),
        ("a: 1\u2028b: 2\n", f"a: 1\u2028b: 2\ndataset_info:\n{NEW}"),
        ("a: b\n...\n", f"a: b\ndataset_info:\n{NEW}...\n"),
        ("dataset_info: []\n", "dataset_info: [{config_name: default, splits: [" + FLOW + "]}]\n"),
        (
            "dataset_info:\n    features: []  # none\n",
            "dataset_info:\n    features: []  # none\n    splits:\n    - name: fast\n      num_bytes: 123456\n      num_examples: 800\n",
        ),
        ("dataset_info:\n  splits:\n  download_size: 5\n", f"dataset_info:\n  splits:\n  {ENTRY}  download_size: 5\n"),
        ("dataset_info:\n  splits: []\n", f"dataset_info:\n  splits: [{FLOW}]\n"),
        (
            "dataset_info:\n  splits: [{name: a, num_examples: 1} ] # x\n",
            "dataset_info:\n  splits: [{name: a, num_examples: 1}, {name: fast, num_examples: 800, num_bytes: 123456} ] # x\n",
        ),
        ("dataset_info:\n  splits: [\n    {name: a},\n  ]\n", "dataset_info:\n  splits: [\n    {name: a}, " + FLOW + ",\n  ]\n"),
        (
            "dataset_info:\n  splits:\n    -   name: a # b\n# c\n",
            "dataset_info:\n  splits:\n    -   name: a # b\n    -   name: fast\n        num_bytes: 123456\n        num_examples: 800\n# c\n",
        ),
        ("dataset_info:\n  splits:\n  -\n    name: a\n", f"dataset_info:\n  splits:\n  -\n    name: a\n  {ENTRY}"),
        ("dataset_info:\n  splits:\n  - {name: a}\n", f"dataset_info:\n  splits:\n  - {{name: a}}\n  - {FLOW}\n"),
        (
            "dataset_info:\n  splits:\n  - num_examples: 1\n    name: a\n",
            "dataset_info:\n  splits:\n  - num_examples: 1\n    name: a\n  - num_examples: 800\n    name: fast\n    num_bytes: 123456\n",
        ),
        ("dataset_info:\n  splits:\n  - name: fast\n", f"dataset_info:\n  splits:\n  {ENTRY}"),
        (
            "dataset_info:\n  splits:\n  - {num_examples: '7', name: fast}\n",
            "dataset_info:\n  splits:\n  - {num_examples: 800, name: fast, num_bytes: 123456}\n",
        ),
        (
            "dataset_info:\n  splits:\n  - name: fast\n    num_examples:   # ?\n    num_bytes: !!str 5\n",
            "dataset_info:\n  splits:\n  - name: fast\n    num_examples: 800   # ?\n    num_bytes: 123456\n",
        ),
        (
            "dataset_info:\n  splits:\n  - name: 'fast'\n    num_examples: |\n      7\n    num_bytes: ~\n",
            "dataset_info:\n  splits:\n  - name: 'fast'\n    num_examples: 800\n    num_bytes: 123456\n",
        ),
        (
            "dataset_info:\n  splits:\n    fast: {name: fast, num_bytes: 1, num_examples: 2}\n",
            "dataset_info:\n  splits:\n    fast: {name: fast, num_bytes: 123456, num_examples: 800}\n",
        ),
        (
            "dataset_info: {config_name: a, splits: []}\n",
            "dataset_info: [{config_name: a, splits: []}, {config_name: default, splits: [" + FLOW + "]}]\n",
        ),
        (
            "dataset_info:\n  # one\n  config_name: a\n  features: []\n# end\n",
            f"dataset_info:\n  # one\n- config_name: a\n  features: []\n- config_name: default\n{NEW}# end\n",
        ),
        (
            "dataset_info:\n- config_name: a\n  splits: &s\n  - {name: x, num_examples: 1}\n- config_name: b\n  splits: *s\n",
            f"dataset_info:\n- config_name: a\n  splits: &s\n  - {{name: x, num_examples: 1}}\n- config_name: b\n  splits: *s\n- config_name: default\n{NEW}",
        ),
    ],
)
def test_layouts(before, after):
    assert card.with_split(front(before), "default", FAST) == front(after)


def test_an_unnamed_info_is_the_default_ones_when_another_joins_it():
    before = front("dataset_info:\n    features: []\n    splits: []\n")
    after = card.with_split(before, "other", FAST)
    assert [info.name for info in card.read(after).infos] == ["default", "other"]
    assert changed(before, after)[0] == []
    assert "  - config_name: default\n    features: []\n    splits: []\n  - config_name: other\n    splits:\n" in after


@pytest.mark.parametrize(
    ("files", "added"),
    [
        ("\n  - split: full\n    path: data/full-*\n", "  - split: fast\n    path: data/fast-*\n"),
        ("\n  - split: full\n    path: [v2/full.parquet, more/full.parquet]\n", "  - split: fast\n    path: v2/fast.parquet\n"),
        ("\n  - path: everything.parquet\n    split: full\n", "  - split: fast\n    path: data/fast-*\n"),
        (" # these\n    - {split: full, path: full/*}\n", "    - {split: fast, path: fast/*}\n"),
        ("\n    full: x/full-*\n", "    fast: x/fast-*\n"),
    ],
)
def test_data_files_that_are_listed_get_the_split(files, added):
    before = front(f"configs:\n- config_name: default\n  data_files:{files}- config_name: other\ndataset_info:\n{NEW}")
    after = card.with_split(before, "default", FAST)
    assert after == before.replace("- config_name: other\n", added + "- config_name: other\n")
    assert card.with_split(after, "default", FAST) == after


def test_a_pattern_of_ones_own():
    before = front("configs:\n- config_name: a\n  data_files: [{split: full, path: full/*}]\n")
    assert "{split: full, path: full/*}, {split: fast, path: 'data/x #1-*'}]" in card.with_split(before, "a", FAST, data_files="data/x #1-*")


def test_configs_with_default_patterns_are_left_alone():
    before = front("configs:\n- config_name: default\n  data_dir: here\n")
    assert changed(before, card.with_split(before, "default", FAST)) == ([], ["dataset_info:\n", *NEW.splitlines(keepends=True)])


@pytest.mark.parametrize("files", ["data/*.parquet", "[data/*.parquet]"])
def test_data_files_that_take_everything_for_one_split(files):
    text = front(f"configs:\n- config_name: default\n  data_files: {files}\n")
    with pytest.raises(DataError, match=r"README\.md:4: data_files of config 'default' take all files for its split 'train'"):
        card.with_split(text, "default", FAST)
    assert card.read(card.with_split(text, "default", SplitInfo("train", 1, 2))).info("default").splits == (SplitInfo("train", 1, 2),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dataset_info:\n  splits: &s\n  - name: fast\n    num_bytes: 1\n    num_examples: 2\nothers: *s\n",
            r"README\.md:5: dataset_info\.splits\.0\.num_bytes is shared by an alias",
        ),
        (
            "n: &n 5\ndataset_info:\n  splits:\n  - name: fast\n    num_bytes: *n\n    num_examples: 2\n",
            r"README\.md:6: dataset_info\.splits\.0\.num_bytes is shared by an alias",
        ),
        ("d: &d {splits: []}\ndataset_info:\n  <<: *d\n  download_size: 4\n", "comes from a merge key"),
        ("dataset_info:\n a: 1\n config_name: x\n", r"README\.md:3: this mapping would have to become a list"),
        ("? dataset_info\n: ? splits\n  : - ? name\n      : fast\n", r"README\.md:\d: .*edited in place"),
        ("dataset_info: {splits: [{name: fast, num_examples}]}\n", r"README\.md:2: this layout cannot be edited in place"),
        ("dataset_info: {? splits}\n", r"README\.md:2: this layout cannot be edited in place"),
        ("dataset_info: soon\n", r"README\.md:2: dataset_info: expected a mapping or a list, found 'soon'"),
        ("dataset_info:\n  splits:\n    slow: {name: slow}\n", r"README\.md:4: splits: expected a list of splits"),
    ],
)
def test_what_cannot_be_edited_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        card.with_split(front(text), "default", FAST)


def test_configs_and_splits_that_cannot_be():
    with pytest.raises(UsageProblem, match=r"README\.md: there is no config 'defualt'\. Did you mean 'default'\? Valid configs: default\."):
        card.with_split(REAL, "defualt", FAST)
    for name in ("", "a-b", "a/b", "a..b", "a\n"):
        with pytest.raises(UsageProblem, match="no name for a split"):
            card.with_split(REAL, "default", SplitInfo(name, 1, 1))
    with pytest.raises(ValueError, match="not known"):
        card.with_split(REAL, "default", SplitInfo("new", 1))
    assert card.read(card.with_split(REAL, "default", SplitInfo("fast", 1))).info("default").splits[1] == SplitInfo("fast", 1, 10)


def test_a_split_to_take_out_of_a_mapping_is_left_to_people():
    text = front("dataset_info:\n  splits:\n    a: {name: a}\n    b: {name: b}\n")
    with pytest.raises(DataError, match=r"README\.md:4: split 'b' should not be listed"):
        card.without_split(card.front_matter(text), "default", "b")


SEVERAL = [SplitInfo("fast", 800, 5), SplitInfo("tiny", 8, 6)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "configs: [{config_name: default, data_files: [{split: full, path: full/*}]}]\ndataset_info: {splits: []}\n",
            (
                "configs: [{config_name: default, data_files: [{split: full, path: full/*}, {split: fast, path: fast/*}, {split: tiny, path: tiny/*}]}]\n"
                "dataset_info: {splits: [{name: fast, num_bytes: 5, num_examples: 800}, {name: tiny, num_bytes: 6, num_examples: 8}], "
                "download_size: 1, dataset_size: 2}\n"
            ),
        ),
        (
            "dataset_info: {}\n",
            (
                "dataset_info: {splits: [{name: fast, num_bytes: 5, num_examples: 800}, {name: tiny, num_bytes: 6, num_examples: 8}], "
                "download_size: 1, dataset_size: 2}\n"
            ),
        ),
        (
            "dataset_info:\n  splits:\n  - name: fast\nconfigs:\n- config_name: default\n  data_files:\n  - path: fast/*\n    split: fast\n",
            (
                "dataset_info:\n  splits:\n  - name: fast\n    num_bytes: 5\n    num_examples: 800\n  - name: tiny\n    num_bytes: 6\n    num_examples: 8\n"
                "  download_size: 1\n  dataset_size: 2\n"
                "configs:\n- config_name: default\n  data_files:\n  - path: fast/*\n    split: fast\n  - split: tiny\n    path: tiny/*\n"
            ),
        ),
    ],
)
def test_several_splits_at_once(before, after):
    assert card.edited(card.front_matter(front(before)), "default", SEVERAL, download_size=1, dataset_size=2) == front(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "dataset_info:\n  splits:\n  - name: a\n    num_bytes: 1\n  # of b\n  - name: b # c\n  download_size: 1\n",
            "dataset_info:\n  splits:\n  - name: a\n    num_bytes: 1\n  # of b\n  download_size: 1\n",
        ),
        ("dataset_info:\n  splits:\n  - name: b\n    num_bytes: 1\n\n  - name: a\n", "dataset_info:\n  splits:\n\n  - name: a\n"),
        ("dataset_info: {splits: [{name: a}, {name: b}]}\n", "dataset_info: {splits: [{name: a}]}\n"),
        ("dataset_info: {splits: [{name: b}, {name: a}]}\n", "dataset_info: {splits: [{name: a}]}\n"),
        ("dataset_info: {splits: [ {name: b} ]}\n", "dataset_info: {splits: [  ]}\n"),
        ("a: 1\n", "a: 1\n"),
    ],
)
def test_taking_a_split_out(before, after):
    assert card.without_split(card.front_matter(front(before)), "default", "b") == front(after)


# Any card

NAMES = st.sampled_from(["train", "fast", "full", "test_2", "a.b"])
CONFIGS = st.sampled_from(["default", "ru", "en-US", "no", "2020", "я", "a: b"])
NUMBERS = st.integers(0, 10**12)
SCALARS = st.one_of(st.sampled_from(["1.10", "'x: y'", '"\\u00e9😀"', "~", "привет # not data", "2026-01-02", "!!str 5"]), NUMBERS.map(str))


@st.composite
def cards(draw):
    """A card's text with what is in it: blocks and flow, comments, blank lines, several configs, any line ending."""

    def noise(indent=""):
        return draw(st.sampled_from(["", "", "", "\n", f"{indent}# comment: 5\n", "# left\n"]))

    def entry(name, indent):
        said = list(draw(st.permutations([("name", name), ("num_bytes", draw(NUMBERS)), ("num_examples", draw(NUMBERS))])))
        said = said[: draw(st.integers(1, 3))] if ("name", name) in said[:1] else said
        if draw(st.booleans()):
            return f"{indent}- {{{', '.join(f'{key}: {value}' for key, value in said)}}}{draw(st.sampled_from(['', '  # flow']))}\n"
        first, *rest = (f"{key}: {value}" for key, value in said)
        return f"{indent}- {first}\n" + "".join(f"{noise(indent)}{indent}  {line} # five\n" for line in rest)

    def info(config, lead, indent):
        text = f"{lead}config_name: {yaml.safe_dump([config], allow_unicode=True, default_flow_style=True)[1:-2]}\n{noise()}"
        names = draw(st.lists(NAMES, unique=True, max_size=3))
        if draw(st.booleans()):
            text += f"{indent}features:\n{indent}- name: text\n{indent}  dtype: string\n"
        if names:
            inner = indent + draw(st.sampled_from(["", "  ", "    "]))
            text += f"{indent}splits:{draw(st.sampled_from(['', ' # splits']))}\n" + "".join(noise(inner) + entry(name, inner) for name in names)
        elif draw(st.booleans()):
            text += f"{indent}splits: {draw(st.sampled_from(['', '[]', '~']))}\n"
        for key in ("download_size", "dataset_size"):
            if draw(st.booleans()):
                text += f"{noise()}{indent}{key}: {draw(NUMBERS)} # {key}\n"
        return text

    parts = [f"k{number}: {draw(SCALARS)}\n" for number in range(draw(st.integers(0, 3)))]
    configs = draw(st.lists(CONFIGS, unique=True, max_size=3))
    if len(configs) == 1 and draw(st.booleans()):
        parts.append(f"dataset_info:{draw(st.sampled_from(['', ' # infos']))}\n" + info(configs[0], "  ", "  "))
    elif configs:
        dash = draw(st.sampled_from(["- ", "  - "]))
        parts.append("dataset_info:\n" + "".join(noise() + info(config, dash, " " * len(dash)) for config in configs))
    parts = draw(st.permutations(parts))
    text = (
        draw(st.sampled_from(["", "\ufeff"]))
        + "---\n"
        + "".join(noise() + part for part in parts)
        + noise()
        + "---\n"
        + draw(st.sampled_from(["", "# Body\n---\nend"]))
    )
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@given(cards(), CONFIGS, NAMES, NUMBERS, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)
@settings(max_examples=100, deadline=None)
def test_any_card_says_the_new_numbers_and_nothing_else_new(text, config, name, rows, size, download_size, dataset_size):
    before = card.read(text)
    after = card.with_split(text, config, SplitInfo(name, rows, size), download_size=download_size, dataset_size=dataset_size)
    read = card.read(after)
    info = read.info(config)
    assert SplitInfo(name, rows, size) in info.splits
    for said, kept, new in ((info.download_size, "download_size", download_size), (info.dataset_size, "dataset_size", dataset_size)):
        assert said == (getattr(before.info(config) or ConfigInfo(config), kept) if new is None else new)
    assert [other for other in before.infos or () if other.name != config] == [other for other in read.infos if other.name != config]
    known = before.info(config)
    assert [split for split in (known.splits or () if known else ()) if split.name != name] == [split for split in info.splits if split.name != name]
    assert card.with_split(after, config, SplitInfo(name, rows, size), download_size=download_size, dataset_size=dataset_size) == after
    out, put = changed(text, after)
    numbers = ("num_bytes", "num_examples", "download_size", "dataset_size", "splits:", "dataset_info:", "config_name", "- {", "name: ")
    assert all(any(key in line for key in numbers) for line in [*out, *put])
    assert len(out) <= 4
    assert all(line.endswith("\r\n") for line in put) or "\r\n" not in text


PIECES = st.sampled_from(
    [
        " ",
        "\n",
        "\r\n",
        "- ",
        "? ",
        ": ",
        "&a ",
        "*a",
        "!!str ",
        "# ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "|",
        ">-\n",
        "'",
        '"',
        "~",
        "<<: *a",
        "\t",
        "\u2028",
        "😀",
        "\n---\n",
        "...\n",
        "%",
        "name: fast",
        "num_examples: ",
        "splits:",
        "dataset_info:",
        "config_name: x",
    ]
)


@given(st.lists(st.tuples(st.integers(0, len(REAL)), st.integers(0, 3), PIECES), min_size=1, max_size=3), st.sampled_from(["fast", "new"]))
@settings(max_examples=150, deadline=None)
def test_a_mutilated_card_is_edited_or_refused(cuts, name):
    """Whatever stands there, it is never an error of ours, and never a card that says something else."""
    text = REAL
    for place, length, piece in cuts:
        text = text[:place] + piece + text[place + length :]
    split = SplitInfo(name, 801, 1234)
    try:
        after = card.with_split(text, "default", split, download_size=9)
    except GpuevalError:
        return
    read = card.read(after)
    assert split in read.info("default").splits
    assert [config.options for config in read.configs or ()] == [config.options for config in card.read(text).configs or ()]
    assert card.with_split(after, "default", split, download_size=9) == after


def test_the_marks_of_pyyaml_are_those_of_the_text():
    """Positions are characters also after astral ones, and line ends of two characters."""
    text = "😀: [1, 'ё'] # 🎉\r\nb: |\r\n  😀\r\nc:\r\n- 5\r\n"
    document = yaml_text.Document(text, 0, len(text), "x")
    assert [text[slice(*document.slot(path)[1:])] for path in (("😀",), ("😀", 1), ("c", 0))] == ["[1, 'ё']", "'ё'", "5"]
