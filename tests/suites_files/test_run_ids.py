"""Ids of runs are names of directories: short, plain, one for each run."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pytest_gpueval.errors import SuiteError
from pytest_gpueval.suites.run_ids import RULE, check_id, filled, named, with_seeds
from pytest_gpueval.suites.schema import Id


def problem(call, *arguments, **options):
    with pytest.raises(SuiteError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@given(st.one_of(st.text(max_size=5), st.from_regex(r"[A-Za-z0-9._-]{95,103}", fullmatch=True)))
def test_an_id_is_what_the_schema_calls_an_id(text):
    try:
        TypeAdapter(Id).validate_python(text)
    except ValidationError:
        with pytest.raises(ValueError, match="An id has letters, digits"):
            check_id(text)
    else:
        assert check_id(text) == text


@pytest.mark.parametrize("text", ["../../x", "-rf", "$(id)", "", ".", "..", "a/b", "a b", "a\n", "é", "x" * 101, "{x}"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(RULE)):
        check_id(text)
    assert problem(named, [{"run_id": text}], None, lines=[7]).startswith("sweep.csv:7: run_id: ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": "hc", "seed": 1337}, "hc-s1337"),
        ({"model": 0.0003, "seed": True}, "0.0003-strue"),
        ({"model": 1e-05, "seed": 1e16}, "1e-05-s1e16"),
        ({"model": "x", "seed": -1}, "x-s-1"),
    ],
)
def test_a_template_is_filled_with_values(values, expected):
    assert filled("{model}-s{seed}", values) == expected


@pytest.mark.parametrize(
    ("template", "values", "message"),
    [
        ("{modl}", {"model": "a"}, "unknown field {modl}. Did you mean 'model'? Valid fields: model."),
        ("{model}", {"model": None}, "{model} is empty in this row"),
        ("{model}", {"model": [1]}, "{model} is a list or a table, which no id can hold"),
        ("{model}", {"model": "../../x"}, "not an id: '../../x'. An id has"),
        ("{model.x}", {"model": "a"}, "only names"),
        ("{model}", {"model": "a" * 101}, "too long with 101 characters: "),
    ],
)
def test_a_template_that_gives_no_id_is_refused(template, values, message):
    with pytest.raises(ValueError) as caught:
        filled(template, values)
    assert message in str(caught.value)


def test_ids_of_a_column_and_of_a_template():
    rows = [{"run_id": "a", "n": 1}, {"run_id": 7, "n": 2}]
    assert named(rows, None) == ["a", "7"]
    assert named(rows, "x{n}") == ["x1", "x2"]
    assert named([{"name": "b"}], None, "name") == ["b"]
    assert named([], None) == []


def test_each_run_without_an_id_of_its_own_is_told():
    rows = [{"run_id": name} for name in ("a", None, "b", "a", 1.5, True, "-rf")]
    assert problem(named, rows, None, lines=[2, 3, 4, 6, 7, 8, 9], where="s.csv").splitlines() == [
        f"s.csv:3: run_id: empty. {RULE}",
        "s.csv:6: the id 'a' is also that of s.csv:2. Ids name directories: each run needs its own.",
        "s.csv:7: run_id: 1.5 is no text. Declare the type of the column 'run_id' as str.",
        "s.csv:8: run_id: True is no text. Declare the type of the column 'run_id' as str.",
        f"s.csv:9: run_id: not an id: '-rf'. {RULE}",
    ]


def test_without_lines_rows_are_counted():
    assert problem(named, [{"n": 1}, {"n": 1}], "x{n}") == (
        "sweep.csv: row 2: the id 'x1' is also that of sweep.csv: row 1. Ids name directories: each run needs its own."
    )


def test_ten_problems_are_told_and_how_many_more_there_are():
    lines = problem(named, [{"run_id": "a"}] * 30, None).splitlines()
    assert len(lines) == 11 and lines[-1] == "and 19 more"


def test_a_row_that_alone_has_no_id_is_told():
    assert problem(named, [{"n": 1}, {"run_id": "a"}], None) == f"sweep.csv: row 1: run_id: empty. {RULE}"


def test_runs_without_a_column_of_ids_are_told_what_to_do():
    assert problem(named, [{"run": "a"}], None) == (
        "sweep.csv: runs have no names: there is no column 'run_id'. Did you mean 'run'? Valid columns: run.\n"
        'Add the column, or make ids of others, as in id = "{model}-s{seed}".'
    )


def test_rows_are_multiplied_by_seeds():
    ids, rows = with_seeds(["base", "hc"], [{"n": 1, "seed": None}, {"n": 2}], [1337, 1338])
    assert ids == ["base-s1337", "base-s1338", "hc-s1337", "hc-s1338"]
    assert rows == [{"n": 1, "seed": 1337}, {"n": 1, "seed": 1338}, {"n": 2, "seed": 1337}, {"n": 2, "seed": 1338}]


@pytest.mark.parametrize(
    ("name", "row", "seeds", "message"),
    [
        ("a", {}, [], "seeds: there are none. Name at least one, or leave 'seeds' out."),
        ("a", {}, [1, 2, 1], "seeds: 1 is there twice. Each seed is a run of its own."),
        ("a", {"seed": 5}, [1], "run 'a' sets 'seed' to 5 itself. Leave that out of the row, or leave out 'seeds'."),
        ("a" * 99, {}, [1], f"run '{'a' * 99}' with seed 1: too long with 102 characters: "),
    ],
)
def test_seeds_that_do_not_fit_are_refused(name, row, seeds, message):
    assert problem(with_seeds, [name], [row], seeds).startswith(message)


@given(st.lists(st.from_regex(r"[a-c]-?s?[12]?", fullmatch=True), unique=True, max_size=6), st.lists(st.integers(-3, 30), unique=True, min_size=1, max_size=4))
def test_different_runs_have_different_ids_with_seeds_too(ids, seeds):
    names, rows = with_seeds(ids, [{} for _ in ids], seeds)
    assert len(set(names)) == len(names) == len(rows) == len(ids) * len(seeds)
