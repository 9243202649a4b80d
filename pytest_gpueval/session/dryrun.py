"""--gpueval-dry-run: the plan of what pytest has selected, and nothing run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_gpueval.reports import schedule

from . import shards
from .forecast import Forecast
from .messages import user_errors


def stay_alone(config: pytest.Config) -> int:
    """Keep xdist from starting workers: they would collect, and this process would have nothing to plan. Returns how many it would have started."""
    option = config.option
    processes = len(getattr(option, "tx", None) or ())
    if processes:
        option.tx, option.dist, option.numprocesses = [], "no", 0
    return processes


class DryRun:
    """Plugin: prints the plan of what pytest has selected, and runs nothing."""

    def __init__(self, forecast: Forecast, counts: Mapping[str, int], processes: int, note: str | None = None) -> None:
        """`counts` are cuts that an earlier part of the session made; `processes` are xdist's workers where there are no lanes; `note` is said first."""
        self._forecast = forecast
        self._counts = counts
        self._processes = processes
        self._note = note

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the items."""
        config = session.config
        shards.expand(session.items, self._forecast.cutting(self._counts), config.stash.get(shards.NAMED, {}), lambda _items: None)
        with user_errors():
            jobs = self._forecast.jobs([item.nodeid for item in session.items], shards.collected(session.items))
        lines = self._forecast.plan(jobs, [f"gw{number}" for number in range(self._processes)]).as_dict()
        reporter = config.pluginmanager.getplugin("terminalreporter")
        for line in [*([self._note] if self._note else []), *schedule.plan_lines(lines).splitlines()]:
            reporter.write_line(line)
        return True
