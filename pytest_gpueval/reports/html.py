"""report.html: one file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from .table import Row, headers, plain, value_with_interval


def session(record: Mapping[str, Any], rows: Sequence[Row], sections: Sequence[Markup] = ()) -> str:
    """The report of a session. `sections`: safe HTML that others made, put at the end (`sweep.section`)."""
    return environment().get_template("session.html.j2").render(record=record, rows=rows, headers=headers(rows), curves=_curves(record), sections=sections, sweep=bool(rows) and all(row.sweep for row in rows))


def environment() -> jinja2.Environment:
    """Where templates are made into pages: what they show is escaped, and cannot steer a terminal or turn the direction of text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_gpueval.reports"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = value_with_interval
    environment.filters["number"] = lambda value, unit: "-" if value is None else f"{value:.0f} {unit}"
    environment.finalize = lambda value: plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    return environment


def _curves(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each GPU did over the session: a line of its utilisation in a box of 100 x 20, and figures."""
    lanes = {uuid: lane for lane in record.get("lanes") or () for uuid in lane.get("gpus") or ()}
    found = []
    for uuid, series in sorted((record.get("gpus") or {}).items(), key=lambda pair: lanes.get(pair[0], {}).get("name", pair[0])):
        end_s = max((t_s for t_s in series["t_s"] if t_s is not None), default=0.0) or 1.0
        known = [(t_s, rate) for t_s, rate in zip(series["t_s"], series["utilization"], strict=True) if t_s is not None and rate is not None]
        found.append(
            {
                "uuid": uuid,
                "lane": lanes.get(uuid, {}).get("name", ""),
                "model": lanes.get(uuid, {}).get("gpu_name") or "",
                "points": " ".join(f"{100 * t_s / end_s:.1f},{20 - rate / 5:.1f}" for t_s, rate in known),
                "utilization": _mean([rate for _, rate in known]),
                "memory_gib": max((value / 1024 for value in series["memory_mib"] if value is not None), default=None),
                "power_w": _mean([value for value in series["power_w"] if value is not None]),
            }
        )
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
