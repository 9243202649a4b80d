"""Names in suite files -> code: tasks, runtimes and metrics, the package's own and those that conftest.py files add."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.runtimes.base import Runtime
from pytest_gpueval.runtimes.command import Command
from pytest_gpueval.runtimes.inprocess import InProcess
from pytest_gpueval.scoring.classification import classification
from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.scoring.task import SampleMetric, Task
from pytest_gpueval.scoring.verdicts import Verdicts
from pytest_gpueval.suites.load import FILE_NAME

from . import judging, servers

if TYPE_CHECKING:
    from pluggy import HookRelay

    from pytest_gpueval.suites.model import Case

    from .settings import Settings

TaskFactory = Callable[..., Task]
RuntimeFactory = Callable[["Case", int], Runtime]


def task(case: Case, hooks: HookRelay) -> Task:
    """The task of a case under its policy. Raises UsageProblem."""
    known: dict[str, TaskFactory] = {"span_detection": SpanDetection, "classification": classification, "generation": Generation}
    known.update(_added(hooks.pytest_gpueval_tasks()))
    factory: TaskFactory = _look_up(case, "task", case.task, known)
    _check_options(case, factory)
    policy = case.policy
    thresholds = {label: policy.thresholds.get(label, policy.threshold) for label in case.labels}
    judge = {} if case.judge is None else {"verdicts": Verdicts(case.judge.entry.pattern, case.judge.entry.right)}
    try:
        return factory(
            labels=case.labels,
            label_map=case.label_map,
            thresholds=thresholds if any(thresholds.values()) else {},
            ignored={*policy.disabled, *_not_annotated(case)},
            **judge,
            **case.task_options,
        )
    except ValueError as error:
        raise UsageProblem(f"suite {case.suite!r}: task {case.task}: {error}") from None


def _check_options(case: Case, factory: TaskFactory) -> None:
    """Raise UsageProblem for an option that the task's factory does not take."""
    if not case.task_options:
        return
    parameters = inspect.signature(factory).parameters.values()
    known = {parameter.name for parameter in parameters} - {"labels", "label_map", "thresholds", "ignored", "verdicts"}
    for name in case.task_options if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) else ():
        if name not in known:
            hint = valid_values(name, known, what=f"options of task {case.task!r}")
            raise UsageProblem(f"{case.directory / FILE_NAME}: task_options.{name}: unknown key. {hint}")


def _not_annotated(case: Case) -> set[str]:
    """Labels that the dataset has no gold for: predicting them is neither right nor wrong."""
    return set(case.labels) - set(case.label_map.values()) if case.label_map else set()


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
    factory: RuntimeFactory = _look_up(case, "kind of runtime", case.runtime.kind, known)
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
    argv = [sys.executable if word == "{python}" else word for word in entry.command]
    return Command(argv, case.directory, in_flight=workers, deadline_s=entry.deadline_s)


def _added(answers: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for answer in reversed(answers) for name, value in answer.items()}


def _look_up(case: Case, what: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise UsageProblem(f"suite {case.suite!r}: unknown {what} {name!r}. {valid_values(name, known, what='names')}")
    return known[name]
