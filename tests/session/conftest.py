"""A small suite in a directory of its own, and what tests want to know of a session's directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.special  # noqa: F401

# Sessions in this process must all meet the same modules, and need not import them again: pytester forgets those that a session imports first.
import pytest_gpueval.reports.session_page
import pytest_gpueval.scoring.paired
import pytest_gpueval.session.collect
import pytest_gpueval.session.controller
import pytest_gpueval.session.dryrun
import pytest_gpueval.session.engine  # noqa: F401
from tests import fake_gpus
from tests.kube.fixtures import kube, shared_cluster  # noqa: F401
from tests.waiting import SESSION_S, wait_for

# vLLM is too large to install for all: its tests are collected where there is one.
collect_ignore = [] if "GPUEVAL_TEST_VLLM" in os.environ else ["test_vllm.py"]

SUITE = """
description = "A toy"
task = "span_detection"
labels = ["A", "B"]
split = "fast"
runtime = "cpu"
policy = "open"
[data]
note = "synthetic"
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
[policies.open]
[policies.closed]
threshold = 0.95
[datasets.one]
splits.fast = {}
[datasets.two]
splits.fast = {}
"""

# Finds "aaa" at the start of every text; texts may ask for trouble.
MODEL = """
import os, time
class Model:
    def predict(self, batch):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        return [self.one(item["text"]) for item in batch]
    def one(self, text):
        if "BOOM" in text:
            raise ValueError("cannot read " + text)
        return [(0, 3, "A", float("nan") if "NAN" in text else 0.9)]
"""

# Writes down what happens where and when, and does what a text says after its "!".
RECORDING_MODEL = """
import ctypes, json, os, signal, subprocess, sys, time
EVENTS = os.environ["TOY_EVENTS"]
def record(event, **more):
    known = {"event": event, "at": time.monotonic(), "pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
    with open(EVENTS, "a") as file:
        file.write(json.dumps({**known, "worker": os.environ.get("PYTEST_XDIST_WORKER"), **more}) + "\\n")
def recorded(event):
    return [line for line in map(json.loads, open(EVENTS)) if line["event"] == event]
def wait_for(condition, what="a condition", limit=90):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.02)
def meet(workers):
    wait_for(lambda: len({line["pid"] for line in recorded("begin")}) >= workers, f"{workers} workers")
def poison():
    ctypes.CDLL("libcuda.so.1")
    state = open(os.environ["FAKE_GPUS_STATE"]).read()
    os.environ["FAKE_GPUS_STATE"] += f".{os.getpid()}"
    open(os.environ["FAKE_GPUS_STATE"], "w").write(state + "cuda_sticky=700\\n")
class Model:
    def __init__(self):
        record("load")
    def close(self):
        record("close")
    def predict(self, batch):
        for item in batch:
            record("begin", id=item["id"])
            print("predicting", item["id"], flush=True)
            exec(item["text"].partition("!")[2])
            record("end", id=item["id"])
        return [[(0, 3, "A", 0.9)] for _ in batch]
"""

MARK = "TOY_MARK"


def processes_of(environment: Mapping[str, str]) -> set[int]:
    """All that live and were started, however indirectly, with this environment; zombies have none."""
    word = f"{MARK}={environment[MARK]}".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if any(entry == word for entry in path.read_bytes().split(b"\0")):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def rows(count: int, name: str = "r", *, wrong_every: int = 10) -> list[dict]:
    """`count` rows of which every tenth has a gold span that the toy model gets half right."""
    return [{"id": f"{name}-{i}", "text": "aaaaabbbbb", "spans": [{"start": 0, "end": 5 if i % wrong_every == 0 else 3, "label": "A"}]} for i in range(count)]


class Toy:
    """A repository with one suite."""

    def __init__(self, pytester: pytest.Pytester, libraries: Callable[[], Path] | None = None) -> None:
        self.pytester = pytester
        self._libraries = libraries
        # What starts sessions in the background elsewhere.
        self.launcher: Sequence[str] = ()
        self.root = pytester.path
        pytester.makeini("[pytest]\n")
        self.suite("toy")

    def suite(self, name: str, toml: str = SUITE, model: str = MODEL) -> None:
        directory = self.root / "suites" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "suite.toml").write_text(textwrap.dedent(toml))
        (directory / "model.py").write_text(textwrap.dedent(model))
        for dataset in ("one", "two"):
            self.split(rows(50, dataset), dataset, name)

    def edit(self, old: str, new: str) -> None:
        file = self.root / "suites/toy/suite.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def append(self, toml: str) -> None:
        file = self.root / "suites/toy/suite.toml"
        file.write_text(file.read_text() + textwrap.dedent(toml))

    def split(self, table: list[dict], dataset: str = "one", suite: str = "toy") -> Path:
        path = self.root / "suites" / suite / "data" / dataset / "fast.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(table), path)
        return path

    def run(self, *args: str) -> pytest.RunResult:
        """A session in this process: quick, no xdist."""
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)

    def spawn(self, *args: str) -> pytest.RunResult:
        """A session in a process of its own."""
        return self.pytester.runpytest_subprocess(*args, timeout=SESSION_S)

    # On GPUs that are stand-ins.

    def on_gpus(self, count: int, *, cuda: bool = False, **values: object) -> dict[str, str]:
        """An environment with so many GPUs, for `start` and `finish`; see tests/fake_gpus.py for the values."""
        assert self._libraries is not None
        environment = fake_gpus.environment(self._libraries(), count, cuda=cuda, **values)
        # Tests run under xdist too, which tells its children so, and their width.
        environment = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES") and not name.startswith("PYTEST_XDIST")}
        return {**environment, "TOY_EVENTS": str(self.root / "events.jsonl"), MARK: environment[fake_gpus.STATE]}

    def datasets(self, texts: Mapping[str, str | list[str]], extra: Mapping[str, str] | None = None, runtime: str = "") -> None:
        """Make the suite one of these datasets, a row for each text, under a model that records; `extra` adds to a dataset's entry."""
        base = SUITE.partition("[datasets.")[0].replace('split = "fast"', 'split = "fast"\nshards = 1\nmax_error_share = 0.0')
        toml = base.replace('target = "model.py:Model"', f'target = "model.py:Model"\n{runtime}')
        for name in texts:
            toml += f"[datasets.{name}]\nsplits.fast = {{}}\n{(extra or {}).get(name, '')}\n"
        self.suite("toy", toml, RECORDING_MODEL)
        for name, several in texts.items():
            table = [
                {"id": f"{name}-{i}", "text": f"aaaaabbbbb !{text}", "spans": [{"start": 0, "end": 3, "label": "A"}]}
                for i, text in enumerate([several] if isinstance(several, str) else several)
            ]
            self.split(table, name)

    def start(self, environment: Mapping[str, str], *args: str) -> subprocess.Popen:
        """A session in the background, in a process group of its own."""
        return subprocess.Popen(
            [*self.launcher, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--gpueval-suite", "toy", "--gpueval-session", "it", *args],
            cwd=self.root,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, environment: Mapping[str, str], *args: str, expect: int = 0, timeout: float = SESSION_S) -> str:
        """A session from its beginning to its end, and what it says. It leaves no process."""
        process = self.start(environment, *args)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"hangs:\n{process.communicate()[0]}") from None
        assert process.returncode == expect, output
        assert "INTERNALERROR" not in output and "Traceback" not in output, output
        wait_for(lambda: not processes_of(environment))
        return output

    def events(self, *kinds: str) -> list[dict]:
        """What models and conftest.py wrote down, in the order of time."""
        file = self.root / "events.jsonl"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return sorted((line for line in found if not kinds or line["event"] in kinds), key=lambda line: line["at"])

    def record(self, session: str = "it") -> dict:
        return json.loads((self.session(session) / "session.json").read_text())

    @property
    def output(self) -> Path:
        return self.root / "reports/evaluations"

    def session(self, name: str | None = None) -> Path:
        if name:
            return self.output / name
        (only,) = self.output.iterdir()
        return only

    def summary(self, run: str = "toy-one-fast", session: str | None = None) -> dict:
        return json.loads((self.session(session) / run / "summary.json").read_text())

    def lines(self, run: str = "toy-one-fast", session: str | None = None) -> list[dict]:
        return [json.loads(line) for line in (self.session(session) / run / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_gpus.build(tmp_path_factory.mktemp("fake-gpus"))


@pytest.fixture
def toy(pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.delenv("GR_RUNTIME_MODE", raising=False)  # the developer's own
    return Toy(pytester, lambda: request.getfixturevalue("libraries"))
