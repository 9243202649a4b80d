"""What a conftest.py can add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.scoring.task import SampleMetric, Task
    from pytest_gpueval.suites.model import Case


@pytest.hookspec
def pytest_gpueval_runtimes() -> Mapping[str, Callable[[Case, int], Runtime]]:  # type: ignore[empty-body]
    """Kinds of runtimes: name -> factory(case, samples in flight). A suite uses one by `runtimes.<name>.kind`."""


@pytest.hookspec
def pytest_gpueval_tasks() -> Mapping[str, Callable[..., Task]]:  # type: ignore[empty-body]
    """Tasks: name -> factory(labels=, label_map=, thresholds=, ignored=, **task_options). A suite uses one by `task`.

    One that takes the place of "generation" also gets `verdicts=`, a scoring.verdicts.Verdicts, where a judge is asked.
    """


@pytest.hookspec
def pytest_gpueval_metrics() -> Mapping[str, SampleMetric]:  # type: ignore[empty-body]
    """Metrics: name -> function(sample, prediction) -> number or None. Each case reports the mean; gates can name it."""
