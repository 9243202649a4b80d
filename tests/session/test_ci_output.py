"""What CI systems get: an exit status that tells gates from machines, attempts, annotations, a step summary, JUnit XML."""

from __future__ import annotations

import pytest

from .conftest import rows

# Fails as the machines do, so many times; each attempt is a line of a file.
FLAKY_MODEL = """
import os
class Model:
    def __init__(self):
        with open(os.environ["TOY_TRIES"], "a+") as file:
            file.write("try\\n")
            file.seek(0)
            tries = len(file.readlines())
        if tries <= int(os.environ["TOY_FAILURES"]):
            raise MemoryError("out of memory")
    def predict(self, batch):
        return [[(0, 3, "A", 0.9)] for _ in batch]
"""
GATE = '[[gates]]\nmetric = "strict.f1"\nmin = 0.999\n'
ONE = ("--gpueval-suite", "toy", "-k", "one", "--gpueval-session", "it")


@pytest.fixture
def flaky(toy, monkeypatch):
    """The suite under a model that does not start TOY_FAILURES times."""
    toy.suite("toy", toy_toml(toy), FLAKY_MODEL)
    for name in ("one", "two"):
        toy.split(rows(10, wrong_every=20), name)
    monkeypatch.setenv("TOY_TRIES", str(toy.root / "tries"))
    return toy


def toy_toml(toy) -> str:
    return (toy.root / "suites/toy/suite.toml").read_text()


def tries(toy) -> int:
    return len((toy.root / "tries").read_text().splitlines())


def failures_of(toy, session: str = "it") -> list[str]:
    return [run["failure"] for run in (toy.summary(f"toy-{name}-fast", session) for name in ("one", "two"))]


# The exit status.


def test_failures_of_machines_alone_have_an_exit_status_of_their_own(flaky, monkeypatch):
    monkeypatch.setenv("TOY_FAILURES", "99")
    result = flaky.run(*ONE)
    result.assert_outcomes(failed=1, deselected=1)
    assert result.ret == 10 == flaky.record()["exit_status"]
    summary = flaky.summary(session="it")
    assert (summary["status"], summary["failure"], summary["attempts"]) == ("oom", "infrastructure", 1)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        (lambda toy: toy.append(GATE), "gate"),
        (lambda toy: toy.split([*rows(3), {"id": "bad", "text": "a", "spans": [{"start": 5, "end": 9, "label": "A"}]}], "one"), "other"),
        (
            lambda toy: toy.suite("toy", toy_toml(toy), "class Model:\n    def __init__(self): raise KeyError('weights')\n    def predict(self, batch): pass"),
            "other",
        ),
        (lambda toy: toy.suite("toy", toy_toml(toy), "class Model:\n    def predict(self, batch): raise ValueError('RuntimeFault: timeout')"), "other"),
    ],
    ids=["gate", "data", "model", "rows"],
)
def test_failures_that_must_block_are_tests_that_failed(toy, change, failure):
    change(toy)
    result = toy.run(*ONE, "--gpueval-retries", "2")
    assert result.ret == 1
    summary = toy.summary(session="it")
    assert (summary["failure"], summary["attempts"], summary["ends"]) == (failure, 1, [])


def test_one_gate_among_failures_of_machines_is_a_test_that_failed(flaky, monkeypatch):
    monkeypatch.setenv("TOY_FAILURES", "1")
    flaky.append(GATE)
    flaky.split(rows(10, wrong_every=1), "two")
    result = flaky.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    assert failures_of(flaky) == ["infrastructure", "gate"]
    assert result.ret == 1


@pytest.mark.parametrize(
    "code",
    ["def test_own(): assert False", "@__import__('pytest').fixture\ndef broken(): yield; 1 / 0\ndef test_own(broken): pass"],
    ids=["test", "teardown"],
)
def test_a_plain_test_that_fails_beside_them_is_a_test_that_failed(flaky, monkeypatch, code):
    monkeypatch.setenv("TOY_FAILURES", "99")
    flaky.pytester.makepyfile(test_own=code)
    result = flaky.run("--gpueval-suite", "toy", "--gpueval-session", "it", "test_own.py")
    assert failures_of(flaky) == ["infrastructure", "infrastructure"]
    assert result.ret == 1


def test_an_assertion_that_speaks_of_memory_is_no_failure_of_machines(toy):
    toy.pytester.makepyfile(
        """
        import pytest
        @pytest.mark.gpueval(suite="toy")
        def test_own(case, predictions):
            list(predictions)
            assert False, "out of memory"
        """
    )
    result = toy.run("--gpueval-session", "it", "-k", "one")
    assert result.ret == 1
    (run,) = toy.record()["runs"]
    assert toy.summary(run["run_id"], "it")["failure"] == "other"


# Attempts.


@pytest.mark.parametrize("args", [(), ("--gpus", "none", "-n", "2")], ids=["process", "lanes"])
def test_what_the_machines_failed_is_tried_again(flaky, monkeypatch, args):
    monkeypatch.setenv("TOY_FAILURES", "2")
    result = flaky.spawn(*ONE, "--gpueval-retries", "2", *args)
    result.assert_outcomes(passed=1, **({} if args else {"deselected": 1}))
    text = result.stdout.str()
    assert result.ret == 0 and "2 rerun" in text
    assert "one-fast: attempt 1: oom: " in text and "one-fast: attempt 2: oom: " in text
    summary = flaky.summary(session="it")
    assert (summary["attempts"], [end["outcome"] for end in summary["ends"]]) == (3, ["oom", "oom", "passed"])
    assert tries(flaky) == 3
    (case,) = cases_of(flaky)
    assert properties(case)["gpueval.attempts"] == "3" and not list(case)[1:]
    assert not (flaky.session("it") / ".attempts").exists()


def test_attempts_end(flaky, monkeypatch):
    monkeypatch.setenv("TOY_FAILURES", "99")
    result = flaky.run(*ONE, "--gpueval-retries", "1")
    result.assert_outcomes(failed=1, deselected=1)
    assert (result.ret, tries(flaky), flaky.summary(session="it")["attempts"]) == (10, 2, 2)


def test_force_backs_up_once_and_later_sessions_count_anew(flaky, monkeypatch):
    monkeypatch.setenv("TOY_FAILURES", "1")
    assert flaky.run(*ONE).ret == 10
    monkeypatch.setenv("TOY_FAILURES", "3")
    flaky.run(*ONE, "--gpueval-force", "--gpueval-retries", "2").assert_outcomes(passed=1, deselected=1)
    assert flaky.summary(session="it")["attempts"] == 3
    flaky.run(*ONE).assert_outcomes(passed=1, deselected=1)
    assert flaky.summary(session="it")["attempts"] == 3, "the run is reused"


def test_a_worker_that_dies_is_no_end_of_its_item(toy):
    """Rows that have an answer keep it; JUnit has the item once."""
    toy.datasets(
        {"one": ["pass"] * 20 + ["os.kill(os.getpid(), 9) if len([e for e in recorded('begin') if e['id'] == 'one-20']) == 1 else None"], "two": "pass"}
    )
    output = toy.finish(toy.on_gpus(2), "--gpus", "0-1", "--gpueval-retries", "1", expect=0)
    assert "2 passed" in output and "1 rerun" in output
    assert "one-fast: attempt 1: crashed: its worker gpu" in output
    summary = toy.summary("toy-one-fast", "it")
    assert (summary["attempts"], [end["outcome"] for end in summary["ends"]]) == (2, ["crashed", "passed"])
    assert summary["rows"] == {"total": 21, "scored": 21, "errors": 0, "skipped": 0}
    begun = [line["id"] for line in toy.events("begin")]
    assert begun.count("one-0") == 1 and begun.count("one-20") == 2
    assert sorted(case.name for case in cases_of(toy)) == ["test_eval[one-fast]", "test_eval[two-fast]"]


def test_a_worker_that_always_dies_ends_as_crashed(toy):
    toy.datasets({"one": "os._exit(3)", "two": "pass"})
    output = toy.finish(toy.on_gpus(1), "--gpus", "0", "--gpueval-retries", "1", expect=10)
    assert "1 failed, 1 passed, 1 rerun" in output
    summary = toy.summary("toy-one-fast", "it")
    assert (summary["status"], summary["failure"], summary["attempts"]) == ("crashed", "infrastructure", 2)
    assert [end["outcome"] for end in summary["ends"]] == ["crashed", "crashed"]
    assert properties(next(case for case in cases_of(toy) if "one" in case.name))["gpueval.failure"] == "infrastructure"


def test_a_lost_cuda_context_is_tried_again_by_another_worker(toy):
    text = "if len(recorded('begin')) == 1:\n    poison()\n    raise MemoryError('CUDA out of memory')"
    toy.datasets({"one": text})
    output = toy.finish(toy.on_gpus(1, cuda=True), "--gpus", "0", "--gpueval-retries", "1", expect=0)
    assert "1 passed, 1 rerun" in output
    assert toy.summary("toy-one-fast", "it")["attempts"] == 2
    assert len({line["pid"] for line in toy.events("begin")}) == 2


# JUnit.


def cases_of(toy):
    import junitparser

    return [case for suite in junitparser.JUnitXml.fromfile(str(toy.session("it") / "junit.xml")) for case in suite]


def properties(case) -> dict[str, str]:
    import junitparser

    return {item.name: item.value for item in case.child(junitparser.Properties) or ()}


def test_what_junit_says(flaky, monkeypatch):
    monkeypatch.setenv("TOY_FAILURES", "1")
    flaky.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-o", "junit_family=xunit1")
    one, two = cases_of(flaky)
    for case in (one, two):
        assert case.classname == "suites.toy.suite.toml"
        assert case._elem.get("file") == "suites/toy/suite.toml", "GitLab shows it"
        assert int(case._elem.get("line")) > 0
        assert case.time >= 0
        assert properties(case)["gpueval.run_dir"] == str(flaky.session("it") / f"toy-{case.name[10:-1]}")
    assert properties(one)["gpueval.failure"] == "infrastructure"
    assert "gpueval.failure" not in properties(two)
    assert properties(two)["strict.f1"] == "0.9"


# GitHub.


@pytest.fixture
def github(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    return tmp_path / "summary.md"


def commands(result) -> list[str]:
    return [line for line in result.outlines if line.startswith("::")]


def test_annotations_and_the_step_summary(toy, github, monkeypatch):
    toy.append(GATE)
    github.write_text("what was there\n")
    result = toy.run("--gpueval-suite", "toy", "--gpueval-session", "it")
    one, two = commands(result)
    line = toy_toml(toy).splitlines().index("[datasets.one]") + 1
    assert one.startswith(f"::error file=suites/toy/suite.toml,line={line},title=toy one-fast%3A gate failed::")
    assert "title=toy two-fast%3A gate failed::" in two
    assert "%0A" in one and "strict.f1" in one
    assert github.read_text() == "what was there\n\n" + (toy.session("it") / "report.md").read_text()

    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    before = github.read_text()
    assert commands(toy.run("--gpueval-suite", "toy")) == []
    assert github.read_text() == before


def test_machines_are_named_after_gates(flaky, github, monkeypatch):
    monkeypatch.setenv("TOY_FAILURES", "1")
    flaky.append(GATE)
    flaky.split(rows(10, wrong_every=1), "two")
    gate, machines = commands(flaky.run("--gpueval-suite", "toy"))
    assert "title=toy two-fast%3A gate failed" in gate
    assert "title=toy one-fast%3A infrastructure failed" in machines


def test_a_summary_that_cannot_be_written_is_a_line(toy, github, monkeypatch):
    github.write_bytes(b"x" * (1 << 20))
    result = toy.run(*ONE)
    assert result.ret == 0
    assert "WARNING: the step summary is full:" in result.stdout.str()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(github.parent / "no" / "folder"))
    assert "WARNING: the step summary cannot be written:" in toy.run("--gpueval-suite", "toy", "-k", "one").stdout.str()
