"""What a program's output says: results, steps, and the end of its log. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pytest_gpueval.suites.sweep_schema import RESULT_PATTERN, MetricEntry, SeriesEntry
from pytest_gpueval.suites.values import number

_RESULT = re.compile(RESULT_PATTERN)
_PAIR = re.compile(r'(?P<key>[A-Za-z_][\w./-]*)=(?P<value>"[^"]*"|\S+)')
# What is kept of the output to find out why a program failed.
_TAIL: Final = 20_000


@dataclass(frozen=True, slots=True)
class Step:
    """What a program reported at one step; a value that is not finite is kept: it is what somebody must see."""

    step: float
    values: Mapping[str, float]

    @property
    def id(self) -> str:
        """`100`, or `0.5` where steps are no whole numbers."""
        return f"{self.step:.0f}" if self.step == int(self.step) else repr(self.step)

    @property
    def not_finite(self) -> str | None:
        """The first value that is none: `loss nan`."""
        return next((f"{name} {value}" for name, value in self.values.items() if not math.isfinite(value)), None)


class Output:
    """Reads the whole lines of a program's output; keeps its metrics, by their names, and the end of its text."""

    def __init__(self, series: SeriesEntry | None, metrics: Mapping[str, MetricEntry]) -> None:
        self.metrics: dict[str, float] = {}
        self.tail = ""
        self._steps = re.compile(series.pattern, re.MULTILINE) if series is not None and series.pattern else None
        self._json = series is not None and series.json_lines
        self._declared = {name: re.compile(entry.pattern, re.MULTILINE) for name, entry in metrics.items() if entry.pattern}

    def feed(self, text: str) -> list[Step]:
        """Whole lines; gives the steps that they report."""
        self.tail = (self.tail + text[-_TAIL:])[-_TAIL:]
        if "RESULT_" in text:
            self.metrics.update(results(text))
        for name, pattern in self._declared.items():
            for match in pattern.finditer(text):
                value = number(match[name] if name in pattern.groupindex else match[1])
                if value is not None:
                    self.metrics[name] = value
        if self._steps is not None:
            return [step for match in self._steps.finditer(text) if (step := _step(match.groupdict())) is not None]
        return list(_json_steps(text)) if self._json else []


def results(text: str) -> dict[str, float]:
    """`RESULT_DAVID acc=0.94 epochs=12` -> {"david.acc": 0.94, "david.epochs": 12.0}; what is no number is left out. The last line of a name counts."""
    found: dict[str, float] = {}
    for line in _RESULT.finditer(text):
        for pair in _PAIR.finditer(line["pairs"]):
            value = number(pair["value"].strip('"'))
            if value is not None:
                found[f"{line['name'].lower()}.{pair['key']}"] = value
    return found


def of_summary(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary.json that a program wrote: those of its table `metrics`, and those beside it."""
    own = summary.get("metrics")
    tables = [summary, own if isinstance(own, Mapping) else {}]
    return {str(name): float(value) for table in tables for name, value in table.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}


def at(document: Any, path: str) -> float | None:
    """The number at `eval.loss` or `steps.0.loss` of a JSON document; None where there is none."""
    for key in path.split("."):
        if isinstance(document, Mapping):
            document = document.get(key)
        elif isinstance(document, list) and key.lstrip("-").isdecimal() and -len(document) <= int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return float(document) if isinstance(document, (int, float)) and not isinstance(document, bool) else None


def _json_steps(text: str) -> Iterator[Step]:
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                record = orjson.loads(line)
            except ValueError:
                continue  # a line that only looks like one
            if isinstance(record, dict) and (step := _step(record)) is not None:
                yield step


def _step(groups: Mapping[str, Any]) -> Step | None:
    values = {name: found for name, value in groups.items() if (found := number(value)) is not None}
    step = values.pop("step", None)
    return Step(step, values) if step is not None and math.isfinite(step) and values else None
