"""The words of a command: each style says a value so that the program which reads it has the same value."""

import argparse
import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.suites.arguments import MOST_BYTES, check, render, unused

FIELDS = {"python": "/venv/bin/python", "run_dir": "/out/a b", "run_id": "base-s1"}
STYLES = ["python-literal", "argparse", "hydra", "json"]
names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
number = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
leaf = st.one_of(st.booleans(), number, text, st.sampled_from(["a=b", "True", "1", "None", "-x", "", "'", '"', "\\", "=", "\\=", "{x}"]))
value = st.recursive(leaf, lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(text, part, max_size=3)), max_leaves=6)


def words(parameters, style, template=("{parameters}",)):
    return render(list(template), parameters, style, FIELDS)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("python-literal", ["--lr=0.0006", "--n=8", "--wandb_log=False", "--compile=True", "--model='hc'", "--betas=[0.9, 0.95]", "--opt={'a': 'b\\x3dc'}"]),
        ("argparse", ["--lr=0.0006", "--n=8", "--compile", "--model=hc", "--betas", "0.9", "0.95", '--opt={"a": "b=c"}']),
        ("hydra", ["lr=0.0006", "n=8", "wandb_log=false", "compile=true", "model=hc", "betas=[0.9,0.95]", "opt={a:'b=c'}"]),
        ("json", ['{"lr": 0.0006, "n": 8, "wandb_log": false, "compile": true, "model": "hc", "betas": [0.9, 0.95], "opt": {"a": "b=c"}}']),
    ],
)
def test_one_row_in_each_style(style, expected):
    row = {"lr": 6e-4, "n": 8, "seed": None, "wandb_log": False, "compile": True, "model": "hc", "betas": [0.9, 0.95], "opt": {"a": "b=c"}}
    assert words(row, style, ["{python}", "train.py", "--out={run_dir}/{{x}}", "{parameters}", "end"]) == [
        "/venv/bin/python", "train.py", "--out=/out/a b/{x}", *expected, "end"
    ]  # fmt: skip


@pytest.mark.parametrize(("style", "no"), [("python-literal", "False"), ("argparse", "False"), ("hydra", "false"), ("json", "false")])
def test_what_a_word_names_is_not_among_the_others(style, no):
    row = {"lr": 1e-5, "model": "a b", "log": False, "n": 1}
    found = words(row, style, ["--lr", "{lr}", "{model}.py", "log={log}", "{parameters}"])
    assert found[:4] == ["--lr", "1e-05", "a b.py", f"log={no}"]
    assert len(found) == 5 and "n" in found[4] and "lr" not in found[4]


@pytest.mark.parametrize("style", STYLES)
def test_the_row_of_the_readme_is_written_as_it_says(style):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    told = re.search(rf"^\| `{style}` \| `([^`]*)` \|", readme, re.MULTILINE)
    assert told is not None
    assert " ".join(words({"lr": 6e-4, "log": False, "model": "hc", "betas": [0.9, 0.95]}, style)) == told[1]


def test_a_field_wins_over_a_parameter_of_its_name():
    assert words({"run_id": "mine", "n": 1}, "hydra", ["{run_id}", "{parameters}"]) == ["base-s1", "n=1"]


@given(st.dictionaries(names, value, max_size=4))
def test_python_literals_are_read_back_as_nanogpt_reads_them(row):
    found = {}
    for word in words(row, "python-literal"):
        key, literal = word.split("=")  # two pieces, or it fails as nanoGPT does
        assert key.startswith("--")
        found[key[2:]] = ast.literal_eval(literal)
    assert repr(found) == repr(row)


@given(st.dictionaries(names, value, max_size=4))
def test_json_is_one_word_that_is_read_back(row):
    [word] = words(row, "json")
    assert repr(json.loads(word)) == repr(row)


floats = st.floats(allow_nan=False, allow_infinity=False)
words_of_lists = text.filter(lambda word: not word.startswith("-"))
option = st.one_of(
    st.booleans(),
    number,
    text.filter(lambda word: word != "--"),
    st.lists(st.integers(), max_size=3),
    st.lists(floats, max_size=3),
    st.lists(words_of_lists, max_size=3),
)


@given(st.dictionaries(names, option, max_size=4))
def test_argparse_reads_back_what_it_is_given(row):
    parser = argparse.ArgumentParser(add_help=False)
    for name, part in row.items():
        if isinstance(part, bool):
            parser.add_argument(f"--{name}", action="store_true")
        elif isinstance(part, list):
            parser.add_argument(f"--{name}", nargs="*", type=type(part[0]) if part else str)
        else:
            parser.add_argument(f"--{name}", type=type(part))
    found = vars(parser.parse_args(words(row, "argparse")))
    assert repr({name: found[name] for name in row}) == repr(row)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_only_argparse_can_say_numbers_that_are_not_finite(style, wrong):
    if style == "argparse":
        assert words({"a": wrong}, style) == [f"--a={wrong}"]
        return
    for row in ({"a": wrong}, {"a": [1, [wrong]]}):
        with pytest.raises(ValueError, match=rf"parameter 'a' is {wrong}, which .* cannot say; style 'argparse' can\. Leave the cell empty"):
            words(row, style)


@pytest.mark.parametrize(
    ("style", "row", "message"),
    [
        ("argparse", {"a": ["-x"]}, "argparse takes '-x' in a list for the name of an option"),
        ("argparse", {"a": [-math.inf]}, "argparse takes '-inf' in a list"),
        ("argparse", {"a": "--"}, "argparse drops '--'"),
        ("argparse", {"a": [{"b": math.nan}]}, "JSON cannot say"),
        ("python-literal", {"a b": 1}, "parameter 'a b': no program would find it in '--a b=...'"),
        ("argparse", {"-a": 1}, "parameter '-a'"),
        ("argparse", {"a=b": 1}, "parameter 'a=b'"),
        ("hydra", {"~a": 1}, "parameter '~a': Hydra knows no such key"),
        ("hydra", {"a": {"b c": 1}}, "Hydra's grammar has no notation for the key 'b c'"),
        ("hydra", {"a": [{"true": 1}]}, "Hydra's grammar has no notation for the key 'true'"),
        ("json", {"a": "x\0"}, None),
        ("argparse", {"a": "x\0"}, "holds a NUL character"),
        ("argparse", {"a": "\ud800"}, "is not Unicode text"),
        ("json", {"a": "x" * MOST_BYTES}, "has 131,080 bytes, and Linux takes 131,071"),
    ],
)
def test_what_no_program_would_understand_is_refused(style, row, message):
    if message is None:
        assert words(row, style) == ['{"a": "x\\u0000"}']
        return
    with pytest.raises(ValueError) as caught:
        words(row, style)
    assert message in str(caught.value)


@pytest.mark.parametrize("row", [{"lr": 1, "seed": None}, {"lr": 1}])
def test_a_word_that_names_what_a_row_does_not_have_is_refused(row):
    with pytest.raises(ValueError) as caught:
        words(row, "argparse", ["--seed={seed}"])
    assert str(caught.value) == (
        "the word '--seed={seed}' of the command names 'seed', which has no value in this row. Give it one, or leave it to '{parameters}'. "
        "Valid fields: lr, parameters, python, run_dir, run_id."
    )


def test_linux_takes_the_longest_word_that_is_allowed_and_no_longer_one():
    [word] = words({"a": "x" * (MOST_BYTES - len("--a="))}, "argparse")
    print_length = [sys.executable, "-c", "import sys; print(len(sys.argv[1]))"]
    assert int(subprocess.run([*print_length, word], capture_output=True, check=True).stdout) == MOST_BYTES
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run([*print_length, word + "x"], capture_output=True)


def test_words_go_through_no_shell():
    nasty = "$(touch x); `id` && 'a\"b' \n*"
    [_, word] = words({"note": nasty}, "argparse", ["{python}", "{parameters}"])
    found = subprocess.run([sys.executable, "-c", "import sys; sys.stdout.write(sys.argv[1])", word], capture_output=True, check=True, text=True).stdout
    assert found == f"--note={nasty}"


@pytest.mark.parametrize("template", [["{python}", "{parameters}"], ["--seed={seed}"], ["{seed}", "{parameters}", "{{literal}}"]])
def test_a_template_that_takes_parameters(template):
    check(template, ["seed", "lr"], FIELDS)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (["{sed}", "{parameters}"], "unknown field {sed}. Did you mean 'seed'? Valid fields: lr, parameters, python, run_dir, run_id, seed."),
        (["{python}", "train.py"], "takes no parameter, so that all runs would be the same. Add the word '{parameters}', or fields of parameters"),
        (["{run_id}"], "takes no parameter"),
        ([], "takes no parameter"),
        (["--all={parameters}"], "{parameters} stands for any number of words, so it is a word of its own; found '--all={parameters}'"),
        (["{parameters}", "{parameters}"], "{parameters} is there 2 times; once is enough"),
        (["{seed.real}"], "only names, as in {prompt}"),
        (["{seed!r}", "{parameters}"], "only names"),
        (["{"], "Braces that are text are written twice"),
    ],
)
def test_a_template_that_is_wrong_is_refused_before_any_run(template, message):
    with pytest.raises(ValueError) as caught:
        check(template, ["seed", "lr", "run_id"], FIELDS)
    assert message in str(caught.value)


def test_parameters_that_a_template_hands_to_nobody():
    assert unused(["{lr}"], ["lr", "seed"]) == ["seed"]
    assert unused(["{lr}", "{parameters}"], ["lr", "seed"]) == []
