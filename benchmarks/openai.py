"""What the OpenAI runtime costs beside a bare loop of aiohttp, and its memory: `python -m benchmarks.openai [--quick]`.

Both send the same requests to the same server, as many at a time, each from a process of its own and in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.servers.openai import CommandServer, CommandSettings, Started
from pytest_gpueval.servers.server import Server

from .clocked import ROOT
from .measure import Figure, RunFailed, print_table, run

TARGET_RATIO = 0.95
TARGET_GROWTH_MIB = 100
MANY = 10_000
_LLAMA = ROOT / ".venv-llama" / "bin" / "python"
_ARGV = (str(_LLAMA), "-m", "llama_cpp.server", "--model", "{model}", "--host", "{host}", "--port", "{port}", "--n_ctx", "512", "--n_threads", "1")
_MAX_TOKENS = 16


def main(argv: Sequence[str] | None = None) -> list[Figure]:
    """Measure, print, return the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openai", description="The OpenAI runtime beside a bare loop of aiohttp")
    parser.add_argument("--quick", action="store_true", help="two repetitions, fewer requests")
    quick = parser.parse_args(argv).quick
    repeats = 2 if quick else 5
    rows: list[tuple[str, ...]] = []
    with llama() as url:
        real = _ratio(rows, "llama.cpp, a tiny model, 8 at a time", url, 8, 100 if quick else 200, repeats)
    with stub(0.05) as url:
        slow = _ratio(rows, "50 ms an answer, 32 at a time", url, 32, 2_000 if quick else 5_000, repeats)
        memory = _measured("ours", url, 32, MANY)
    with stub(0.0) as url:
        _ratio(rows, "at once, 32 at a time", url, 32, 1_000 if quick else 3_000, repeats)
    print_table("Requests to one server", ("server", "ours, requests/s", "bare loop", "x", "our CPU ms/request", "bare loop"), rows)
    growth = memory["growth_mib"]
    return [
        Figure("openai: throughput over a bare loop, llama.cpp", f">= {TARGET_RATIO} x", f"{real:.2f} x", real >= TARGET_RATIO),
        Figure("openai: the same, a server of 50 ms", f">= {TARGET_RATIO} x", f"{slow:.2f} x", slow >= TARGET_RATIO),
        Figure(f"openai: memory over {MANY:,} requests", f"<= + {TARGET_GROWTH_MIB} MiB", f"+ {growth:.0f} MiB", growth <= TARGET_GROWTH_MIB),
    ]


def _ratio(rows: list[tuple[str, ...]], name: str, url: str, in_flight: int, count: int, repeats: int) -> float:
    """Throughput of ours over that of the bare loop, the median of pairs that ran one after the other. Adds a row of the table."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for _ in range(repeats):
        for client, measured in found.items():
            measured.append(_measured(client, url, in_flight, count))
    rates = {client: statistics.median(one["rate"] for one in measured) for client, measured in found.items()}
    cpu = {client: min(one["cpu_ms"] for one in measured) for client, measured in found.items()}
    ratio = statistics.median(ours["rate"] / bare["rate"] for ours, bare in zip(found["ours"], found["bare"], strict=True))
    rows.append((name, f"{rates['ours']:,.0f}", f"{rates['bare']:,.0f}", f"{ratio:.2f}", f"{cpu['ours']:.2f}", f"{cpu['bare']:.2f}"))
    return ratio


def _measured(client: str, url: str, in_flight: int, count: int) -> dict[str, float]:
    usage = run([sys.executable, "-m", "benchmarks.openai", "--client", client, url, str(in_flight), str(count)], ROOT)
    found: dict[str, float] = json.loads(usage.output.splitlines()[-1])
    return found


@contextmanager
def llama() -> Iterator[str]:
    """llama.cpp's server with a tiny model. Raises RunFailed."""
    if not _LLAMA.exists():
        raise RunFailed(f"{_LLAMA} is missing; `make llama-server` builds it")
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "tiny.gguf"
        run([str(_LLAMA), str(ROOT / "tests" / "tiny_gguf.py"), str(model)], ROOT)
        kind = CommandServer(CommandSettings(argv=_ARGV, model=str(model)), name="llama")
        server = Server(kind, Path(directory) / "llama.log", Redactor())
        server.start()
        try:
            yield Started(server, kind).url
        finally:
            server.stop()


@contextmanager
def stub(latency_s: float) -> Iterator[str]:
    """A server that answers each request after so long."""
    argv = [sys.executable, "-m", "benchmarks.openai_stub", str(latency_s)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None and server.stdin is not None  # noqa: S101, PT018 - pipes, as asked
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        server.stdin.close()


@dataclass(frozen=True)
class _Row:
    id: str
    inputs: Mapping[str, Any]


@dataclass
class _Endpoint:
    url: str
    generation: int = 1

    def recover(self, _generation: int, problem: str) -> None:
        raise RunFailed(problem)


def _rows(count: int) -> Iterator[_Row]:
    for number in range(count):
        yield _Row(f"r{number}", {"id": f"r{number}", "prompt": f"Row {number}: " + "what is said in these few words? " * 5})


def _ours(url: str, in_flight: int, count: int) -> None:
    from pytest_gpueval.runtimes.openai import OpenAIRuntime  # noqa: PLC0415 - in its own process only
    from pytest_gpueval.runtimes.openai_request import Request  # noqa: PLC0415 - as above

    with closing(OpenAIRuntime(_Endpoint(url), Request("completions", max_tokens=_MAX_TOKENS), in_flight)) as runtime:
        runtime.start()
        _timed(lambda: sum(answer.error is None and bool(answer.value) for answer in runtime.answers(_rows(count))), count)


def _bare(url: str, in_flight: int, count: int) -> None:
    asyncio.run(_bare_loop(url, in_flight, count))


async def _bare_loop(url: str, in_flight: int, count: int) -> None:
    import aiohttp  # noqa: PLC0415 - in its own process only

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with session.get(f"{url}/models") as response:
            model = (await response.json())["data"][0]["id"]
        rows = iter(_rows(count))
        good = 0

        async def work() -> None:
            nonlocal good
            for row in rows:
                body = {"model": model, "prompt": row.inputs["prompt"], "max_tokens": _MAX_TOKENS, "temperature": 0.0}
                async with session.post(f"{url}/completions", json=body) as response:
                    good += bool((await response.json())["choices"][0]["text"])

        clock = _Clock()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        clock.tell(good, count)


class _Clock:
    def __init__(self) -> None:
        self._begin = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def tell(self, good: int, count: int) -> None:
        wall, cpu, rss = self._begin
        if good != count:
            raise RunFailed(f"{good} of {count} requests were answered")
        seconds = time.perf_counter() - wall
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) / 1024
        print(json.dumps({"rate": count / seconds, "cpu_ms": (time.process_time() - cpu) * 1000 / count, "growth_mib": growth}))


def _timed(work: Any, count: int) -> None:
    clock = _Clock()
    clock.tell(work(), count)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        {"ours": _ours, "bare": _bare}[sys.argv[2]](sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        figures = main()
        print_table("Figures", ("figure", "target", "measured", ""), [figure.cells() for figure in figures])
