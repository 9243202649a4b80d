"""The memory of a run through Triton, by its number of rows: `python -m benchmarks.triton_memory ENGINE FEW MANY PAUSE_MS`.

A process of its own, whose peak nothing else has raised: `benchmarks/triton.py` runs it. Prints the peaks, MiB by process, after FEW rows and after MANY more,
as JSON. Rows and answers are of some 1 kB each; whoever reads the answers waits PAUSE_MS after each.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.runtimes.triton import TritonRuntime
from pytest_gpueval.scoring.task import Sample
from pytest_gpueval.servers.pytriton import PyTritonServer
from pytest_gpueval.servers.server import Server
from pytest_gpueval.servers.triton import TritonModel, TritonSettings
from pytest_gpueval.servers.triton_server import TritonServer

_MODEL = """
class Model:
    def predict(self, batch):
        return [row["text"] for row in batch]
"""
_TEXT = "Мария Иванова живёт в Москве. " * 18


def main(engine: str, few: int, many: int, pause_ms: float, python: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "model.py").write_text(_MODEL, encoding="utf-8")
        kind: type[TritonServer | PyTritonServer] = PyTritonServer if engine == "pytriton" else TritonServer
        server = kind(TritonSettings(python), directory / "triton.log", Redactor([]))
        try:
            endpoint = server.endpoint(TritonModel("model.py:Model", directory))
            runtime = TritonRuntime(endpoint)
            runtime.start()
            started: Server = server if isinstance(server, TritonServer) else server.endpoint(TritonModel("model.py:Model", directory))
            found = []
            for rows in (few, many):
                read(runtime, rows, pause_ms / 1000)
                found.append(peaks(started))
            runtime.close()
        finally:
            server.stop()
    print(json.dumps(found))


def samples(count: int) -> Iterator[Sample]:
    """Rows of some 1 kB, made as they are read."""
    for number in range(count):
        yield Sample(str(number), {"id": str(number), "text": f"{number} {_TEXT}"}, None)


def read(runtime: TritonRuntime, rows: int, pause_s: float) -> None:
    """Read all answers. Raises SystemExit for one that is wrong."""
    count = 0
    for answer in runtime.answers(samples(rows)):
        if answer.value != answer.sample.inputs["text"]:
            sys.exit(f"row {answer.sample.id}: {answer.error or answer.value!r:.200}")
        count += 1
        if pause_s:
            time.sleep(pause_s)
    if count != rows:
        sys.exit(f"{count} answers for {rows} rows")


def peaks(server: Server) -> dict[str, float]:
    """The most memory that each process has had so far, MiB, shared memory included."""
    assert server._program is not None  # noqa: S101, SLF001 - it runs
    found = {"this process": _peak("self")}
    for process in server._program.processes():  # noqa: SLF001 - as above
        found[f"{process.name} {process.pid}"] = _peak(str(process.pid))
    return found


def _peak(pid: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak[1]) / 1024 if peak else 0.0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
