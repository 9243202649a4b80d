"""Names of runs: each is a directory and a part of a node id, so it is short, plain and unique."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pytest_gpueval.errors import SuiteError, valid_values

from .sweep_csv import MOST_SHOWN, RUN_ID
from .template import pieces as pieces_of
from .values import Value

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # `Id` of the schema
RULE = "An id has letters, digits and . _ -, begins with a letter or digit, and has 100 characters at most."


def check_id(text: str) -> str:
    """The id itself. Raises ValueError for what is none: ids become names of directories and words of commands."""
    if not _ID.fullmatch(text):
        what = f"too long with {len(text)} characters" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) else "not an id"
        raise ValueError(f"{what}: {text!r:.130}. {RULE}")
    return text


def filled(template: str, values: Mapping[str, Value]) -> str:
    """An id such as `{model}-s{seed}` of these values.

    Raises: ValueError for a field without a value, a value that is a list or a table, and for what is no id when it is filled.
    """
    pieces = []
    for text, name in pieces_of(template):
        pieces.append(text)
        if name is not None:
            if name not in values:
                raise ValueError(f"unknown field {{{name}}}. {valid_values(name, values, what='fields')}")
            pieces.append(_as_text(name, values[name]))
    return check_id("".join(pieces))


def _as_text(name: str, value: Value) -> str:
    if value is None:
        raise ValueError(f"{{{name}}} is empty in this row")
    if isinstance(value, list | dict):
        raise ValueError(f"{{{name}}} is a list or a table, which no id can hold")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).replace("+", "") if isinstance(value, float) else str(value)  # 1e+16 is 1e16


def named(
    rows: Sequence[Mapping[str, Value]], template: str | None, column: str = RUN_ID, lines: Sequence[int] | None = None, where: str = "sweep.csv"
) -> list[str]:
    """The id of each row: the template filled with its values, or what its `column` says.

    `lines` are the lines of `where` at which the rows stand; without them, rows are counted from 1.
    Raises: SuiteError, one line for each of the first ten rows without an id, with one that is not allowed, or with another row's.
    """
    places = [f"{where}:{line}" for line in lines] if lines is not None else [f"{where}: row {number}" for number in range(1, len(rows) + 1)]
    if template is None and rows and not any(column in row for row in rows):
        raise SuiteError(
            f"{where}: runs have no names: there is no column {column!r}. {valid_values(column, rows[0], what='columns')}\n"
            f'Add the column, or make ids of others, as in id = "{{model}}-s{{seed}}".'
        )
    ids: list[str] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    for row, place in zip(rows, places, strict=True):
        try:
            name = filled(template, row) if template is not None else _given(row.get(column), column)
        except ValueError as error:
            problems.append(f"{place}: {column if template is None else f'id {template!r}'}: {error}")
            continue
        if name in first:
            problems.append(f"{place}: the id {name!r} is also that of {first[name]}. Ids name directories: each run needs its own.")
        first.setdefault(name, place)
        ids.append(name)
    if problems:
        more = [f"and {len(problems) - MOST_SHOWN} more"] if len(problems) > MOST_SHOWN else []
        raise SuiteError("\n".join(problems[:MOST_SHOWN] + more))
    return ids


def _given(value: Value, column: str) -> str:
    if value is None:
        raise ValueError(f"empty. {RULE}")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{value!r:.80} is no text. Declare the type of the column {column!r} as str.")
    return check_id(str(value))


def with_seeds(
    ids: Sequence[str], rows: Sequence[Mapping[str, Value]], seeds: Sequence[int], parameter: str = "seed"
) -> tuple[list[str], list[dict[str, Value]]]:
    """Each row once for each seed, one after the other: `base` becomes `base-s1`, `base-s2`, with `parameter` set.

    Raises: SuiteError for no seeds, the same one twice, rows that have a value for `parameter`, and ids that become too long.
    """
    if not seeds:
        raise SuiteError("seeds: there are none. Name at least one, or leave 'seeds' out.")
    twice = next((seed for index, seed in enumerate(seeds) if seed in seeds[:index]), None)
    if twice is not None:
        raise SuiteError(f"seeds: {twice} is there twice. Each seed is a run of its own.")
    names: list[str] = []
    runs: list[dict[str, Value]] = []
    for name, row in zip(ids, rows, strict=True):
        if row.get(parameter) is not None:
            raise SuiteError(f"run {name!r} sets {parameter!r} to {row[parameter]!r} itself. Leave that out of the row, or leave out 'seeds'.")
        for seed in seeds:
            try:
                names.append(check_id(f"{name}-s{seed}"))
            except ValueError as error:
                raise SuiteError(f"run {name!r} with seed {seed}: {error}") from None
            runs.append({**row, parameter: seed})
    return names, runs
