"""Names of tasks in suite files -> tasks under a case's policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_gpueval.errors import UsageProblem, valid_values
from pytest_gpueval.scoring.classification import classification
from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.spans import SpanDetection
from pytest_gpueval.scoring.task import Task
from pytest_gpueval.scoring.verdicts import Verdicts
from pytest_gpueval.suites.load import FILE_NAME

if TYPE_CHECKING:
    from pytest_gpueval.suites.model import Case

TaskFactory = Callable[..., Task]
OWN: Mapping[str, TaskFactory] = {"span_detection": SpanDetection, "classification": classification, "generation": Generation}


def made(case: Case, known: Mapping[str, TaskFactory]) -> Task:
    """The task of a case, one of those known by name. Raises UsageProblem."""
    factory: TaskFactory = look_up(case, "task", case.task, known)
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


def look_up(case: Case, what: str, name: str, known: Mapping[str, Any]) -> Any:
    """What a name of a suite file stands for. Raises UsageProblem."""
    if name not in known:
        raise UsageProblem(f"suite {case.suite!r}: unknown {what} {name!r}. {valid_values(name, known, what='names')}")
    return known[name]


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
