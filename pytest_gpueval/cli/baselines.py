"""gpueval baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import Form, Json, Pretty, form, show, show_document, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.runs.baselines import Baseline
    from pytest_gpueval.session.baseline_sources import Source

app = typer.Typer(help="Look at what cases are compared with.", no_args_is_help=True)

_SOURCE_HELP = "A folder of baselines, a session (its folder, or its name in reports/evaluations), or git:REF."
_DEFAULT = "baselines"


@app.command("ls")
def ls(
    source: Annotated[str, typer.Argument(help=_SOURCE_HELP)] = _DEFAULT,
    json_: Json = False,  # noqa: FBT002
    pretty: Pretty = False,  # noqa: FBT002
) -> None:
    """List baselines with their headline metric.

    Examples:
      gpueval baselines ls

      gpueval baselines ls git:main --json
    """
    from pytest_gpueval.errors import DataError, GpuevalError

    rows, wrong = [], []
    with user_errors():
        found = _source(source)
        for suite, case in found.cases():
            try:
                rows.append(_row(found.get(suite, case)))
            except GpuevalError as error:  # one that is broken does not hide the others
                wrong.append(error)
    headers = ("suite", "case", "samples", "metric", "value", "interval", "policy", "commit")
    show(rows, headers, form(json_, pretty))
    with user_errors():
        if wrong:
            raise DataError("\n".join(map(str, wrong)))


@app.command("show")
def show_(
    suite: Annotated[str, typer.Argument(help="Name of the suite.")],
    case: Annotated[str, typer.Argument(help="Its case: DATASET-SPLIT.")],
    source: Annotated[str, typer.Option("--from", help=_SOURCE_HELP, metavar="SOURCE")] = _DEFAULT,
    json_: Json = False,  # noqa: FBT002
    pretty: Pretty = False,  # noqa: FBT002
) -> None:
    """Show one baseline: its metrics and labels with intervals, and what they are of. Its samples are read and checked.

    Examples:
      gpueval baselines show guardrails_ru meddies-fast

      gpueval baselines show guardrails_ru meddies-fast --from git:v1.2 --pretty
    """
    with user_errors():
        found = _source(source)
        baseline, speed = found.get(suite, case), found.speed(suite, case)
        samples = baseline.samples
        scored = len(samples) - samples.table.column("parts").null_count
    record = baseline.record
    if form(json_, pretty) is not Form.TABLE:
        told = {**record.model_dump(mode="json"), "samples": len(samples), "samples_sha256": samples.sha256, "scored": scored, "source": baseline.where}
        told["speed"] = speed.model_dump(mode="json")["machines"] if speed is not None else {}
        show_document(told, form(json_, pretty))
        return
    from pytest_gpueval.reports.table import plain
    from pytest_gpueval.suites.schema import SPEED

    of, rows = record.dataset, [("", record.metrics), *record.label_metrics.items()]
    figures = [{"label": label, "metric": name, **_figure(figure)} for label, found in rows for name, figure in found.items()]
    show(figures, ("label", "metric", "value", "interval", "documents"), Form.TABLE)
    if speed is not None:
        rows_of = [(key, metric, getattr(entry, metric), entry.runs.get(metric)) for key, entry in speed.machines.items() for metric in SPEED]
        timed = [{"machine": key, "metric": name, **_speed(found), "runs": len(runs or "1")} for key, name, found, runs in rows_of if found is not None]
        show(timed, ("machine", "metric", "value", "interval", "runs"), Form.TABLE)
    lines = [
        f"samples: {len(samples):,}, {scored:,} of them scored",
        f"data:    {of.repo or of.name}/{of.split}, {of.rows:,} rows, SHA-256 {of.sha256[:12]}" + (f", revision {of.revision[:12]}" if of.revision else ""),
        f"model:   runtime {record.runtime}, policy {record.policy.get('name') or 'none'}, commit {_commit(record.commit, dirty=record.dirty)}",
        f"from:    {baseline.where}",
    ]
    print(plain("\n".join(lines)))  # noqa: T201


def _source(spec: str) -> Source:
    from pytest_gpueval.session import baseline_sources

    here = Path.cwd()
    return baseline_sources.source(spec, here, here / "reports" / "evaluations", option="")


def _row(baseline: Baseline) -> dict[str, Any]:
    record = baseline.record
    figure = record.metrics.get(record.headline or "")
    return {
        "suite": record.suite,
        "case": record.case,
        "samples": record.samples or record.rows.total,
        "metric": record.headline,
        **(_figure(figure) if figure else {"value": None, "interval": None}),
        "policy": record.policy.get("name"),
        "commit": _commit(record.commit, dirty=record.dirty),
        "dataset_sha256": record.dataset.sha256,
        "source": baseline.where,
    }


def _figure(figure: Any) -> dict[str, Any]:
    interval = None if figure.low is None or figure.high is None else f"[{figure.low:.3f}, {figure.high:.3f}]"
    return {"value": None if figure.value is None else round(figure.value, 4), "interval": interval, "documents": figure.n}


def _speed(figure: Any) -> dict[str, Any]:
    """A figure with its interval, or a number that is what it is."""
    if isinstance(figure, float):
        return {"value": f"{figure:,.0f}", "interval": None}
    value = None if figure.value is None else f"{figure.value:.4g}"
    return {"value": value, "interval": None if figure.low is None or figure.high is None else f"[{figure.low:.4g}, {figure.high:.4g}]"}


def _commit(commit: str | None, *, dirty: bool | None) -> str:
    return "none" if commit is None else f"{commit[:12]}{' and changes' if dirty else ''}"
