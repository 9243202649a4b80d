"""gpueval plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .output import Form, Json, Pretty, show_document, form, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.session.plan import Plan, Work
    from pytest_gpueval.session.settings import Settings

# For a split that neither the suite nor a file tells the rows of: about what a fast split has.
_DEFAULT_ROWS: Final = 1000
_WIDTH: Final = 120


def plan(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Names of suites, as for --gpueval-suite: NAME[,NAME].")],
    gpus: Annotated[str | None, typer.Option(metavar="SPEC", help="GPUs to plan for, as for pytest --gpus (default: auto).")] = None,
    lanes: Annotated[int | None, typer.Option(min=1, max=4096, metavar="N", help="Plan for N GPUs, whatever this machine has.")] = None,
    gpu_name: Annotated[str | None, typer.Option(metavar="NAME", help="Model of the --lanes, as sessions named it: what was measured on it counts.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Split (default: the suite's).")] = None,
    runtime: Annotated[str | None, typer.Option(metavar="NAME", help="Runtime (default: the suite's).")] = None,
    policy: Annotated[str | None, typer.Option(metavar="NAME|FILE:NAME", help="Policy (default: the suite's).")] = None,
    data: Annotated[str, typer.Option(metavar="SOURCE", help="Where rows come from: embedded, hub, or a directory.")] = "embedded",
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Sessions that measured how long items take.")] = Path("reports/evaluations"),
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N rows of each split.")] = None,
    json_: Json = False,  # noqa: FBT002 - command-line switch
    pretty: Pretty = False,  # noqa: FBT002 - command-line switch
) -> None:
    """Show what a session would run where, in which order, and how long it would take. Nothing is run.

    Lengths come from earlier sessions in --output-dir, else from `rate` in the suite, else from a default.

    Examples:
      gpueval plan guardrails_ru

      gpueval plan guardrails_ru --lanes 8 --gpu-name "NVIDIA H100 80GB HBM3"

      gpueval plan guardrails_ru --gpus 0-3 --split full --json
    """
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.session.settings import Settings

    with user_errors():
        if lanes is not None and gpus is not None:
            raise UsageProblem("--gpus and --lanes both say what to plan for; leave one out")
        if lanes is None and gpu_name is not None:
            raise UsageProblem("--gpu-name names the model of --lanes N; GPUs of this machine have their own")
        settings = Settings(
            root=Path.cwd(),
            suite=tuple(name.strip() for name in suite.split(",") if name.strip()),
            gpus=gpus or "auto",
            split=split,
            runtime=runtime,
            policy=policy,
            workers=16,
            data=data,
            output_dir=output_dir,
            session=None,
            force=False,
            limit=limit,
            on_bad_row="fail",
        )
        if not settings.suite:
            raise UsageProblem("SUITE is empty; `gpueval suites` lists them")
        places = _places(settings, lanes, gpu_name)
        works, unknown = _works(settings, places[0][2])
        made = _made(works, places, _budget_s(settings))
    _print(made, unknown, form(json_, pretty))


def _places(settings: Settings, lanes: int | None, gpu_name: str | None) -> list[tuple[str, str | None, str | None]]:
    """(lane, GPU, GPU model) of what there is, or of what is supposed."""
    from pytest_gpueval.session import lanes as laying

    if lanes is not None:
        return [(f"gpu{number}", f"gpu{number}", gpu_name) for number in range(lanes)]
    laid = laying.lay(settings.gpus, None, most=4096)
    return [(lane.name, lane.gpu.uuid if lane.gpu else None, lane.gpu.name if lane.gpu else None) for lane in laid]


def _works(settings: Settings, gpu_name: str | None) -> tuple[list[Work], list[str]]:
    """What the suites ask for, and the cases whose rows nobody knows."""
    from pytest_gpueval.session import cases
    from pytest_gpueval.session.costs import History
    from pytest_gpueval.session.plan import Work

    cases.check_source(settings)
    history = History.read(settings.output_dir)
    works: list[Work] = []
    unknown: list[str] = []
    for path in cases.suite_paths(settings):
        file = path.relative_to(settings.root) if path.is_relative_to(settings.root) else path
        for case in cases.chosen(cases.read_suite(path), settings):
            rows = cases.known_rows(case, settings)
            if rows is None:
                unknown.append(case.id)
                rows = min(_DEFAULT_ROWS, settings.limit or _DEFAULT_ROWS)
            works.append(Work(f"{file}::test_eval", case, rows, history.estimate(case, gpu_name)))
    return works, unknown


def _budget_s(settings: Settings) -> float | None:
    """The budgets of all suites together; None where one has none."""
    from pytest_gpueval.session import cases

    budgets = [cases.read_suite(path).file.budget_s for path in cases.suite_paths(settings)]
    known = [budget_s for budget_s in budgets if budget_s is not None]
    return sum(known) if known and len(known) == len(budgets) else None


def _made(works: Sequence[Work], places: Sequence[tuple[str, str | None, str | None]], budget_s: float | None) -> Plan:
    from pytest_gpueval.session import plan as planning

    counts = planning.shard_counts(planning.pieces_of(works), len(places), planning.OVERHEAD_S)
    slots = planning.slots_of([place[:2] for place in places], {work.case.runtime.gpus for work in works})
    return planning.make(planning.jobs_of(works, counts), slots, budget_s)


def _print(made: Plan, unknown: Sequence[str], form: Form) -> None:
    from pytest_gpueval.reports import schedule

    record: dict[str, Any] = made.as_dict()
    if form is not Form.TABLE:
        show_document({**record, "rows_unknown": list(unknown)}, form)
        return
    print(schedule.plan_lines(record, _width()), end="")  # noqa: T201
    if unknown:
        print(f"  rows unknown, {_DEFAULT_ROWS:,} assumed: {', '.join(unknown)}")  # noqa: T201


def _width() -> int:
    """The width of the terminal; where there is none, a line that reads well in a log."""
    from shutil import get_terminal_size

    return get_terminal_size((_WIDTH, 24)).columns
