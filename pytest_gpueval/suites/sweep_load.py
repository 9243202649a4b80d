"""A table of kind "sweep" -> the sweep with its rows, or one error that says all that is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pytest_gpueval.errors import SuiteError, valid_values

from . import arguments, run_ids, spaces, sweep_csv
from .model import without_shard
from .sweep import Sweep
from .sweep_schema import FIELDS, SweepFile
from .values import Value

DEFAULT_CSV = "sweep.csv"
SEED = "seed"


def made(path: Path, file: SweepFile) -> Sweep:
    """The sweep of a checked file. Raises SuiteError."""
    rows, lines, source, note = _rows(path, file)
    parameters: Sequence[Mapping[str, Value]] = [{**file.parameters, **_without_id(row)} for row in rows]
    if file.run_id is None and not any(sweep_csv.RUN_ID in row for row in rows):
        ids = [f"row-{number:0{len(str(len(rows)))}}" for number in range(1, len(rows) + 1)]
    else:
        ids = run_ids.named(rows if file.run_id is None else parameters, file.run_id, column=sweep_csv.RUN_ID, lines=lines, where=source)
    if file.seeds:
        ids, parameters = run_ids.with_seeds(ids, parameters, file.seeds, parameter=SEED)
    sweep = Sweep(path.parent.name, path, file, dict(zip(ids, parameters, strict=True)), tuple(_notes(file, parameters, note)))
    problems = [f"{path}: {problem}" for problem in _problems(sweep)]
    if problems:
        raise SuiteError("\n".join(problems))
    return sweep


def handed_over(sweep: Sweep) -> str | None:
    """A sweep as text for another process; None where JSON cannot hold a value."""
    try:
        points = orjson.dumps(sweep.points)
    except TypeError:  # a number of more than 64 bits
        return None
    if orjson.loads(points) != sweep.points:
        return None
    return orjson.dumps({"sweep": orjson.Fragment(sweep.file.model_dump_json(exclude_unset=True)), "points": orjson.Fragment(points)}).decode()


def taken_over(path: Path, given: Mapping[str, Any]) -> Sweep:
    """The sweep of this file from what `handed_over` gave, where it was checked."""
    return Sweep(path.parent.name, path, SweepFile.model_validate_json(orjson.dumps(given["sweep"])), given["points"])


def _rows(path: Path, file: SweepFile) -> tuple[Sequence[Mapping[str, Value]], Sequence[int], str, str]:
    """The rows, the number of each in its source, the source's name, and what there is to say about it. Raises SuiteError."""
    if file.space is not None:
        drawn = spaces.drawn(file.space, f"{path}: space")
        return drawn.points, range(1, len(drawn.points) + 1), f"{path}: space", drawn.note(file.space)
    if file.rows:
        return file.rows, range(len(file.rows)), f"{path}: rows", ""
    table = path.parent / (file.csv or DEFAULT_CSV)
    if not table.is_file():
        key = "csv" if file.csv else "which rows are there? `rows`, `space` or a CSV file"
        raise SuiteError(f"{path}: {key}: {table.name!r}: no such file in {table.parent}")
    read = sweep_csv.read(table, file.columns)
    return read.rows, read.lines, str(table), ""


def _notes(file: SweepFile, parameters: Sequence[Mapping[str, Value]], note: str) -> Iterator[str]:
    """What is as the file says, and probably not as it is meant."""
    if note:
        yield f"the space gives {note}"
    names = dict.fromkeys(name for row in parameters for name in row)
    known = {file.gpus, file.seconds}
    idle = [name for name in arguments.unused(file.command, names) if name not in known]
    if idle:
        yield f"{', '.join(idle)}: the program never sees {'it' if len(idle) == 1 else 'them'}: the command names {arguments.ALL} nowhere, nor what is missing"


def _without_id(row: Mapping[str, Value]) -> dict[str, Value]:
    """The parameters of a row; an empty cell leaves one to the program."""
    return {name: value for name, value in row.items() if name != sweep_csv.RUN_ID and value is not None}


def _problems(sweep: Sweep) -> Iterator[str]:
    """What no single value shows."""
    file = sweep.file
    names = dict.fromkeys(name for parameters in sweep.points.values() for name in parameters)
    try:
        arguments.check(file.command, list(names), FIELDS)
    except ValueError as problem:
        yield f"command: {problem}"
    if not (sweep.directory / file.directory).is_dir():
        yield f"directory: {file.directory!r}: no such folder in {sweep.directory}"
    for id_ in sweep.points:
        if without_shard(id_) != id_:
            yield f"row {id_!r}: an id that ends like {id_.rpartition('-')[2]!r} is taken for a shard; choose another one"
    for key in ("gpus", "seconds"):
        name = getattr(file, key)
        if isinstance(name, str) and name not in names:
            yield f"{key}: {name!r} is no parameter. {valid_values(name, names, what='parameters')}"
    if isinstance(file.gpus, str):
        for id_, parameters in sweep.points.items():
            value = parameters.get(file.gpus, 1)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 64:
                yield f"gpus: row {id_!r}: expected a whole number from 1 to 64 as {file.gpus!r}, found {value!r:.40}"
    for number, gate in enumerate(file.gates):
        if gate.beats is not None and gate.beats not in sweep.points:
            yield f"gates[{number}].beats: there is no row {gate.beats!r}. {_nearest(gate.beats, sweep.points)}"
        if gate.beats is not None and file.metric is None and gate.of == "best":
            yield f"gates[{number}]: 'best' by which metric and goal? Say `metric` and `goal` of the suite"


def _nearest(name: str, ids: Mapping[str, Any]) -> str:
    """Of many ids only the nearest one is worth a look."""
    said = valid_values(name, ids, what="rows")
    return said if len(ids) <= 30 else said.partition("Valid rows:")[0].strip() or f"There are {len(ids):,} rows."
