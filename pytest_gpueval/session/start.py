"""How a session begins: is the plugin asked for at all, and which part does this process play."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.cacheprovider import Cache

from pytest_gpueval.errors import GpuevalError, StorageError, UsageProblem
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.suites.load import FILE_NAME, AnySuite
from pytest_gpueval.suites.model import Case, Suite, Unit
from pytest_gpueval.suites.sweep import Sweep

from . import allocation, cases, comparison, selection, shards
from .data import EMBEDDED, Data
from .failures import INFRASTRUCTURE_EXIT
from .messages import user_errors
from .settings import Settings, check_words
from .worker import Notify, Orders, Worker

SETTINGS = pytest.StashKey[Settings]()
DATA = pytest.StashKey[Data]()
CHOSEN = pytest.StashKey[list[Unit]]()
ALLOCATION = pytest.StashKey[allocation.Allocation]()
COMPARED = pytest.StashKey[comparison.Compared]()
# Workers that xdist would have started, had this been no dry run.
PROCESSES = pytest.StashKey[int]()


def _end_on_sigterm(config: pytest.Config) -> None:
    """End as by Ctrl-C on SIGTERM: the run says "interrupted", files are closed. xdist workers ignore SIGINT, so they are stopped by it too."""

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the first one's report
        raise KeyboardInterrupt("ended by SIGTERM")

    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, interrupt)

        def give_back() -> None:
            signal.signal(signal.SIGTERM, before)

        config.add_cleanup(give_back)


def only_looks(option: Any) -> bool:
    """Whether pytest was asked to show something instead of running tests."""
    return any(getattr(option, name, False) for name in ("collectonly", "setupplan", "setuponly", "showfixtures", "show_fixtures_per_test"))


def is_worker(config: pytest.Config) -> bool:
    """Whether this is an xdist worker."""
    return hasattr(config, "workerinput")


def pin(early: pytest.Config) -> None:
    """Where this process will run the items itself: hide all GPUs but its own before a conftest.py can start CUDA. Raises UsageError."""
    option = early.known_args_namespace
    spec = option.gpus or early.getini("gpus")
    if (
        not spec
        or spec == "none"
        or option.gpueval_hosts
        or early.getini("gpueval_hosts")
        or "PYTEST_XDIST_WORKER" in os.environ
        or not _alone(option, early.pluginmanager)
        or only_looks(option)
    ):
        return
    with user_errors():
        known = Settings.read(early, option)
        if not known.dry_run:
            allocation.pin(early, known)


def prepare(config: pytest.Config) -> int | None:
    """Before pytest is configured: read the options and add the suites; on the controller get the GPUs too. Gives an exit status where it cannot go on."""
    with user_errors():
        try:
            _prepare(config)
        except GpuevalError as error:
            if not error.infrastructure or isinstance(error, StorageError):  # where to write is the user's to say
                raise
            sys.stderr.write(f"ERROR: {error}\n\n")  # as pytest says usage errors, whose exit status this is not
            return INFRASTRUCTURE_EXIT
    return None


def _prepare(config: pytest.Config) -> None:
    check_words(config)
    settings = Settings.of(config)
    paths = cases.suite_paths(settings)
    if paths:
        config.args = ([] if config.args_source is not pytest.Config.ArgsSource.ARGS else config.args) + [
            str(path) for path in paths if str(path) not in config.args
        ]
    config.args, config.stash[shards.NAMED] = shards.unnamed(config.args, config.invocation_params.dir)
    config.stash[SETTINGS] = settings
    if is_worker(config):
        return
    config.stash[DATA] = data = Data(settings)
    data.check()
    if settings.runtime_source:  # workers may be where the variable is not set
        config.option.gpueval_runtime = settings.runtime
    suites = suites_of(config)
    cases.check_runtime(suites, settings)
    if settings.hosts:
        from . import away  # noqa: PLC0415 - most sessions stay here

        away.check_suites(suites, settings)
    chosen = [unit for suite in suites for unit in cases.units(suite, settings)]
    config.stash[CHOSEN] = chosen
    if not only_looks(config.option):
        # What comes with the suite is there; of thousands of items, which are selected takes a while to say.
        wanted = None if settings.data == EMBEDDED else selection.selected(config, [unit for unit in chosen if isinstance(unit, Case)])
        data.settle(chosen, wanted)
        config.stash[COMPARED] = _compared(config, settings, chosen, suites)
        if not settings.dry_run:
            data.bring(wanted or ())  # what else is selected, the controller brings once it is collected
    config.stash[ALLOCATION] = allocation.lay(
        config,
        settings,
        frozenset(case.gpus for case in chosen) or frozenset({1}),
        max(1, len(chosen)),
        alone=_alone(config.option, config.pluginmanager),
        looks=only_looks(config.option) or settings.dry_run,
    )
    if settings.dry_run:
        from . import dryrun  # noqa: PLC0415

        config.stash[PROCESSES] = dryrun.stay_alone(config)


def configure(config: pytest.Config) -> None:
    """Register the parts that this process plays."""
    if is_worker(config):
        _configure_worker(config, config.workerinput)  # type: ignore[attr-defined]
    elif SETTINGS in config.stash and not only_looks(config.option):
        with user_errors():
            _open_session(config, suites_of(config))


def ensure(config: pytest.Config, suite: AnySuite) -> None:
    """Open a session late, for tests marked `gpueval` that run without an option of ours. Raises UsageProblem in an xdist worker."""
    if SETTINGS in config.stash:
        return
    if is_worker(config):
        raise UsageProblem("tests marked gpueval need a session when xdist runs them: add --gpueval-session NAME")
    config.stash[SETTINGS], config.stash[ALLOCATION] = settings, _ = Settings.of(config), allocation.Allocation()
    config.stash[DATA] = Data(settings)
    if not only_looks(config.option):
        units = cases.units(suite, settings)
        config.stash[COMPARED] = comparison.resolve(settings, [unit for unit in units if isinstance(unit, Case)], redactor_of([suite]), certain=False)
        _open_session(config, [suite])


def _compared(config: pytest.Config, settings: Settings, chosen: Sequence[Unit], suites: Sequence[AnySuite]) -> comparison.Compared:
    """What the selected cases are compared with. Raises what stands in the way."""
    if settings.baseline is None:
        return comparison.Compared()
    every = [unit for unit in chosen if isinstance(unit, Case)]
    wanted = selection.selected(config, every)
    return comparison.resolve(settings, every if wanted is None else wanted, redactor_of(suites), certain=wanted is not None)


def _open_session(config: pytest.Config, suites: list[AnySuite]) -> None:
    """Own the session's directory; without xdist, run its items too."""
    # What no worker needs takes a fifth of a second to import.
    from . import dryrun  # noqa: PLC0415
    from .controller import Controller, earlier_record  # noqa: PLC0415
    from .engine import Engine  # noqa: PLC0415
    from .forecast import Forecast  # noqa: PLC0415

    settings, found = config.stash[SETTINGS], config.stash[ALLOCATION]
    data = config.stash[DATA]
    expected = Forecast(settings, data, suites, found.lanes, config.stash.get(CHOSEN, None))
    if settings.dry_run:
        place = settings.output_dir / settings.session if settings.session else None
        counts = expected.earlier_counts(place, earlier_record(place)["cuts"]) if place else {}
        config.pluginmanager.register(dryrun.DryRun(expected, counts, config.stash.get(PROCESSES, 0), settings.runtime_words), "gpueval-dry-run")
        return
    _end_on_sigterm(config)
    controller = Controller(config, settings, found, suites, redactor_of(suites), expected, data)
    config.pluginmanager.register(controller, "gpueval-controller")
    compared = config.stash.get(COMPARED, comparison.Compared())
    compared.keep(controller.session_dir)
    controller.warnings += compared.notes
    controller.warnings += [f"{suite.name}: {note}" for suite in suites if isinstance(suite, Sweep) for note in suite.notes]
    if settings.baseline is not None:
        from .drop_gates import DropGates  # noqa: PLC0415

        config.pluginmanager.register(DropGates(controller, expected.units), "gpueval-drop-gates")
    else:
        controller.warnings += _silent(expected.units)
    if settings.update_baseline:
        from .baseline_update import BaselineUpdate  # noqa: PLC0415

        config.pluginmanager.register(BaselineUpdate(controller, data, expected.units), "gpueval-update-baseline")
    if found.by_xdist:
        if found.away:
            from .away import Elsewhere  # noqa: PLC0415 - most sessions stay here

            controller.elsewhere = Elsewhere(controller, found.away, found.lanes)
        engine = Engine(config, controller)
        controller.lane_of = engine.lane
        config.pluginmanager.register(engine, "gpueval-engine")
    elif getattr(config.option, "dist", "no") == "no":
        lane = found.lanes[0].name if found.lanes else "main"
        controller.tell.append(_register_worker(config, settings, controller.orders(lane), controller.redactor, controller.hear).hear)


def _silent(units: Sequence[Unit]) -> list[str]:
    """That gates against a baseline do not speak, where there are such."""
    gates = sum(gate.is_paired for unit in units if isinstance(unit, Case) for gate in unit.gates)
    if not gates:
        return []
    which = "1 gate against a baseline does not speak" if gates == 1 else f"{gates} gates against a baseline do not speak"
    return [f"{which}: give --gpueval-baseline (a first one is written by --gpueval-update-baseline)"]


def redactor_of(suites: Sequence[AnySuite]) -> Redactor:
    """What must not be written: the secrets of the environment and of the options of runtimes."""
    return Redactor.of(os.environ, [entry.options for suite in suites if isinstance(suite, Suite) for entry in suite.file.runtimes.values()])


def suites_of(config: pytest.Config) -> list[AnySuite]:
    """The suites that the command line names."""
    return [cases.read_suite(path) for path in _named_suites(config)]


def _alone(option: Any, plugins: pytest.PytestPluginManager) -> bool:
    """Whether the user wants this process to run the items: no xdist, `-n 0`, `--pdb`."""
    return not plugins.hasplugin("xdist") or option.numprocesses == 0 or option.usepdb


def _configure_worker(config: pytest.Config, given: dict[str, Any]) -> None:
    """In an xdist worker: everything decided comes from the controller."""
    if "gpueval" not in given:
        return
    channel, orders = given["gpueval_channel"], Orders(**given["gpueval"])
    if orders.away:
        if orders.away["last_failed"] is not None:
            Cache.for_config(config, _ispytest=True).set("cache/lastfailed", orders.away["last_failed"])
        config.stash[SETTINGS] = replace(config.stash[SETTINGS], data=orders.away["data"] or config.stash[SETTINGS].data)
    cases.take_over(given["gpueval_suites"])
    _end_on_sigterm(config)
    config.stash[DATA] = Data(config.stash[SETTINGS], given["gpueval_pins"])
    worker = _register_worker(config, config.stash[SETTINGS], orders, redactor_of(suites_of(config)), channel.send)
    channel.setcallback(lambda said: worker.hear(said) if isinstance(said, dict) else os.kill(os.getpid(), signal.SIGTERM))


def _register_worker(config: pytest.Config, settings: Settings, orders: Orders, redactor: Redactor, send: Notify) -> Worker:
    worker = Worker(config, settings, config.stash[DATA], orders, redactor, send)
    config.pluginmanager.register(worker, "gpueval-worker")
    if settings.retries:
        from .retries import Retries  # noqa: PLC0415 - most sessions do without

        config.pluginmanager.register(Retries(worker, settings.retries))
    config.add_cleanup(worker.close)
    return worker


def _named_suites(config: pytest.Config) -> list[Path]:
    """The suite files among pytest's arguments, given as file, node id or folder."""
    found: dict[Path, None] = {}
    for argument in config.args:
        path = config.invocation_params.dir / argument.split("::")[0]
        file = path / FILE_NAME if path.is_dir() else path
        if file.name == FILE_NAME and file.exists():
            found[file.resolve()] = None
    return list(found)
