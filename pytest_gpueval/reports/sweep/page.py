"""A sweep as one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from typing import Final
from urllib.parse import quote

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from pytest_gpueval.errors import MissingExtra
from pytest_gpueval.reports.html import environment

from .figures import figures
from .records import Sweep
from .view import view

# Constant: what rows say is data in the page, never part of a program.
_DRAW: Final = """
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const settings = { responsive: true, displaylogo: false };
  const draw = () => {
    const color = getComputedStyle(document.body).color;
    figures.forEach((figure, number) => {
      const place = document.getElementById("figure-" + number);
      place.hidden = false;
      Plotly.react(place, figure.data, { ...figure.layout, font: { color }, paper_bgcolor: "#0000", plot_bgcolor: "#0000" }, settings);
    });
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
"""


def html(sweep: Sweep, *, seed: str = "seed") -> str:
    """The report of a sweep: all tables, which need no JavaScript, and the figures with plotly.js in the file (about 5 MB). Without plotly it says so.

    A content security policy allows those two scripts by their hashes, and no connection anywhere.
    """
    drawn, plotly_js, note = figures(sweep), "", None
    if drawn:
        try:
            plotly_js = _plotly_js()
        except MissingExtra as missing:
            drawn, note = [], str(missing)
    scripts = [plotly_js, _DRAW] if drawn else []
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            view=view(sweep, seed),
            titles=[title for title, _ in drawn],
            figures=htmlsafe_json_dumps([figure for _, figure in drawn], separators=(",", ":"), allow_nan=False, sort_keys=False),
            scripts=[Markup(script) for script in scripts],  # noqa: S704 - constants
            policy=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'",
            note=note,
        )
    )


def section(sweep: Sweep, *, page: str | None = None, seed: str = "seed") -> Markup:
    """The tables of a sweep for the report of its session, without figures; `page`: relative path of the file that `html` makes, which it then points to."""
    return Markup(environment().get_template("sweep_section.html.j2").render(view=view(sweep, seed), page=None if page is None else f"./{quote(page)}"))  # noqa: S704 - autoescaped


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB
    except ImportError:
        raise MissingExtra("plotly", needed_for="The figures of a sweep", extra="sweeps") from None
    return str(get_plotlyjs())


def _sha256(script: str) -> str:
    """As a browser takes it: of the bytes of the element."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
