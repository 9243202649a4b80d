"""A suite and its options give cases."""

from pathlib import Path

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.suites.model import Suite
from pytest_gpueval.suites.schema import Gate, PolicyEntry, SuiteFile


def suite(**changes):
    table = {
        "task": "classification",
        "labels": ["a", "b"],
        "split": "fast",
        "runtime": "cpu",
        "runtimes": {"cpu": {"kind": "inprocess"}, "cuda": {"kind": "triton"}},
        "policies": {"sure": {"threshold": 0.5}},
        "datasets": {"one": {"splits": {"fast": {"rows": 3}, "full": {}}}, "two": {"splits": {"full": {"rows": 9}}, "max_error_share": 0.25}},
        **changes,
    }
    return Suite("mine", Path("/suites/mine/suite.toml"), SuiteFile.model_validate(table))


def test_one_case_for_each_dataset_that_has_the_split():
    assert [(case.id, case.rows) for case in suite().cases()] == [("one-fast", 3)]
    assert [(case.id, case.rows) for case in suite().cases("full")] == [("one-full", None), ("two-full", 9)]
    assert repr(suite().cases()[0]) == "Case(mine/one-fast)"


def test_a_dataset_can_change_the_share_of_errors():
    assert [case.max_error_share for case in suite(max_error_share=0.1).cases("full")] == [0.1, 0.25]
    assert [case.max_error_share for case in suite(max_error_share=0.1, datasets={"x": {"splits": {"fast": {}}, "max_error_share": 0}}).cases()] == [0]


def test_runtime_and_policy_are_chosen_by_name():
    case = suite().cases(runtime="cuda", policy="sure")[0]
    assert (case.runtime_name, case.runtime.kind, case.policy_name, case.policy.threshold) == ("cuda", "triton", "sure", 0.5)
    assert suite().cases()[0].policy_name is None
    assert suite(policy="sure").cases()[0].policy.threshold == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "fist"}, "suite 'mine' has no split 'fist'. Did you mean 'fast'? Valid splits: fast, full.\nSuite file: /suites/mine/suite.toml"),
        ({"runtime": "cudo"}, "suite 'mine' has no runtime 'cudo'. Did you mean 'cuda'? Valid runtimes: cpu, cuda.\nSuite file: /suites/mine/suite.toml"),
        ({"policy": "x"}, "suite 'mine' has no policy 'x'. Valid policies: sure.\nSuite file: /suites/mine/suite.toml"),
        ({"policy": ("own", PolicyEntry(disabled=["c"]))}, "policy own: suite 'mine' has no label 'c'. Valid labels: a, b."),
        ({"policy": ("own", PolicyEntry(thresholds={"A": 1}))}, "policy own: suite 'mine' has no label 'A'. Valid labels: a, b."),
    ],
)
def test_unknown_names(options, message):
    with pytest.raises(UsageProblem) as caught:
        suite().cases(**options)
    assert str(caught.value) == message


def judged(**big):
    runtimes = {"cpu": {"kind": "inprocess"}, "big": {"kind": "openai", **big}}
    datasets = {"one": {"splits": {"fast": {}}}, "two": {"splits": {"fast": {}}, "task_options": {"match": "exact"}}}
    options = {"task": "generation", "task_options": {"match": "judge"}, "labels": [], "policies": {}, "judge": {"runtime": "big"}}
    return suite(runtimes=runtimes, datasets=datasets, **options)


@pytest.mark.parametrize("elsewhere", [{}, {"url": "http://gpu7:8000/v1"}])
def test_a_judge_elsewhere_judges_any_runtime(elsewhere):
    for runtime in ("cpu", "big"):
        assert [case.judge is not None for case in judged(**elsewhere).cases(runtime=runtime)] == [True, False]


@pytest.mark.parametrize(("own", "table"), [("vllm", {"model": "m"}), ("server", {"command": ["x", "{port}"], "model": "m"})])
def test_a_judge_with_a_server_of_this_session_judges_only_itself(own, table):
    assert judged(**{own: table}).cases(runtime="big")[0].judge.runtime_name == "big"
    with pytest.raises(UsageProblem) as caught:
        judged(**{own: table}).cases(runtime="cpu")
    assert str(caught.value) == (
        f"suite 'mine': judge.runtime: 'big' starts a server of its own (`{own}`), and runtime 'cpu' makes the answers: "
        "a worker has its GPU for one model at a time.\n"
        f"Let the judge run elsewhere: in runtimes.big, `url` instead of `{own}`, or neither, and VLLM_BASE_URL or OPENAI_API_BASE set.\n"
        "Or let the model judge itself: --gpueval-runtime big, or a judge.runtime that makes the answers too.\nSuite file: /suites/mine/suite.toml"
    )


@pytest.mark.parametrize(
    ("big", "model"),
    [
        ({}, None),
        ({"url": "http://gpu7:8000/v1", "request": {"model": "judge-7b"}}, "judge-7b"),
        ({"vllm": {"model": "org/m"}}, "org/m"),
        ({"server": {"command": ["x"], "model": "/m.gguf", "served_name": "m"}}, "m"),
    ],
)
def test_a_judge_says_who_it_is(big, model):
    told = judged(**big).cases(runtime="big")[0].judge.as_dict()
    assert (told["model"], told["runtime"]["name"], sorted(told)) == (model, "big", ["model", "pattern", "right", "runtime", "template"])


def test_a_policy_of_the_users_own():
    case = suite().cases(policy=("own", PolicyEntry(disabled=["b"])))[0]
    assert (case.policy_name, case.policy.disabled) == ("own", ["b"])


def test_a_datasets_gate_replaces_the_suites_of_the_same_metric_and_label():
    general = [{"metric": "f1", "min": 0.5}, {"metric": "f1", "label": "a", "min": 0.6}, {"metric": "accuracy", "min": 0.7}]
    own = [{"metric": "f1", "min": 0.1}]
    file = suite(gates=general, datasets={"one": {"splits": {"fast": {}}, "gates": own}})
    assert file.cases()[0].gates == tuple(Gate.model_validate(gate) for gate in [general[1], general[2], own[0]])


def test_two_gates_on_one_metric_both_count():
    gates = [{"metric": "f1", "min": 0.5}, {"metric": "f1", "min": 0.4, "judge": "interval"}]
    assert [gate.judge for gate in suite(gates=gates).cases()[0].gates] == ["value", "interval"]
    own = suite(gates=[{"metric": "f1", "max": 1}], datasets={"one": {"splits": {"fast": {}}, "gates": gates}})
    assert [gate.judge for gate in own.cases()[0].gates] == ["value", "interval"]


def test_gates_on_speed_are_no_metrics_policys():
    """Under a policy with gates of its own they stay, like drops. Memory is what it is: it has no part in the level that all tests share."""
    general = [
        {"metric": "samples_per_s", "max_drop": 0.1, "relative": True},
        {"metric": "gpu_peak_memory_mib", "max": 40_000.0},
        {"metric": "gpu_peak_memory_mib", "max_rise": 0.1, "relative": True},
        {"metric": "f1", "min": 0.5},
    ]
    file = suite(gates=general, datasets={"one": {"splits": {"fast": {}}}}, policies={"own": {"gates": [{"metric": "f1", "min": 0.2}]}}, policy="own")
    (case,) = file.cases()
    assert [(gate.metric, gate.is_speed, gate.is_tested) for gate in case.gates] == [
        ("f1", False, False),
        ("samples_per_s", True, True),
        ("gpu_peak_memory_mib", True, False),
        ("gpu_peak_memory_mib", True, False),
    ]
    assert case.comparisons == 1
