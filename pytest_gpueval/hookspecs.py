"""What a conftest.py can add, and what it can hear of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_gpueval.runtimes.base import Runtime
    from pytest_gpueval.scoring.task import SampleMetric, Task
    from pytest_gpueval.suites.model import Case


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric with its 95 % interval; all None where it is unscored. `n` counts the independent units, as documents."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate said of one run. `details` is its whole entry in `gates` of summary.json.

    Of a gate over all rows of a sweep `case` is "test_sweep_gates", `run_id` that of the row whose value decided, or "" where there is none, and `details`
    has that `row` and the `words` for why it says no.
    """

    session: str
    suite: str
    case: str
    run_id: str
    reused: bool
    metric: str
    label: str | None
    bound: str
    outcome: str
    value: float | None
    low: float | None
    high: float | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run that ended, however it did. Builtin values all the way down: `dataclasses.asdict` makes JSON of it.

    `failure` is None, "gate", "infrastructure" or "other"; `reused` runs ended in an earlier session. `shard` is "2of4" where the run is one part of its
    dataset; another one joins them. `labels` are the figures of each label, `parameters` those of a row of a sweep, `path` the run directory, and
    `provenance` what run_metadata.json says: commit, data, model, policy, packages, GPU. Secrets are redacted in all of it.
    """

    session: str
    suite: str
    case: str
    run_id: str
    nodeid: str
    status: str
    ok: bool
    reused: bool
    failure: str | None
    reason: str | None
    shard: str | None
    headline: str | None
    metrics: Mapping[str, Figure]
    labels: Mapping[str, Mapping[str, Figure]]
    verdicts: Sequence[Verdict]
    rows_scored: int
    rows_failed: int
    rows_skipped: int
    seconds: float
    samples_per_s: float | None
    attempts: int
    worker: str
    gpu: str | None
    parameters: Mapping[str, Any]
    path: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionFinished:
    """A session that ended. `statuses` has run id -> status; `reports` names the files that were written: session, junit, markdown, html."""

    session: str
    suites: Sequence[str]
    exit_status: int
    statuses: Mapping[str, str | None]
    reused: Sequence[str]
    started_at: str
    ended_at: str
    host: str
    data: str
    path: str
    reports: Mapping[str, str]
    provenance: Mapping[str, Any]


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


# What follows is called once each, in the main thread of the process that pytest was started in, which needs them in a plugin or in the conftest.py
# at the top. One that raises is a line at the session's end, and changes nothing else.


@pytest.hookspec
def pytest_gpueval_verdict(verdict: Verdict, config: pytest.Config) -> None:
    """A gate has spoken on a run, reused ones included; before `pytest_gpueval_run_finished` for that run.

    Gates over all rows of a sweep speak once all rows have run, each time the session ends.
    """


@pytest.hookspec
def pytest_gpueval_run_finished(run: RunFinished, config: pytest.Config) -> None:
    """A run has ended. Of a run that is tried again, the last attempt is told."""


@pytest.hookspec
def pytest_gpueval_session_finished(session: SessionFinished, config: pytest.Config) -> None:
    """The session has ended, and its reports are written."""
