"""A suite file behaves like a test module: node ids, -k, --lf, xdist, tests of the user's own."""

from __future__ import annotations

import json
import textwrap

import pytest

IDS = ["suites/toy/suite.toml::test_eval[one-fast]", "suites/toy/suite.toml::test_eval[two-fast]"]


@pytest.mark.parametrize("args", [("--gpueval-suite", "toy"), ("suites/toy/suite.toml",), ("suites/toy",)], ids=["option", "file", "folder"])
def test_collected_by_name_file_and_folder(toy, args):
    result = toy.run("--collect-only", "-q", *args)
    assert result.outlines[:2] == IDS
    assert not toy.output.exists(), "looking must not leave a session"


def test_a_bare_pytest_starts_no_evaluation(toy):
    toy.pytester.makepyfile("def test_mine(): pass")
    result = toy.run()
    result.assert_outcomes(passed=1)
    assert not toy.output.exists()


def test_testpaths_give_way_to_the_suite_but_arguments_stay(toy):
    toy.pytester.makeini("[pytest]\ntestpaths = tests\n")
    tests = toy.pytester.mkdir("tests")
    (tests / "test_mine.py").write_text("def test_mine(): pass")
    assert toy.run("--collect-only", "-q", "--gpueval-suite", "toy").outlines[:3] == [*IDS, ""]
    both = toy.run("--collect-only", "-q", "--gpueval-suite", "toy", "tests")
    assert set(both.outlines[:3]) == {*IDS, "tests/test_mine.py::test_mine"}


def test_k_selects_one_dataset(toy):
    toy.run("--gpueval-suite", "toy", "-k", "two").assert_outcomes(passed=1, deselected=1)
    assert [path.name for path in toy.session().glob("toy-*")] == ["toy-two-fast"]


def test_a_node_id_runs_one_item(toy):
    toy.run(IDS[1]).assert_outcomes(passed=1)


def test_lf_runs_what_failed(toy):
    toy.append('[[gates]]\nmetric = "strict.f1"\nmin = 0.5\n[[datasets.two.gates]]\nmetric = "strict.f1"\nmin = 0.99\n')
    toy.spawn("--gpueval-suite", "toy").assert_outcomes(passed=1, failed=1)
    result = toy.spawn("--gpueval-suite", "toy", "--lf")
    result.assert_outcomes(failed=1, deselected=1)


def test_without_xdist(toy):
    toy.spawn("-p", "no:xdist", "--gpueval-suite", "toy", "--gpus", "none").assert_outcomes(passed=2)


@pytest.mark.parametrize("args", [("-n", "2"), ("--gpus", "none", "-n", "2"), ("--gpus", "auto", "-n", "2")], ids=" ".join)
def test_workers_side_by_side(toy, args):
    result = toy.spawn("--gpueval-suite", "toy", *args)
    result.assert_outcomes(passed=2)
    assert {toy.summary(f"toy-{name}-fast")["metrics"]["strict.f1"]["value"] for name in ("one", "two")} == {0.9}


@pytest.mark.parametrize("args", [["-n", "2"], ["--gpus", "none", "-n", "2"]])
def test_workers_see_the_suite_that_the_controller_read(toy, args):
    toy.pytester.makeconftest("""
        import pathlib
        def pytest_cmdline_main(config):
            if hasattr(config, "workerinput"):
                pathlib.Path("edited").touch()
                (config.rootpath / "suites/toy/suite.toml").write_text("somebody edits this")
        """)
    result = toy.spawn("--gpueval-suite", "toy", *args)
    assert result.ret == pytest.ExitCode.OK
    assert {run["case"] for run in toy.record(toy.session().name)["runs"]} >= {"one-fast", "two-fast"}
    assert (toy.root / "edited").exists()


def test_two_suites_at_once(toy):
    toy.suite("other")
    toy.spawn("--gpueval-suite", "toy,other", "-n", "2").assert_outcomes(passed=4)
    names = {path.name for path in toy.session().glob("*-fast")}
    assert names == {"toy-one-fast", "toy-two-fast", "other-one-fast", "other-two-fast"}


def test_tests_of_ones_own_over_the_same_cases(toy):
    toy.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.gpueval(suite="toy")
        def test_mine(case, split, predictions, run, load_split):
            pairs = list(predictions)
            assert case.id in ("one-fast", "two-fast")
            assert len(pairs) == split.rows == 50
            assert run.path.is_dir()
            assert load_split("two", "fast").rows == 50
            sample, prediction = pairs[0]
            assert sample.inputs["text"][prediction[0][0] : prediction[0][1]] == "aaa"
            assert case.dataset != "two", "as the user wishes"
        """
    )
    toy.run().assert_outcomes(passed=1, failed=1)
    summaries = {path.parent.name: path for path in toy.session().glob("*/summary.json")}
    stem = "test_tests_of_ones_own_over_the_same_cases.test_mine"
    assert set(summaries) == {f"toy-one-fast-{stem}", f"toy-two-fast-{stem}"}
    assert toy.summary(f"toy-one-fast-{stem}")["ok"] is True
    assert toy.summary(f"toy-two-fast-{stem}")["status"] == "failed"
    assert len(toy.lines(f"toy-two-fast-{stem}")) == 50


def test_the_marker_under_xdist_asks_for_a_session(toy):
    toy.pytester.makepyfile('import pytest\n@pytest.mark.gpueval(suite="toy")\ndef test_mine(case): pass')
    result = toy.spawn("-n", "2")
    result.stdout.fnmatch_lines(["*--gpueval-session NAME*"])
    toy.spawn("-n", "2", "--gpueval-session", "mine").assert_outcomes(passed=2)


def test_a_case_without_the_marker(toy):
    toy.pytester.makepyfile("def test_mine(case): pass")
    result = toy.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['*without @pytest.mark.gpueval(suite="...")*'])


def test_a_runtime_a_task_and_a_metric_from_conftest(toy):
    toy.pytester.makeconftest(
        """
        from pytest_gpueval.runtimes.base import Answer
        from pytest_gpueval.scoring.spans import SpanDetection

        class Fixed:
            def start(self): pass
            def answers(self, samples):
                for sample in samples:
                    yield Answer(sample, [(0, 3, "A", 1.0)], None, 0.1)
            def close(self): pass

        def pytest_gpueval_runtimes():
            return {"fixed": lambda case, workers: Fixed()}
        def pytest_gpueval_tasks():
            return {"my_spans": SpanDetection}
        def pytest_gpueval_metrics():
            return {"found": lambda sample, prediction: float(len(prediction))}
        """
    )
    toy.edit('kind = "inprocess"', 'kind = "fixed"')
    toy.edit('task = "span_detection"', 'task = "my_spans"')
    toy.append('[[gates]]\nmetric = "found"\nmin = 1.0\nmax = 1.0\n')
    toy.run("--gpueval-suite", "toy").assert_outcomes(passed=2)
    assert toy.summary()["metrics"]["found"]["value"] == 1.0
    assert toy.lines()[0]["score"]["extra"] == {"found": 1.0}


def test_a_program_behind_a_suite(toy):
    """It gives what the same model gives in this process, is kept from one case to the next, and its words are in the run's log."""
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "inside").assert_outcomes(passed=2)
    program = """
        import json, sys
        from model import Model
        model = Model()
        print("model loaded", file=sys.stderr, flush=True)
        for line in sys.stdin:
            row = json.loads(line)
            print(json.dumps({"id": row["id"], "prediction": model.one(row["text"])}), flush=True)
    """
    (toy.root / "suites/toy/program.py").write_text(textwrap.dedent(program))
    toy.edit('kind = "inprocess"\ntarget = "model.py:Model"', 'kind = "command"\ncommand = ["{python}", "program.py"]')
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "outside").assert_outcomes(passed=2)
    for run in ("toy-one-fast", "toy-two-fast"):
        inside, outside = (toy.summary(run, session) for session in ("inside", "outside"))
        assert inside["metrics"] == outside["metrics"]
        assert [{**line, "latency_ms": 0} for line in toy.lines(run, "inside")] == [{**line, "latency_ms": 0} for line in toy.lines(run, "outside")]
    logs = [(toy.session("outside") / run / "stdout.log").read_text() for run in ("toy-one-fast", "toy-two-fast")]
    assert logs == ["model loaded\n", ""]


def test_a_program_that_changed_is_another_run(toy):
    (toy.root / "suites/toy/program.py").write_text("import sys\nsys.exit(3)\n")
    toy.edit('kind = "inprocess"\ntarget = "model.py:Model"', 'kind = "command"\ncommand = ["{python}", "program.py"]')
    result = toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one")
    result.stdout.fnmatch_lines(["*answers nothing: it ended with exit code 3*"])
    metadata = json.loads((toy.session("it") / "toy-one-fast/run_metadata.json").read_text())
    (toy.root / "suites/toy/program.py").write_text("import sys\nsys.exit(4)\n")
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one", "--gpueval-force")
    again = json.loads((toy.session("it") / "toy-one-fast/run_metadata.json").read_text())
    assert metadata["model"]["code_sha256"] != again["model"]["code_sha256"]


def test_a_command_that_is_missing_is_named(toy):
    toy.edit('kind = "inprocess"', 'kind = "command"')
    toy.run("--gpueval-suite", "toy").stdout.fnmatch_lines(["*runtimes.cpu.command: missing; a runtime of kind 'command' needs*"])


def test_tokens_are_counted(toy):
    """Also those of an interrupted run that is continued."""
    toy.pytester.makeconftest(
        """
        from pytest_gpueval.runtimes.base import Answer
        class Counting:
            def start(self): pass
            def answers(self, samples):
                for number, sample in enumerate(samples):
                    yield Answer(sample, [], None, 0.1, (10, 3) if number % 2 else None)
            def close(self): pass
        def pytest_gpueval_runtimes():
            return {"counting": lambda case, workers: Counting()}
        """
    )
    toy.edit('kind = "inprocess"', 'kind = "counting"')
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one")
    summary = toy.summary(session="it")
    assert (summary["tokens"]["prompt"], summary["tokens"]["completion"]) == (250, 75)
    assert summary["tokens"]["completion_per_s"] > 0
    assert toy.lines(session="it")[1]["tokens"] == [10, 3]
    run = toy.session("it") / "toy-one-fast"
    (run / "summary.json").unlink()
    (run / "results.jsonl").write_text("".join((run / "results.jsonl").read_text().splitlines(keepends=True)[:30]))
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "it", "-k", "one")
    assert toy.summary(session="it")["tokens"]["prompt"] == 250


def test_limit_and_policy(toy):
    toy.run("--gpueval-suite", "toy", "--gpueval-limit", "7", "--gpueval-policy", "closed").assert_outcomes(passed=2)
    summary = toy.summary()
    assert summary["rows"] == {"total": 7, "scored": 7, "errors": 0, "skipped": 0}
    assert summary["metrics"]["strict.recall"]["value"] == 0.0, "the policy's threshold is above the model's score"


def test_labels_that_a_dataset_does_not_annotate_do_not_count(toy):
    toy.split([{"id": "x", "text": "aaab", "spans": [{"start": 3, "end": 4, "label": "b"}]}])
    toy.append('[datasets.one.label_map]\nb = "B"\n')
    toy.run("--gpueval-suite", "toy", "-k", "one").assert_outcomes(passed=1, deselected=1)
    assert toy.lines()[0]["prediction"] == [], "the model's A is neither right nor wrong there"


def test_a_policy_may_bring_its_own_gates(toy):
    toy.append('[[gates]]\nmetric = "strict.f1"\nmin = 0.99\n')
    toy.edit("[policies.closed]", '[policies.closed]\ngates = [{ metric = "strict.f1", max = 0.5 }]')
    toy.run("--gpueval-suite", "toy").assert_outcomes(failed=2)
    toy.run("--gpueval-suite", "toy", "--gpueval-policy", "closed").assert_outcomes(passed=2)
    (toy.root / "mine.yaml").write_text("policies:\n  none:\n    gates: []\n")
    toy.run("--gpueval-suite", "toy", "--gpueval-policy", "mine.yaml:none").assert_outcomes(passed=2)
