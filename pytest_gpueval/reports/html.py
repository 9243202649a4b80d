"""report.html: one file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from .table import HEADERS, Row, plain, value_with_interval


def session(record: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The report of a session."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_gpueval.reports"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = value_with_interval
    environment.finalize = lambda value: plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    return environment.get_template("session.html.j2").render(record=record, rows=rows, headers=HEADERS)
