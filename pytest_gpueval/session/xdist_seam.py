"""Everything of pytest-xdist and execnet that is not theirs to promise, in one place.

Written against pytest-xdist 3.8 and execnet 2.1; `check` fails loudly where a later version has moved a name.

What stock xdist does, and what is done here instead:
- its worker does not start an item before it knows the next one, so a long item holds a second one back: `run_items` runs one at a time;
- it starts workers one after another, and replacements inside its event loop: `Launcher` starts them in threads, and late ones join;
- a launch that fails ends the session with an internal error: here it is tried again, then said, and the other workers go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from execnet import XSpec

# How often the scheduler is asked although nothing has happened.
_TICK_S = 1.0

# Index of an item that never is: "drop what you keep between items, and say so".
RELEASE = -1

_LAUNCH_TRIES = 3
_LAUNCH_PAUSE_S = 0.5
_GONE_S = 30.0
# How long the end of a session waits for workers of this machine that are only just starting, to end them.
_LATE_S = 5.0


class Node(Protocol):
    """What a scheduler needs of xdist's WorkerController."""

    gateway: Any

    @property
    def shutting_down(self) -> bool:
        """Whether it was told to end, or has."""

    def send_runtest_some(self, indices: Sequence[int], /) -> None:
        """Have it run these items."""

    def shutdown(self) -> None:
        """Have it end once it is idle."""


def check() -> None:
    """Raise RuntimeError if this pytest-xdist lacks a name that is used here."""
    from execnet import multi  # noqa: PLC0415
    from xdist import dsession, remote, workermanage  # noqa: PLC0415

    wanted = {
        dsession.DSession: ("_clone_node", "loop_once", "worker_workerfinished", "worker_errordown", "triggershutdown", "report_line"),
        remote.WorkerInteractor: ("handle_command", "sendevent", "pytest_runtestloop"),
        remote.Marker: ("SHUTDOWN",),
        workermanage.NodeManager: ("setup_nodes",),
        workermanage.WorkerController: ("setup", "process_from_remote", "ensure_teardown"),
        multi.Group: ("makegateway", "allocate_id"),
    }
    missing = [f"{owner.__name__}.{name}" for owner, names in wanted.items() for name in names if not hasattr(owner, name)]
    if missing:
        raise RuntimeError(f"this version of pytest-xdist or execnet has no {', '.join(missing)}; pytest-gpueval needs pytest-xdist 3.8")


# In a worker.


def run_items(session: pytest.Session, between: Callable[[], bool], release: Callable[[], None]) -> bool:
    """Run the items that the controller sends, one at a time; True once it sends no more.

    Fixtures of the session's scope stay alive between items. `between` is called after each item and says whether this worker may go on;
    `release` is called when the controller wants the worker's GPU for another one.
    """
    config = session.config
    interactor = next(plugin for plugin in config.pluginmanager.get_plugins() if type(plugin).__name__ == "WorkerInteractor")
    shutdown = type(interactor).handle_command.__globals__["Marker"].SHUTDOWN  # the module runs under a name that cannot be imported
    interactor.channel.setcallback(interactor.handle_command, endmarker=shutdown)
    last: pytest.Item | None = None
    while (index := interactor.torun.get()) is not shutdown:
        if index == RELEASE:
            _tear_down(session, last)
            release()
            interactor.sendevent("unscheduled", indices=[])  # the one event that the controller hands to the scheduler untouched
            continue
        interactor.item_index = index
        last = session.items[index]
        begin = time.perf_counter()
        config.hook.pytest_runtest_protocol(item=last, nextitem=session)  # the session as next item: its fixtures stay
        duration = time.perf_counter() - begin
        may_go_on = between()
        interactor.sendevent("runtest_protocol_complete", item_index=index, duration=duration)
        if session.shouldfail or session.shouldstop or not may_go_on:
            break
    _tear_down(session, last)
    return True


def _tear_down(session: pytest.Session, last: pytest.Item | None) -> None:
    """End the fixtures that outlived their items. An error in them is the last item's: at the end of the session nobody would hear of it."""
    begin = time.time()
    try:
        session._setupstate.teardown_exact(None)  # noqa: SLF001 - what pytest's own runner calls
    except Exception:
        if last is None:
            raise
        text = str(last.repr_failure(pytest.ExceptionInfo.from_current()))
        report = pytest.TestReport(last.nodeid, last.location, {}, "failed", text, "teardown", start=begin, stop=time.time(), duration=time.time() - begin)
        session.config.hook.pytest_runtest_logreport(report=report)


# In the controller.


def can_give_back(scheduler: Any) -> bool:
    """Whether one of xdist's own schedulers can be told that an item is to be run again."""
    return type(scheduler).__name__ in ("LoadScheduling", "WorkStealingScheduling")


class _Elsewhere:
    """pytest's config as xdist sees it while it sets up a worker on another host: with a command line of its own, and no temporary directory of ours."""

    def __init__(self, config: pytest.Config, arguments: Sequence[str]) -> None:
        self._config = config
        self.invocation_params = replace(config.invocation_params, args=tuple(arguments))

    def __getattr__(self, name: str) -> Any:
        if name == "_tmp_path_factory":
            raise AttributeError(name)
        return getattr(self._config, name)


def on_another_host(node: Any) -> None:
    """Call it where xdist configures a worker that is started by a command, but elsewhere: it would get this process's sys.path, whose files are not there."""
    node.gateway.spec.popen = None


def _set_up(node: Any, arguments: Sequence[str] | None) -> None:
    """Have xdist configure a worker; `arguments` is its command line where it is on another host."""
    config, spec = node.config, node.gateway.spec
    popen = spec.popen
    node.config = config if arguments is None else _Elsewhere(config, arguments)
    try:
        node.setup()
    finally:
        node.config, spec.popen = config, popen  # see `on_another_host`; a replacement is started as this one was


class _Launch:
    """Stands among xdist's active workers for one that is being started, so that the session waits for it."""

    def __init__(self, spec: XSpec) -> None:
        self.spec = spec
        self.cancelled = threading.Event()


class Launcher:
    """Plugin of the controller: starts workers side by side. Register it before the session starts."""

    def __init__(
        self, config: pytest.Config, failed: Callable[[str, BaseException], None], arguments: Callable[[str], Sequence[str] | None] = lambda _lane: None
    ) -> None:
        """`failed` hears of lanes that cannot be started; `arguments` gives the command line of those on other hosts."""
        self._config = config
        self._failed = failed
        self._arguments = arguments
        self._launches: set[_Launch] = set()
        self._here: list[threading.Thread] = []  # those that start workers of this machine
        self._wanted: list[XSpec] = []
        self._names: dict[int, tuple[str, int]] = {}
        self._dsession: Any = None
        self._ended = threading.Event()

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        """Leave nothing for xdist to start one after another."""
        self._wanted = list(specs)
        specs.clear()

    def take_over(self, tick: Callable[[], None]) -> None:
        """Start the workers. Called when xdist asks for a scheduler: its event loop is about to begin, and will call `tick` now and then."""
        self._dsession = dsession = self._config.pluginmanager.getplugin("dsession")
        dsession.nodemanager.specs[:] = self._wanted  # workers are told how many they are
        dsession._clone_node = self.replace  # noqa: SLF001
        dsession.worker_gpueval_started = self._started
        dsession.worker_gpueval_not_started = self._not_started
        dsession.worker_gpueval_tick = tick
        threading.Thread(target=self._tick, name="gpueval-tick", daemon=True).start()
        for spec in self._wanted:
            self._names[id(spec)] = (str(spec.id), 1)
            self._launch(spec)

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            self._dsession.queue.put(("gpueval_tick", {}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """No more ticks, and no worker that starts once xdist has ended all: execnet would come upon it at exit, where Python 3.12 starts no threads."""
        self._ended.set()
        self.cancel()
        end = time.monotonic() + _LATE_S
        for thread in self._here:
            thread.join(max(0.0, end - time.monotonic()))

    def replace(self, node: Any) -> None:
        """Start a worker on the lane of one that ended. Its environment is the lane's, its id is new: xdist never uses one twice."""
        spec = node.gateway.spec
        name, count = self._names[id(spec)]
        self._names[id(spec)] = (name, count + 1)
        spec.id = f"{name}-{count + 1}"
        self._launch(spec, after=node.gateway)

    def lane(self, node: Any) -> str:
        """The name of a worker's lane, which its replacements keep."""
        known = self._names.get(id(node.gateway.spec))
        return known[0] if known else str(node.gateway.id)

    def stop(self, reason: str) -> None:
        """End the session early."""
        self._dsession.shouldstop = reason

    def cancel(self) -> None:
        """Give up workers that have not started: nothing is left for them to do."""
        for launch in list(self._launches):
            launch.cancelled.set()
            self._forget(launch)

    def stop_without(self, node: Any) -> None:
        """End the session if it has no worker but this one, which takes no part any more: xdist would call that an internal error."""
        if self._dsession._active_nodes <= {node} and not self._dsession.shuttingdown:  # noqa: SLF001
            self._dsession.shouldstop = self._dsession.shouldstop or "no worker is left"

    def _launch(self, spec: XSpec, after: Any = None) -> None:
        launch = _Launch(spec)
        self._launches.add(launch)
        self._dsession._active_nodes.add(launch)  # noqa: SLF001
        thread = threading.Thread(target=self._start, args=(launch, after), name=f"gpueval-start-{spec.id}", daemon=True)
        if self._arguments(self._names[id(spec)][0]) is None:
            self._here = [other for other in self._here if other.is_alive()] + [thread]
        thread.start()

    def _start(self, launch: _Launch, after: Any) -> None:
        """In a thread of its own: make the gateway, then let xdist's event loop have it."""
        group = self._dsession.nodemanager.group
        if after is not None:
            _wait_until_gone(after)
        problem: BaseException | None = None
        for attempt in range(_LAUNCH_TRIES):
            if launch.cancelled.wait(attempt * _LAUNCH_PAUSE_S):
                return
            try:
                gateway = group.makegateway(launch.spec)
                gateway._rinfo()  # noqa: SLF001 - a command that ends at once shows here
            except Exception as error:  # noqa: BLE001 - whatever a launcher command does
                problem = error
                for dead in [gateway for gateway in group if gateway.id == launch.spec.id]:
                    dead.exit()
            else:
                if launch.cancelled.is_set():
                    gateway.exit()
                else:
                    self._dsession.queue.put(("gpueval_started", {"launch": launch, "gateway": gateway}))
                return
        self._dsession.queue.put(("gpueval_not_started", {"launch": launch, "problem": problem}))

    def _started(self, launch: _Launch, gateway: Any) -> None:
        from xdist.workermanage import WorkerController  # noqa: PLC0415

        dsession = self._dsession
        self._forget(launch)
        if launch.cancelled.is_set() or dsession.shuttingdown:
            gateway.exit()
            return
        self._config.hook.pytest_xdist_newgateway(gateway=gateway)
        node = WorkerController(dsession.nodemanager, gateway, self._config, dsession.queue.put)
        gateway.node = node  # keeps it alive
        dsession._active_nodes.add(node)  # noqa: SLF001
        try:
            _set_up(node, self._arguments(self.lane(node)))
        except OSError as error:  # it died just now
            node.notify_inproc("errordown", node=node, error=error)

    def _not_started(self, launch: _Launch, problem: BaseException) -> None:
        self._forget(launch)
        if not launch.cancelled.is_set():
            self._failed(self._names[id(launch.spec)][0], problem)

    def _forget(self, launch: _Launch) -> None:
        self._launches.discard(launch)
        self._dsession._active_nodes.discard(launch)  # noqa: SLF001


def _wait_until_gone(gateway: Any) -> None:
    """Wait for the process behind a gateway: its supervisor ends when nothing of the worker is left, and only then is the GPU free."""
    gateway.exit()
    process = getattr(gateway._io, "popen", None)  # noqa: SLF001
    if process is not None:
        end = time.monotonic() + _GONE_S
        with suppress(Exception):  # the GPU is as free as it will get
            process.wait(timeout=max(0.0, end - time.monotonic()))


def process_end(node: Any) -> int | None:
    """How the process of a dead worker ended: its exit code, or minus the signal; None if it is still there."""
    process = getattr(node.gateway._io, "popen", None)  # noqa: SLF001
    if process is None:
        return None
    try:
        return int(process.wait(timeout=5))
    except Exception:  # noqa: BLE001 - a remote launcher may not end in time
        return None
