"""The controller's part under xdist: it starts the lanes' workers, hands them what was decided, and gives them items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from xdist.report import report_collection_diff

from pytest_gpueval.errors import RuntimeFault, UsageProblem

from . import xdist_seam
from .scheduler import Scheduler, Session

if TYPE_CHECKING:
    from .controller import Controller


class Engine:
    """Plugin of the controller where xdist runs the lanes."""

    def __init__(self, config: pytest.Config, controller: Controller) -> None:
        xdist_seam.check()
        self._config = config
        self._controller = controller
        self._slots = controller.slots()
        away = controller.elsewhere
        self._launcher = xdist_seam.Launcher(config, self._not_started, *([away.arguments] if away else []))
        self._scheduler: Scheduler | None = None
        config.pluginmanager.register(self._launcher, "gpueval-launcher")

    def lane(self, node: Any) -> str:
        """The lane that a worker is on."""
        return self._launcher.lane(node)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> Scheduler:  # noqa: ARG002 - the hook's
        """Xdist is about to wait for its workers: start them, and say who gets what."""
        around = Session(
            lane=self._launcher.lane,
            jobs=self._controller.jobs,
            begun=self._controller.begun,
            serving_s=self._controller.serving_s,
            differs=self._differs,
            finished=self._launcher.cancel,
            retiring=self._controller.retiring,
            again=self._controller.again,
            tried_again=self._controller.crashes.tried_again,
        )
        self._scheduler = Scheduler(self._slots, around)
        self._launcher.take_over(self._tick)
        return self._scheduler

    def _tick(self) -> None:
        """Time has passed."""
        if self._scheduler is not None:
            self._scheduler.tick()
        self._controller.listeners.tell()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker whose CUDA context is lost ended by itself, in order: its lane goes on with a new one."""
        if error is None and self._scheduler is not None and self._scheduler.has_pending:
            if node.gateway.id in self._controller.retiring:
                self._launcher.replace(node)
            else:
                self._launcher.stop_without(node)

    @pytest.hookimpl
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Xdist ends a session whose workers keep dying, whatever is left to run; that must not pass for a success."""
        scheduler = self._scheduler
        if scheduler is None or not scheduler.has_pending or exitstatus == pytest.ExitCode.INTERRUPTED:
            return
        what = f"{scheduler.left} items were not run" if scheduler.collection_is_completed else "nothing was run"
        self._controller.fail(RuntimeFault(f"{what}: the workers ended before; what they said is above. Run the same session again for what is missing."))

    def _differs(self, node: Any, first: Sequence[str], found: Sequence[str]) -> None:
        """A worker collected other items than the first one did: it cannot take part."""
        lane = self._launcher.lane(node)
        self._controller.fail(
            UsageProblem(report_collection_diff(first, found, "the first worker", lane) or f"worker {lane} collected the items in another order")
        )
        node.shutdown()

    def _not_started(self, lane: str, problem: BaseException) -> None:
        """A lane could not be started. The others go on, unless it was the last one for items that need so many GPUs."""
        fault = RuntimeFault(f"worker {lane} could not be started: {type(problem).__name__}: {problem}")
        if self._controller.elsewhere:  # what it would have run, the other hosts run
            self._controller.warnings.append(str(fault))
        else:
            self._controller.fail(fault)
        width = len(self._slots.pop(lane).needs)
        if all(len(slot.needs) != width for slot in self._slots.values()):
            self._launcher.stop(f"no worker{f' with {width} GPUs' if width > 1 else ''} could be started")
