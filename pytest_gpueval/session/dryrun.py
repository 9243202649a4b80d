"""--gpueval-dry-run: the plan of what pytest has selected, and nothing run."""

from __future__ import annotations

import pytest

from pytest_gpueval.reports import schedule

from . import shards
from .forecast import Forecast


class DryRun:
    """Plugin: prints the plan of what pytest has selected, and runs nothing."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the items."""
        config = session.config
        shards.expand(session.items, self._forecast.cutting({}), config.stash.get(shards.NAMED, {}), lambda _items: None)
        lines = self._forecast.plan(self._forecast.jobs([item.nodeid for item in session.items], shards.collected(session.items))).as_dict()
        reporter = config.pluginmanager.getplugin("terminalreporter")
        for line in schedule.plan_lines(lines).splitlines():
            reporter.write_line(line)
        return True
