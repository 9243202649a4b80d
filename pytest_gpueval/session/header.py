"""The line above a session: what runs, on what data, with which runtime, where. Knows nothing of pytest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpueval.suites.model import Case, Unit
from pytest_gpueval.suites.sweep import Row

if TYPE_CHECKING:
    from pytest_gpueval.suites.load import AnySuite

    from .data import Data
    from .settings import Settings


def lines(suites: Sequence[AnySuite], units: Sequence[Unit], data: Data, settings: Settings, where: str) -> list[str]:
    """A line for the evaluations, one for the sweeps, as there are."""
    cases = [unit for unit in units if isinstance(unit, Case)]
    rows = [unit for unit in units if isinstance(unit, Row)]
    found = []
    if cases or not rows:
        names = ", ".join(suite.name for suite in suites if suite.file.kind == "evaluation")
        found.append(f"gpueval: {names} · {_of_cases(cases, data, data.words(suites), settings)} · {where}")
    if rows:
        names = ", ".join(dict.fromkeys(row.suite for row in rows))
        found.append(f"gpueval: {names} · {_of_rows(rows)} · {where}")
    return found


def _of_cases(chosen: Sequence[Case], data: Data, words: str, settings: Settings) -> str:
    splits = "/".join(dict.fromkeys(case.split for case in chosen))
    rows = sum(data.told_rows(case) or 0 for case in chosen)
    size = f"{len(chosen)} dataset{'s' if len(chosen) != 1 else ''}" + (f", {rows:,} rows" if rows else "")
    if settings.limit is not None:
        size += f", first {settings.limit:,} of each"
    source = f", from {settings.runtime_source}" if settings.runtime_source else ""
    runtimes = "/".join(dict.fromkeys(f"{case.runtime_name} ({case.runtime.kind}{source})" for case in chosen))
    policies = "/".join(dict.fromkeys(case.policy_name or "none" for case in chosen))
    judges = "/".join(dict.fromkeys(case.judge.runtime_name for case in chosen if case.judge))
    return f"{splits} ({size}, {words}) · runtime {runtimes}{f' · judge {judges}' if judges else ''} · policy {policies}"


def _of_rows(rows: Sequence[Row]) -> str:
    """`sweep (12 rows over lr, seed)`: the parameters are those that differ."""
    names = dict.fromkeys(name for row in rows for name in row.parameters)
    differ = [name for name in names if any(row.parameters.get(name) != rows[0].parameters.get(name) for row in rows[1:])]
    over = f" over {', '.join(differ[:6])}{', ...' if len(differ) > 6 else ''}" if differ else ""
    return f"sweep ({len(rows):,} row{'s' if len(rows) != 1 else ''}{over})"
