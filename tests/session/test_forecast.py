"""`shards = "auto"`: what is cut on how many lanes, alike in every worker, and by what earlier sessions measured."""

from __future__ import annotations

import json

import pytest

from tests.session.cut import FILE, LANES, WATCHED, asked, ran, record, runs, said

TOY = ("--gpueval-suite", "toy")


# The last row is answered once a worker was replaced.
WAITING = """
class Model(Model):
    def predict(self, batch):
        end = time.monotonic() + 60
        while any(item["id"] == "one-49" for item in batch) and not Path("replaced").exists() and time.monotonic() < end:
            time.sleep(0.01)
        return super().predict(batch)
"""


@pytest.fixture
def auto(toy):
    """A suite of a dataset that takes long, as it says, and of a short one."""
    toy.suite("toy", model=WATCHED)
    toy.edit("[datasets.one]\n", "[datasets.one]\nrate = 5\n")
    toy.edit("[datasets.two]\n", "[datasets.two]\nrate = 1000\n")
    return toy


def sources(toy, session: str | None = None) -> dict[str, str]:
    """Node id -> where the plan has its length from."""
    return {item["id"].rpartition("[")[2].rstrip("]"): item["source"] for item in record(toy, session)["plan"]["assignments"]}


def unhurried(toy, session: str) -> None:
    """Let a session have measured 10,000 rows/s: what it measured itself depends on what else the machine does."""
    path = toy.session(session) / "session.json"
    found = json.loads(path.read_text())
    measured = [run for run in found["runs"] if run["samples_per_s"]]
    assert {run["case"].partition("-")[0] for run in measured} == {"one", "two"}
    for run in measured:
        run["samples_per_s"] = 10_000
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("lanes", [2, 4])
def test_the_long_one_is_cut(auto, lanes):
    auto.spawn(*TOY, "--gpus", "none", "-n", str(lanes), "--gpueval-session", "a")
    cuts = record(auto, "a")["cuts"]
    assert cuts.keys() == {"toy/one-fast"} and lanes <= cuts["toy/one-fast"] <= 8 * lanes
    plan = record(auto, "a")["plan"]
    assert plan["makespan_s"] <= 1.1 * plan["bound_s"]
    assert set(sources(auto, "a").values()) == {"suite"}
    if lanes == 4:
        return
    # What that session measured counts now: too short to be cut, on a machine where nothing else ran.
    unhurried(auto, "a")
    auto.spawn(*TOY, "--gpus", "none", "-n", "2", "--gpueval-session", "b").assert_outcomes(passed=2)
    assert sources(auto, "b") == {"one-fast": "measured", "two-fast": "measured"}
    assert record(auto, "b")["cuts"] == {}
    assert "shards of 2 datasets" in planned(auto, *TOY, "--gpueval-output-dir", "elsewhere"), "where nothing was measured, as the suite says"


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--gpus", "none", "-n", "0"), ("--gpus", "none", "-n", "1")], ids=" ".join)
def test_nothing_is_cut_for_one_lane_or_xdist_alone(auto, args):
    auto.edit("rate = 1000", "rate = 1000\nshards = 3")
    auto.spawn(*TOY, *args).assert_outcomes(passed=2)
    assert ran(auto) == ["one-fast", "two-fast"]
    assert record(auto)["cuts"] == {}


def planned(toy, *args: str) -> str:
    """The head of the plan on two lanes."""
    result = toy.run(*args, *LANES, "--gpueval-dry-run")
    return next(line for line in result.outlines if line.startswith("plan: "))


def test_what_the_cut_depends_on(auto):
    cut = planned(auto, *TOY)
    assert "shards of 2 datasets" in cut
    assert planned(auto, f"{FILE}::test_eval[two-fast]", f"{FILE}::test_eval[one-fast]") == cut, "not on the order of arguments"
    assert planned(auto, *TOY, "--gpueval-limit", "1").startswith("plan: 2 datasets, predicted 0.2 s"), "on the rows that a limit leaves"
    auto.edit("rate = 1000", "rate = 5")
    assert planned(auto, *TOY).startswith("plan: 2 datasets"), "on the others: two that are equally long keep two lanes busy"
    assert "shards of 1 dataset," in planned(auto, *TOY, "-k", "one"), "on what is selected"
    auto.edit("[datasets.one]\nrate = 5\n", "[datasets.one]\nrate = 5\nshards = 1\n")
    assert planned(auto, *TOY, "-k", "one").startswith("plan: 1 dataset"), "one shard is none"


def test_a_worker_that_takes_the_place_of_a_dead_one_cuts_alike(auto):
    """While the session runs, others write what they measured: that must not change the cut of a late worker."""
    auto.edit("rate = 1000", "rate = 12\nshards = 1")
    model = auto.root / "suites/toy/model.py"
    model.write_text(model.read_text() + WAITING)
    (auto.root / "suites/toy/die").write_text("one-1")
    auto.pytester.makeconftest(
        """
        import json, os, pathlib
        def pytest_collection_finish():
            if os.environ.get("PYTEST_XDIST_WORKER", "").endswith("-2"):
                pathlib.Path("replaced").touch()
        def pytest_runtest_logstart(nodeid):
            other = pathlib.Path("reports/evaluations/other")
            if not other.exists():
                other.mkdir()
                runs = [{"suite": "toy", "case": "one-fast", "runtime": "cpu", "gpu": None, "status": "passed", "samples_per_s": 1e6}]
                (other / "session.json").write_text(json.dumps({"runs": runs}))
        """
    )
    result = auto.spawn(*TOY, *LANES, "--gpueval-session", "it")
    (count,) = record(auto, "it")["cuts"].values()
    assert count > 2
    # Of "one" the first shard and what joins them fail; all others run, although one lane had to be started again.
    result.assert_outcomes(passed=count, failed=2)
    text = said(result)
    assert "collected the items in another order" not in text and "Different tests were collected" not in text
    found = runs(auto, "it")
    assert [name for name, status in found.items() if status != "passed"] == ["toy-one-fast", f"toy-one-fast-1of{count}"]
    assert (auto.root / "replaced").exists()
    assert "one-49" in asked(auto)
