"""How templates become HTML."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

from .table import plain, value_with_interval


def environment() -> jinja2.Environment:
    """Where templates are made into pages: what they show is escaped, and cannot steer a terminal or turn the direction of text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_gpueval.reports"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = value_with_interval
    environment.filters["number"] = lambda value, unit: "-" if value is None else f"{value:.0f} {unit}"
    environment.finalize = lambda value: plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    return environment

