"""What a Triton server costs beside its model: `python -m benchmarks.triton [--quick] [--only start,leak,rate,memory] [--perf-analyzer COMMAND]`.

The package perf-analyzer has NVIDIA's own client; where its binary needs a newer C library, COMMAND is that library's loader with its arguments and the
binary. With the real server (`make triton-server`). The model waits 1 ms a sample, as for a GPU: what is measured is everything around it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpueval.errors import GpuevalError
from pytest_gpueval.processes.leftovers import SHARED_MEMORY
from pytest_gpueval.processes.supervisor import look, pids
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.runtimes import wire
from pytest_gpueval.runtimes.base import Runtime
from pytest_gpueval.runtimes.inprocess import InProcess
from pytest_gpueval.runtimes.triton import TritonRuntime, client_library
from pytest_gpueval.scoring.task import Sample
from pytest_gpueval.servers.triton import TritonModel, TritonSettings
from pytest_gpueval.servers.triton_server import TritonServer

from .measure import Figure, RunFailed, print_table, run

ROOT = Path(__file__).resolve().parent.parent
PYTHON = os.environ.get("GPUEVAL_TRITON_PYTHON") or str(ROOT / ".venv-triton/bin/python")
START_S, STOP_S, IN_PROCESS, ANALYZER, MEMORY_MIB = 0.5, 3.0, 0.9, 1.0, 16.0
LOAD_S = 0.5
ROWS, IN_FLIGHT = 32, 4
_PARTS = ("start", "leak", "rate", "memory")
_MODEL = """import time
class Model:
    def __init__(self, load_s=0.0, sample_s=0.0):
        time.sleep(load_s)
        self.sample_s = sample_s
    def predict(self, batch):
        if self.sample_s:
            time.sleep(self.sample_s * len(batch))
        return [[(0, len(row["text"]), "PERSON", 0.5)] for row in batch]
"""


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures. Raises RunFailed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton", description="A Triton server beside its model")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and rows")
    parser.add_argument("--only", default=",".join(_PARTS), help="some of the parts, separated by commas (default: all)")
    parser.add_argument("--perf-analyzer", default="perf_analyzer", metavar="COMMAND", help="how to run NVIDIA's client (default: perf_analyzer)")
    options = parser.parse_args(argv)
    parts = options.only.split(",")
    if unknown := set(parts) - set(_PARTS):
        parser.error(f"--only {','.join(sorted(unknown))}: valid are {', '.join(_PARTS)}")
    try:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "model.py").write_text(_MODEL, encoding="utf-8")
            figures = start(directory, 3 if options.quick else 10) if "start" in parts else []
            figures += leak(directory, 5 if options.quick else 50) if "leak" in parts else []
            figures += (
                rate(directory, 1000 if options.quick else 4000, 1 if options.quick else 3, shlex.split(options.perf_analyzer)) if "rate" in parts else []
            )
            figures += memory(20_000, 200_000 if options.quick else 1_000_000) if "memory" in parts else []
            return figures
    except GpuevalError as problem:
        raise RunFailed(str(problem)) from None


def start(directory: Path, repeats: int) -> list[Figure]:
    """From nothing to the first answer, less the model's own load; and the end."""
    client_library()  # once for a session, whatever the number of servers
    starts, stops = [], []
    for _ in range(repeats):
        server = _server(directory)
        begin = time.perf_counter()
        runtime = _started(server, directory, load_s=LOAD_S)
        starts.append(time.perf_counter() - begin - LOAD_S)
        begin = time.perf_counter()
        runtime.close()
        server.stop()
        stops.append(time.perf_counter() - begin)
    rows = [(name, f"{min(seen):.2f} s", f"{statistics.median(seen):.2f} s", f"{max(seen):.2f} s") for name, seen in (("start", starts), ("stop", stops))]
    print_table(f"Start above the model's load of {LOAD_S:g} s, and clean stop, {repeats} times", ("", "best", "median", "worst"), rows)
    return [
        Figure("triton: start above the model's load, best", f"<= {START_S:g} s", f"{min(starts):.2f} s", min(starts) <= START_S),
        Figure("triton: clean stop, worst", f"<= {STOP_S:g} s", f"{max(stops):.2f} s", max(stops) <= STOP_S),
    ]


def leak(directory: Path, cycles: int) -> list[Figure]:
    """Start, ask and stop, again and again: what there is more of afterwards."""
    _cycle(directory)  # what Python and gRPC keep from their first use
    before = _held()
    for _ in range(cycles):
        _cycle(directory)
    gc.collect()
    after = _held()
    more = {name: len(after[name] - before[name]) for name in before if name != "files"} | {"files": len(after["files"]) - len(before["files"])}
    print_table(f"More after {cycles} servers than before", tuple(more), [tuple(map(str, more.values()))])
    left = sum(max(0, count) for count in more.values())
    return [Figure(f"triton: processes, segments, folders and files left by {cycles} servers", "0", f"{left}", left == 0)]


def memory(few: int, many: int) -> list[Figure]:
    """How much the peaks of this side and of the server's processes grow from few rows to many, of 1 kB each; also where answers are read slowly."""
    turns = {
        "": ("tritonserver", few, many, 0.0),
        ", read slowly": ("tritonserver", few // 10, many // 10, 0.2),
        ", PyTriton": ("pytriton", few, many // 5, 0.0),
    }
    figures, lines = [], []
    for name, (engine, first, then, pause_ms) in turns.items():
        said = run([sys.executable, "-m", "benchmarks.triton_memory", engine, str(first), str(then), str(pause_ms), PYTHON], ROOT).output
        before, after = json.loads(said.splitlines()[-1])
        lines += [(f"{engine}{', slowly' if pause_ms else ''}: {process}", f"{before[process]:,.1f}", f"{after[process]:,.1f}") for process in before]
        growth = max(after[process] - before[process] for process in before)
        what = f"triton: memory from {first:,} to {then:,} rows{name}, the process that grows most"
        figures.append(Figure(what, f"<= {MEMORY_MIB:g} MiB", f"{growth:.1f} MiB", growth <= MEMORY_MIB))
    print_table(f"Peak memory, MiB, after {few:,} rows of 1 kB (slowly: {few // 10:,}), and after many", ("", "few", "many"), lines)
    return figures


def rate(directory: Path, rows: int, repeats: int, analyzer: Sequence[str]) -> list[Figure]:
    """Samples/s in process, through the runtime, through a loop of nothing but requests and by perf-analyzer, by turns."""
    samples = [Sample(str(number), {"id": str(number), "text": f"Мария Иванова, {number}, живёт в Москве"}, None) for number in range(rows)]
    own = InProcess("model.py:Model", {"sample_s": 0.001}, directory, ROWS)
    own.start()
    server = _server(directory)
    seen: dict[str, list[float]] = {}
    problem = None
    try:
        waiting, empty = _started(server, directory, sample_s=0.001), _started(server, directory)
        url, slow, fast = server.grpc_url, server.load(_model(directory, sample_s=0.001)), server.load(_model(directory))
        turns: dict[str, Callable[[], float]] = {
            "in process": lambda: _through(own, samples),
            "triton": lambda: _through(waiting, samples),
            "perf-analyzer": lambda: _analyzed(analyzer, url, slow, samples, directory),
            "bare tritonclient, no model": lambda: asyncio.run(_bare(url, fast, samples * 4)),
            "triton, no model": lambda: _through(empty, samples * 4),
            "perf-analyzer, no model": lambda: _analyzed(analyzer, url, fast, samples, directory),
        }
        for _ in range(repeats):
            for name, turn in turns.items():
                if problem is None or "perf" not in name:
                    try:
                        seen.setdefault(name, []).append(turn())
                    except OSError as error:
                        problem = f"{analyzer[0]}: {error.strerror}"
        waiting.close()
        empty.close()
    finally:
        server.stop()
    title = f"Samples/s by turns, {rows:,} rows, without a model {4 * rows:,}, batches of {ROWS}, {IN_FLIGHT} in flight"
    print_table(title, ("", *(f"{turn}." for turn in range(1, repeats + 1))), [(name, *(f"{value:,.0f}" for value in rates)) for name, rates in seen.items()])
    return [
        _ratio("rate over in process, 1 ms a sample", "triton", "in process", IN_PROCESS, seen, problem),
        _ratio("rate over a bare loop of tritonclient's, no model", "triton, no model", "bare tritonclient, no model", None, seen, problem),
        _ratio("rate over perf-analyzer, 1 ms a sample", "triton", "perf-analyzer", ANALYZER, seen, problem),
        _ratio("rate over perf-analyzer, no model", "triton, no model", "perf-analyzer, no model", None, seen, problem),
    ]


def _ratio(name: str, ours: str, theirs: str, target: float | None, seen: Mapping[str, Sequence[float]], problem: str | None) -> Figure:
    """The median of the turns' ratios: both of a turn met the same machine."""
    if theirs not in seen:
        return Figure(f"triton: {name}", "", f"not measured: {problem}", None)
    ratios = [mine / other for mine, other in zip(seen[ours], seen[theirs], strict=True)]
    found = statistics.median(ratios)
    text = f"{found:.2f} x ({min(ratios):.2f}-{max(ratios):.2f})"
    return Figure(f"triton: {name}", "" if target is None else f">= {target:g} x", text, None if target is None else round(found, 2) >= target)


def _analyzed(analyzer: Sequence[str], url: str, name: str, samples: Sequence[Sample], directory: Path) -> float:
    """What perf-analyzer reports. Raises OSError where it is not there, RunFailed."""
    data = directory / "rows.json"
    data.write_text(json.dumps({"data": [{"rows": [wire.encode(sample.inputs).decode()]} for sample in samples[:1024]]}), encoding="utf-8")
    load = [
        "-b",
        str(ROWS),
        "--concurrency-range",
        str(IN_FLIGHT),
        "--async",
        "--input-data",
        str(data),
        "--measurement-interval",
        "2000",
        "--stability-percentage",
        "50",
    ]
    said = run([*analyzer, "-m", name, "-i", "grpc", "-u", url, *load], directory).output
    found = re.search(r"Throughput: ([0-9.]+) infer/sec", said)
    if found is None:
        raise RunFailed(f"perf-analyzer says no throughput:\n{said[-2000:]}")
    return float(found[1])


async def _bare(url: str, name: str, samples: Sequence[Sample]) -> float:
    """The same requests, and nothing done with their answers but to decode them."""
    library, _ = client_library()
    import numpy as np  # noqa: PLC0415 - of an extra
    import tritonclient.grpc.aio  # noqa: PLC0415, F401 - as above

    client = library.aio.InferenceServerClient(url)
    batches = iter([samples[first : first + ROWS] for first in range(0, len(samples), ROWS)])

    async def ask() -> None:
        for batch in batches:
            tensor = library.InferInput("rows", [len(batch), 1], "BYTES")
            tensor.set_data_from_numpy(np.array([wire.encode(sample.inputs) for sample in batch], dtype=np.object_).reshape(len(batch), 1))
            result: Any = await client.infer(name, [tensor])
            for answer in result.as_numpy("answers").ravel().tolist():
                wire.decode(answer)

    begin = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
    seconds = time.perf_counter() - begin
    await client.close()
    return len(samples) / seconds


def _through(runtime: Runtime, samples: Sequence[Sample]) -> float:
    """Samples/s. Raises RunFailed for an error."""
    begin = time.perf_counter()
    count = 0
    for answer in runtime.answers(samples):
        if answer.error is not None:
            raise RunFailed(f"row {answer.sample.id}: {answer.error}")
        count += 1
    if count != len(samples):
        raise RunFailed(f"{count} answers for {len(samples)} rows")
    return count / (time.perf_counter() - begin)


def _cycle(directory: Path) -> None:
    server = _server(directory)
    try:
        runtime = _started(server, directory)
        _through(runtime, [Sample("a", {"id": "a", "text": "a"}, None)])
        runtime.close()
    finally:
        server.stop()


def _held() -> dict[str, set[str]]:
    """Processes below this one, our segments and folders, and open files: sockets, so ports, are among them."""
    parents = {process.pid: process.parent for pid in pids() if (process := look(pid)) is not None and not process.dead}
    mine = {pid for pid in parents if _descends(pid, parents)}
    prefix = "gpueval."
    places = {"segments": SHARED_MEMORY, "folders": Path(tempfile.gettempdir())}
    found = {name: {path.name for path in place.glob(f"{prefix}*") if f".{os.getpid()}." in path.name} for name, place in places.items()}
    return {"processes": {str(pid) for pid in mine}, **found, "files": {path.name for path in Path("/proc/self/fd").iterdir()}}


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


def _server(directory: Path) -> TritonServer:
    return TritonServer(TritonSettings(PYTHON), directory / "triton.log", Redactor([]))


def _model(directory: Path, **options: float) -> TritonModel:
    return TritonModel("model.py:Model", directory, options)


def _started(server: TritonServer, directory: Path, **options: float) -> TritonRuntime:
    runtime = TritonRuntime(server.endpoint(_model(directory, **options)), rows=ROWS, in_flight=IN_FLIGHT)
    runtime.start()
    return runtime


if __name__ == "__main__":
    main()
