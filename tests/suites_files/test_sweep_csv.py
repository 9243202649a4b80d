"""A CSV of runs: what its cells mean, and one message with line and column for all that is wrong."""

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import SuiteError
from pytest_gpueval.suites.sweep_csv import parse, read


def values(text, kinds=None):
    return [dict(row) for row in parse(text.encode(), "sweep.csv", kinds or {}).rows]


def problem(data, kinds=None):
    with pytest.raises(SuiteError) as caught:
        parse(data if isinstance(data, bytes) else data.encode(), "sweep.csv", kinds or {})
    return str(caught.value)


def column(*cells, kind=None):
    return [row["a"] for row in values("a,z\n" + "".join(f"{cell},1\n" for cell in cells), {"a": kind} if kind else {})]


def same(found, expected):
    """Equal, and of the same types: 1, 1.0 and True are three values."""
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "+3", "0"], [1, -2, 3, 0]),
        (["1", ""], [1, None]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1e3", "6E-4", ".5", "3."], [1000.0, 0.0006, 0.5, 3.0]),
        (["18446744073709551617"], [18446744073709551617]),
        (["007", "8"], ["007", "8"]),
        (["1_000"], ["1_000"]),
        (["٣"], ["٣"]),
        (["nan"], ["nan"]),
        (["inf", "1"], ["inf", "1"]),
        (["1e999"], ["1e999"]),
        (["9" * 5000], ["9" * 5000]),
        (["true", "False", "", "True", "false"], [True, False, None, True, False]),
        (["yes", "no"], ["yes", "no"]),
        ([" 1", "2 "], [1, 2]),
        ([" x", "y "], [" x", "y "]),
        (["", "  "], [None, None]),
        (["1", "hc"], ["1", "hc"]),
    ],
)
def test_a_column_has_the_type_that_all_its_cells_have(cells, expected):
    same(column(*cells), expected)


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        ("int", ["007", "-1", ""], [7, -1, None]),
        ("float", ["1", "01.5", "inf", "-Infinity"], [1.0, 1.5, math.inf, -math.inf]),
        ("float", ["NaN"], [math.nan]),
        ("bool", ["true", "False"], [True, False]),
        ("str", ["1", "true", "", " x"], ["1", "true", None, " x"]),
        ("json", ["[1]", "null", "true", '"""x"""', ""], [[1], None, True, "x", None]),
    ],
)
def test_a_declared_column_has_that_type(kind, cells, expected):
    same(column(*cells, kind=kind), expected)


def test_false_in_small_letters_is_false():
    """As text it would be true to most programs."""
    assert values("run_id,wandb_log\na,false\n") == [{"run_id": "a", "wandb_log": False}]


@pytest.mark.parametrize(("cells", "odd"), [(["false", "", "no"], "no"), (["TRUE", "true"], "TRUE"), (["FALSE"], "FALSE"), (["true", "1"], "1")])
def test_a_boolean_that_would_become_text_is_refused(cells, odd):
    line = cells.index(odd) + 2
    text = problem("a,z\n" + "".join(f"{cell},1\n" for cell in cells))
    assert text == f"sweep.csv:{line}: a: {odd!r} in a column that also holds true or false. Write true or false, or declare the column's type: bool or str."
    assert column(*cells, kind="str")[0] == cells[0]


def test_ids_are_text_unless_declared():
    same(values("run_id,n\n1e3,1\n2,1\n"), [{"run_id": "1e3", "n": 1}, {"run_id": "2", "n": 1}])
    same(values("run_id,n\n2,1\n", {"run_id": "int"}), [{"run_id": 2, "n": 1}])


def test_tables_of_one_column_are_not_shared_by_its_rows():
    first, second = values('a\n"{""x"": 1}"\n"{""x"": 1}"\n', {"a": "json"})
    assert first["a"] == {"x": 1}
    assert first["a"] is not second["a"]


def test_lines_count_blank_lines_and_newlines_in_quotes():
    table = parse(b'\xef\xbb\xbf\r\n run_id , note\r\na,"one\r\ntwo"\r\n\r\n   \r\nb,"say ""hi"""\r\nc,\r\n', "sweep.csv", {})
    assert table.columns == ("run_id", "note")
    assert table.lines == (3, 7, 8)
    assert [row["note"] for row in table.rows] == ["one\r\ntwo", 'say "hi"', None]


def test_a_cell_of_a_megabyte_is_read_and_the_limit_of_the_process_stays():
    before = csv.field_size_limit()
    big = "x" * 1_000_000
    assert values(f"a,b\n1,{big}\n") == [{"a": 1, "b": big}]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("data", "kinds", "message"),
    [
        (b"", {}, "sweep.csv: empty. The first line names the columns, each other line is a run."),
        (b"\n\n", {}, "sweep.csv: empty. The first line names the columns, each other line is a run."),
        (b"a,b\n\n", {}, "sweep.csv: no rows, only the names of columns. Each line after the first is a run."),
        (b"a,b\n1,2\n\x00,2\n", {}, "sweep.csv:3: a NUL byte, at byte 8: not a text file in UTF-8"),
        (b"a,b\n1,2\n1,\xff\n", {}, "sweep.csv:3: not UTF-8, at byte 10. Save the file as CSV in UTF-8."),
        ("a,b\n1,2\n".encode("utf-16"), {}, "sweep.csv: UTF-16, not UTF-8. Save it as CSV in UTF-8."),
        (b"a,b\n1\n", {}, 'sweep.csv:2: expected 2 cells, one for each column, found 1. Cells with a comma are written in double quotes: "a,b".'),
        (b"a,b\n1,2\n1,2,3\n", {}, 'sweep.csv:3: expected 2 cells, one for each column, found 3. Cells with a comma are written in double quotes: "a,b".'),
        (b"a,,c\n1,2,3\n", {}, "sweep.csv:1: column 2 has no name"),
        (b"a,b, a\n1,2,3\n", {}, "sweep.csv:1: two columns are named 'a': 1 and 3"),
        (b"a;b\n1;2\n", {}, "sweep.csv:1: one column, named 'a;b': cells are separated by commas"),
        (b'a,"b\nc"\n1,2\n', {}, "sweep.csv:1: the name of column 2 holds a character that is not printable: 'b\\nc'"),
        (b"seed,b\n1,2\n", {"sed": "int"}, "sweep.csv: no column 'sed', whose type is declared. Did you mean 'seed'? Valid columns: b, seed."),
        (b"a,b\nx,2\n", {"a": "int"}, "sweep.csv:2: a: expected a whole number, found 'x'"),
        (b"a,b\n1.0,2\n", {"a": "int"}, "sweep.csv:2: a: expected a whole number, found '1.0'"),
        (b"a,b\n1e999,2\n", {"a": "float"}, "sweep.csv:2: a: expected a number, found '1e999'"),
        (b"a,b\nTRUE,2\n", {"a": "bool"}, "sweep.csv:2: a: expected true or false, found 'TRUE'"),
        (b"a,b\n[NaN],2\n", {"a": "json"}, "sweep.csv:2: a: expected JSON, found '[NaN]' (JSON has no NaN)"),
        (b"a,b\n[1e999],2\n", {"a": "json"}, "sweep.csv:2: a: expected JSON, found '[1e999]' (a number that is too large)"),
        (
            b"a,b\n{,2\n",
            {"a": "json"},
            "sweep.csv:2: a: expected JSON, found '{' (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_column(data, kinds, message):
    assert problem(data, kinds) == message


def test_quotes_that_do_not_end_are_told_with_the_line_where_they_begin():
    assert problem('a,b\n1,2\n3,"x\n4,5\n6,7\n').startswith("sweep.csv:3: not valid CSV: unexpected end of data.")


def test_all_wrong_cells_are_told_up_to_ten():
    few = problem("a,b\n1,x\ny,2\n", {"a": "int", "b": "int"})
    assert few.splitlines() == ["sweep.csv:2: b: expected a whole number, found 'x'", "sweep.csv:3: a: expected a whole number, found 'y'"]
    many = problem("a,b\n" + "x,1\n" * 25, {"a": "int"}).splitlines()
    assert len(many) == 11
    assert many[0].startswith("sweep.csv:2:") and many[9].startswith("sweep.csv:11:")
    assert many[10] == "and 15 more"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SuiteError, match=r"none\.csv: no such file$"):
        read(tmp_path / "none.csv", {})
    with pytest.raises(SuiteError, match="cannot be read: Is a directory"):
        read(tmp_path, {})


def test_a_file_is_named_where_it_is_wrong(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"a\nx\n")
    assert read(path, {}).rows == ({"a": "x"},)
    with pytest.raises(SuiteError) as caught:
        read(path, {"a": "int"})
    assert str(caught.value) == f"{path}:2: a: expected a whole number, found 'x'"


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.data())
def test_what_a_writer_of_csv_writes_is_read_back(data):
    names = data.draw(st.lists(st.from_regex(r"[a-z_.]{1,4}", fullmatch=True), min_size=2, max_size=4, unique=True))
    rows = data.draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), min_size=1, max_size=5))
    text = io.StringIO(newline="")
    ends = data.draw(st.sampled_from(["\n", "\r\n"]))
    # Before Python 3.13 it leaves \r without quotes.
    quoting = csv.QUOTE_ALL if any("\r" in cell for row in rows for cell in row) else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator=ends, quoting=quoting).writerows([names, *rows])
    table = parse(text.getvalue().encode(), "sweep.csv", dict.fromkeys(names, "str"))
    assert table.columns == tuple(names)
    assert [list(row.values()) for row in table.rows] == [[cell if cell.strip() else None for cell in row] for row in rows]
    physical = io.StringIO(text.getvalue(), newline="").readlines()
    assert len(set(table.lines)) == len(rows) and max(table.lines) <= len(physical)


@given(st.one_of(st.lists(st.one_of(st.none(), st.integers())), st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)))))
def test_numbers_keep_their_value_and_their_type(numbers):
    if not numbers:
        return
    same(column(*["" if number is None else repr(number) for number in numbers]), numbers)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_one_message(data):
    try:
        table = parse(b"a,b\n1,2\n" + data, "sweep.csv", {"a": "json"})
    except SuiteError as error:
        table, message = None, str(error)
    if table is None:
        assert message.startswith("sweep.csv:")
    else:
        assert all(set(row) == {"a", "b"} for row in table.rows)
        assert list(table.lines) == sorted(set(table.lines))
