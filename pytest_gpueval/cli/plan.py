"""gpueval plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .output import Form, Json, Pretty, form, show_document, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.planning.plan import Plan
    from pytest_gpueval.session.data import Data
    from pytest_gpueval.session.lanes import Lane
    from pytest_gpueval.session.settings import Settings
    from pytest_gpueval.suites.load import AnySuite
    from pytest_gpueval.suites.model import Unit

_WIDTH: Final = 120
_BASELINE_HELP: Final = "Say which gates cannot see the drops that they promise to see, going by these baselines (gates on speed always; by baselines/)."


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
    baseline: Annotated[str | None, typer.Option(metavar="SOURCE", help=_BASELINE_HELP)] = None,
    json_: Json = False,  # noqa: FBT002 - command-line switch
    pretty: Pretty = False,  # noqa: FBT002 - command-line switch
) -> None:
    """Show what a session would run where, in which order, and how long it would take. Nothing is run.

    Lengths come from earlier sessions in --output-dir, else from `rate` in the suite, else from a default.

    Examples:
      gpueval plan guardrails_ru

      gpueval plan guardrails_ru --lanes 8 --gpu-name "NVIDIA H100 80GB HBM3"

      gpueval plan guardrails_ru --gpus 0-3 --split full --json

      gpueval plan guardrails_ru --baseline baselines
    """
    from pytest_gpueval.errors import UsageProblem
    from pytest_gpueval.session.forecast import Forecast
    from pytest_gpueval.session.settings import Settings, runtime_of

    with user_errors():
        if lanes is not None and gpus is not None:
            raise UsageProblem("--gpus and --lanes both say what to plan for; leave one out")
        if lanes is None and gpu_name is not None:
            raise UsageProblem("--gpu-name names the model of --lanes N; GPUs of this machine have their own")
        runtime, source = runtime_of(runtime)
        settings = Settings(
            root=Path.cwd(),
            suite=tuple(name.strip() for name in suite.split(",") if name.strip()),
            gpus=gpus or "auto",
            split=split,
            runtime=runtime,
            runtime_source=source,
            policy=policy,
            data=data,
            output_dir=output_dir,
            limit=limit,
        )
        if not settings.suite:
            raise UsageProblem("SUITE is empty; `gpueval suites` lists them")
        suites, chosen, rows = _chosen(settings)
        laid = _lanes(settings, lanes, gpu_name, chosen)
        expected = Forecast(settings, rows, suites, laid)
        made = expected.whole()
        blind = [*(_blind(chosen, baseline, settings) if baseline is not None else ()), *_untimed(chosen, baseline, settings, laid)]
    _print(made, expected.unknown, form(json_, pretty), settings.runtime_words, blind)


def _chosen(settings: Settings) -> tuple[list[AnySuite], list[Unit], Data]:
    """The suites, what would run of them, and their data."""
    from pytest_gpueval.session import cases
    from pytest_gpueval.session.data import Data

    suites = [cases.read_suite(path) for path in cases.suite_paths(settings)]
    cases.check_runtime(suites, settings)
    chosen = [unit for read in suites for unit in cases.units(read, settings)]
    rows = Data(settings)
    rows.check()
    rows.settle(chosen)
    return suites, chosen, rows


def _blind(chosen: Sequence[Unit], baseline: str, settings: Settings) -> list[str]:
    """Gates that cannot see what they promise."""
    from pytest_gpueval.session import baseline_sources, foresight
    from pytest_gpueval.suites.model import Case

    source = baseline_sources.source(baseline, settings.root, settings.output_dir, option="--baseline ")
    cases = [unit for unit in chosen if isinstance(unit, Case)]
    there = set(source.cases())
    keys = {(case.suite, case.whole_id) for case in cases}
    return foresight.warnings(cases, {key: source.get(*key) for key in keys & there})


def _untimed(chosen: Sequence[Unit], baseline: str | None, settings: Settings, laid: Sequence[Lane]) -> list[str]:
    """Gates on changes of speed that have nothing to compare with on these machines; without `baseline`, in the folder of baselines."""
    from pytest_gpueval.runs.baselines import DIRECTORY
    from pytest_gpueval.session import baseline_sources, speed
    from pytest_gpueval.suites.model import Case

    cases = [unit for unit in chosen if isinstance(unit, Case) and unit.speed_gates]
    if not cases:
        return []
    own = baseline_sources.Folder(settings.root / DIRECTORY, DIRECTORY)
    source = own if baseline is None else baseline_sources.source(baseline, settings.root, settings.output_dir, option="--baseline ")
    known = {key: found for key in [(case.suite, case.whole_id) for case in cases] if (found := source.speed(*key)) is not None}
    return speed.warnings(cases, known, [lane.gpu_name or speed.cpu() for lane in laid if lane.gpu_name != ""])


def _lanes(settings: Settings, number: int | None, gpu_name: str | None, chosen: Sequence[Unit]) -> list[Lane]:
    """What there is, or what is supposed. CPU lanes are as many as a session would have: as there are cores, and cases."""
    from pytest_gpueval.gpus import devices
    from pytest_gpueval.session import lanes

    widths = frozenset(case.gpus for case in chosen)
    if number is not None:
        return lanes.on_gpus([devices.Device(index, f"gpu{index}", gpu_name or "") for index in range(number)], widths)
    spec = settings.gpus or "auto"
    found = devices.select(spec, devices.visible() if spec != "none" else [])
    return lanes.on_gpus(found, widths) if found else lanes.on_cpu(None, max(1, len(chosen)), widths)


def _print(made: Plan, unknown: Sequence[str], form: Form, note: str | None, blind: Sequence[str]) -> None:
    from pytest_gpueval.reports import schedule
    from pytest_gpueval.session.forecast import UNKNOWN_ROWS

    record: dict[str, Any] = made.as_dict()
    if form is not Form.TABLE:
        show_document({**record, "rows_unknown": list(unknown), "gates": list(blind)}, form)
        return
    if note:
        print(note)  # noqa: T201
    print(schedule.plan_lines(record, _width()), end="")  # noqa: T201
    if unknown:
        print(f"  rows unknown, {UNKNOWN_ROWS:,} assumed: {', '.join(unknown)}")  # noqa: T201
    for line in blind:
        print(f"  gate: {line}")  # noqa: T201


def _width() -> int:
    """The width of the terminal; where there is none, a line that reads well in a log."""
    from shutil import get_terminal_size

    return get_terminal_size((_WIDTH, 24)).columns
