"""The page as text: what is said of cases is HTML, samples are packed data behind it, and one script, which the policy allows by its hash, shows them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from pytest_gpueval.reports import html
from pytest_gpueval.reports.table import LARGEST, Figure, clock, headers, number

from . import drawing
from .packing import Redact
from .records import CasePage
from .timeline import timeline

_SCHEMES = ("precision", "recall", "f1")


def page(record: Mapping[str, Any], cases: Sequence[CasePage], sections: Sequence[Markup] = (), redact: Redact = lambda text: text) -> str:
    """The page of a session. `record`: session.json; `sections`: safe HTML that others made, put at the end of the overview.

    What is shown is redacted here; samples were, before they were packed (`samples.Collector`). Style and script are constants: what somebody calls
    a secret must not blot them out.
    """
    rows = [case.row for case in cases]
    body = (
        _environment()
        .get_template("session.html.j2")
        .render(
            record=record,
            cases=cases,
            rows=rows,
            headers=headers(rows),
            sections=sections,
            sweep=bool(rows) and all(row.sweep for row in rows),
            timeline=timeline(record),
            totals=_totals(cases),
            shared=_shared(cases),
        )
    )
    style, script = _asset("session.css"), _asset("session.js")
    policy = f"default-src 'none'; script-src 'sha256-{_sha256(script)}'; style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'"
    data = [
        f'<script type="text/plain" id="data-{place}-{block}">{text}</script>\n'
        for place, case in enumerate(cases)
        if case.samples is not None
        for block, text in enumerate(case.samples.blocks)
    ]
    data += [
        f'<script type="text/plain" id="curves-{place}">{case.samples.label_curves}</script>\n'
        for place, case in enumerate(cases)
        if case.samples is not None and case.samples.label_curves
    ]
    head = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    return f'<!doctype html>\n<html lang="en">\n{head}<style>{style}</style>\n{redact(body)}\n{"".join(data)}<script>{script}</script>\n</html>\n'


def _environment() -> jinja2.Environment:
    environment = html.environment()
    environment.filters |= {
        "bar": drawing.bar,
        "clock": clock,
        "coded": json.dumps,  # what the script looks up must be as it was: pages show texts without control characters
        "curve": drawing.curve,
        "histogram": drawing.histogram,
        "ms": drawing.milliseconds,
        "short": lambda value: "-" if value is None else number(value),
        "matrix": lambda table: drawing.matrix(table, LARGEST),
        "tone": _tone,
        "signed": _signed,
    }
    environment.globals |= {"chart_of": _chart, "others_of": _others}
    return environment


def _chart(case: CasePage) -> list[tuple[str, str]]:
    """The figures of labels that are drawn, with their titles: precision, recall and F1 as the headline counts them, else those that all labels have."""
    names = case.row.label_figures()
    prefix = (case.row.headline or "").rpartition(".")[0]
    drawn = [f"{prefix}.{name}" if prefix else name for name in _SCHEMES]
    found = [name for name in drawn if name in names]
    return [(name, name.rpartition(".")[2].replace("f1", "F1")) for name in found or names[:3]]


def _others(case: CasePage) -> bool:
    """Whether labels have figures that are not drawn."""
    return len(case.row.label_figures()) > len(_chart(case))


def _totals(cases: Sequence[CasePage]) -> list[tuple[str, str]]:
    """The figures on top of the page."""
    rows = [case.row for case in cases]
    passed = sum(row.ok for row in rows)
    gates = [gate for case in cases for gate in case.gates]
    scored, errors = sum(row.scored for row in rows), sum(row.errors for row in rows)
    found = [("cases passed", f"{passed} of {len(rows)}"), ("samples" if not all(row.sweep for row in rows) else "steps", f"{scored:,}")]
    if gates:
        found.append(("gates passed", f"{sum(_tone(gate.outcome) != 'bad' for gate in gates)} of {len(gates)}"))
    if errors:
        found.append(("samples without an answer", f"{errors:,}"))
    return found


def _shared(cases: Sequence[CasePage]) -> Mapping[str, str]:
    """What is said of where all of several cases come from: once on the page, not with each."""
    if len(cases) < 2:
        return {}
    everywhere = set.intersection(*(set(case.provenance) for case in cases))
    return {name: value for name, value in cases[0].provenance if (name, value) in everywhere}


def _tone(outcome: str) -> str:
    """How a status or a verdict is coloured."""
    if outcome in ("pass", "passed", "improved"):
        return "good"
    return "calm" if outcome in ("skipped", "unscored", "inconclusive", "interrupted") else "bad"


def _signed(figure: Figure) -> str:
    """`-0.011 [-0.020, -0.002]`."""
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:+.3f}"
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def _asset(name: str) -> str:
    environment = html.environment()
    assert environment.loader is not None  # noqa: S101 - for the type checker
    return environment.loader.get_source(environment, name)[0]


def _sha256(text: str) -> str:
    """As a browser takes it: of the bytes of the element."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


