"""The tasks from a suite file to the verdict: gates on their metrics, shards, continuation, options."""

from __future__ import annotations

import json

import pytest

from tests.session.cut import ALONE, FILE, outcome, said
from tests.session.test_again import untimed, untimed_summary

HEAD = """
task = "{task}"
{labels}
split = "fast"
runtime = "cpu"
[task_options]
{options}
[runtimes.cpu]
kind = "inprocess"
target = "model.py:Model"
[datasets.one]
splits.fast = {{ rows = 40 }}
"""
GATE = '[[datasets.one.gates]]\nmetric = "{metric}"\n{bounds}\n'

TOPICS = """
class Model:
    def predict(self, batch):
        return [{word: 0.3 + len(row["text"]) * 7 % 11 / 20 for word in row["text"].split()} for row in batch]
"""
# "n + m = ?", of which every eighth is wrong and every tenth is no number.
SUMS = """
class Model:
    def predict(self, batch):
        assert all(set(row) == {"id", "prompt"} for row in batch), "the gold must stay hidden"
        return [self.one(*map(int, row["prompt"].split()[::2][:2])) for row in batch]
    def one(self, n, m):
        if n % 10 == 3:
            return ["no idea"] * 3
        return [f"Well, {n} + {m} is {n + m + (n % 8 == 0)}.", f"{n + m}.0", "-1"]
"""
CHOICES = """
class Model:
    def predict(self, batch):
        return [self.one(int(row["id"]), row["messages"][-1]["content"], row["choices"]) for row in batch]
    def one(self, n, question, choices):
        right = choices.index(question.removeprefix("Which is ").removesuffix("?"))
        return [-1.0 if index == right else -2.0 - index for index in range(3)] if n % 2 else "ABC"[right if n % 5 else 0] + ")"
"""
MOODS = """
class Model:
    def predict(self, batch):
        return [{"good": min(1.0, 0.4 + len(row["text"]) / 40)} for row in batch]
"""


def topics(toy):
    table = [{"id": str(n), "text": "art " * (n % 2) + "news " * (n % 3 > 0) + "tech", "label": ["art"] * (n % 2) + ["tech"] * (n % 5 > 0)} for n in range(40)]
    write(toy, "classification", TOPICS, table, "multilabel = true", 'labels = ["art", "news", "tech"]')
    gates(toy, f1_micro="min = 0.3", auroc_macro="min = 0.1", hamming_loss="max = 0.7", subset_accuracy="max = 0.9", recall_macro="min = 0.1")
    toy.append('[[datasets.one.gates]]\nmetric = "auprc"\nlabel = "art"\nmin = 0.3\n')


def sums(toy):
    table = [{"id": str(n), "prompt": f"{n} + {n * n} = ?", "answer": [str(n + n * n)]} for n in range(40)]
    write(toy, "generation", SUMS, table, 'match = "numeric"\nk = [1, 2]')
    toy.append("[datasets.one.task_options]\ntolerance = 0.0\n")
    gates(toy, accuracy="min = 0.4", **{"pass@2": 'min = 0.6\njudge = "interval"'}, unparsable="max = 0.2")


def choices(toy):
    cities = ["Paris", "London", "Rome"]
    table = [{"id": str(n), "messages": [{"role": "user", "content": f"Which is {cities[n % 3]}?"}], "choices": cities, "answer": n % 3} for n in range(40)]
    write(toy, "generation", CHOICES, table, 'match = "choice"')
    gates(toy, accuracy="min = 0.9", unparsable="max = 0.0")


def moods(toy):
    table = [{"id": str(n), "text": "x" * (n % 9), "label": "good" if n % 9 * (n % 4) > 4 else "bad"} for n in range(40)]
    write(toy, "classification", MOODS, table, "", 'labels = ["bad", "good"]')
    gates(toy, auroc="min = 0.5", log_loss="max = 2.0", brier_score="max = 0.5", expected_calibration_error="max = 0.5", auprc_macro="min = 0.2")


def write(toy, task, model, table, options, labels=""):
    toy.suite("toy", HEAD.format(task=task, options=options, labels=labels), model)
    toy.split(table)


def gates(toy, **bounds):
    for metric, text in bounds.items():
        toy.append(GATE.format(metric=metric, bounds=text))


KINDS = [topics, sums, choices, moods]


@pytest.mark.parametrize("kind", KINDS)
def test_gates_speak_and_nobody_can_tell_the_cut(toy, kind):
    kind(toy)
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "whole").assert_outcomes(passed=1)
    summary, lines = outcome(toy, "whole")
    assert len(summary["gates"]) >= 2 and all(gate["outcome"] == "pass" for gate in summary["gates"])
    assert summary["metrics"][summary["headline"]]["value"] < 1
    assert len(lines) == 40
    file = toy.root / FILE
    file.write_text(file.read_text().replace('split = "fast"', 'split = "fast"\nshards = 3', 1))
    toy.run("--gpueval-suite", "toy", *ALONE, "--gpueval-session", "cut").assert_outcomes(passed=4)
    assert outcome(toy, "cut") == (summary, lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_cut_short_ends_with_the_same_figures(toy, kind):
    kind(toy)
    it = ("--gpueval-suite", "toy", "--gpueval-session", "it")
    toy.run(*it).assert_outcomes(passed=1)
    whole = toy.summary(session="it"), toy.lines(session="it")
    run = toy.session("it") / "toy-one-fast"
    (run / "summary.json").unlink()
    results = run / "results.jsonl"
    results.write_text("".join(results.read_text().splitlines(keepends=True)[:17]) + '{"id":')
    toy.run(*it).assert_outcomes(passed=1)
    assert untimed_summary(toy.summary(session="it")) == untimed_summary(whole[0])
    assert untimed(toy.lines(session="it")) == untimed(whole[1])


def test_a_gate_on_a_new_metric_fails_and_one_that_cannot_be_is_named(toy):
    sums(toy)
    toy.append(GATE.format(metric="pass@1", bounds="min = 0.99"))
    toy.run("--gpueval-suite", "toy").assert_outcomes(failed=1)
    toy.append(GATE.format(metric="pass@5", bounds="min = 0.99"))
    result = toy.run("--gpueval-suite", "toy")
    result.assert_outcomes(errors=1)
    known = "accuracy, gpu_peak_memory_mib, latency_p95_ms, pass@1, pass@2, samples_per_s, unparsable"
    result.stdout.fnmatch_lines([f"*'pass@5', which does not exist. Did you mean 'pass@2'? Valid metrics: {known}."])


def test_counts_reach_the_summary_and_the_reports(toy):
    moods(toy)
    toy.run("--gpueval-suite", "toy").assert_outcomes(passed=1)
    confusion = toy.summary()["tables"]["confusion"]
    assert sum(times for row in confusion.values() for times in row.values()) == 40
    assert set(confusion) == {"bad", "good"}
    cells = " | ".join(str(confusion["good"].get(label, 0)) for label in ("bad", "good"))
    assert f"| good | {cells} |" in (toy.session() / "report.md").read_text()
    assert "<h3>confusion</h3>" in (toy.session() / "report.html").read_text()


def test_options_are_part_of_what_a_run_is(toy):
    sums(toy)
    it = ("--gpueval-suite", "toy", "--gpueval-session", "it")
    toy.run(*it).assert_outcomes(passed=1)
    metadata = json.loads((toy.session("it") / "toy-one-fast/run_metadata.json").read_text())
    assert metadata["scoring"]["task_options"] == {"match": "numeric", "k": [1, 2], "tolerance": 0.0}
    toy.edit("tolerance = 0.0", "tolerance = 0.5")
    result = toy.run(*it)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*scoring.task_options.tolerance: 0.0 there, 0.5 now"])


SURE = "[policies.sure]\nthreshold = 0.7\nthresholds = { %s = 0.01 }\n"


def test_a_policy_says_from_which_score_on_one_of_several_labels_counts(toy):
    topics(toy)
    toy.append(SURE % "art")
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "open")
    toy.run("--gpueval-suite", "toy", "--gpueval-session", "sure", "--gpueval-policy", "sure")
    for line, surer in zip(toy.lines(session="open"), toy.lines(session="sure"), strict=True):
        scores = line["prediction"]
        assert line["score"]["predicted"] == sorted(label for label, score in scores.items() if score >= 0.5)
        assert surer["score"]["predicted"] == sorted(label for label, score in scores.items() if score >= (0.01 if label == "art" else 0.7))
    assert toy.summary(session="open")["metrics"]["auroc_macro"] == toy.summary(session="sure")["metrics"]["auroc_macro"]


def test_a_policy_means_nothing_where_every_row_has_one_label(toy):
    moods(toy)
    toy.append(SURE % "good")
    result = toy.run("--gpueval-suite", "toy", "--gpueval-policy", "sure")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["suite 'toy': task classification: a policy with thresholds or switches has no meaning for *with one label each"])


def test_a_row_without_a_question_says_so(toy):
    sums(toy)
    toy.split([{"id": f"x{number}", "answer": "1"} for number in range(40)])
    result = toy.run("--gpueval-suite", "toy")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*one/fast.parquet: row 1 (id 'x0'): neither of 'prompt' and 'messages': a row has one of them."])


# Tasks that a conftest.py adds.

OWN = """
from pytest_gpueval.scoring.spans import SpanDetection
class Mine(SpanDetection):
    def __init__(self, labels, label_map, thresholds, ignored, *, strictness=1):
        super().__init__(labels, label_map, thresholds, ignored)
        if strictness > 9:
            raise ValueError("strictness above 9")
def pytest_gpueval_tasks():
    return {"mine": Mine}
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("strictness = 3", None),
        ("strictnes = 3", "*suite.toml: task_options.strictnes: unknown key. Did you mean 'strictness'? Valid options of task 'mine': strictness."),
        ("strictness = 10", "*suite 'toy': task mine: strictness above 9"),
    ],
)
def test_a_task_of_the_users_own_takes_the_options_that_it_names(toy, options, message):
    toy.pytester.makeconftest(OWN)
    toy.edit('task = "span_detection"', 'task = "mine"')
    toy.append(f"[task_options]\n{options}\n")
    result = toy.run("--gpueval-suite", "toy", "-k", "one")
    result.assert_outcomes(deselected=1, **({"passed": 1} if message is None else {"errors": 1}))
    if message is not None:
        result.stdout.fnmatch_lines([message])
        assert "Traceback" not in said(result)
