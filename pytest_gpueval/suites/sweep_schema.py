"""What a suite.toml of kind "sweep" may say. Unknown keys are errors; the field descriptions are the reference."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from .arguments import Style
from .schema import Count, Id, Rate, Seconds, Strict
from .spaces import SpaceEntry
from .values import Kind

# How an attempt at a row ended, where it did not pass.
Fault = Literal["exit", "cuda_oom", "host_oom", "signal", "timeout", "diverged", "missing_file", "not_started"]
# Fields that a command has beside the parameters.
FIELDS = ("python", "suite", "run_dir", "run_id", "attempt")
# Where a program prints what came out: RESULT_<NAME> key=value ... gives metrics `name.key`.
RESULT_PATTERN = r"(?m)^RESULT_(?P<name>[A-Z0-9_]+)[ \t]+(?P<pairs>.*)$"


def _groups(pattern: str) -> str:
    """Raises ValueError for what is not a regular expression, or names none of its groups."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}; found {pattern!r:.80}") from None
    if not compiled.groupindex:
        raise ValueError(f"names no group: write (?P<loss>...); found {pattern!r:.80}")
    return pattern


def _inside(path: str) -> str:
    """Raises ValueError for a path that leads out of the directory that it is relative to."""
    place = PurePosixPath(path)
    if not path or "\0" in path or place.is_absolute() or ".." in place.parts:
        raise ValueError(f"expected a path below the run's directory, found {path!r:.80}")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
Pattern = Annotated[str, AfterValidator(_groups)]


class SweepGate(Strict):
    """A bound on a metric: of each row, of the best one, or against another row."""

    metric: str = Field(description="for example val_loss, or fineweb10b.val_loss of a line RESULT_FINEWEB10B val_loss=...")
    min: float | None = None
    max: float | None = None
    of: Literal["each", "best"] = Field("each", description="'best': the best row of the session by this metric, once all have run")
    beats: Id | None = Field(None, description="a row that the best one must beat, or where `of` is 'each', every other one")

    @model_validator(mode="after")
    def _bounded(self) -> SweepGate:
        if self.min is None and self.max is None and self.beats is None:
            raise ValueError("a gate needs 'min', 'max' or 'beats'")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"'min' {self.min:g} is above 'max' {self.max:g}")
        return self


class MetricEntry(Strict):
    """Where a metric is found that the program neither prints as RESULT_... nor writes into summary.json."""

    pattern: Pattern | None = Field(None, description="of a line of the output; the group of the metric's name, or the only one; the last match counts")
    file: Inside | None = Field(None, description="JSON in the run's directory")
    path: str | None = Field(None, description="keys in that file, as in 'eval.loss' or 'steps.0.loss'")

    @model_validator(mode="after")
    def _one_place(self) -> MetricEntry:
        if (self.pattern is None) == (self.file is None):
            raise ValueError("needs 'pattern', or 'file' and 'path'")
        if (self.file is None) != (self.path is None):
            raise ValueError("'file' and 'path' belong together")
        return self


class SeriesEntry(Strict):
    """A line for each step of a program; each becomes a line of results.jsonl."""

    pattern: Pattern | None = Field(None, description="of a line of the output, with a group `step` and one for each value")
    json_lines: bool = Field(False, description="lines of the output that are JSON objects with a key `step`")
    diverged: Literal["stop", "ignore"] = Field("stop", description="'stop': a row whose value is not finite has failed, and is ended")

    @model_validator(mode="after")
    def _one_form(self) -> SeriesEntry:
        if (self.pattern is None) == (not self.json_lines):
            raise ValueError("needs 'pattern', or json_lines = true")
        if self.pattern is not None and "step" not in re.compile(self.pattern).groupindex:
            raise ValueError("'pattern' has no group (?P<step>...)")
        return self


class EarlyStopEntry(Strict):
    """Rows that are hopeless beside the others of the session are ended. Off unless it is here."""

    rule: Literal["median", "halving"] = Field("median", description="'median': worse than the median of the others; 'halving': successive halving (ASHA)")
    value: str = Field("loss", description="the value of the series that is looked at; `goal` says which way is better")
    warmup_steps: Annotated[float, Field(ge=0)] = Field(0.0, description="of 'median': no row is stopped up to this step")
    min_rows: Count = Field(5, description="of 'median': rows that must have come as far")
    reduction: Annotated[int, Field(ge=2, le=100)] = Field(4, description="of 'halving': one row of so many goes on at each rung")
    min_steps: Annotated[float, Field(gt=0)] = Field(1.0, description="of 'halving': the first rung")


class RetryEntry(Strict):
    """Which ends of a row are tried again, and how often."""

    times: Annotated[int, Field(ge=0, le=100)] = 0
    on: list[Fault] = Field(["cuda_oom", "host_oom", "signal"], description=", ".join(get_args(Fault)))
    wait_s: Annotated[float, Field(ge=0)] = Field(1.0, description="seconds before the first; each later wait is twice as long")
    most_wait_s: Seconds = 300.0


class SweepFile(Strict):
    """A whole suite.toml of a sweep."""

    kind: Literal["sweep"]
    description: str = ""
    command: list[str] = Field(
        min_length=1, description="argv: {parameters} for all of them, {name} for one, {python}, {suite} (its folder), {run_dir}, {run_id}, {attempt}"
    )
    style: Style = Field("argparse", description="how {parameters} are written: " + ", ".join(get_args(Style)))
    csv: str | None = Field(None, description="one row, one run (default: sweep.csv, where neither `rows` nor `space` is given)")
    columns: dict[str, Kind] = Field({}, description="types of its columns: " + ", ".join(get_args(Kind)) + " (default: what all cells of a column are)")
    rows: list[dict[str, Any]] = Field([], description="the rows themselves, instead of a CSV file")
    space: SpaceEntry | None = Field(None, description="a space of parameters, instead of rows")
    parameters: dict[str, Any] = Field({}, description="given to every row that does not say otherwise")
    run_id: str | None = Field(None, description="template of the rows' ids, as '{model}-lr{lr}' (default: the column run_id, else row-001 and so on)")
    seeds: list[int] = Field([], description="every row once for each of these, as the parameter `seed`, with -s1337 behind its id")
    directory: str = Field(".", description="where programs run, relative to the suite's folder")
    environment: dict[str, str] = Field({}, description="added to the environment; no secrets")
    gpus: Count | str = Field(1, description="GPUs of a row, or the parameter that says so")
    seconds: Rate | str | None = Field(None, description="seconds that a row takes, or the parameter that says so, until a session has measured it")
    timeout_s: Seconds | None = Field(None, description="seconds of an attempt")
    grace_s: Seconds = Field(10.0, description="seconds between TERM and KILL")
    retries: RetryEntry = RetryEntry()
    resume: bool = Field(False, description="the program continues from what it finds in its run directory; GPUEVAL_ATTEMPT counts")
    expected: list[Inside] = Field([], description="files in the run's directory that a row must leave")
    metric: str | None = Field(None, description="what rows are ranked by")
    goal: Literal["min", "max"] = "min"
    metrics: dict[str, MetricEntry] = Field({})
    series: SeriesEntry | None = None
    early_stop: EarlyStopEntry | None = None
    gates: list[SweepGate] = Field([])
    budget_s: Seconds | None = Field(None, description="seconds that the whole sweep may take; the plan says what exceeds it")

    @field_validator("rows")
    @classmethod
    def _plain(cls, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, row in enumerate(rows):
            for name, value in row.items():
                if not isinstance(value, (bool, int, float, str, list, dict)):
                    raise ValueError(f"row {number}: {name}: expected a boolean, number, string, array or table, found {value!r:.40}")
        return rows

    @model_validator(mode="after")
    def _one_source(self) -> SweepFile:
        given = [name for name in ("csv", "rows", "space") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say which rows there are; leave all but one out")
        if self.early_stop is not None and self.series is None:
            raise ValueError("'early_stop' looks at the steps of rows: say in 'series' how they are printed")
        if self.columns and (self.rows or self.space):
            raise ValueError("'columns' are types of the columns of a CSV file, and there is none")
        return self
