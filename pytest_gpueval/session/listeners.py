"""Tells loggers what happened: the hooks of verdicts, runs and the session, each once, in the main thread."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_gpueval.hookspecs import Figure, RunFinished, SessionFinished, Verdict
from pytest_gpueval.runs import records

from .rows import metadata, summary_or_none

if TYPE_CHECKING:
    from pytest_gpueval.runs.records import SessionRun, Summary
    from pytest_gpueval.runs.redact import Redactor

    from .sweep_gates import Spoken

_VERDICT, _RUN, _SESSION = "pytest_gpueval_verdict", "pytest_gpueval_run_finished", "pytest_gpueval_session_finished"
_REPORTS: Final = {"session": "session.json", "junit": "junit.xml", "markdown": "report.md", "html": "report.html"}


class Listeners:
    """The hooks of conftest.py and of plugins. What they are told is read from the session's directory, where no secrets are."""

    def __init__(self, config: pytest.Config, session_dir: Path, redactor: Redactor) -> None:
        self._config = config
        self._session_dir = session_dir
        self._redactor = redactor
        self._waiting: deque[SessionRun] = deque()
        self._told: set[str] = set()
        self._problems: Counter[str] = Counter()

    @cached_property
    def _of_runs(self) -> bool:
        """Whether anybody wants to hear of runs; most sessions need not read their files for it."""
        return any(getattr(self._config.hook, name).get_hookimpls() for name in (_VERDICT, _RUN))

    def ended(self, run: SessionRun) -> None:
        """A run has its summary. May be called in any thread."""
        self._waiting.append(run)
        if threading.current_thread() is threading.main_thread():
            self.tell()

    def tell(self) -> None:
        """In the main thread: call the hooks for the runs that ended."""
        while self._waiting:
            run = self._waiting.popleft()
            if not self._of_runs or run.run_id in self._told:
                continue
            summary = summary_or_none(self._session_dir / run.run_id)
            if summary is None:
                continue
            self._told.add(run.run_id)
            finished = _finished(self._session_dir, run, summary)
            for verdict in finished.verdicts:
                self._call(_VERDICT, verdict=verdict)
            self._call(_RUN, run=finished)

    def spoken(self, suite: str, name: str, run_ids: Mapping[str, str], verdicts: Sequence[Spoken]) -> None:
        """The gates over all rows of a sweep have spoken, as the test `name`; `run_ids` of its rows."""
        self.tell()
        for one in verdicts:
            verdict = Verdict(
                session=self._session_dir.name,
                suite=suite,
                case=name,
                run_id=run_ids[one.row] if one.row is not None else "",
                reused=False,
                metric=one.metric,
                label=None,
                bound=one.bound,
                outcome=one.outcome,
                value=one.value,
                low=None,
                high=None,
                details=one.as_dict(),
            )
            self._call(_VERDICT, verdict=verdict)

    def session(self, record: Mapping[str, Any]) -> None:
        """The session has ended with this record, without secrets."""
        self.tell()
        runs = record["runs"]
        files = {name: self._session_dir / file for name, file in _REPORTS.items()}
        finished = SessionFinished(
            **{key: record[key] for key in ("session", "suites", "exit_status", "started_at", "ended_at", "host", "data")},
            statuses={run["run_id"]: run["status"] for run in runs},
            reused=[run["run_id"] for run in runs if run["reused"]],
            path=str(self._session_dir),
            reports={name: str(path) for name, path in files.items() if path.exists()},
            provenance={"code": record["code"], "plugin_version": record["plugin_version"], "argv": record["argv"]},
        )
        self._call(_SESSION, session=finished)

    def problems(self) -> list[str]:
        """What hooks raised: a line each, with how often."""
        return [text + (f" ({times} times)" if times > 1 else "") for text, times in self._problems.items()]

    def _call(self, name: str, **given: object) -> None:
        """Call each implementation by itself: one that raises takes nothing from the others, nor from the session."""
        plugins = [found.plugin for found in getattr(self._config.hook, name).get_hookimpls()]
        for plugin in plugins:
            caller = self._config.pluginmanager.subset_hook_caller(name, [other for other in plugins if other is not plugin])
            try:
                caller(config=self._config, **given)
            except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - whatever a logger raises
                said = self._redactor.text(f"{type(error).__name__}: {error}").strip().splitlines()[0][:300]
                self._problems[f"{name} of {_name_of(plugin)} raised {said}"] += 1


def _name_of(plugin: object) -> str:
    """The file of a conftest.py or module, else the plugin's class."""
    file = getattr(plugin, "__file__", None)
    return Path(file).name if file else getattr(plugin, "__name__", type(plugin).__name__)


def _finished(session_dir: Path, run: SessionRun, summary: Summary) -> RunFinished:
    """A run as its files tell it."""
    path = session_dir / run.run_id
    provenance = deepcopy(dict(metadata(path)))  # a hook may change its own
    place: dict[str, Any] = {"session": session_dir.name, "suite": run.suite, "case": run.case, "run_id": run.run_id, "reused": run.reused}
    verdicts = []
    for verdict in summary.gates:
        details = verdict.model_dump(mode="json")
        shown = {key: details[key] for key in ("metric", "label", "bound", "outcome", "value", "low", "high")}
        verdicts.append(Verdict(**place, **shown, details=details))
    return RunFinished(
        **place,
        **{key: getattr(summary, key) for key in ("status", "ok", "failure", "reason", "headline", "seconds", "samples_per_s", "attempts")},
        nodeid=run.nodeid,
        shard=provenance.get("shard"),
        metrics=_figures(summary.metrics),
        labels={label: _figures(figures) for label, figures in summary.labels.items()},
        verdicts=verdicts,
        rows_scored=summary.rows.scored,
        rows_failed=summary.rows.errors,
        rows_skipped=summary.rows.skipped,
        worker=run.worker,
        gpu=run.gpu,
        parameters=provenance.get("parameters") or {},
        path=str(path),
        provenance=provenance,
    )


def _figures(figures: Mapping[str, records.Figure]) -> dict[str, Figure]:
    return {name: Figure(figure.value, figure.low, figure.high, figure.n) for name, figure in figures.items()}
