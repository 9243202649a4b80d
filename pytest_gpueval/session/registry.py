"""Names in suite files -> code: tasks, runtimes and metrics, the package's own and those that conftest.py files add."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.runtimes.base import Runtime
from pytest_gpueval.runtimes.inprocess import InProcess
from pytest_gpueval.scoring.task import SampleMetric, Task

from . import judging, servers, tasks

if TYPE_CHECKING:
    from pluggy import HookRelay

    from pytest_gpueval.suites.model import Case

    from .settings import Settings

RuntimeFactory = Callable[["Case", int], Runtime]


def task(case: Case, hooks: HookRelay) -> Task:
    """The task of a case under its policy. Raises UsageProblem."""
    return tasks.made(case, {**tasks.OWN, **_added(hooks.pytest_gpueval_tasks())})


def runtime(case: Case, settings: Settings, hooks: HookRelay, fixture: servers.Fixture, kept: Callable[[Case], Runtime]) -> Runtime:
    """The runtime of a case, not started; the server that it needs may be.

    `kept` gives one that this process has started, or starts now, for others too: a judge's model. Raises UsageProblem, RuntimeFault, Unreachable.
    """
    if case.judge is not None:
        return judging.runtime(case, case.judge, settings, fixture, lambda: kept(replace(case, judge=None)))
    known: dict[str, RuntimeFactory] = {
        "inprocess": _in_process,
        "command": _command,
        "triton": lambda case, _: servers.triton_runtime(case, settings, fixture),
        "openai": lambda case, _: servers.openai_runtime(case, settings, fixture),
    }
    known.update(_added(hooks.pytest_gpueval_runtimes()))
    factory: RuntimeFactory = tasks.look_up(case, "kind of runtime", case.runtime.kind, known)
    return factory(case, settings.workers)


def metrics(hooks: HookRelay) -> dict[str, SampleMetric]:
    """The metrics that conftest.py files add."""
    return _added(hooks.pytest_gpueval_metrics())


def _in_process(case: Case, workers: int) -> Runtime:
    entry = case.runtime
    if entry.target is None:
        raise UsageProblem(f"suite {case.suite!r}: runtimes.{case.runtime_name}.target: missing; an in-process runtime needs 'file.py:Class'")
    return InProcess(entry.target, entry.options, case.directory, workers, entry.extra)


def _command(case: Case, workers: int) -> Runtime:
    entry = case.runtime
    if not entry.command:
        raise UsageProblem(f'suite {case.suite!r}: runtimes.{case.runtime_name}.command: missing; a runtime of kind \'command\' needs ["program", "argument"]')
    from pytest_gpueval.runtimes.command import Command

    argv = [sys.executable if word == "{python}" else word for word in entry.command]
    return Command(argv, case.directory, in_flight=workers, deadline_s=entry.deadline_s)


def _added(answers: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for answer in reversed(answers) for name, value in answer.items()}
