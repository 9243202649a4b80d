"""A sweep and its rows, ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from .arguments import render
from .model import Shard
from .sweep_schema import SweepFile
from .values import Value

# What sessions record as the runtime of a row.
PROGRAM = "program"


@dataclass(frozen=True)
class Sweep:
    """A validated suite file of kind "sweep", where it lies, and the parameters of its rows by their ids."""

    name: str
    path: Path
    file: SweepFile
    points: Mapping[str, Mapping[str, Value]]
    # What nobody would see who only reads the rows.
    notes: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """The suite's folder."""
        return self.path.parent

    @cached_property
    def rows(self) -> list[Row]:
        """One row for each run, in the order of the file."""
        return [Row(self, id_, parameters) for id_, parameters in self.points.items()]

    @cached_property
    def program(self) -> Mapping[str, Any]:
        """What all rows run, as their runs record it."""
        return self.file.model_dump(mode="json", include={"command", "style", "directory", "environment", "expected", "series", "metrics"})

    @cached_property
    def gates(self) -> Sequence[Mapping[str, Any]]:
        """What they are judged by, as their runs record it."""
        return [gate.model_dump(mode="json") for gate in self.file.gates]


@dataclass(frozen=True, slots=True)
class Row:
    """One run of a sweep: what one test item runs."""

    sweep: Sweep
    id: str
    parameters: Mapping[str, Value]

    @property
    def suite(self) -> str:
        """Name of the suite."""
        return self.sweep.name

    @property
    def directory(self) -> Path:
        """The suite's folder."""
        return self.sweep.directory

    @property
    def file(self) -> SweepFile:
        """What the suite says."""
        return self.sweep.file

    @property
    def whole_id(self) -> str:
        """A row has no shards."""
        return self.id

    @property
    def runtime_name(self) -> str:
        """What runs it, as sessions record it."""
        return PROGRAM

    @property
    def gpus(self) -> int:
        """GPUs that it needs at once."""
        gpus = self.file.gpus
        return int(str(self.parameters.get(gpus) or 1)) if isinstance(gpus, str) else gpus

    @property
    def seconds(self) -> float | None:
        """What it takes, as the suite says."""
        seconds = self.file.seconds
        found = self.parameters.get(seconds) if isinstance(seconds, str) else seconds
        return float(found) if isinstance(found, (int, float)) and found > 0 else None

    @property
    def rate(self) -> float | None:
        """Rows a second: of one."""
        return 1 / self.seconds if self.seconds else None

    @property
    def startup_s(self) -> float:
        """Its own affair."""
        return 0.0

    @property
    def loads(self) -> None:
        """Nothing stays loaded."""
        return

    @property
    def shards(self) -> Literal[1]:
        """A row is never cut."""
        return 1

    @property
    def shard(self) -> Shard | None:
        """None: a row is never cut."""
        return None

    @property
    def parts(self) -> int:
        """A row joins nothing."""
        return 1

    def argv(self, fields: Mapping[str, str]) -> list[str]:
        """Its command, with `fields` as FIELDS names them. Raises ValueError for a word that no program can be given."""
        return render(self.file.command, self.parameters, self.file.style, fields)

    def __repr__(self) -> str:
        return f"Row({self.suite}/{self.id})"
