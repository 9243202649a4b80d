"""--gpueval-dry-run: the plan of what was selected, and nothing else."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_gpueval.cli.main import app
from pytest_gpueval.session.data import Data
from pytest_gpueval.session.forecast import Forecast
from pytest_gpueval.session.lanes import on_cpu
from pytest_gpueval.session.settings import Settings
from pytest_gpueval.suites import load
from tests import fake_gpus
from tests.session.cut import ALONE, LANES, WATCHED, asked, gate, said, shards

DRY = ("--gpueval-suite", "toy", "--gpueval-dry-run")


@pytest.fixture
def planned(toy):
    """A suite of a long and a short dataset; no model may be loaded."""
    toy.suite("toy", model="raise AssertionError('a plan loads no model')")
    toy.edit("[datasets.one]\n", "[datasets.one]\nrate = 5\n")
    toy.edit("[datasets.two]\n", "[datasets.two]\nrate = 500\n")
    return toy


def plan_of(result) -> list[str]:
    """The lines of the plan, as printed."""
    lines = result.outlines
    first = next(number for number, line in enumerate(lines) if line.startswith("plan: "))
    rest = lines[first + 1 :]
    return [lines[first], *rest[: next((number for number, line in enumerate(rest) if not line.startswith(" ")), len(rest))]]


def nothing_happened(toy, result) -> None:
    assert result.ret == pytest.ExitCode.OK, said(result)
    assert not toy.output.exists()
    assert "created:" not in said(result), "no worker was started"


def test_in_one_process(planned):
    result = planned.run(*DRY)
    nothing_happened(planned, result)
    head, *slots = plan_of(result)
    assert head == "plan: 2 datasets, predicted 0:10 (bound 0:10) on 1 CPU lane"
    assert slots[0].split() == ["main", "0:10", "one-fast", "0:10", "·", "two-fast", "0.1", "s"]
    assert slots[-1] == "  lengths are as the suite says"


def test_on_lanes(planned):
    result = planned.run(*DRY, *LANES)
    nothing_happened(planned, result)
    head, *slots = plan_of(result)
    assert head.startswith("plan: ") and "shards of 2 datasets, predicted 5." in head and head.endswith("on 2 CPU lanes")
    assert [slot.split()[0] for slot in slots[:-1] if not slot.startswith("   ")] == ["cpu0", "cpu1"]
    assert "join one-fast" in "".join(slots)


def test_xdist_alone_cuts_nothing(planned):
    result = planned.run(*DRY, "-n", "2")
    nothing_happened(planned, result)
    assert plan_of(result)[0] == "plan: 2 datasets, predicted 0:10 (bound 0:10) on 2 CPU lanes"


def test_lanes_without_xdist_are_one(planned):
    result = planned.run(*DRY, "--gpus", "none", "-n", "0")
    nothing_happened(planned, result)
    assert plan_of(result)[0].endswith("2 datasets, predicted 0:10 (bound 0:10) on 1 CPU lane")


@pytest.mark.parametrize("args", [("-k", "two"), ("-k", "not two"), (*ALONE, "-k", "one")], ids=" ".join)
def test_what_was_selected(planned, args):
    result = planned.run(*DRY, *args)
    nothing_happened(planned, result)
    assert plan_of(result)[0].startswith("plan: 1 dataset, ")


def test_named_shards_and_tests_of_ones_own(planned):
    planned.pytester.makepyfile('import pytest\n@pytest.mark.gpueval(suite="toy")\ndef test_mine(case, predictions): pass')
    result = planned.run("suites/toy/suite.toml::test_eval[one-fast-2of5]", "test_named_shards_and_tests_of_ones_own.py", "--gpueval-dry-run")
    nothing_happened(planned, result)
    assert "one-fast-2of5 2.0 s" in "".join(plan_of(result))
    assert "test_mine" in "".join(plan_of(result)) or "one-fast" in "".join(plan_of(result))


def test_nothing_selected(planned):
    assert planned.run(*DRY, "-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not planned.output.exists()


def test_the_command_plan_agrees(planned, monkeypatch):
    result = planned.run(*DRY, "--gpus", "none")
    nothing_happened(planned, result)
    monkeypatch.chdir(planned.root)
    monkeypatch.setenv("COLUMNS", "120")
    done = CliRunner().invoke(app, ["plan", "toy", "--gpus", "none"])
    assert done.stdout.splitlines() == plan_of(result)


def test_a_budget(planned):
    planned.edit('split = "fast"', 'split = "fast"\nbudget_s = 4')
    result = planned.run(*DRY)
    nothing_happened(planned, result)
    assert plan_of(result)[0].endswith("on 1 CPU lane · budget 4.0 s · exceeds the budget by 6.1 s: one-fast, two-fast")
    planned.edit("budget_s = 4", "budget_s = 40")
    assert plan_of(planned.run(*DRY))[0].endswith("on 1 CPU lane · budget 0:40")


def test_a_session_that_is_continued_keeps_its_cuts(toy):
    toy.suite("toy", model=WATCHED)
    shards(toy, 3)
    gate(toy)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one", *ALONE).assert_outcomes(passed=3, failed=1, deselected=1)
    asked(toy)
    before = sorted((path, path.stat().st_mtime_ns) for path in toy.output.rglob("*"))
    result = toy.run(*DRY, "--gpueval-session", "it")
    assert plan_of(result)[0].startswith("plan: 4 shards of 2 datasets")
    assert sorted((path, path.stat().st_mtime_ns) for path in toy.output.rglob("*")) == before
    assert asked(toy) == []


@pytest.mark.parametrize("args", [("-n", "0"), (), ("-p", "no:xdist")], ids=["-n 0", "lanes", "no xdist"])
def test_no_lease_is_taken(planned, tmp_path_factory, monkeypatch, args):
    environment = fake_gpus.environment(fake_gpus.build(tmp_path_factory.mktemp("gpus")), count=2)
    leases = Path(environment["GPUEVAL_LEASE_DIR"])
    for name in environment.keys() - {name for name, value in os.environ.items() if environment.get(name) == value}:
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    result = planned.spawn(*DRY, "--gpus", "0-1", *args)
    nothing_happened(planned, result)
    assert plan_of(result)[0].endswith(" on 2 GPUs" if not args else " on 1 GPU")
    assert list(leases.iterdir()) == []


# Scale.


def test_two_thousand_datasets(toy):
    """Cutting and planning 2,000 datasets for 8 lanes takes no longer than pytest takes to collect them, a few times over."""
    datasets = "".join(f"[datasets.d{number}]\nrate = {1 + number % 97}\nsplits.fast = {{ rows = {100 + number % 1009} }}\n" for number in range(2000))
    text = (toy.root / "suites/toy/suite.toml").read_text().partition("[datasets.one]")[0]
    (toy.root / "suites/toy/suite.toml").write_text(text + datasets + "[datasets.long]\nrate = 0.001\nsplits.fast = { rows = 800 }\n")

    def seconds(*args: str) -> tuple[float, list[str]]:
        """Of the processor: what else runs on the machine must not count."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = toy.spawn("--gpueval-suite", "toy", *args)
        assert result.ret == pytest.ExitCode.OK
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, result.outlines

    collecting, _ = seconds("--collect-only", "-q")
    planning, lines = seconds("--gpueval-dry-run", "--gpus", "none", "-n", "8")
    assert any(line.startswith("plan: ") and "shards of 2,001 datasets" in line and line.endswith("8 CPU lanes") for line in lines), lines[-10:]
    assert planning < 4 * collecting
    parts, _ = seconds("--gpueval-dry-run", "--gpueval-shard-index", "1", "--gpueval-shard-count", "2")
    assert parts < 4 * collecting
    settings = Settings(root=toy.root, suite=("toy",), output_dir=toy.output)
    forecast = Forecast(settings, Data(settings), [load.read(toy.root / "suites/toy/suite.toml")], on_cpu(8, 2000, frozenset()))
    made = forecast.whole().as_dict()
    assert made["makespan_s"] <= 1.02 * made["bound_s"]
    assert len(forecast.cutting({}).as_json()) < 1_000_000, "every worker is sent this"
