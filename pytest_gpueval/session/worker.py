"""The process that runs items: a pytest of its own, or an xdist worker. It owns the models and the run directories it writes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gpueval.datasets.parquet import ParquetSplit
from pytest_gpueval.errors import Conflict, GateFailure, GpuevalError, RuntimeFault
from pytest_gpueval.gpus import devices, health, nvml
from pytest_gpueval.gpus.nvml import Reading
from pytest_gpueval.gpus.sampling import Sampler, Usage
from pytest_gpueval.runs.directory import COMPARED, SUMMARY
from pytest_gpueval.runs.files import back_up
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.runtimes.base import Runtime
from pytest_gpueval.suites.model import Case, Status
from pytest_gpueval.suites.sweep import Row

from . import attempts, cases, comparison, failures, provenance, registry, servers, shards, xdist_seam
from .cutting import Cutting, as_text
from .data import Data
from .evaluation_run import EvaluationRun
from .lanes import GPUS
from .run import Run
from .settings import Settings

if TYPE_CHECKING:
    from pytest_gpueval.processes.serving import SupervisorServer
    from pytest_gpueval.runs.baselines import Baseline

    from .courier import Sender

RUN = pytest.StashKey[Run]()
_PROGRESS_EVERY_S = 0.5

Notify = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Orders:
    """What the controller has decided for a worker. Builtin values all the way down: it travels to other processes."""

    session_dir: str
    code: Mapping[str, Any]
    lane: str
    cutting: str
    gpu_name: str | None = None
    one_at_a_time: bool = False
    workers: int = 1
    # Of a worker on another host: how an item is run again from `here`, where its session_dir is there, where data are on this host.
    away: Mapping[str, Any] | None = None
    # Whatever started the worker has chosen its GPUs.
    finds_gpus: bool = False


class Worker:
    """Plugin of a process that runs items."""

    def __init__(self, config: pytest.Config, settings: Settings, data: Data, orders: Orders, redactor: Redactor, send: Notify) -> None:
        self.settings = settings
        self._data = data
        self.session_dir = Path(orders.session_dir)
        self.code = dict(orders.code)
        self.name = orders.lane
        self.workers = orders.workers
        self.redactor = redactor
        self.hooks = config.hook
        self._found = _pinned() if orders.finds_gpus else []
        self.gpus = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.startswith(("GPU-", "MIG-"))]
        # Looked up before the first item, whose time it would count as. What a process has imported it keeps.
        self.packages, self.machine = provenance.packages(), provenance.machine()
        self.gpu = {"name": self._found[0].name if self._found else orders.gpu_name, "driver": _driver()} if self.gpus else None
        self._orders = orders
        self._id = getattr(config, "workerinput", {}).get("workerid", self.name)
        self._named = config.stash.get(shards.NAMED, {})
        self._usage = Usage()
        self._sampler = Sampler(self.gpus, self._sampled)
        self._failed = False
        self._left = False  # the item is for another worker to try again
        self._send = send
        self._arguments = settings.arguments(config)
        self._model_codes: dict[tuple[str, Path], str | None] = {}
        self._splits: dict[tuple[Path, str, str], ParquetSplit] = {}
        self._baseline: tuple[tuple[str, str], Baseline | None] | None = None
        self._runtimes: dict[tuple[Any, ...], Runtime] = {}
        self._supervisors: SupervisorServer | None = None
        self._last_progress = 0.0
        self._stops: dict[str, str] = {}
        self._shows = config.getoption("capture", "fd") == "no"
        self._courier: Sender | None = None
        if orders.away:
            from .courier import Sender  # noqa: PLC0415 - most sessions stay on their machine

            self._courier = Sender(self.session_dir, self._tell, self.warn)
        # The session's directory as the user has it.
        self.home = Path(orders.away["session_dir"]) if orders.away else self.session_dir

    # What runs ask of their worker.

    def runtime(self, case: Case, fixture: servers.Fixture) -> tuple[Runtime, float | None]:
        """The started runtime of a case, kept for the cases after it, and the seconds it took to start if it had to be. Raises RuntimeFault.

        `fixture` gives the servers of this process.
        """
        begin, before = time.perf_counter(), len(self._runtimes)
        runtime = self._kept(case, fixture)
        return runtime, round(time.perf_counter() - begin, 3) if len(self._runtimes) > before else None

    def _kept(self, case: Case, fixture: servers.Fixture) -> Runtime:
        """The started runtime of a case. What a judge judges is kept by itself too: datasets that are not judged have the same model."""
        judge = case.judge.entry.model_dump_json() if case.judge else None
        key = (case.directory, case.runtime_name, case.runtime.model_dump_json(), judge)
        if key not in self._runtimes:
            runtime = registry.runtime(case, self.settings, self.hooks, fixture, lambda plain: self._kept(plain, fixture))
            runtime.start()
            self._runtimes[key] = runtime
        return self._runtimes[key]

    def split(self, case: Case) -> ParquetSplit:
        """The split of a case: opened and hashed once for all its shards that run here. Raises DataError."""
        key = (case.directory, case.dataset, case.split)
        if key not in self._splits:
            self._splits[key] = self._data.open(case)
        return self._splits[key]

    def baseline_of(self, case: Case) -> Baseline | None:
        """What a case is compared with; None where it is not. The last one is kept: shards of a case follow each other. Raises UsageProblem, DataError."""
        key = (case.suite, case.whole_id)
        if self._baseline is None:
            self.bring([COMPARED])  # all of it, which stays as it is
        if self._baseline is None or self._baseline[0] != key:
            self._baseline = key, comparison.baseline_of(case, self.settings, self.session_dir)
        return self._baseline[1]

    def model_code(self, case: Case) -> str | None:
        """A hash of the code that makes the predictions of a case, as this process has loaded it: taken once."""
        key = (case.runtime_name, case.directory)
        if key not in self._model_codes:
            self._model_codes[key] = provenance.model_code(case.runtime, case.directory)
        return self._model_codes[key]

    def supervisors(self) -> SupervisorServer:
        """What forks the supervisors of this process's programs; it starts with the first of them."""
        if self._supervisors is None:
            from pytest_gpueval.processes.serving import SupervisorServer  # noqa: PLC0415 - evaluations need not pay for it

            self._supervisors = SupervisorServer()
        return self._supervisors

    def usage(self, *, begin: bool = False) -> dict[str, float] | None:
        """What the GPUs did since the last `begin`; None where there is none, or the driver does not say."""
        if begin:
            self._usage = Usage()
            if self.gpus:
                self._sampler.start()
        return self._usage.as_dict()

    def _sampled(self, readings: Sequence[Reading]) -> None:
        """In the sampler's thread: count the readings for the run, and let the controller see them."""
        now = time.monotonic()
        for reading in readings:
            self._usage.add(reading.uuid, now, reading)
        told = [{field.name: getattr(reading, field.name) for field in fields(reading) if field.name != "processes"} for reading in readings]
        with suppress(OSError):  # the controller is gone; whoever runs the item will notice
            self._send({"event": "sample", "worker": self.name, "readings": told})

    def command(self, nodeid: str) -> list[str]:
        """The command that runs one item again, into the same session."""
        place = [f"--gpueval-output-dir={self.home.parent}", f"--gpueval-session={self.home.name}", "--gpueval-force"]
        if self._orders.away:
            there = self._orders.away["again"]
            return [*there["python"], "-m", "pytest", f"--rootdir={there['root']}", f"{there['root']}/{nodeid}", *self._arguments, *there["options"], *place]
        # --rootdir makes the command work from anywhere; the file of the node id is given in full.
        file, _, rest = nodeid.partition("::")
        target = f"{_resolved(self.settings.root / file)}::{rest}"
        pinned = ["env", f"CUDA_VISIBLE_DEVICES={','.join(self.gpus)}"] if self.gpus else []
        return [*pinned, sys.executable, "-m", "pytest", f"--rootdir={self.settings.root}", target, *self._arguments, *place]

    def notify(self, event: str, run: Run, **details: Any) -> None:
        """Tell the controller what a run is doing."""
        base = {
            "event": event,
            "worker": self.name,
            "nodeid": run.nodeid,
            "run_id": run.directory.run_id,
            "suite": run.unit.suite,
            "case": run.unit.id,
            "runtime": run.unit.runtime_name,
        }
        self._tell({**base, **details})

    def _tell(self, message: Mapping[str, Any]) -> None:
        """What the controller has to hear for this run to make sense."""
        try:
            self._send(message)
        except OSError:  # the channel is closed: the controller was killed, and nobody waits for this run
            raise KeyboardInterrupt("the controller of this session is gone") from None

    def warn(self, text: str) -> None:
        """Have something said on the user's screen when the session ends."""
        with suppress(OSError):  # the controller is gone
            self._send({"event": "warning", "worker": self.name, "text": self.redactor.text(text)})

    def bring(self, names: Sequence[str]) -> None:
        """Have here what the session's directory has of these runs: on another host, that is asked for. Raises RuntimeFault."""
        if self._courier is not None:
            self._courier.bring(names)

    def put_aside(self, run_id: str) -> None:
        """Put the summary of another run aside, which holds no more. Raises StorageError."""
        if self._courier is not None:
            self._courier.aside(run_id)
        else:
            back_up(self.session_dir / run_id / SUMMARY)

    def progress(self, run: Run, done: int, total: int) -> None:
        """Tell how far a run is, twice a second at most."""
        now = time.perf_counter()
        if now - self._last_progress >= _PROGRESS_EVERY_S or done == total:
            self._last_progress = now
            self.notify("progress", run, done=done, total=total)

    def step(self, run: Run, step: float, value: float | None) -> None:
        """Tell what a row has reported; None: it begins anew."""
        self.notify("step", run, step=step, value=value)

    def hear(self, message: Mapping[str, Any]) -> None:
        """What the controller says while items run: a row shall stop; or a piece of a file that was asked for."""
        if "stop" in message:
            self._stops[message["stop"]] = message["reason"]
        elif self._courier is not None:
            self._courier.hear(message)

    def stop_of(self, run_id: str) -> str | None:
        """Why the controller wants a row to stop, if it does."""
        return self._stops.get(run_id)

    def show(self, text: str) -> None:
        """Let the user see what a program prints, where pytest is told to capture nothing (-s)."""
        if self._shows and text:
            with suppress(OSError):  # the controller is gone; whoever runs the item will notice
                self._send({"event": "output", "worker": self.name, "text": text})

    def close(self) -> None:
        """Stop looking at the GPUs, end what forks supervisors, and close all models. One that cannot be closed is named on stderr; its results stand."""
        self._sampler.stop()
        if self._courier is not None:
            self._courier.close()
        if self._supervisors is not None:
            self._supervisors.close()
        self.close_runtimes()

    def close_runtimes(self) -> None:
        """Close all models, so that others can have the GPUs."""
        while self._runtimes:
            key, runtime = self._runtimes.popitem()
            try:
                runtime.close()
            except Exception as problem:  # noqa: BLE001 - whatever a model raises
                sys.stderr.write(f"gpueval: runtime {key[1]} did not close: {self.redactor.text(repr(problem))}\n")

    # Hooks.

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Cut datasets into shards, and say what was collected, before anybody counts the items."""
        deselected = session.config.hook.pytest_deselected
        shards.expand(session.items, Cutting.of(self._orders.cutting), self._named, lambda items: deselected(items=items))
        with suppress(OSError):  # as above
            if self._found:
                self._send({"event": GPUS, "worker": self.name, "gpus": [asdict(device) for device in self._found]})
            self._send({"event": "collected", "worker": self.name, "items": as_text(shards.collected(session.items))})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Close the models while the controller still waits for this worker: afterwards xdist gives it ten seconds, then kills it."""
        self.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Under a controller of ours: one item at a time."""
        if not self._orders.one_at_a_time or session.config.option.collectonly:
            return None
        return xdist_seam.run_items(session, self._may_go_on, self.close_runtimes)

    def _may_go_on(self) -> bool:
        """Whether this process can run another item. After a failed one, the CUDA context may be lost for good: CUDA errors are sticky."""
        poison = self.is_lost() if self._failed else None
        self._failed = False
        if poison is not None:
            self._send({"event": "retire", "worker": self.name, "id": self._id, "reason": poison})
        return poison is None

    def is_lost(self) -> str | None:
        """Why this process can run nothing more, if so."""
        return health.poisoned() if self.gpus else None

    @property
    def one_at_a_time(self) -> bool:
        """Whether a controller of ours gives out the items, and may give one to another worker."""
        return self._orders.one_at_a_time

    def current(self, item: pytest.Item) -> Run | None:
        """The run of the attempt that is to come, or has just been; None for tests that have none, and where another worker is to try."""
        return None if self._left else item.stash.get(RUN, None)

    def try_again(self, item: pytest.Item, *, elsewhere: bool) -> None:
        """An attempt has failed and is noted: another one follows, with models that are loaded anew; `elsewhere` in another process."""
        run = item.stash[RUN]
        if self._courier is not None:
            self._courier.whole(attempts.file_of(run.directory.run_id))
        ends = attempts.earlier(self.session_dir, run.directory.run_id)
        self.notify("again", run, reason=self.redactor.text(attempts.words(ends)), elsewhere=elsewhere)
        self._left = elsewhere
        if not elsewhere:
            run.close()
            self.close_runtimes()
            another = self._run_of(item)
            assert another is not None  # noqa: S101 - it had one before
            item.stash[RUN] = another
            item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith("gpueval.")]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Make the item's Run, and see that an interrupted one says so."""
        run = self._run_of(item)
        if run is None:
            return (yield)
        item.stash[RUN] = run
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception) as stop:
            item.stash[RUN].finish("interrupted", reason=self.redactor.text(str(stop)) or "interrupted by the user")
            raise
        finally:
            run = item.stash[RUN]  # of the last attempt
            run.close()
            summary = None if self._left else run.summary
            self._left = False
            if self._courier is not None:
                self._courier.end(run.directory.run_id)
                for log in servers.logs(self.session_dir, self.name):
                    self._courier.whole(log)
            known = summary.model_dump(include={"status", "ok", "seconds", "samples_per_s", "startup_s"}) | {"rows": summary.rows.scored} if summary else {}
            if run.unit.parts > 1:  # its shards have told what was measured
                known.pop("samples_per_s", None)
            self.notify("end", run, reused=run.reused, **known)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Begin the run inside pytest's own capture."""
        run = item.stash.get(RUN, None)
        if run is not None:
            self.bring([run.directory.run_id, attempts.file_of(run.directory.run_id)])
            run.begin()
            if self._courier is not None:
                self._courier.begin(run.directory.run_id)
        with _phase(run):
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Capture the call."""
        with _phase(item.stash.get(RUN, None)):
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Capture the teardown."""
        with _phase(item.stash.get(RUN, None)):
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """A reused run does not run again: its stored verdict stands."""
        run = pyfuncitem.stash.get(RUN, None)
        return True if run is not None and run.reused else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write the summary before the report travels; give errors of ours as one message."""
        report = yield
        self._failed |= report.failed
        run = item.stash.get(RUN, None)
        if run is not None:
            self._conclude(run, item, call, report)
        return report

    def _conclude(self, run: Run, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, GpuevalError):
            report.longrepr = str(error)
        if report.longrepr is not None and not isinstance(report.longrepr, tuple):
            text = str(report.longrepr)
            said = self.redactor.text(text).replace(str(self.session_dir), str(self.home))
            if said != text:
                report.longrepr = said
        report.sections = [(title, self.redactor.text(text)) for title, text in report.sections]
        if report.when == "call" or not report.passed:
            try:
                if isinstance(error, Conflict):  # what an earlier run left stays as it is
                    run.leave()
                    return
                run.finish(_status(report, error), reason=None if report.passed else _reason(report), error=error)
            except GpuevalError as problem:  # the run is over; that it could not be recorded is its outcome
                error = error or problem
                report.outcome = "failed"
                report.longrepr = f"{report.longrepr}\n{problem}" if report.longrepr else str(problem)
            item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith("gpueval.")]
            item.user_properties += run.properties()
            if report.failed:
                item.user_properties.append((failures.PROPERTY, failures.kind_of(error, run.summary.status if run.summary else "error")))
            report.user_properties = list(item.user_properties)

    def _run_of(self, item: pytest.Item) -> Run | None:
        callspec = getattr(item, "callspec", None)
        if callspec is None or not isinstance(unit := callspec.params.get("case"), (Case, Row)):
            return None
        name = cases.run_id(unit, item.nodeid, callspec.id, getattr(item, "originalname", item.name))
        if isinstance(unit, Case):
            return EvaluationRun(self, unit, item.nodeid, name)
        from .sweep_run import SweepRun  # noqa: PLC0415 - evaluations need not pay for it

        return SweepRun(self, unit, item.nodeid, name)


@lru_cache(maxsize=256)  # all rows of a sweep stand in one file
def _resolved(path: Path) -> Path:
    return path.resolve()


def _phase(run: Run | None) -> AbstractContextManager[None]:
    return run.phase() if run is not None else nullcontext()


def _pinned() -> list[devices.Device]:
    """The GPUs that this process was given, which from now on it names by their UUIDs, as workers do; none where no driver tells them."""
    found: list[devices.Device] = []
    with suppress(RuntimeFault):  # as below
        found = devices.visible()
    if found:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(device.uuid for device in found)
    return found


def _driver() -> str | None:
    """The driver's version; a driver that breaks now will say so where it is needed."""
    with suppress(RuntimeFault):
        return nvml.driver()
    return None


def _status(report: pytest.TestReport, error: BaseException | None) -> Status:
    if report.passed:
        return "passed"
    if report.skipped:
        return "skipped"
    if isinstance(error, (GateFailure, AssertionError, pytest.fail.Exception)):
        return "failed"  # whatever its text says
    if isinstance(error, MemoryError) or (error is not None and "out of memory" in str(error).lower()):
        return "oom"
    return "error"


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # a skip: (path, line, reason)
        return report.longrepr[2]
    return str(report.longrepr or "")
