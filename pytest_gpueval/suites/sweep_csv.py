"""The rows of a sweep from a CSV file (RFC 4180, UTF-8): each column has one type, each wrong cell is named by line and column."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pytest_gpueval.errors import SuiteError, valid_values

from .garbage import no_garbage
from .values import Kind, Value, infinite

# Ids are text, also where they look like numbers: `1e3` is no 1000.0.
RUN_ID = "run_id"
MOST_SHOWN = 10
BOOLEANS: Mapping[str, bool] = {"true": True, "True": True, "false": False, "False": False}
_INT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")  # 007 is an id
_PADDED_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_PADDED_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """What a CSV file says. Every row has every column; an empty cell is None."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Value], ...]
    lines: tuple[int, ...]  # of the file, from 1: where each row begins


@dataclass(frozen=True)
class _Cells:
    """A file before its columns have types."""

    columns: list[str]
    records: list[list[str]]
    lines: list[int]


def read(path: Path, kinds: Mapping[str, Kind]) -> Table:
    """`parse` of a file. Raises SuiteError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise SuiteError(f"{path}: {what}") from None
    return parse(data, str(path), kinds)


def parse(data: bytes, where: str, kinds: Mapping[str, Kind]) -> Table:
    """The typed rows of a CSV file; the first line names the columns, blank lines do not count.

    A column that `kinds` does not name has the type that all its cells have: int, float, bool (true, false, True, False), or else it is text; so is
    `run_id`. Empty cells have every type. Spaces around numbers, booleans and names of columns do not count, those in text do.

    Raises: SuiteError, one line for each of the first ten problems: `where:LINE: column: what is wrong. What would be right.`
    """
    with no_garbage():
        return _table(_split(_text(data, where), where), where, kinds)


def _table(cells: _Cells, where: str, kinds: Mapping[str, Kind]) -> Table:
    """Raises SuiteError for declared columns that are not there, and for cells that are not of their column's type."""
    for name in kinds:
        if name not in cells.columns:
            raise SuiteError(f"{where}: no column {name!r}, whose type is declared. {valid_values(name, cells.columns, what='columns')}")
    columns: list[list[Value]] = []
    problems: list[tuple[int, str]] = []
    for index, name in enumerate(cells.columns):
        texts = [record[index] for record in cells.records]
        values, wrong = _typed(texts, kinds.get(name) or ("str" if name == RUN_ID else None))
        columns.append(values)
        problems += [(cells.lines[row], f"{name}: {what}") for row, what in wrong]
    _refuse(problems, where)
    rows = tuple(dict(zip(cells.columns, values, strict=True)) for values in zip(*columns, strict=True))
    return Table(tuple(cells.columns), rows, tuple(cells.lines))


def _text(data: bytes, where: str) -> str:
    """Raises SuiteError for what is no text in UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SuiteError(f"{where}: UTF-16, not UTF-8. Save it as CSV in UTF-8.")
    zero = data.find(b"\0")
    if zero >= 0:
        raise SuiteError(f"{where}:{_line(data, zero)}: a NUL byte, at byte {zero}: not a text file in UTF-8")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise SuiteError(f"{where}:{_line(data, error.start)}: not UTF-8, at byte {error.start}. Save the file as CSV in UTF-8.") from None


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _split(text: str, where: str) -> _Cells:
    """Raises SuiteError for a file without columns or rows, and for rows that do not have a cell for each column."""
    begins, records = _records(text, where)
    if not records:
        raise SuiteError(f"{where}: empty. The first line names the columns, each other line is a run.")
    columns = [name.strip() for name in records[0]]
    _check_columns(columns, begins[0], where)
    if len(records) == 1:
        raise SuiteError(f"{where}: no rows, only the names of columns. Each line after the first is a run.")
    problems = [
        (line, f'expected {len(columns)} cells, one for each column, found {len(record)}. Cells with a comma are written in double quotes: "a,b".')
        for line, record in zip(begins[1:], records[1:], strict=True)
        if len(record) != len(columns)
    ]
    _refuse(problems, where)
    return _Cells(columns, records[1:], begins[1:])


def _records(text: str, where: str) -> tuple[list[int], list[list[str]]]:
    """The line at which each record begins, and its cells. Blank lines are left out."""
    begins, records = [], []
    before = csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # of the process; by default, cells of more than 131,072 characters are an error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begin = 1
    try:
        for record in reader:
            if record and not (len(record) == 1 and record[0].isspace()):
                begins.append(begin)
                records.append(record)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise SuiteError(f'{where}:{begin}: not valid CSV: {error}. Cells with quotes are written in quotes, and each quote twice: "a ""b""".') from None
    finally:
        csv.field_size_limit(before)
    return begins, records


def _check_columns(columns: Sequence[str], line: int, where: str) -> None:
    problems = []
    for index, name in enumerate(columns):
        if not name:
            problems.append((line, f"column {index + 1} has no name"))
        elif name in columns[:index]:
            problems.append((line, f"two columns are named {name!r}: {columns.index(name) + 1} and {index + 1}"))
        elif not name.isprintable():
            problems.append((line, f"the name of column {index + 1} holds a character that is not printable: {name!r:.80}"))
    if len(columns) == 1 and re.search(r"[;\t]", columns[0]):
        problems.append((line, f"one column, named {columns[0]!r:.80}: cells are separated by commas"))
    _refuse(problems, where)


def _refuse(problems: Sequence[tuple[int, str]], where: str) -> None:
    """Raises SuiteError if there is any problem: the first ones by line, and how many more there are."""
    if not problems:
        return
    lines = [f"{where}:{line}: {what}" for line, what in sorted(problems, key=lambda problem: problem[0])[:MOST_SHOWN]]
    if len(problems) > MOST_SHOWN:
        lines.append(f"and {len(problems) - MOST_SHOWN} more")
    raise SuiteError("\n".join(lines))


def _typed(texts: Sequence[str], kind: Kind | None) -> tuple[list[Value], list[tuple[int, str]]]:
    """The values of a column, and what is wrong with which of its cells (counted from 0)."""
    if kind is None:
        return _inferred(texts)
    if kind == "str":
        return [text if text.strip() else None for text in texts], []
    values: list[Value] = []
    wrong = []
    for row, text in enumerate(texts):
        try:
            values.append(_READERS[kind](text.strip()) if text.strip() else None)
        except (ValueError, RecursionError) as error:
            wrong.append((row, f"expected {_EXPECTED[kind]}, found {text!r:.80}{f' ({error})' if kind == 'json' else ''}"))
    return values, wrong


def _inferred(texts: Sequence[str]) -> tuple[list[Value], list[tuple[int, str]]]:
    """As `_typed`, of a column whose type nobody declared."""
    different = {text: text.strip() for text in texts}
    present = [text for text in different.values() if text]
    readers: tuple[Callable[[str], Value], ...] = (_whole, _number, _boolean)
    for reader in readers:
        try:
            meaning: dict[str, Value] = {text: reader(bare) if bare else None for text, bare in different.items()}
        except ValueError:
            continue
        return [meaning[text] for text in texts], []
    odd = next((text for text in present if text.casefold() in ("true", "false")), None)
    if odd is not None:  # as text, `false` would be true to most programs
        other = next((text for text in present if text not in BOOLEANS), odd)
        row = next(row for row, text in enumerate(texts) if text.strip() == other)
        return [], [(row, f"{other!r:.80} in a column that also holds true or false. Write true or false, or declare the column's type: bool or str.")]
    return [text if text.strip() else None for text in texts], []


def _whole(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(text)
    return int(text)  # ValueError, too, for more digits than Python reads


def _padded_whole(text: str) -> int:
    if not _PADDED_INT.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str, form: re.Pattern[str] = _FLOAT) -> float:
    if not form.fullmatch(text):
        raise ValueError(text)
    number = float(text)
    if math.isinf(number):  # 1e999
        raise ValueError(text)
    return number


def _any_number(text: str) -> float:
    return float(text) if _NOT_FINITE.fullmatch(text) else _number(text, _PADDED_FLOAT)


def _boolean(text: str) -> bool:
    if text not in BOOLEANS:
        raise ValueError(text)
    return BOOLEANS[text]


def _json(text: str) -> Value:
    value: Value = json.loads(text, parse_constant=_no_constant)
    if infinite(value) is not None:
        raise ValueError("a number that is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


_READERS: Mapping[Kind, Callable[[str], Value]] = {"int": _padded_whole, "float": _any_number, "bool": _boolean, "json": _json}
_EXPECTED: Mapping[Kind, str] = {"int": "a whole number", "float": "a number", "bool": "true or false", "json": "JSON"}
