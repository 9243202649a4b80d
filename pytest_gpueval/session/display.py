"""What a user sees while a session runs, and at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pytest_gpueval.reports import schedule
from pytest_gpueval.reports.table import NUMBERS, Row, clock, columns, plain

# A table of more runs tells nobody anything, and takes seconds to lay out.
MOST_ROWS = 100

_LOG_EVERY_S = 30.0
_WINDOW_S = 15.0


class Track:
    """One worker's current item: how far it is and how fast it goes."""

    def __init__(self, case: str, now: float) -> None:
        self.case = case
        self.done = 0
        self.total = 0
        self._points: list[tuple[float, int]] = []
        self._begin = now

    def update(self, done: int, total: int, now: float) -> None:
        """Take in how far the item is."""
        self.done, self.total = done, total
        self._points = [point for point in self._points if now - point[0] <= _WINDOW_S] + [(now, done)]

    def rate(self) -> float | None:
        """Samples per second over the last seconds; None until two reports came."""
        if len(self._points) < 2:
            return None
        (t0, n0), (t1, n1) = self._points[0], self._points[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else None

    def words(self, gpu: str = "", width: int = 120) -> str:
        """`meddies-fast  412/800  56/s  ETA 0:07  97 %  41.2 GiB`, as wide as the line may be; `gpu` is what its GPUs are doing."""
        rate = self.rate()
        eta = f"ETA {clock((self.total - self.done) / rate)}" if rate and self.total else "starting" if not self.done else ""
        speed = f"{rate:,.0f}/s" if rate else ""
        done = f"{self.done:>7,}/{self.total:<7,}" if self.total else f"step {self.done:<10,}"
        rest = f" {done} {speed:>7}  {eta:<9}  {gpu}".rstrip()
        room = min(28, max(12, width - len(rest)))
        return f"{fitted(self.case, room):<{room}}{rest}"


def shown(path: Path) -> str:
    """A path as people want to read and copy it: relative to the current directory where it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def fitted(name: str, room: int) -> str:
    """A name in so much room. Its end stays: there shards differ."""
    kept = room // 2
    return name if len(name) <= room else f"{name[: room - kept - 1]}…{name[-kept:]}"


class _Screen:
    """A file for rich, which raises at what the file's encoding lacks: that is a `?` here."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> Any:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        return self._file.write(text.encode(encoding, "replace").decode(encoding))


def gpu_words(readings: Sequence[Mapping[str, Any]]) -> str:
    """`97 %  41.2 GiB`: the mean utilisation and all memory of a worker's GPUs, as far as the driver tells."""
    rates = [reading["utilization"] for reading in readings if reading["utilization"] is not None]
    memory = [reading["memory_used_mib"] for reading in readings if reading["memory_used_mib"] is not None]
    return "  ".join([*([f"{sum(rates) / len(rates):3.0f} %"] if rates else []), *([f"{sum(memory) / 1024:5.1f} GiB"] if memory else [])])


class Display:
    """Progress on a tty (a line for each worker, redrawn), in a log (a line every 30 s), or nothing under -q; one line for each finished run."""

    def __init__(self, config: pytest.Config, session_dir: Path) -> None:
        self._config = config
        self._session_dir = session_dir
        self._reporter: Any = None
        self._tracks: dict[str, Track] = {}
        self._gpus: dict[str, str] = {}
        self._plan: Mapping[str, Any] | None = None
        self._began = time.perf_counter()
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._last_line = time.perf_counter()
        self._own_lines = False
        config.pluginmanager.register(self, "gpueval-display")
        self.pytest_sessionstart()  # for a session opened while pytest collects

    def hear(self, message: Mapping[str, Any]) -> None:
        """Follow a worker."""
        with self._lock:
            now = time.perf_counter()
            worker = message["worker"]
            if message["event"] == "start":
                self._tracks[worker] = Track(message["case"], now)
            elif message["event"] == "progress" and worker in self._tracks:
                self._tracks[worker].update(message["done"], message["total"], now)
            elif message["event"] == "end":
                self._tracks.pop(worker, None)
            elif message["event"] == "sample":
                self._gpus[worker] = gpu_words(message["readings"])
            self._draw(now)

    def planned(self, plan: Mapping[str, Any]) -> None:
        """The plan is made: say it in a line."""
        self._plan = plan
        self._began = time.perf_counter()
        if len(plan["slots"]) > 1:
            self.note(schedule.header(plan))

    def note(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            if self._reporter is not None and self._config.option.verbose >= 0:
                self._erase()
                self._reporter.ensure_newline()
                self._reporter.write_line(text)

    def output(self, worker: str, text: str) -> None:
        """What a program prints, a line at a time, with its worker's name."""
        for line in text.splitlines():
            self.note(f"{worker} | {plain(line)}")

    def close(self) -> None:
        """Clear the live lines."""
        with self._lock:
            self._erase()
            self._tracks.clear()

    # pytest's own output must not meet the live lines.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, None, None]:
        """Step aside while pytest writes."""
        yield from self._aside()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, None, None]:
        """Step aside while pytest writes."""
        yield from self._aside()

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """No dots for runs that get a line of their own; what they count as, such as xfailed, is pytest's business."""
        status = yield
        if not self._own_lines or not any(name == "gpueval.run_dir" for name, _ in getattr(report, "user_properties", ())):
            return status
        category, _, word = status
        return category, "", word

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Find pytest's reporter, once there is one: write where it writes, and let it print no file names between the lines of runs."""
        self._reporter = self._config.pluginmanager.getplugin("terminalreporter")
        self._own_lines = self._reporter is not None and self._config.option.verbose == 0
        if self._own_lines:
            self._reporter.showfspath = False
            self._reporter._show_progress_info = False  # noqa: SLF001 - a percentage of items says nothing beside rows and ETA

    def summary(self, reporter: Any, rows: Sequence[Row], error: Exception | None, warnings: Sequence[str] = ()) -> None:
        """The table of the session, what somebody should look at, and where to look next."""
        if rows and self._config.option.verbose > -2:
            reporter.section("gpueval", sep="=")
            self._list(reporter, rows)
        for warning in warnings:
            reporter.write_line(f"WARNING: {warning}", yellow=True)
        if error is not None:
            reporter.write_line(f"ERROR: {error}", red=True, bold=True)
        for name, file in (("report", "report.html"), ("junit", "junit.xml"), ("runs", "*/results.jsonl")):
            if rows and (file.startswith("*") or (self._session_dir / file).exists()):
                reporter.write_line(f"{name + ':':<8}{shown(self._session_dir / file)}")

    def _list(self, reporter: Any, rows: Sequence[Row]) -> None:
        """The runs; of very many only those that did not pass."""
        bad = [row for row in rows if not row.ok]
        listed = rows if len(rows) <= MOST_ROWS else bad[:MOST_ROWS]
        table = Table(box=None, pad_edge=False, header_style="bold")
        names, lines = columns(listed, self._console().width)
        for name in names:
            table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=name != "verdict")
        for row, (*cells, verdict) in zip(listed, lines, strict=True):
            table.add_row(*cells, Text(verdict, style="green" if row.ok else "bold red"))
        if listed:
            self._console().print(table)
        if len(listed) < len(rows):
            above = "" if not bad else " Above are those that did not." if len(listed) == len(bad) else f" Above are {len(listed):,} of those that did not."
            reporter.write_line(f"{len(rows) - len(bad):,} of {len(rows):,} runs passed.{above} All are in the report.")

    def run_finished(self, row: Row) -> None:
        """One line for a finished run."""
        if not self._own_lines:
            return
        with self._lock:
            self._erase()
            note = "reused" if row.reused else f"{row.samples_per_s:,.0f}/s" if row.samples_per_s else ""
            result = f" {row.scored:>7,} {'steps' if row.sweep else 'rows'}  {row.headline} {row.value()}  {note:>9}" if row.headline in row.metrics else ""
            self._reporter.ensure_newline()
            self._reporter.write_line(
                f"{row.case:<28} {row.status:<12}{result}  {clock(row.seconds):>6}  {row.worker}",
                green=row.status == "passed",
                red=row.status not in ("passed", "skipped"),
            )
            self._draw(time.perf_counter())

    def _draw(self, now: float) -> None:
        if self._reporter is None or self._config.option.verbose < 0 or not self._tracks:
            self._erase()
            return
        if self._tty():
            if self._live is None:
                self._reporter.ensure_newline()
                self._live = Live(console=self._console(), transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
                self._live.start()
            lines = "\n".join(self._lines(now, self._live.console.width))
            self._live.update(Text(lines, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif now - self._last_line >= _LOG_EVERY_S:
            self._last_line = now
            self._reporter.ensure_newline()
            for line in self._lines(now, self._console().width):
                self._reporter.write_line(line.lstrip())

    def _lines(self, now: float, width: int) -> list[str]:
        """A line for each worker that is at something, and the plan against the clock."""
        lines = [f" {worker:<6} {track.words(self._gpus.get(worker, ''), width - 9)}" for worker, track in sorted(self._tracks.items())]
        if self._plan is not None and len(self._plan["slots"]) > 1:
            lines.append(f" {clock(now - self._began)} of {clock(self._plan['makespan_s'])} predicted")
        return lines

    def _aside(self) -> Generator[None, None, None]:
        with self._lock:
            self._erase()
            result = yield
            self._draw(time.perf_counter())
            return result

    def _erase(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tty(self) -> bool:
        return bool(self._reporter.isatty) and self._config.option.verbose >= 0

    def _console(self) -> Console:
        writer = self._reporter._tw  # noqa: SLF001 - the only way to write where the reporter writes
        screen: Any = _Screen(writer._file)  # noqa: SLF001
        return Console(file=screen, force_terminal=bool(writer.hasmarkup) or None, highlight=False, soft_wrap=False, width=None if self._tty() else 120)
