"""gpueval datasets budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_gpueval.datasets.budget import FLOOR

from .output import Form, Json, Pretty, form, show, show_document, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.session.sizing import Sized, Sizing, Wishes

_HEADERS = ("dataset", "samples/s", "measured", "rows now", "rows", "at", "minutes", "gate", "MDE now", "MDE")
_NUMBERS = frozenset({"samples/s", "rows now", "rows", "minutes", "MDE now", "MDE"})


def budget(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite: a folder in suites/.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, max=100_000, metavar="M", help="Time for the whole suite (default: its budget_s, else 10).")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, max=4096, metavar="N", help="GPUs, or CPU lanes, that share it.")] = 1,
    gpu_name: Annotated[
        str | None, typer.Option(metavar="NAME|cpu", help="GPU model whose measurements count, as sessions named it (default: the only one measured).")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split to size.")] = "fast",
    runtime: Annotated[str | None, typer.Option(metavar="NAME", help="Runtime (default: the suite's).")] = None,
    floor: Annotated[int, typer.Option(min=1, metavar="ROWS", help="Fewest rows of a dataset.")] = FLOOR,
    ceiling: Annotated[int | None, typer.Option(min=1, metavar="ROWS", help="Most rows of a dataset; never more than its 'full' split has.")] = None,
    against: Annotated[str, typer.Option(metavar="bound|baseline", help="Drops below the gate's bound, or below a baseline of as many rows.")] = "bound",
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Sessions that measured speed and spread.")] = Path("reports/evaluations"),
    apply: Annotated[bool, typer.Option("--apply", help="Publish fast splits of these sizes, as `gpueval datasets rebalance` does.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --apply: show what would be published, and publish nothing.")] = False,
    json_: Json = False,
    pretty: Pretty = False,
) -> None:
    """Propose rows for all datasets of a suite at once: fill a time budget so that the largest drop that may go unseen is as small as can be.

    MDE is the minimum detectable drop: the smallest true drop that so many rows show with 80 % power, one-sided at 5 %. Speed and spread come from earlier
    sessions in --output-dir, else speed from `rate` in the suite, and a row counts as one unit. The gate is the headline metric's, else the one with the
    largest MDE. Without --apply nothing is written.

    Examples:
      gpueval datasets budget guardrails_ru --minutes 10 --gpus 1

      gpueval datasets budget guardrails_ru --gpus 8 --gpu-name "NVIDIA H100 80GB HBM3" --floor 400 --json

      gpueval datasets budget guardrails_ru --minutes 10 --apply --dry-run
    """
    from pytest_gpueval.errors import UsageProblem, valid_values
    from pytest_gpueval.session.sizing import Against, Wishes

    from . import datasets

    with user_errors():
        if against not in list(Against):
            raise UsageProblem(f"--against {against}: {valid_values(against, [one.value for one in Against], what='values')}")
        if ceiling is not None and ceiling < floor:
            raise UsageProblem(f"--ceiling {ceiling} is below --floor {floor}")
        wishes = Wishes(gpus=gpus, minutes=minutes, gpu_name=gpu_name, floor=floor, ceiling=ceiling, against=Against(against))
        if dry_run and not apply:
            raise UsageProblem("--dry-run belongs to --apply: without it nothing is published anyway")
        sizing = sized(suite, wishes, split=split, runtime=runtime, output_dir=output_dir)
        if not apply:
            _print(sizing, form(json_, pretty))
            return
        if form(json_, pretty) is Form.TABLE:
            _print(sizing, Form.TABLE)
        datasets.publish(suite, {one.dataset: one.rows for one in sizing.datasets}, split, form(json_, pretty), dry_run=dry_run)


def sized(suite: str, wishes: Wishes, *, split: str | None = "fast", runtime: str | None = None, output_dir: Path = Path("reports/evaluations")) -> Sizing:
    """The proposal for a suite below the current directory, or one that ships. Raises UsageProblem."""
    from pytest_gpueval.session import cases, sizing
    from pytest_gpueval.session.settings import Settings

    settings = Settings(root=Path.cwd(), suite=(suite,), split=split, runtime=runtime, output_dir=output_dir)
    return sizing.size(cases.evaluation_named(suite, settings.root), settings, wishes)


def _print(sizing: Sizing, form: Form) -> None:
    if form is not Form.TABLE:
        show_document(sizing.as_dict(), form)
        return
    rows = [_cells(one, sizing) for one in sizing.datasets]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in _NUMBERS}
    show([{name: cell.rjust(widths[name]) if name in _NUMBERS else cell for name, cell in row.items()} for row in rows], _HEADERS, form)
    print("\n".join(_lines(sizing)))


def _cells(one: Sized, sizing: Sizing) -> dict[str, str]:
    from pytest_gpueval.reports.table import plain

    place = plain(sizing.gpu_name or "CPU")
    if one.measured_split not in (None, sizing.split):
        place += f", {one.measured_split}"
    return {
        "dataset": one.dataset,
        "samples/s": f"{one.rate:,.0f}" if one.rate >= 10 else f"{one.rate:.2g}",
        "measured": place if one.source == "measured" else "as the suite says",
        "rows now": "-" if one.rows_now is None else f"{one.rows_now:,}",
        "rows": f"{one.rows:,}",
        "at": one.limit or "",
        "minutes": f"{one.gpu_seconds / 60:.2f}",
        "gate": plain(one.judged.name) + ("" if one.judged.session else " *"),
        "MDE now": _drop(one.mde_now) if one.rows_now is not None else "-",
        "MDE": _drop(one.mde),
    }


def _lines(sizing: Sizing) -> list[str]:
    """What the table adds up to, and what it rests on."""
    from pytest_gpueval.reports.table import clock

    place = "GPU" if sizing.gpu_name or all(one.source != "measured" for one in sizing.datasets) else "CPU lane"
    start_up = f", {sizing.startup_s:.1f} s of start-up included" if sizing.startup_s else ""
    now = f"; rows now: {clock(sizing.seconds_now)}" if sizing.seconds_now is not None else ""
    total = f"{sizing.gpus:,} {place}{'s' if sizing.gpus > 1 else ''}"
    lines = [f"predicted {clock(sizing.seconds)} of {clock(sizing.budget_s)} on {total}{start_up}{now}"]
    origin = "its gate's bound" if sizing.against == "bound" else "a baseline of as many rows"
    was = f", now {_drop(sizing.largest_now)}" if all(one.rows_now is not None for one in sizing.datasets) else ""
    lines.append(f"largest MDE {_drop(sizing.largest)}{was}: the drop below {origin} that is found with 80 % power, one-sided at 5 %")
    if assumed := [one.dataset for one in sizing.datasets if one.judged.session is None]:
        lines.append(
            f"* no session measured the spread of {', '.join(assumed)}: a row counts as one unit, right or wrong, at the gate's bound (0.5 without one)"
        )
    if endless := [one.dataset for one in sizing.datasets if one.ceiling is None]:
        lines.append(f"nobody says how many rows there are of {', '.join(endless)}: give --ceiling, or rows of split 'full' in suite.toml")
    return lines


def _drop(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
