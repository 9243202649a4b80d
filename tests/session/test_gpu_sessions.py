"""What a session on GPUs refuses, and how two sessions share a machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import SESSION_S, wait_for

from .conftest import MARK, processes_of

UUID = "GPU-0000000{}-0000-4000-8000-000000000000"

# Several sessions in one process: none of them gets as far as a worker, and starting Python is most of what they do.
REFUSED = """if True:
    import contextlib, io, json, os, sys
    from pathlib import Path
    import pytest
    from tests.fake_gpus import STATE, change
    state = Path(os.environ[STATE]).read_text()
    for arguments, variables, values in json.loads(sys.argv[1]):
        os.environ.update(variables)
        change(os.environ, **values)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = pytest.main(["-p", "no:cacheprovider", "--gpueval-suite", "toy", *arguments])
        print(json.dumps([int(code), said.getvalue()]))
        for name in variables:
            del os.environ[name]
        Path(os.environ[STATE]).write_text(state)
"""


def refusals(toy, environment, cases) -> list[str]:
    """What each session says that is refused: with exit code 4, or 10 where the driver is broken, and without a traceback or a directory."""
    asked = [(arguments.split(), variables, values) for arguments, variables, values, _ in cases]
    python_path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, json.dumps(asked)],
        cwd=toy.root,
        env={**environment, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=SESSION_S,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases)
    for (arguments, _, _, words), (code, said) in zip(cases, answers, strict=True):
        assert words in said, f"{arguments}: {said}"
        driver_is_broken = any(text in said for text in ("does not answer", "updated while it was loaded", "fell off the bus"))
        assert code == (10 if driver_is_broken else pytest.ExitCode.USAGE_ERROR), f"{arguments}: {said}"
        assert "Traceback" not in said and "INTERNALERROR" not in said, f"{arguments}: {said}"
        assert said.startswith("ERROR: ") or "\nERROR: " in said
    assert not toy.output.exists()
    return [said for _, said in answers]


def test_requests_that_cannot_be_met(toy):
    toy.datasets({"d0": "pass"})
    answers = refusals(
        toy,
        toy.on_gpus(8, mig={7: 1}),
        [
            ("--gpus 9", {}, {}, "--gpus 9: there is no GPU 9. Visible GPUs: 0 (NVIDIA"),
            ("--gpus 3-1", {}, {}, "the range 3-1 runs backwards; write 1-3"),
            ("--gpus 0,0", {}, {}, "--gpus 0,0: GPU 0 is named twice"),
            ("--gpus abc", {}, {}, "'abc' is not understood. Valid: 0-7"),
            ("--gpus 0", {"CUDA_VISIBLE_DEVICES": ""}, {}, "shows no NVIDIA GPU (CUDA_VISIBLE_DEVICES is empty)"),
            ("--gpus GPU-0000000a", {}, {}, "there is no GPU 'GPU-0000000a'"),
            ("--gpus 0", {"CUDA_VISIBLE_DEVICES": f"{UUID.format(7)},MIG-00000007-0000-4000-8000-000000000001"}, {}, "name the instances alone"),
            ("--gpus 7", {}, {}, "GPU 7 is in MIG mode; name its instances alone: MIG-00000007"),
            ("--gpus 0", {}, {"fail": {"nvmlInitWithFlags": 12}}, "this machine shows no NVIDIA GPU"),
            ("--gpus 0", {}, {"fail": {"nvmlInitWithFlags": 18}}, "The driver was updated while it was loaded"),
            ("--gpus auto", {}, {"fail": {"nvmlInitWithFlags": 999}}, "does not answer"),
            ("--gpus 0", {}, {"fail": {"nvmlDeviceGetUtilizationRates": 15}}, "fell off the bus"),
            ("--gpus 0 --gpus-wait x", {}, {}, "--gpus-wait x: expected a number of seconds"),
            ("--gpus 0,1 -n 3", {}, {}, "--gpus 0,1 means 2 worker(s), one for each GPU, but -n asks for 3"),
            ("--gpus 0,1 -n auto", {}, {}, "-n auto beside --gpus"),
            ("--gpus 0 --tx popen", {}, {}, "leave out --tx"),
            ("--gpus 0 --tx 2*popen --dist load", {}, {}, "leave out --tx"),
            ("--gpus 0,1 --dist worksteal", {}, {}, "leave out --dist worksteal"),
            ("--gpus 1", {}, {"memory_used_mib": {1: 40000}}, "without a lease: 40000 of 81559 MiB of memory in use"),
            ("--gpus 0-2", {}, {"utilization": {2: 97}}, f"GPU 2 ({UUID.format(2)}) is used by somebody without a lease: 97 % utilisation"),
            ("--gpus auto", {"CUDA_VISIBLE_DEVICES": "0,3"}, {"utilization": 97}, "--gpus auto: no GPU is free."),
        ],
    )
    assert f"GPU 1 ({UUID.format(3)}): busy: 97 % utilisation" in answers[-1]


def test_a_suite_that_needs_several_gpus(toy):
    toy.datasets({"d0": "pass"}, runtime="gpus = 4")
    refusals(
        toy,
        toy.on_gpus(5, mig={4: 4}),
        [
            ("--gpus 0,1", {}, {}, "needs 4 GPUs at once, and --gpus gives 2."),
            ("--gpus 4:0,4:1,4:2,4:3", {}, {}, "a process can use only one MIG instance"),
            ("--gpus none", {}, {}, "needs 4 GPUs at once, and there are only CPU lanes"),
            ("--gpus auto", {"CUDA_VISIBLE_DEVICES": ""}, {}, "needs 4 GPUs at once, and there are only CPU lanes"),
        ],
    )


CONFTEST = """
import json, os, pathlib
def is_of_the_first(path):
    try:
        return b"TOY_MARK=first" in path.read_bytes().split(b"\\0")
    except OSError:
        return False
alive = [path for path in pathlib.Path("/proc").glob("[0-9]*/environ") if is_of_the_first(path)]
with open(os.environ["TOY_EVENTS"], "a") as file:
    file.write(json.dumps({"event": "conftest", "at": 0, "mark": os.environ["TOY_MARK"], "alive": len(alive)}) + "\\n")
"""


def test_a_gpu_is_one_sessions(toy):
    """Refused with the owner's name, passed over, waited for; the owner is killed, and the next one begins once its workers are gone."""
    toy.datasets({"d0": "wait_for(lambda: os.path.exists(os.environ['TOY_STOP']))"})
    toy.pytester.makeconftest(CONFTEST)
    environment = {**toy.on_gpus(2), "TOY_STOP": "/"}
    mine = {**environment, MARK: "first", "TOY_STOP": "never"}
    first = toy.start(mine, "--gpus", "0")
    wait_for(lambda: toy.events("begin"))
    refused = toy.finish(environment, "--gpus", "0,1", "--gpueval-session", "refused", expect=4)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    assert f"GPU 0 ({UUID.format(0)}) is in use: pid {first.pid}, user {user}, session it, since 20" in refused
    assert "--gpus-wait" in refused
    beside = toy.finish(environment, "--gpus", "auto", "--gpueval-session", "beside")
    assert f"gpueval: GPU 0 leased: pid {first.pid}, user {user}" in beside
    assert toy.events("begin")[-1]["gpus"] == UUID.format(1)

    impatient = toy.start(environment, "--gpus", "0", "--gpueval-session", "impatient", "--gpus-wait", "60")
    assert impatient.stdout.readline().startswith("gpueval: waiting: ")
    impatient.send_signal(signal.SIGINT)
    output, _ = impatient.communicate(timeout=SESSION_S)
    assert (output, impatient.returncode) == ("gpueval: interrupted while it waited for GPUs\n", pytest.ExitCode.INTERRUPTED)

    waiting = toy.start(environment, "--gpus", "0", "--gpueval-session", "next", "--gpus-wait", "60")
    assert waiting.stdout.readline().startswith(f"gpueval: waiting: GPU 0 is in use: pid {first.pid}")
    assert len(processes_of(mine)) >= 3, "the controller, a supervisor and a worker"
    first.send_signal(signal.SIGKILL)
    assert waiting.stdout.readline() == "gpueval: waiting: GPU 0 is still used by workers of a session that has ended\n"
    output, _ = waiting.communicate(timeout=SESSION_S)
    assert waiting.returncode == 0, output
    assert "1 passed" in output
    assert [line["alive"] for line in toy.events("conftest")][-1] == 0, "its worker starts when none of the other session's is left"
    first.communicate(timeout=SESSION_S)
    assert not processes_of(mine)


@pytest.mark.parametrize("workers", [(), ("-n", "0")], ids=["lanes", "-n 0"])
def test_what_is_missing_is_said_before_a_gpu_is_taken(toy, workers):
    toy.datasets({"d0": "pass"})
    (toy.root / "elsewhere").mkdir()
    environment = toy.on_gpus(2)
    text = toy.finish(environment, "--gpus", "0-1", *workers, "--gpueval-data", "elsewhere", expect=4)
    assert "1 of 1 splits cannot be used" in text
    assert list(Path(environment["GPUEVAL_LEASE_DIR"]).iterdir()) == []


def test_one_process_sees_the_gpus_that_it_leases(toy):
    """Indices count in the caller's list, also once the process has been narrowed to its own."""
    toy.datasets({"d0": "pass"})
    environment = {**toy.on_gpus(4), "CUDA_VISIBLE_DEVICES": "3,2,1"}
    toy.finish(environment, "--gpus", "1", "-n", "0")
    (begun,) = toy.events("begin")
    assert begun["gpus"] == UUID.format(2)
    assert [path.name for path in Path(environment["GPUEVAL_LEASE_DIR"]).glob("*.lease")] == [f"{UUID.format(2)}.lease"]
