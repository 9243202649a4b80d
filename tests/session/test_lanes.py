"""One worker for each GPU: which GPU is whose, in every way that a session can run."""

from __future__ import annotations

import json
import subprocess
import sys

import pexpect
import pytest

from tests.fake_gpus import change
from tests.waiting import SESSION_S

UUID = "GPU-0000000{}-0000-4000-8000-000000000000"
# Whoever starts CUDA while a conftest.py is imported gets the GPUs that are visible then.
CONFTEST = """
import json, os
with open(os.environ["TOY_EVENTS"], "a") as file:
    line = {"event": "conftest", "at": 0, "pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
    file.write(json.dumps(line) + "\\n")
"""


def test_every_worker_has_a_gpu_of_its_own(toy):
    toy.datasets({f"d{number}": "meet(4)" for number in range(6)})
    toy.pytester.makeconftest(CONFTEST)
    environment = toy.on_gpus(4, name="NVIDIA H100", utilization=5, memory_used_mib=500, power_mw=300000)
    output = toy.finish(environment, "--gpus", "0-3")
    assert "gpueval: toy · fast (6 datasets, embedded: synthetic) · runtime cpu (inprocess) · policy open · 4 x NVIDIA H100" in output
    begun = toy.events("begin")
    assert len(begun) == 6
    assert {(line["worker"], line["gpus"]) for line in begun} == {(f"gpu{number}", UUID.format(number)) for number in range(4)}
    at_import = {line["pid"]: line["gpus"] for line in toy.events("conftest")}
    assert all(at_import[line["pid"]] == line["gpus"] for line in begun), "visible before a conftest.py is imported"
    assert len(toy.events("close")) == 4

    record = toy.record()
    assert record["lanes"] == [{"name": f"gpu{number}", "gpus": [UUID.format(number)], "gpu_name": "NVIDIA H100"} for number in range(4)]
    assert {(run["worker"], run["gpu"]) for run in record["runs"]} == {(f"gpu{number}", "NVIDIA H100") for number in range(4)}
    for run in record["runs"]:
        metadata = json.loads((toy.session("it") / run["run_id"] / "run_metadata.json").read_text())
        assert metadata["gpus"] == [UUID.format(run["worker"].removeprefix("gpu"))]
        assert f"env CUDA_VISIBLE_DEVICES={metadata['gpus'][0]}" in (toy.session("it") / run["run_id"] / "command.sh").read_text()
    assert set(record["gpus"]) == {UUID.format(number) for number in range(4)}


def test_a_model_has_all_the_time_it_needs_to_close(toy):
    """The controller waits for it: a worker that has said that it is done is killed ten seconds later."""
    toy.datasets({f"d{number}": "meet(2)" for number in range(2)})
    toy.pytester.makeconftest(
        """
        import json, os, time
        def pytest_testnodedown(node, error):
            with open(os.environ["TOY_EVENTS"], "a") as file:
                file.write(json.dumps({"event": "down", "at": time.monotonic(), "worker": node.gateway.id, "error": error}) + "\\n")
        """
    )
    toy.finish(toy.on_gpus(2), "--gpus", "0-1")
    closed, down = ({line["worker"]: line["at"] for line in toy.events(kind)} for kind in ("close", "down"))
    assert closed.keys() == down.keys() == {"gpu0", "gpu1"}
    assert all(closed[worker] < down[worker] for worker in down)


def test_indices_count_into_what_the_caller_sees(toy):
    toy.datasets({"d0": "meet(2)", "d1": "meet(2)"})
    output = toy.finish({**toy.on_gpus(4), "CUDA_VISIBLE_DEVICES": "2,0"}, "--gpus", "0,1", "-n", "2")
    assert {(line["worker"], line["gpus"]) for line in toy.events("begin")} == {("gpu0", UUID.format(2)), ("gpu1", UUID.format(0))}
    assert output.count("passed, no gates") == 2


@pytest.mark.parametrize("mode", [("-n", "0"), ("--pdb",), ("-p", "no:xdist")], ids=" ".join)
def test_in_one_process(toy, mode):
    """The GPU is visible before a conftest.py is imported, and the environment is what it was once the session is over."""
    toy.datasets({"d0": "pass", "d1": "pass"})
    toy.pytester.makeconftest(CONFTEST)
    code = """if True:
        import os, subprocess, sys, pytest
        code = pytest.main(sys.argv[1:])
        free = subprocess.run(["flock", "-n", "-x", sys.argv[-1], "true"]).returncode == 0
        print("END", int(code), os.environ["CUDA_VISIBLE_DEVICES"], free)
    """
    environment = {**toy.on_gpus(4), "CUDA_VISIBLE_DEVICES": "3,1"}
    lease = f"{environment['GPUEVAL_LEASE_DIR']}/{UUID.format(1)}.lease"
    done = subprocess.run(
        [sys.executable, "-c", code, "--gpueval-suite=toy", "--gpueval-session=it", "--gpus=1", *mode, "--ignore", lease],
        cwd=toy.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SESSION_S,
    )
    assert done.stdout.splitlines()[-1] == "END 0 3,1 True", done.stdout + done.stderr
    assert [line["gpus"] for line in toy.events("conftest")] == [UUID.format(1)]
    assert [(line["gpus"], line["worker"]) for line in toy.events("begin")] == [(UUID.format(1), None)] * 2
    assert {run["worker"] for run in toy.record()["runs"]} == {"gpu1"}


def test_auto_takes_what_is_free_instances_too(toy):
    toy.datasets({f"d{number}": "meet(3)" for number in range(3)})
    environment = toy.on_gpus(3, utilization=[0, 97, 0], mig={2: 2})
    output = toy.finish(environment, "--gpus", "auto")
    assert "gpueval: GPU 1 busy: 97 % utilisation; passed over" in output
    instances = [f"MIG-00000002-0000-4000-8000-00000000000{number}" for number in (1, 2)]
    expected = {("gpu0", UUID.format(0)), ("gpu2:0", instances[0]), ("gpu2:1", instances[1])}
    assert {(line["worker"], line["gpus"]) for line in toy.events("begin")} == expected


def test_a_busy_gpu_on_purpose_by_its_uuid(toy):
    toy.datasets({"d0": "pass"})
    toy.finish(toy.on_gpus(2, utilization=60, memory_used_mib=30000), "--gpus", UUID.format(1), "--gpus-shared")
    assert [(line["worker"], line["gpus"]) for line in toy.events("begin")] == [("gpu1", UUID.format(1))]


def test_usage_of_the_gpu_is_measured(toy):
    """On the screen, in the run's summary, as a curve in the session's record. The energy is what the counter grew by."""
    toy.datasets({"d0": "wait_for(lambda: os.path.exists('stop'))"})
    environment = toy.on_gpus(1, utilization=0, memory_used_mib=512, power_mw=300000, energy_mj=1_000_000)
    child = pexpect.spawn(
        sys.executable,
        ["-m", "pytest", "--gpueval-suite", "toy", "--gpueval-session", "it", "--gpus", "0"],
        cwd=str(toy.root),
        env={**environment, "TERM": "xterm-256color"},
        dimensions=(40, 130),
        encoding="utf-8",
        timeout=SESSION_S,
    )
    child.expect(r"gpu0 +d0-fast +0/[01] +starting +0 % +0\.5 GiB")
    change(environment, utilization=80, memory_used_mib=40960, energy_mj=1_700_000)
    child.expect(r"gpu0 +d0-fast .*80 % +40\.0 GiB")
    (toy.root / "stop").touch()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    gpu = toy.summary("toy-d0-fast", "it")["gpu"]
    assert gpu["memory_peak_mib"] == 40960
    assert 0 < gpu["utilization_mean"] < gpu["utilization_peak"] == 80
    assert gpu["power_mean_w"] == pytest.approx(300)
    assert gpu["energy_j"] == pytest.approx(700)
    assert gpu["samples"] >= 2
    series = toy.record()["gpus"][UUID.format(0)]
    assert (series["memory_mib"][0], series["memory_mib"][-1], series["utilization"][-1]) == (512, 40960, 80)
    assert len({len(column) for column in series.values()}) == 1


def test_items_that_need_several_gpus(toy):
    """They have them alone: the narrow workers have closed their models and run nothing there, while the other GPU goes on."""
    started = "wait_for(lambda: len({line['pid'] for line in recorded('collected')}) >= 4)"
    narrow = f"""
if os.environ["CUDA_VISIBLE_DEVICES"] == "{UUID.format(2)}":
    open("third", "w").close()
    wait_for(lambda: os.path.exists("wide-began"))
    open("went-on", "w").close()
else:
    wait_for(lambda: os.path.exists("third"))
"""
    toy.datasets(
        {"wide": "open('wide-began', 'w').close(); wait_for(lambda: os.path.exists('went-on'))"}
        | {f"n{number}": started for number in range(3)}
        | {f"m{number}": narrow for number in range(6)},
        {"wide": "gpus = 2", **{f"n{number}": "rate = 0.1" for number in range(3)}},
    )
    toy.pytester.makeconftest(
        """
        import json, os
        def pytest_collection_finish():
            with open(os.environ["TOY_EVENTS"], "a") as file:
                file.write(json.dumps({"event": "collected", "at": 0, "pid": os.getpid()}) + "\\n")
        """
    )
    output = toy.finish(toy.on_gpus(3), "--gpus", "0-2")
    assert "10 passed" in output
    spans = [
        (begin["gpus"].split(","), begin["at"], end["at"], begin["id"])
        for begin in toy.events("begin")
        for end in toy.events("end")
        if begin["id"] == end["id"]
    ]
    (wide,) = [span for span in spans if span[3] == "wide-0"]
    assert len(set(wide[0])) == 2
    for gpus, begin, end, name in spans:
        if name != "wide-0" and set(gpus) & set(wide[0]):
            assert end <= wide[1] or begin >= wide[2], f"{name} ran beside the wide item on one of its GPUs"
    models: dict[int, str] = {}
    for line in toy.events("load", "close", "begin"):
        if line["event"] == "load":
            models[line["pid"]] = line["gpus"]
        elif line["event"] == "close":
            del models[line["pid"]]
        elif line["id"] == "wide-0":
            others = [gpus for pid, gpus in models.items() if pid != line["pid"]]
            assert not [gpus for gpus in others if gpus in wide[0]], "a narrow worker keeps a model on a GPU that it lent"
    assert any(begin < wide[2] and wide[1] < end for gpus, begin, end, _ in spans if gpus == [UUID.format(2)]), "the third GPU went on meanwhile"
