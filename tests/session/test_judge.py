"""Answers that a language model judges, from the suite file to the verdict. The judge is a server that does as it is told, or a real one."""

from __future__ import annotations

import json
import re
import signal

import pytest

from pytest_gpueval.runs.validate import problems
from pytest_gpueval.scoring.generation import Generation
from pytest_gpueval.scoring.verdicts import Verdicts
from pytest_gpueval.servers import external
from pytest_gpueval.suites.schema import JUDGE_PATTERN, JUDGE_RIGHT
from tests import llama
from tests.openai_faults import FaultServer, reply, status
from tests.session.cut import ALONE, FILE, outcome, said
from tests.session.test_again import count_lines, start, untimed, untimed_summary
from tests.waiting import SESSION_S, wait_for

SUITE = """
task = "generation"
split = "fast"
runtime = "cpu"
task_options = {{ match = "judge" }}
[data]
note = "synthetic"
[judge]
runtime = "big"
template = '{{prompt}}|{{answer}}|{{prediction}}'
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
[runtimes.big]
kind = "openai"
url = "{url}"
request = {{ endpoint = "completions", template = "ask {{prompt}}", temperature = 0.25 }}
[datasets.one]
splits.fast = {{}}
"""
# Right but for every fifth; the judge has no opinion on every seventh.
MODEL = """
import os, pathlib, time
class Model:
    def __init__(self):
        with pathlib.Path(__file__).with_name("loaded").open("a") as file:
            file.write("x")
    def predict(self, batch):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        assert all(set(row) == {"id", "prompt"} for row in batch), "the gold must stay hidden"
        return [self.one(int(row["prompt"])) for row in batch]
    def one(self, n):
        if n == 37:
            raise ValueError("no idea")
        return f"{{dunno}} {n}" if n % 7 == 0 else f"it is {n * n + (n % 5 == 0)}"
"""
SEVERAL = "return [f'it is {n * n}', 'it is -1', f'it is {n * n}' if n % 2 else '{dunno}']"
ONE = ("--gpueval-suite", "toy", "--gpueval-session")
IT = (*ONE, "it")
RUN = "toy-one-fast"


def verdict(body):
    """As the template puts it: question, accepted answers, answer."""
    shown = body["prompt"]
    if shown.startswith("ask "):  # it answers itself
        return reply(f"it is {int(shown[4:]) ** 2}")
    _, accepted, given = shown.split("|")
    if "dunno" in given:
        return reply("I cannot tell.")
    return reply(f"Hm. Verdict: {'right' if given.removeprefix('it is ') in accepted.splitlines() else 'wrong'}")


@pytest.fixture
def judge():
    server = FaultServer()
    server.answer = verdict
    yield server
    server.close()


@pytest.fixture
def judged(toy, judge):
    toy.suite("toy", SUITE.format(url=judge.url), MODEL)
    toy.edit('runtime = "cpu"', 'runtime = "cpu"\nmax_error_share = 0.1')
    toy.split([{"id": str(n), "prompt": str(n), "answer": [str(n * n), f"{n} squared"]} for n in range(40)])
    return toy


def loads(toy):
    """How often the model was loaded."""
    file = toy.root / "suites/toy/loaded"
    return len(file.read_text()) if file.exists() else 0


def rewrite(toy, change):
    file = toy.root / FILE
    file.write_text(change(file.read_text()))


def metadata(toy, session="it"):
    return json.loads((toy.session(session) / RUN / "run_metadata.json").read_text())


def test_texts_verdicts_and_metrics(judged, judge):
    result = judged.run(*IT)
    result.assert_outcomes(passed=1)
    assert "· runtime cpu (inprocess) · judge big · policy none ·" in said(result)
    lines = judged.lines(session="it")
    assert lines[1]["prediction"] == {"text": "it is 1", "judge": "Hm. Verdict: right"} and lines[1]["score"] == {"n": 1, "right": 1, "unparsable": 0}
    assert lines[5]["prediction"] == {"text": "it is 26", "judge": "Hm. Verdict: wrong"} and lines[5]["score"]["right"] == 0
    assert lines[7]["prediction"] == {"text": "{dunno} 7", "judge": "I cannot tell."} and lines[7]["score"]["unparsable"] == 1
    assert lines[37]["error"] == "ValueError: no idea"
    summary = judged.summary(session="it")
    assert set(summary["metrics"]) == {"accuracy", "unparsable"} and summary["headline"] == "accuracy"
    unsure, wrong = 6, 6  # of 39: 0, 7, ... 35; 5, 10, ... but for those
    assert summary["metrics"]["accuracy"]["value"] == pytest.approx((39 - unsure - wrong) / 39)
    assert summary["metrics"]["unparsable"]["value"] == pytest.approx(unsure / 39)
    assert summary["tokens"] is None and summary["judge_tokens"] == {"prompt": 3 * 39, "completion": 2 * 39, "completion_per_s": None}
    assert len(judge.bodies) == 39 and {body["temperature"] for body in judge.bodies} == {0.25}
    assert "1|1\n1 squared|it is 1" in {body["prompt"] for body in judge.bodies}, "the judge's own template"
    assert problems(judged.session("it")) == []


def test_scores_are_found_again_in_what_was_written_down(judged):
    judged.run(*IT).assert_outcomes(passed=1)
    task = Generation((), None, None, (), Verdicts(JUDGE_PATTERN, [JUDGE_RIGHT]), match="judge")
    counts = task.counts()
    for line in judged.lines(session="it"):
        if "score" in line:
            sample = task.sample({"id": line["id"], "prompt": "", "answer": "?"})
            assert task.score(sample, line["prediction"]) == line["score"]
            counts.add(line["score"])
    assert counts.metrics().overall["accuracy"].value == pytest.approx(judged.summary(session="it")["metrics"]["accuracy"]["value"])


def test_who_judged_is_written_down(judged):
    judged.run(*IT).assert_outcomes(passed=1)
    told = metadata(judged)["judge"]
    assert (told["runtime"]["name"], told["model"], told["pattern"], told["right"]) == ("big", None, JUDGE_PATTERN, ["right"])
    assert told["template"] == "{prompt}|{answer}|{prediction}" and told["runtime"]["request"]["temperature"] == 0.25
    rewrite(judged, lambda text: re.sub(r"\[judge\]\nruntime = .*\ntemplate = .*\n", "", text).replace('match = "judge"', 'match = "exact"'))
    judged.run(*ONE, "plain").assert_outcomes(passed=1)
    assert metadata(judged, "plain")["judge"] is None


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("{prompt}|{answer}|{prediction}", "{prompt}|{answer}|{prediction} ", "judge.template: *there,*now"),
        ('runtime = "big"', 'runtime = "big"\npattern = "(right|wrong)"', "judge.pattern: *there,*now"),
        ('runtime = "big"', 'runtime = "big"\nright = ["wrong"]', 'judge.right: *"right"* there,*"wrong"* now'),
        ("temperature = 0.25", 'temperature = 0.25, model = "model-b"', 'judge.model: null there, "model-b" now'),
        ("temperature = 0.25", "temperature = 0.5", "judge.runtime.request.temperature: 0.25 there, 0.5 now"),
    ],
)
def test_another_judge_is_another_run(judged, old, new, line):
    judged.run(*IT).assert_outcomes(passed=1)
    judged.edit(old, new)
    result = judged.run(*IT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*holds an earlier run with another judge:*", f"*{line}"])


def test_a_judge_that_refuses_a_row_costs_that_row(judged, judge):
    judge.always["3|9\n3 squared|it is 9"] = status(400, "too long for me")
    judged.run(*IT).assert_outcomes(passed=1)
    lines = judged.lines(session="it")
    assert [line["id"] for line in lines] == [str(n) for n in range(40)]
    assert [line["error"] for line in lines if "error" in line] == ["the judge: HTTP 400: too long for me", "ValueError: no idea"]


def test_a_judge_that_fails_for_all_fails_the_item_and_is_named(judged, judge):
    async def ill(server, request, body):
        return await status(400, "out of order")(server, request, body)

    judge.answer = lambda body: reply("")
    for n in range(40):
        judge.always[f"{n}|{n * n}\n{n} squared|{{dunno}} {n}"] = judge.always[f"{n}|{n * n}\n{n} squared|it is {n * n + (n % 5 == 0)}"] = ill
    result = judged.run(*IT)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*40 of 40 rows have no prediction*", "First: 0: the judge: HTTP 400: out of order"])


def test_a_judge_without_verdicts_is_all_unparsable(judged, judge):
    judge.answer = lambda body: reply("What a question.")
    judged.append('[[gates]]\nmetric = "unparsable"\nmax = 0.5\n')
    judged.run(*IT).assert_outcomes(failed=1)
    figures = judged.summary(session="it")["metrics"]
    assert (figures["accuracy"]["value"], figures["unparsable"]["value"]) == (0, 1)


def test_several_completions_and_pass_at_k(judged):
    judged.edit('match = "judge"', 'match = "judge", k = [1, 2]')
    model = judged.root / "suites/toy/model.py"
    model.write_text(MODEL.partition("        if n == 37")[0] + f"        {SEVERAL}\n")
    judged.run(*IT).assert_outcomes(passed=1)
    lines = judged.lines(session="it")
    assert lines[2]["prediction"]["judge"] == ["Hm. Verdict: right", "Hm. Verdict: wrong", "I cannot tell."]
    assert lines[2]["score"] == {"n": 3, "right": 1, "unparsable": 1} and lines[2]["judge_tokens"] == [9, 6]
    figures = {name: figure["value"] for name, figure in judged.summary(session="it")["metrics"].items()}
    assert figures == pytest.approx({"accuracy": 0.5, "pass@1": 0.5, "pass@2": (2 / 3 + 1) / 2, "unparsable": 1 / 6})


def test_nobody_can_tell_the_cut(judged):
    judged.run(*ONE, "whole").assert_outcomes(passed=1)
    judged.edit('split = "fast"', 'split = "fast"\nshards = 3')
    judged.run(*ONE, "cut", *ALONE).assert_outcomes(passed=4)
    assert outcome(judged, "cut") == outcome(judged, "whole")
    assert metadata(judged, "cut")["judge"] == metadata(judged, "whole")["judge"]


def test_datasets_that_are_not_judged_share_the_model(judged, judge):
    judged.append("[datasets.two]\nsplits.fast = {}\ntask_options = { match = 'exact' }\n[datasets.two2]\nsplits.fast = {}\n")
    for name in ("two", "two2"):
        judged.split([{"id": str(n), "prompt": str(n), "answer": f"it is {n * n}"} for n in range(1, 6)], name)
    judged.run(*IT).assert_outcomes(passed=3)
    assert loads(judged) == 1
    assert judged.lines("toy-two-fast", "it")[0]["prediction"] == "it is 1" and metadata(judged)["judge"] is not None
    assert len(judge.bodies) == 39 + 5


def test_a_model_may_judge_itself(judged, judge):
    judged.run(*IT, "--gpueval-runtime", "big").assert_outcomes(passed=1)
    assert judged.lines(session="it")[3]["prediction"] == {"text": "it is 9", "judge": "Hm. Verdict: right"}
    assert judged.lines(session="it")[3]["tokens"] == judged.lines(session="it")[3]["judge_tokens"] == [3, 2]
    asked = [body["prompt"] for body in judge.bodies]
    assert sorted(asked) == sorted([*(f"ask {n}" for n in range(40)), *(f"{n}|{n * n}\n{n} squared|it is {n * n}" for n in range(40))])
    assert 1 <= judge.most_at_once <= 16 and loads(judged) == 0


# What is refused, before any model runs.


def test_a_judge_with_a_server_of_its_own_is_refused_at_once(judged):
    rewrite(judged, lambda text: re.sub("url = .*", 'server = { command = ["serve", "{port}"], model = "m" }', text))
    result = judged.spawn(*IT)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*judge.runtime: 'big' starts a server of its own (`server`), and runtime 'cpu' makes the answers*", "*url*VLLM_BASE_URL*"])
    assert "Traceback" not in said(result) and loads(judged) == 0 and not judged.output.exists()


def test_a_judge_that_is_not_there_is_said_before_the_model_is_loaded(judged, judge, monkeypatch):
    monkeypatch.setattr(external, "_START_S", 0.1)
    judge.shut()
    result = judged.run(*IT)
    judge.open()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*the judge: {judge.url} does not answer, for 0.1 s now*"])
    assert loads(judged) == 0 and "Traceback" not in said(result)


def test_a_judge_that_nobody_says_the_place_of(judged, monkeypatch):
    for name in external.URL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    rewrite(judged, lambda text: re.sub("url = .*", "", text))
    result = judged.run(*IT)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suite 'toy': judge.runtime 'big': where is the server? *VLLM_BASE_URL and OPENAI_API_BASE*"])
    assert loads(judged) == 0


def test_a_judge_that_does_not_accept_our_key(judged, judge, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
    judge.anything.extend([status(401, "who are you?")] * 9)
    result = judged.run(*IT)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the judge: http*the server refuses (HTTP 401: who are you?)*"])
    assert "sk-test" not in said(result)


def test_a_runtime_of_the_users_own_cannot_judge_itself(judged):
    judged.pytester.makeconftest(
        """
        from pytest_gpueval.runtimes.inprocess import InProcess
        def pytest_gpueval_runtimes():
            return {"openai": lambda case, workers: InProcess("model.py:Model", {}, case.directory, workers)}
        """
    )
    result = judged.run(*IT, "--gpueval-runtime", "big")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["suite 'toy': judge.runtime 'big': a conftest.py makes kind 'openai' its own; such runtimes do not judge"])


# Kill and continue.


def test_killed_in_the_middle_and_continued(judged, judge):
    process = start(judged, *IT, "--gpueval-workers", "5", seconds=0.1)
    results = judged.output / "it" / RUN / "results.jsonl"
    wait_for(lambda: count_lines(results) >= 10)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=SESSION_S)
    kept = results.read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    left = kept.count(b"\n")
    assert 10 <= left < 40
    judge.bodies.clear()
    with results.open("a") as file:
        file.write('{"id":"3')
    judged.spawn(*IT).assert_outcomes(passed=1)
    assert results.read_bytes().startswith(kept), "verdicts are kept"
    assert len(judge.bodies) == 40 - left - 1, "and not asked for again; the model fails on one row"
    judged.spawn(*ONE, "undisturbed").assert_outcomes(passed=1)
    assert untimed(judged.lines(session="it")) == untimed(judged.lines(session="undisturbed"))
    assert untimed_summary(judged.summary(session="it")) == untimed_summary(judged.summary(session="undisturbed"))


def test_a_finished_run_is_reused_without_a_judge(judged, judge):
    judged.run(*IT).assert_outcomes(passed=1)
    judge.bodies.clear()
    judged.run(*IT).assert_outcomes(passed=1)
    assert judge.bodies == [] and loads(judged) == 1


# The real thing.


def test_a_real_server_judges_its_own_model(toy, tmp_path):
    """Random weights have no opinion: what counts is that one server answers both, and is stopped."""
    judge = '[judge]\nruntime = "llama"\ntemplate = "Is {prediction} the same as {answer}? Verdict:"'
    toy.suite("toy", llama.suite(llama.tiny_model(tmp_path), "judge", "one", more=judge))
    toy.split([{"id": str(n), "prompt": f"say {n}", "answer": "x"} for n in range(8)])
    environment = toy.on_gpus(1)
    toy.finish(environment, "--gpus", "0")
    lines, summary = toy.lines(session="it"), toy.summary(session="it")
    assert len(lines) == 8 and all(isinstance(line["prediction"][key], str) for line in lines for key in ("text", "judge"))
    assert summary["metrics"]["unparsable"]["value"] == 1
    assert 0 < summary["tokens"]["prompt"] < summary["judge_tokens"]["prompt"], "the judge reads more"
    assert (toy.session("it") / "servers/gpu0-openai.log").read_text().count("Started server process") == 1
    assert metadata(toy)["judge"]["model"] == "tiny"
