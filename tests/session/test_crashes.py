"""Workers that die, hang on, or lose their CUDA context; sessions that are ended in the middle. On stand-in GPUs."""

from __future__ import annotations

import collections
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.waiting import SESSION_S, wait_for

from .conftest import processes_of
from .test_again import count_lines

# A child in a session of its own, which ignores what asks it to end.
GRANDCHILD = (
    "subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'], "
    "start_new_session=True, env={**os.environ, 'TOY_MARK': 'grandchild of ' + os.environ['TOY_MARK']}); "
)


def predicted(toy) -> dict[str, int]:
    """How often each sample was predicted, by what the runs printed."""
    logs = "".join(log.read_text() for log in toy.session("it").glob("*/stdout.log*"))
    return collections.Counter(re.findall(r"predicting (\S+)", logs))


def test_workers_that_die(toy):
    """By a signal, by leaving, by a segmentation fault: one crashed run each; the lanes go on with replacements; nothing runs twice."""
    toy.datasets(
        {
            "killed": ["pass"] * 20 + [GRANDCHILD + "os.kill(os.getpid(), signal.SIGKILL)"],
            "left": "os._exit(0)",
            "segv": "os.kill(os.getpid(), signal.SIGSEGV)",
            **{f"d{number}": ["pass"] * 3 for number in range(4)},
        }
    )
    output = toy.finish(toy.on_gpus(2), "--gpus", "0-1", expect=10)
    assert "3 failed, 4 passed" in output
    ends = {"killed": "died of SIGKILL", "left": "ended with exit code 0", "segv": "died of SIGSEGV"}
    junit = (toy.session("it") / "junit.xml").read_text()
    for name, how in ends.items():
        summary = toy.summary(f"toy-{name}-fast", "it")
        assert (summary["status"], summary["ok"]) == ("crashed", False)
        assert re.fullmatch(rf"worker gpu[01] {how} while running this item; see .*/toy-{name}-fast/stdout\.log", summary["reason"])
        assert summary["reason"] in junit
    assert junit.count('name="gpueval.status" value="crashed"') == 3
    assert toy.summary("toy-killed-fast", "it")["rows"]["scored"] == 16, "what was on disk counts"
    begun = [line["id"] for line in toy.events("begin")]
    assert len(begun) == len(set(begun)) == 21 + 2 + 12, "nothing was begun twice, nothing left out"
    assert set(predicted(toy).values()) == {1}
    by_gpu = collections.defaultdict(set)
    for line in toy.events("begin"):
        by_gpu[line["gpus"]].add(line["worker"].partition("-")[0])
    assert sorted(map(list, by_gpu.values())) == [["gpu0"], ["gpu1"]], "a replacement keeps the GPU and the lane"
    assert {run["worker"] for run in toy.record()["runs"]} == {"gpu0", "gpu1"}


def test_what_a_dead_worker_started_is_gone_before_its_lane_goes_on(toy):
    toy.datasets({"first": GRANDCHILD + "os.kill(os.getpid(), signal.SIGKILL)", "second": "pass"}, {"first": "rate = 0.1"})
    toy.pytester.makeconftest(
        """
        import json, os, pathlib
        mark = f"TOY_MARK=grandchild of {os.environ['TOY_MARK']}".encode()
        def is_grandchild(path):
            try:
                return mark in path.read_bytes().split(b"\\0")
            except OSError:
                return False
        alive = [str(path) for path in pathlib.Path("/proc").glob("[0-9]*/environ") if is_grandchild(path)]
        with open(os.environ["TOY_EVENTS"], "a") as file:
            file.write(json.dumps({"event": "conftest", "at": 0, "worker": os.environ.get("PYTEST_XDIST_WORKER"), "alive": alive}) + "\\n")
        """
    )
    toy.finish(toy.on_gpus(1), "--gpus", "0", expect=10)
    assert [line["id"] for line in toy.events("begin")] == ["first-0", "second-0"]
    assert [line["alive"] for line in toy.events("conftest") if line["worker"] == "gpu0-2"] == [[]]


def test_workers_that_die_one_after_another_end_the_session(toy):
    toy.datasets({"d0": "pass", "d1": "pass"})
    toy.pytester.makeconftest("import os\nif 'PYTEST_XDIST_WORKER' in os.environ: os._exit(3)")
    environment = toy.on_gpus(2)
    process = toy.start(environment, "--gpus", "0-1")
    output, _ = process.communicate(timeout=SESSION_S)
    assert "maximum crashed workers reached: 4" in output
    assert process.returncode == 10, output
    assert "ERROR: nothing was run: the workers ended before" in output
    assert "INTERNALERROR" not in output, output
    wait_for(lambda: not processes_of(environment))


def test_a_lost_cuda_context_costs_one_item(toy):
    """An item fails and leaves a broken context: the lane goes on in a new process. One that only fails keeps its worker."""
    toy.datasets(
        {
            "a-fails": "raise ValueError('just so')",
            "b-after": "pass",
            "c-poison": "poison(); raise ValueError('illegal address')",
            **{f"e{number}": "pass" for number in range(3)},
        },
        {"a-fails": "rate = 0.01", "b-after": "rate = 0.02", "c-poison": "rate = 0.03"},
    )
    output = toy.finish(toy.on_gpus(1, cuda=True), "--gpus", "0", expect=1)
    assert "gpu0 is replaced: the CUDA context is broken: cuMemAlloc_v2 gives CUDA_ERROR_ILLEGAL_ADDRESS" in output
    assert "2 failed, 4 passed" in output
    begun = toy.events("begin")
    assert [line["id"][:1] for line in begun] == ["a", "b", "c", "e", "e", "e"]
    assert {line["gpus"] for line in begun} == {"GPU-00000000-0000-4000-8000-000000000000"}
    assert [line["worker"] for line in begun] == ["gpu0"] * 3 + ["gpu0-2"] * 3
    assert len({line["pid"] for line in begun[:3]}) == len({line["pid"] for line in begun[3:]}) == 1
    assert {run["worker"] for run in toy.record()["runs"]} == {"gpu0"}
    assert "crash" not in output


def test_the_first_failure_ends_the_session(toy):
    both = "wait_for(lambda: len(recorded('begin')) >= 2)"  # once one has ended, a third may begin
    toy.datasets({"bad": f"{both}; raise ValueError", "good": both, "more": "pass"}, {"bad": "rate = 0.1", "good": "rate = 0.1"})
    output = toy.finish(toy.on_gpus(2), "--gpus", "0-1", "-x", expect=2)
    assert "stopping after 1 failures" in output
    assert "no worker is left" not in output
    assert len(toy.events("begin")) in (2, 3), "what was running may end"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_session_that_is_ended_leaves_nothing(toy, number):
    toy.datasets({f"d{number}": ["pass"] * 16 + ["wait_for(lambda: False)"] for number in range(4)})
    environment = toy.on_gpus(4)
    process = toy.start(environment, "--gpus", "0-3")
    runs = [toy.output / f"it/toy-d{number}-fast" for number in range(4)]
    wait_for(lambda: sum(line["id"].endswith("-16") for line in toy.events("begin")) == 4)
    wait_for(lambda: all(count_lines(run / "results.jsonl") == 16 for run in runs))
    process.send_signal(number)
    output, _ = process.communicate(timeout=SESSION_S)
    wait_for(lambda: not processes_of(environment))
    if number is signal.SIGKILL:
        assert {toy.summary(run.name, "it")["status"] for run in runs if (run / "summary.json").exists()} <= {"interrupted"}, "as far as they noticed"
    else:
        assert process.returncode == pytest.ExitCode.INTERRUPTED, output
        assert {toy.summary(run.name, "it")["status"] for run in runs} == {"interrupted"}
        assert {toy.summary(run.name, "it")["rows"]["scored"] for run in runs} == {16}
        assert toy.record()["exit_status"] == 2
    files = sorted(Path(environment["GPUEVAL_LEASE_DIR"]).glob("GPU-*"))
    assert len(files) == 8
    assert all(subprocess.run(["flock", "--nonblock", "--exclusive", file, "true"]).returncode == 0 for file in files), "the GPUs are free"
