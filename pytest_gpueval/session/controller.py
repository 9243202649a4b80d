"""The process that owns the session's directory: it locks it, hears what runs do, and writes what became of them."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from pytest_gpueval import __version__
from pytest_gpueval.errors import Conflict, GpuevalError, RuntimeFault
from pytest_gpueval.gpus.nvml import Reading
from pytest_gpueval.gpus.sampling import Series
from pytest_gpueval.planning.dispatch import Job, Slot
from pytest_gpueval.reports.table import Row
from pytest_gpueval.runs import redact, results
from pytest_gpueval.runs.directory import RunDirectory, blocked_message, read_metadata
from pytest_gpueval.runs.files import cannot_write, storage, write_json
from pytest_gpueval.runs.records import RowCounts, SessionRecord, SessionRun, SessionShard, Summary
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.suites.model import without_shard
from pytest_gpueval.suites.sweep import Sweep

from . import attempts, cases, ci, early_stop, failures, header, lanes, progress, provenance, session_dir, session_report, shards, sweep_gates
from .crashes import Crashes
from .cutting import Collected, Cutting
from .display import Display, shown
from .forecast import Forecast
from .listeners import Listeners
from .messages import taken_in, user_errors
from .page_reader import Reader
from .register import Register
from .rows import label, row, summary_or_none, told
from .settings import Settings
from .worker import Orders

if TYPE_CHECKING:
    from pytest_gpueval.suites.load import AnySuite

    from .allocation import Allocation
    from .away import Elsewhere
    from .data import Data
    from .lanes import Lane


class Controller:
    """Plugin of the process that a user started."""

    def __init__(
        self, config: pytest.Config, settings: Settings, allocation: Allocation, suites: Sequence[AnySuite], redactor: Redactor, forecast: Forecast, data: Data
    ) -> None:
        self.config = config
        self.settings = settings
        self.redactor = redactor
        self.code = provenance.code_state(settings.root)
        self.session_dir = session_dir.named(settings, suites, redactor)
        self.data = data.words(suites)
        self.runs = Register()
        self.error: GpuevalError | None = None
        self.warnings: list[str] = []
        self.retiring: set[str] = set()
        self.again: set[str] = set()  # node ids that their worker gives back
        self.lane_of: Callable[[Any], str] = lambda node: str(node.gateway.id)
        self.elsewhere: Elsewhere | None = None  # where lanes are on other hosts
        self._channels: list[Any] = []
        self.tell: list[Callable[[Any], None]] = []  # how each worker hears
        self._early_stop = early_stop.EarlyStop(suites)
        self._begun: dict[str, float] = {}
        self._lock = session_dir.own(self.session_dir)
        self._suites = suites
        self._allocation = allocation
        self._data = data
        self._forecast = forecast
        self._collected: Collected = ()
        self._told = ""
        self._plan: dict[str, Any] | None = None
        self._run_of: dict[str, str] = {}
        self._series = Series()
        self._started = time.monotonic()
        self._checked = False
        earlier = earlier_record(self.session_dir)
        self._counts = forecast.earlier_counts(self.session_dir, earlier["cuts"])
        self._record = SessionRecord(
            session=self.session_dir.name,
            argv=redact.arguments(["pytest", *config.invocation_params.args], self.redactor),
            suites=[suite.name for suite in suites],
            data=self.data,
            lanes=[],  # they may become known later: see `_redacted`
            cuts=earlier["cuts"],
            shard=SessionShard(index=settings.part[0], count=settings.part[1]) if settings.part else None,
            merged_from=earlier["merged_from"],
            report_texts=settings.report_texts,
            host=socket.gethostname(),
            code=self.code,
            plugin_version=__version__,
            started_at=_now(),
        )
        attempts.forget(self.session_dir)
        self.display = Display(config, self.session_dir)
        self._progress = progress.of(config, redactor)
        self.listeners = Listeners(config, self.session_dir, redactor)
        self.crashes = Crashes(self, settings.retries)
        self._failures = failures.Failures()
        for plugin in (self.crashes, self._failures):
            config.pluginmanager.register(plugin)
        self._own_junit = self._claim_junit()
        self._write_record()

    # What workers tell.

    def hear(self, message: Mapping[str, Any]) -> None:
        """A worker's message; under xdist this runs in the thread that receives it."""
        event = message["event"]
        if event in ("collected", "retire", "again"):
            self._of_items(message)
            return
        if event == "warning":
            self.warnings.append(f"{message['worker']}: {message['text']}")  # for the end: it may come while pytest captures what is written
            return
        if event == "step":
            self._stop_early(message)
            return
        if event == "output":
            self.display.output(message["worker"], message["text"])
            return
        if event == "sample":
            self._sampled(message["readings"])
            self.display.hear(message)
            return
        if self._progress is not None:
            self._progress.hear(message)
        run_id = message["run_id"]
        if event == "start":
            self._begun[run_id] = time.monotonic()
            known = {key: message[key] for key in ("run_id", "nodeid", "suite", "case", "worker", "runtime")}
            begin_s = round(self._begun[run_id] - self._started, 3)
            self._run_of[message["nodeid"]] = run_id
            self.runs.add(SessionRun(**known, gpu=self._gpu_name(message["worker"]), begin_s=begin_s, status=None, ok=None))
        elif event == "end" and run_id in self.runs:
            changes = {key: message[key] for key in ("status", "ok", "seconds", "reused", "rows", "samples_per_s", "startup_s") if key in message}
            self.runs.change(run_id, changes)
        self.display.hear(message)
        summary = summary_or_none(self.session_dir / run_id) if event == "end" else None
        if summary is not None:
            self.display.run_finished(row(self.runs[run_id], summary, self._label(self.runs[run_id])))
            self.listeners.ended(self.runs[run_id])

    def _of_items(self, message: Mapping[str, Any]) -> None:
        """A worker has collected its items, takes no more of them, or tries one again."""
        if message["event"] == "collected":
            if message["items"] != self._told:  # as a rule all workers say the same
                self._told, self._collected = message["items"], orjson.loads(message["items"])
            return
        if message["event"] == "retire":
            self.retiring.add(message["id"])
            self.display.note(f"{message['worker']} is replaced: {message['reason']}")
            return
        if message["elsewhere"]:
            self.again.add(message["nodeid"])
        self.display.note(f"{message['case']}: {message['reason']}; again")

    def lay(self, laid: Sequence[Lane]) -> None:
        """More is known of the lanes."""
        self._allocation = replace(self._allocation, lanes=laid)

    def _stop_early(self, message: Mapping[str, Any]) -> None:
        """Tell the workers of a row that is hopeless; the one that runs it ends it."""
        stop = self._early_stop.step(message)
        for tell in self.tell if stop is not None else ():
            with suppress(OSError):  # that worker is gone already
                tell(stop)

    def _sampled(self, readings: Sequence[Mapping[str, Any]]) -> None:
        for reading in readings:
            self._series.append(reading["uuid"], time.monotonic() - self._started, Reading(**reading, processes=None))

    def _gpu_name(self, lane: str) -> str | None:
        return next((found.gpu_name for found in self._allocation.lanes if found.name == lane), None)

    # What the engine asks.

    @cached_property
    def _cutting(self) -> str:
        """What workers cut by, the same for all of them."""
        return self._forecast.cutting(self._counts).as_json()

    def orders(self, lane: str) -> Orders:
        """What a worker on this lane is told."""
        return Orders(
            session_dir=str(self.session_dir),
            code=self.code,
            lane=lane,
            cutting=self._cutting,
            gpu_name=self._gpu_name(lane),
            one_at_a_time=self._allocation.by_xdist,
            workers=len(self._allocation.lanes) or max(1, lanes.xdist_workers(self.config.option)),
        )

    @cached_property
    def _handed_over(self) -> dict[str, str]:
        """The suites for workers, which need not read them again."""
        return cases.hand_over(self._suites)

    def slots(self) -> dict[str, Slot]:
        """The lanes as the scheduler sees them, by their names."""
        return {slot.name: slot for slot in self._forecast.slots}

    def jobs(self, ids: Sequence[str]) -> list[Job]:
        """The items of the session as jobs, once a worker has collected them."""
        return self._forecast.jobs(ids, self._collected)

    def begun(self, jobs: Sequence[Job]) -> None:
        """The first items are under way. They did not wait for the plan, which is there to be looked at: make it, and say it."""
        made = self._forecast.plan(jobs).as_dict()
        self._plan = made if self._is_public(jobs) else self.redactor.value(made)
        self._write_record()
        self.display.planned(made)

    def serving_s(self, job_id: str, seconds: float) -> float | None:
        """Of the seconds of an item, those that did not go into loading its model; None where it was reused or did not pass."""
        run = self.runs.get(self._run_of.get(job_id, ""))
        if run is None or run.reused or run.status not in ("passed", "failed"):
            return None
        return max(0.0, seconds - (run.startup_s or 0.0))

    def seconds_of(self, run_id: str) -> float:
        """Since a run began."""
        return time.monotonic() - self._begun[run_id]

    def joins(self, nodeid: str) -> bool:
        """Whether an item joins shards."""
        return any(found == nodeid and parts > 1 for found, _, parts, _ in self._collected)

    def fail(self, error: GpuevalError) -> None:
        """Something is wrong with the session, not with one of its items: say it now, and end with a failure."""
        self.error = self.error or error
        self.display.note(str(error))

    def _not_heard(self, problem: str) -> None:
        """In a worker's thread. The display may be what cannot take it in, so it is said at the end."""
        self.error = self.error or RuntimeFault(self.redactor.text(problem))

    # xdist.

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the worker what was decided here, and a channel to report on."""
        channel = node.gateway.newchannel()
        self._channels.append(channel)
        self.tell.append(channel.send)
        node.workerinput["gpueval"] = asdict(self.orders(self.lane_of(node)))
        node.workerinput["gpueval_pins"] = self._data.pins
        node.workerinput["gpueval_suites"] = self._handed_over
        node.workerinput["gpueval_channel"] = channel
        away = self.elsewhere.configure(node, self.lane_of(node), channel.send) if self.elsewhere else None
        channel.setcallback(taken_in(away or self.hear, self._not_heard))

    def pytest_keyboard_interrupt(self) -> None:
        """Stop the workers at once; xdist alone would wait for their items."""
        for channel in self._channels:
            with suppress(OSError):  # that worker is gone already
                channel.send("stop")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Refuse to overwrite before the first item starts, and write down how datasets were cut."""
        if not self._checked:
            self._checked = True
            self._refuse_blocked(ids)
            self._refuse_disorder()
            self._bring(ids)
            self._note_cuts()

    # pytest.

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist: refuse to overwrite before the first item starts."""
        if session.items:
            ids = [item.nodeid for item in session.items]
            self._refuse_blocked(ids)
            self._bring(ids)
            self._note_cuts()

    def pytest_report_header(self) -> list[str]:
        """What runs, on what data, with which runtime, where."""
        found = [f"gpueval: {line}" for line in (*self._allocation.notes, *self._data.notes)]
        if self._suites:
            where = lanes.describe(self._allocation.lanes) if self._allocation.lanes else lanes.processes_in_words(self.config.option)
            found += header.lines(self._suites, self._forecast.units, self._data, self.settings, where)
        return [*found, f"gpueval: session {shown(self.session_dir)}"]

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Every run that began has a summary; the session says how it ended. Runs last, and even if pytest cannot write its JUnit XML."""
        self._judge_sweeps(session)
        try:
            yield
        except OSError as error:
            self.error = cannot_write(self.session_dir / "junit.xml", error)
        session.exitstatus = self._failures.exit_status(session, self.error)
        self._finish(session)
        shards.remember_whole(self.config)
        session.exitstatus = self._failures.exit_status(session, self.error)
        attempts.forget(self.session_dir)

    def _judge_sweeps(self, session: pytest.Session) -> None:
        """Let the gates speak that look at all rows of a sweep, once all are there: as a test report of their own."""
        for suite in self._suites:
            if isinstance(suite, Sweep) and any(run.suite == suite.name for run in self.runs.values()):
                summaries = {id_: summary_or_none(self.session_dir / cases.run_name([suite.name, id_])) for id_ in suite.points}
                judged = sweep_gates.judge(suite, summaries)
                self.warnings += [judged.warning] if judged.warning else []
                if judged.spoken:
                    failure = judged.failure
                    place = str(suite.path.relative_to(session.config.rootpath) if suite.path.is_relative_to(session.config.rootpath) else suite.path)
                    report = pytest.TestReport(
                        f"{place}::{sweep_gates.NAME}", (place, None, sweep_gates.NAME), {}, "failed" if failure else "passed", failure, "call"
                    )
                    report.user_properties.append((failures.PROPERTY, "gate"))
                    session.config.hook.pytest_runtest_logreport(report=report)
                    self.listeners.spoken(suite.name, sweep_gates.NAME, {id_: cases.run_name([suite.name, id_]) for id_ in suite.points}, judged.spoken)
                    if failure and session.exitstatus == pytest.ExitCode.OK:
                        session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _finish(self, session: pytest.Session) -> None:
        self.display.close()
        for run_id, run in self.runs.items():
            if run.status is None and not run.reused:
                self.conclude(run_id, Summary(run_id=run_id, ok=False, status="interrupted", reason="the session ended before this run did"))
        self._record = self._record.model_copy(
            update={"ended_at": _now(), "exit_status": int(session.exitstatus), "runs": list(self.runs.values()), "gpus": self._series.as_dict() or None}
        )
        try:
            self._write_record()
            rows = self.rows()
            if rows:
                samples = Reader.of(self.session_dir, self._forecast.units, self._data, self.settings, self.config.hook, self.redactor)
                text = session_report.write(self.session_dir, self._redacted(), rows, self._runs_in_order(), self.redactor, samples)
                self.warnings += ci.add_summary(text)
        except GpuevalError as error:
            self.error = error
        self.listeners.session(self._redacted())
        self.warnings += self.listeners.problems()

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        """The table of results, and where to look next."""
        self._copy_junit()
        yield
        self.display.summary(terminalreporter, self.rows(), self.error, self.warnings)
        labels = {run.nodeid: f"{run.suite} {run.case}" for run in self.runs.values()}
        for line in ci.failure_lines(self._failures.found, labels, self.config.rootpath):
            terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """The main thread has a moment: hooks hear of runs that ended. Not within a report, which holds the display until all have seen it."""
        self.listeners.tell()

    def pytest_unconfigure(self) -> None:
        """Let the directory go."""
        self.display.close()
        self._lock.release()

    def rows(self) -> list[Row]:
        """One row for each run of this session, in the order of the suites, whichever worker was faster."""
        runs = self._runs_in_order()
        found = {run.run_id: summary_or_none(self.session_dir / run.run_id) if run.status is not None or run.reused else None for run in runs}
        return [row(run, summary, self._label(run)) for run, summary in told(runs, found)]

    def _runs_in_order(self) -> list[SessionRun]:
        order = {(unit.suite, unit.whole_id): number for number, unit in enumerate(self._forecast.units)}
        return sorted(self.runs.values(), key=lambda run: order.get((run.suite, without_shard(run.case)), len(order)))

    def _label(self, run: SessionRun) -> str:
        return label(run, several=len(self._suites) != 1)

    def _refuse_blocked(self, nodeids: Sequence[str]) -> None:
        """Raise UsageError if runs of these items failed earlier in this session. Raises nothing under --gpueval-force."""
        if self.settings.force or not self.session_dir.exists():
            return
        blocked = []
        wanted = set(nodeids)
        for file in sorted(self.session_dir.glob("*/run_metadata.json")):
            try:
                nodeid = (read_metadata(file.parent) or {}).get("nodeid")
                state = RunDirectory(file.parent, self.redactor).state().state
            except GpuevalError:
                continue  # the run itself will say what is wrong with its directory
            if nodeid in wanted and state == "blocked":
                blocked.append(file.parent)
        if blocked:
            raise pytest.UsageError(blocked_message(blocked))

    def _refuse_disorder(self) -> None:
        """Raise UsageError where xdist alone would run what joins shards beside the shards."""
        cut = [nodeid for nodeid, _, parts, _ in self._collected if parts > 1]
        if cut and not self._allocation.by_xdist:
            raise pytest.UsageError(f"{cut[0]} is cut into shards, which -n alone cannot run in order.\nSay where they run: --gpus none -n 2, or --gpus auto.")

    def _bring(self, nodeids: Sequence[str]) -> None:
        """Have the data of all items here before the first one starts. Raises UsageError that lists all that is missing."""
        wanted = set(nodeids)
        keys = {key for nodeid, key, _, _ in self._collected if nodeid in wanted}
        with user_errors():
            self._data.bring([unit for unit in self._forecast.units if cases.key(unit) in keys])

    def _note_cuts(self) -> None:
        cuts = Cutting.made(self._collected, self._record.cuts)
        if cuts != self._record.cuts:
            self._record = self._record.model_copy(update={"cuts": cuts})
            self._write_record()

    def conclude(self, run_id: str, summary: Summary) -> None:
        """Write the summary of a run whose worker no longer can, unless it did."""
        directory = RunDirectory(self.session_dir / run_id, self.redactor)
        if not directory.path.is_dir() or summary_or_none(directory.path) is not None:
            return
        run = self.runs.change(run_id, {"status": summary.status, "ok": False})
        try:
            summary = summary.model_copy(update={"rows": _counted(directory.results_path)})
        except Conflict as error:  # the results are not ours: say so, and still say how the run ended
            self.error = error
        try:
            directory.finish(summary)
        except GpuevalError as error:
            self.error = error
        self.listeners.ended(run)

    def _claim_junit(self) -> bool:
        """Have pytest write its JUnit XML into the session's directory, unless the user wants it elsewhere. True if it is ours."""
        if not hasattr(self.config.option, "xmlpath") or self.config.option.xmlpath:  # -p no:junitxml, or the user's own
            return False
        self.config.option.xmlpath = str(self.session_dir / "junit.xml")
        return True

    def _copy_junit(self) -> None:
        if not self._own_junit and getattr(self.config.option, "xmlpath", None):
            source = Path(os.path.expandvars(self.config.option.xmlpath)).expanduser()
            if source.exists() and source.resolve() != (self.session_dir / "junit.xml").resolve():
                with storage(self.session_dir):
                    shutil.copyfile(source, self.session_dir / "junit.xml")

    def _write_record(self) -> None:
        write_json(self.session_dir / "session.json", self._redacted())

    def _redacted(self) -> dict[str, Any]:
        """The record without secrets. The plan is added last: it is the largest part, and was made public when it was made."""
        told = self._record.model_dump(mode="json") | {"lanes": [lane.as_dict() for lane in self._allocation.lanes]}
        runs = told.pop("runs")
        record: dict[str, Any] = self.redactor.value(told)
        record["runs"] = self.redactor.records(runs)
        record["plan"] = self._plan
        return record

    def _is_public(self, jobs: Sequence[Job]) -> bool:
        """Whether the names in a plan, all the text of others that it has, hold no secret: one look at them together."""
        names = "\n".join([*(job.id for job in jobs), *(job.group for job in jobs), *(str(lane.as_dict()) for lane in self._allocation.lanes)])
        return self.redactor.text(names) == names


def earlier_record(session_dir: Path) -> dict[str, Any]:
    """What is kept of session.json of an earlier part of this session; empty where there is none, or it cannot be read."""
    try:
        found = SessionRecord.model_validate_json((session_dir / "session.json").read_bytes())
    except (OSError, ValueError):
        return {"cuts": {}, "merged_from": []}
    return found.model_dump(include={"cuts", "merged_from"})


def _counted(path: Path) -> RowCounts:
    """Count what a dead worker left in its results."""
    counts = RowCounts()
    if path.exists():
        results.drop_torn_tail(path)
        for record in results.read(path):
            kind = "scored" if "score" in record else "errors" if "error" in record else "skipped"
            setattr(counts, kind, getattr(counts, kind) + 1)
    return counts


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
