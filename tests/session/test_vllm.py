"""The suite llm_smoke, as it is, through vLLM: collected where GPUEVAL_TEST_VLLM names its command (`conftest.py`).

GPUEVAL_TEST_VLLM_MODEL is a folder or a name of the Hub; without it, a tiny model of random weights is made. Its answers are nonsense, and gates fail.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_gpueval.processes.identity import abandoned
from tests.session.conftest import MARK, processes_of
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
VLLM = Path(os.environ["GPUEVAL_TEST_VLLM"])
DATASETS = ("arithmetic", "capitals", "multiple_choice", "yes_no")
ROWS = 16
SESSION_S = 600


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    if "GPUEVAL_TEST_VLLM_MODEL" in os.environ:
        return os.environ["GPUEVAL_TEST_VLLM_MODEL"]
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([VLLM.parent / "python", ROOT / "tests/tiny_llama.py", folder], check=True, capture_output=True, text=True)
    return str(folder)


@pytest.fixture
def smoke(model, tmp_path):
    """Sessions of the suite, one after the other."""
    environment = {**os.environ, MARK: uuid.uuid4().hex}
    eager = tmp_path / "vllm"
    eager.write_text(f'#!/bin/sh\nexec {VLLM} "$@" --enforce-eager\n')  # to compile takes minutes on a CPU
    eager.chmod(0o755)
    arguments = ["--gpueval-suite=llm_smoke", "--gpueval-runtime=vllm", "--gpus=none", "-n1", f"--vllm-bin={eager}", f"--gpueval-model={model}"]
    before = left()

    def start(name, *more):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, f"--gpueval-output-dir={tmp_path}", f"--gpueval-session={name}", *more]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def finish(session):
        output, _ = session.communicate(timeout=SESSION_S)
        assert "Traceback" not in output and "INTERNALERROR" not in output, output
        assert session.returncode == (1 if "gates failed" in output else 0), output
        wait_for(lambda: not processes_of(environment))
        return output

    yield SimpleNamespace(start=start, finish=finish, path=tmp_path, new=lambda: left() - before, processes=lambda: processes_of(environment))
    assert not processes_of(environment)
    assert not left() - before


def left():
    """What vLLM left in shared memory, and what sessions that are gone left there and beside it."""
    return {*Path("/dev/shm").glob("psm_*"), *abandoned(Path("/dev/shm")), *abandoned(Path(tempfile.gettempdir()))}


def lines(session, dataset):
    file = session / f"llm_smoke-{dataset}-fast/results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] if file.exists() else []


def check(session):
    """Every row of every dataset is answered once, and its tokens are counted."""
    for dataset in DATASETS:
        found = lines(session, dataset)
        summary = json.loads((session / f"llm_smoke-{dataset}-fast/summary.json").read_text())
        assert len({line["id"] for line in found}) == len(found) == ROWS
        assert not [line["error"] for line in found if "error" in line]
        assert summary["status"] in {"passed", "failed"} and summary["rows"]["scored"] == ROWS
        assert summary["tokens"]["prompt"] == sum(line["tokens"][0] for line in found) > 0
        assert summary["tokens"]["completion"] == sum(line["tokens"][1] for line in found) > 0


def front(pids):
    """The process that answers requests: the one that was started, not what it started."""
    found = []
    for pid in pids:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if len(words) > 2 and words[1].endswith(b"/vllm") and words[2] == b"serve":
            found.append(pid)
    (pid,) = found
    return pid


def test_the_suite_as_it_is(smoke):
    output = smoke.finish(smoke.start("it"))
    assert "runtime vllm (openai)" in output
    session = smoke.path / "it"
    check(session)
    for dataset in ("multiple_choice", "yes_no"):
        assert all(len(line["prediction"]) > 1 and len(set(line["prediction"])) > 1 for line in lines(session, dataset)), "a log-probability for each choice"
    (log,) = (session / "servers").iterdir()
    text = log.read_text()
    assert text.count("Application startup complete") == 1, "one server for all datasets"
    metadata = json.loads((session / "llm_smoke-capitals-fast/run_metadata.json").read_text())
    assert metadata["runtime"]["vllm"]["max_model_len"] == 512
    assert metadata["runtime"]["vllm"]["model"] in text


def test_a_killed_front_loses_and_doubles_nothing(smoke):
    session = smoke.start("it", "--gpueval-workers", "4")
    wait_for(lambda: 0 < sum(len(lines(smoke.path / "it", dataset)) for dataset in DATASETS) < ROWS * len(DATASETS), SESSION_S)
    os.kill(front(smoke.processes()), signal.SIGKILL)
    smoke.finish(session)
    check(smoke.path / "it")
    (log,) = (smoke.path / "it/servers").iterdir()
    assert log.read_text().count("gpueval: vllm restarted:") == 1


def test_what_a_killed_session_leaves_the_next_one_cleans(smoke):
    session = smoke.start("it", "--gpueval-workers", "4")
    wait_for(lambda: any(lines(smoke.path / "it", dataset) for dataset in DATASETS), SESSION_S)
    session.kill()
    session.communicate(timeout=SESSION_S)
    wait_for(lambda: not smoke.processes())
    smoke.finish(smoke.start("it"))
    check(smoke.path / "it")
    assert not smoke.new()
