"""The judge of a case: beside its model, or on a server elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pytest_gpueval.errors import Unreachable, UsageProblem
from pytest_gpueval.scoring import verdicts

from . import servers

if TYPE_CHECKING:
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.suites.model import Case, Judge

    from .settings import Settings

# Of a runtime's request, what is of the model alone: a judge says one text, of a prompt of its own.
_OWN: Final[dict[str, Any]] = {"n": 1, "choices": "text"}


def runtime(case: Case, judge: Judge, settings: Settings, fixture: servers.Fixture, model: Callable[[], Runtime]) -> Runtime:
    """A case's model with its judge, which is not started; `model` gives the started one. Raises UsageProblem, RuntimeFault, Unreachable."""
    from pytest_gpueval.runtimes.judged import Judged, Lent, of_the_judge

    if judge.runtime_name == case.runtime_name:
        own = model()
        return Judged(Lent(lambda: own), _beside(case, judge, own), verdicts.question)
    try:
        elsewhere = servers.openai_runtime(_asked(case, judge), settings, fixture)
    except Unreachable as error:
        raise of_the_judge(error) from error
    except UsageProblem as error:
        raise UsageProblem(f"suite {case.suite!r}: judge.runtime {judge.runtime_name!r}: {error}") from error
    return Judged(Lent(model), elsewhere, verdicts.question)


def _beside(case: Case, judge: Judge, model: Runtime) -> Runtime:
    """The judge of a model that judges itself."""
    from pytest_gpueval.runtimes.openai import OpenAIRuntime

    if not isinstance(model, OpenAIRuntime):
        raise UsageProblem(f"suite {case.suite!r}: judge.runtime {judge.runtime_name!r}: a conftest.py makes kind 'openai' its own; such runtimes do not judge")
    return model.beside(replace(model.request, template=judge.entry.template, **_OWN))


def _asked(case: Case, judge: Judge) -> Case:
    """As if the judge were the model of the case."""
    request = judge.runtime.request.model_copy(update={"template": judge.entry.template, **_OWN})
    return replace(case, judge=None, runtime_name=judge.runtime_name, runtime=judge.runtime.model_copy(update={"request": request}))
