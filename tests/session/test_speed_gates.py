"""Gates on speed and memory in sessions.

The model's slowness is an option. Time goes by a clock that only the model moves, so that no busy machine decides; once it is the real one.
"""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.runtimes import inprocess
from pytest_gpueval.session import evaluation

from .conftest import rows

# A row takes what `pause_s` says, give or take a fifth.
MODEL = """
import random, time
from pytest_gpueval.runtimes import inprocess
class Model:
    def __init__(self, pause_s):
        self.pause_s = pause_s
        self.random = random.Random(pause_s)
    def predict(self, batch):
        for _ in batch:
            getattr(inprocess.time, "pass_by", time.sleep)(self.pause_s * self.random.uniform(0.8, 1.2))
        return [[(0, 3, "A", 0.9)] for _ in batch]
"""
GATES = """
[[gates]]
metric = "samples_per_s"
max_drop = 0.6
relative = true
[[gates]]
metric = "latency_p95_ms"
max_rise = 1.5
relative = true
"""
FAST, SLOW = "pause_s = 0.001", "pause_s = 0.005"
# Row by row: a call each.
RUN = ("--gpueval-suite", "toy", "--gpueval-workers", "1", "-k", "one")
UPDATE = (*RUN, "--gpueval-update-baseline")
AGAINST = (*RUN, "--gpueval-baseline", "baselines")


@pytest.fixture
def clock(monkeypatch):
    """Time that only the model moves, and each look at it a little."""
    now = [0.0]

    def pass_by(seconds):
        now[0] += seconds

    def look():
        pass_by(random.Random(now[0]).uniform(0, 2e-5))
        return now[0]

    for module in (inprocess, evaluation):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=look, pass_by=pass_by))


@pytest.fixture
def timed(toy, clock, monkeypatch):
    """A suite with gates on speed, whose model takes a millisecond a row."""
    toy.mood = lambda factor: monkeypatch.setenv("TOY_MOOD", factor)
    (toy.root / "suites/toy/model.py").write_text(MODEL)
    toy.edit('target = "model.py:Model"', f'target = "model.py:Model"\noptions = {{ {FAST} }}')
    toy.split(rows(150, "one"), "one")
    toy.append(GATES)
    return toy


@pytest.fixture
def measured(timed):
    """The same with a baseline."""
    timed.run(*UPDATE, "--gpueval-session", "first").assert_outcomes(passed=1)
    return timed


def summary(toy, session):
    return json.loads((toy.session(session) / "toy-one-fast/summary.json").read_text())


def gates_of(toy, session):
    return {gate["metric"]: gate for gate in summary(toy, session)["gates"]}


def test_slower_fails_and_faster_is_an_improvement(measured):
    file = measured.root / "baselines/toy/one-fast.speed.json"
    (key,) = json.loads(file.read_text())["machines"]
    speed = summary(measured, "first")["speed"]
    assert key.startswith("cpu: ") and key.endswith(", 1 worker, runtime cpu, samples_in_flight 1")
    assert speed["rows"] == 150 and speed["samples_per_s"]["low"] < speed["samples_per_s"]["value"] < speed["samples_per_s"]["high"]
    assert speed["gpu_peak_memory_mib"] is None and speed["latency_p95_ms"]["low"] > 1

    measured.edit(FAST, SLOW)
    result = measured.run(*AGAINST, "--gpueval-session", "slow")
    result.assert_outcomes(failed=1, passed=1)
    text = result.stdout.str()
    assert "toy one-fast: 2 of 2 gates failed" in text and "samples_per_s [samples/s]" in text
    found = gates_of(measured, "slow")
    assert [gate["outcome"] for gate in found.values()] == ["fail", "fail"]
    rate, latency = found["samples_per_s"], found["latency_p95_ms"]
    assert rate["bound"] == "drop <= 60 %" and rate["change"]["high"] < 0 and rate["change"]["p_adjusted"] <= 0.05
    assert latency["bound"] == "rise <= 150 %" and latency["change"]["low"] > 0 and latency["unit"] == "ms"
    page = (measured.session("slow") / "report.html").read_text()
    assert page.count("samples_per_s") >= 2 and "drop &lt;= 60 %" in page
    assert "samples_per_s" in (measured.session("slow") / "report.md").read_text()

    # The slow one as a baseline, from its session's summary.
    measured.edit(SLOW, FAST)
    measured.run(*RUN, "--gpueval-baseline", "slow", "--gpueval-session", "third").assert_outcomes(passed=2)
    assert [gate["outcome"] for gate in gates_of(measured, "third").values()] == ["improved", "improved"]


def test_without_a_baseline_they_do_not_speak(timed):
    result = timed.run(*RUN, "--gpueval-session", "first")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*gates against a baseline do not speak*"])
    assert summary(timed, "first")["gates"] == []


@pytest.mark.parametrize(("choice", "outcome"), [("pass", {"passed": 1}), ("fail", {"failed": 1})])
def test_another_machine_is_not_judged_and_says_so(measured, choice, outcome):
    measured.append(f'[comparison]\ninconclusive = "{choice}"\n')
    file = measured.root / "baselines/toy/one-fast.speed.json"
    record = json.loads(file.read_text())
    ((key, entry),) = record["machines"].items()
    other = "NVIDIA H100 80GB HBM3"
    record["machines"] = {key.replace(entry["device"], other): {**entry, "device": other}}
    file.write_text(json.dumps(record))
    result = measured.run(*AGAINST, "--gpueval-session", "second")
    result.assert_outcomes(**outcome)
    lines = "*not judged: samples_per_s (drop <= 60 %), latency_p95_ms (rise <= 150 %): the baseline has no speed of cpu: *; it has: NVIDIA H100*"
    result.stdout.fnmatch_lines([lines])
    assert {gate["outcome"] for gate in gates_of(measured, "second").values()} == {"inconclusive"}
    # An update adds this machine, and leaves the other as it is.
    measured.run(*UPDATE, "--gpueval-session", "third").assert_outcomes(passed=1)
    after = json.loads(file.read_text())["machines"]
    assert len(after) == 2 and after.items() >= record["machines"].items() and list(after) == sorted(after)


def test_a_reused_run_keeps_its_figures(measured):
    """Judged again from its results, without the model; and an update of it changes nothing."""
    before = summary(measured, "first")["speed"]
    file = measured.root / "baselines/toy/one-fast.speed.json"
    text = file.read_text()
    result = measured.run(*AGAINST, "--gpueval-session", "first")
    result.assert_outcomes(passed=2)
    assert summary(measured, "first")["speed"] == before
    assert [gate["outcome"] for gate in gates_of(measured, "first").values()] == ["pass", "pass"]
    measured.run(*UPDATE, "--gpueval-session", "first").stdout.fnmatch_lines(["baseline: 1 case unchanged in baselines/toy"])
    assert file.read_text() == text


def test_five_runs_know_what_runs_differ_by(measured):
    """Updates remember the runs of the same model; from five on a run is judged beside them. A reused run is not another one."""
    file = measured.root / "suites/toy/model.py"
    # The environment is no part of the model; its file is, and so this baseline begins anew.
    file.write_text(MODEL.replace("self.pause_s = pause_s", "self.pause_s = pause_s * float(__import__('os').environ['TOY_MOOD'])"))

    def runs():
        (entry,) = json.loads((measured.root / "baselines/toy/one-fast.speed.json").read_text())["machines"].values()
        return {metric: len(values) for metric, values in entry["runs"].items()}

    for number, mood in enumerate(("1", "1.05", "0.95", "1.02", "0.98")):
        assert runs() == dict.fromkeys(("samples_per_s", "latency_p95_ms"), number or 1)
        measured.mood(mood)
        measured.run(*UPDATE, "--gpueval-session", f"run-{number}").assert_outcomes(passed=1)
    measured.run(*UPDATE, "--gpueval-session", "run-3").assert_outcomes(passed=1)
    assert runs() == dict.fromkeys(("samples_per_s", "latency_p95_ms"), 5)
    for name, mood, outcome in (("same", "1.01", "pass"), ("slow", "5", "fail")):
        measured.mood(mood)
        measured.run(*AGAINST, "--gpueval-session", name)
        found = gates_of(measured, name)
        assert {gate["outcome"] for gate in found.values()} == {outcome}
        assert {gate["change"]["method"] for gate in found.values()} == {"a run beside 5 runs, Student's t"}


def test_commands_know_speeds(measured, monkeypatch):
    """`plan` names gates that no machine has a baseline for, or not this one; `baselines show` has the figures."""
    monkeypatch.chdir(measured.root)

    def said(*command):
        done = CliRunner().invoke(app, list(command))
        assert done.exit_code == 0, done.output
        return done.stdout

    shown = said("baselines", "show", "toy", "one-fast")
    assert "samples_in_flight 1" in shown and "latency_p95_ms" in shown and "gpu_peak_memory_mib" not in shown
    ((key, entry),) = json.loads(said("baselines", "show", "toy", "one-fast", "--json"))["speed"].items()
    assert key.startswith(entry["device"]) and entry["rows"] == 150
    assert "one-fast.speed" not in said("baselines", "ls")
    assert "gate: toy/two-fast: samples_per_s, latency_p95_ms: no baseline of any machine" in said("plan", "toy", "--gpus", "none")
    h100 = said("plan", "toy", "--lanes", "2", "--gpu-name", "NVIDIA H100", "--baseline", "first")
    assert "gate: toy/one-fast: samples_per_s, latency_p95_ms: no baseline of NVIDIA H100" in h100
    assert "toy/one-fast: samples_per_s" not in said("plan", "toy", "--gpus", "none")
    (measured.root / "baselines/toy/one-fast.speed.json").unlink()
    assert "no baseline of any machine" in measured.run(*AGAINST, "--gpueval-session", "second").stdout.str()


def test_a_gate_that_the_noise_of_its_machine_hides_is_named(measured):
    measured.edit("max_drop = 0.6", "max_drop = 0.01")
    words = "*toy/one-fast: samples_per_s: max_drop 0.01, but on cpu: * a change must be about * to be found with 80 % power*"
    measured.run(*AGAINST, "--gpueval-session", "second").stdout.fnmatch_lines([words])


def test_absolute_bounds_and_memory_without_a_gpu(timed):
    timed.append('[[gates]]\nmetric = "latency_p95_ms"\nmin = 1\njudge = "interval"\n[[gates]]\nmetric = "gpu_peak_memory_mib"\nmax = 40000\n')
    timed.append('[[gates]]\nmetric = "samples_per_s"\nmin = 5000\n')
    result = timed.run(*RUN, "--gpueval-session", "first")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not judged: gpu_peak_memory_mib (<= 40000): no GPU was used*"])
    assert {name: gate["outcome"] for name, gate in gates_of(timed, "first").items()} == {
        "latency_p95_ms": "pass",
        "gpu_peak_memory_mib": "inconclusive",
        "samples_per_s": "fail",
    }


def test_few_calls_cannot_tell(measured):
    measured.run(*AGAINST, "--gpueval-limit", "20", "--gpueval-baseline-intersect", "--gpueval-session", "few").assert_outcomes(passed=1)
    for gate in gates_of(measured, "few").values():
        assert gate["outcome"] == "inconclusive" and gate["note"] == "20 rows were measured, and 150 for the baseline"


def test_shards_are_joined(timed):
    """With real time. Each shard is measured by itself; the whole has their rate, and the latencies of all rows."""
    timed.edit("[datasets.one]\n", "[datasets.one]\nshards = 2\n")
    timed.split(rows(60, "one"), "one")
    options = ("--gpus", "none", "-n", "2")
    timed.spawn(*UPDATE, *options, "--gpueval-session", "first").assert_outcomes(passed=3)
    found = summary(timed, "first")["speed"]
    parts = [json.loads((timed.session("first") / f"toy-one-fast-{n}of2/summary.json").read_text())["speed"] for n in (1, 2)]
    rates = [part["samples_per_s"]["value"] for part in parts]
    assert found["rows"] == 60 and min(rates) <= found["samples_per_s"]["value"] <= max(rates)
    # Thirty times as slow: whatever else this machine does.
    timed.edit(FAST, "pause_s = 0.03")
    timed.spawn(*AGAINST, *options, "--gpueval-session", "second")
    assert gates_of(timed, "second")["samples_per_s"]["change"]["difference"] < 0
    assert summary(timed, "second")["speed"]["latency_p95_ms"]["value"] > 30 > summary(timed, "second")["speed"]["samples_per_s"]["value"] / 2


def test_memory_of_a_gpu(toy):
    """Peak memory needs no statistics: what rose too far fails. The entry is the GPU model's."""
    sampled = "wait_for(lambda: any(type(one).__name__ == 'Usage' and one.as_dict() for one in __import__('gc').get_objects()))"
    toy.datasets({"d0": sampled})
    toy.append('[[gates]]\nmetric = "gpu_peak_memory_mib"\nmax = 1000\n[[gates]]\nmetric = "gpu_peak_memory_mib"\nmax_rise = 0.05\nrelative = true\n')
    run = ("--gpueval-suite", "toy", "--gpus", "0", "--gpueval-session")
    toy.finish(toy.on_gpus(1, memory_used_mib=512), *run, "first", "--gpueval-update-baseline")
    ((key, entry),) = json.loads((toy.root / "baselines/toy/d0-fast.speed.json").read_text())["machines"].items()
    assert key.startswith(entry["device"]) and not key.startswith("cpu") and (entry["gpus"], entry["gpu_peak_memory_mib"]) == (1, 512.0)
    output = toy.finish(toy.on_gpus(1, memory_used_mib=900), *run, "second", "--gpueval-baseline", "baselines", expect=1)
    assert "toy d0-fast: 1 of 2 gates failed" in output and "+388 (+75.8%)" in output
    verdicts = json.loads((toy.session("second") / "toy-d0-fast/summary.json").read_text())["gates"]
    assert [(gate["bound"], gate["outcome"]) for gate in verdicts] == [("<= 1000", "pass"), ("rise <= 5 %", "fail")]
