"""The Job that a run becomes, and the user's template below it."""

import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.detached.submission import submission
from pytest_gpueval.hosts.jobs.manifest import Settings, job_name, manifest, secret
from pytest_gpueval.hosts.jobs.template import merged
from pytest_gpueval.hosts.kubectl import Cluster
from tests.kube.jobs import expanded

CLUSTER = Cluster("cluster", "evals", "test")


def what(*command, run_id="one", **more):
    given = {"directory": "~", "variables": [], "secrets": [], "own": dict(os.environ), **more}
    return submission(command, run_id=run_id, now=datetime(2026, 1, 1, tzinfo=UTC), **given)


def made(*command, settings=None, root=None, **more):
    return manifest(CLUSTER, what(*(command or ("true",)), **more), settings or Settings(image="eval:1"), root)


def test_what_a_job_says():
    settings = Settings("eval:1", 4, 2, "disk", "/data", {"A": "1"})
    document = made("pytest", "--gpueval-shard-index", "{shard_index}", "{shard_count}", "{run_dir}/x", settings=settings, directory="/code", variables=["B=2"])
    spec, (container,) = document["spec"], document["spec"]["template"]["spec"]["containers"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    index = "$(JOB_COMPLETION_INDEX)"
    assert container["command"] == ["pytest", "--gpueval-shard-index", index, "4", f"/data/gpueval-runs/one/{index}/x"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 2}} and container["workingDir"] == "/code"
    assert container["volumeMounts"] == [{"name": "gpueval", "mountPath": "/data"}]
    assert spec["template"]["spec"]["volumes"] == [{"name": "gpueval", "persistentVolumeClaim": {"claimName": "disk"}}]
    assert {one["name"]: one["value"] for one in container["env"]} == {
        "A": "1",
        "B": "2",
        "GPUEVAL_RUN_ID": "one",
        "GPUEVAL_RUN_DIR": f"/data/gpueval-runs/one/{index}",
    }
    assert spec["template"]["spec"]["restartPolicy"] == "Never" and spec["backoffLimitPerIndex"] == 2


def test_secrets_are_names():
    document = made("true", secrets=["HF_TOKEN"], own={"HF_TOKEN": "canary-7f3a91"})
    (container,) = document["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1] == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": job_name("one"), "key": "HF_TOKEN"}}}
    assert "7f3a91" not in str(document)
    kept = secret({"metadata": {**document["metadata"], "uid": "u"}}, {"HF_TOKEN": "canary-7f3a91"})
    assert kept["metadata"]["ownerReferences"][0] | {"controller": True} == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job_name("one"),
        "uid": "u",
        "controller": True,
        "blockOwnerDeletion": True,
    }


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_word_survives_a_kubelet(word):
    (container,) = made("echo", word.replace("{", "(") or "x", settings=Settings(image="x"))["spec"]["template"]["spec"]["containers"]
    assert expanded(container["command"][1], {"JOB_COMPLETION_INDEX": "0", "A": "wrong"}) == (word.replace("{", "(") or "x")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
def test_names_are_what_a_cluster_takes(run_id):
    name = job_name(run_id)
    assert len(name) <= 47 and all(letter.islower() or letter.isdigit() or letter == "-" for letter in name) and name[-1] != "-"


def test_run_ids_that_look_alike_have_names_of_their_own():
    assert len({job_name(run_id) for run_id in ("a-b", "A-b", "a_b", "a.b")}) == 4


THEIRS = {
    "metadata": {"labels": {"team": "x", "gpueval/run": "not this"}},
    "spec": {
        "ttlSecondsAfterFinished": 60,
        "backoffLimitPerIndex": 9,
        "template": {
            "spec": {
                "restartPolicy": "OnFailure",
                "tolerations": [{"key": "gpu"}],
                "containers": [{"name": "eval", "image": "theirs", "env": [{"name": "A", "value": "theirs"}, {"name": "B", "value": "b"}]}],
            }
        },
    },
}


def test_ours_is_laid_over_a_template():
    document = made("true", settings=Settings(shards=1, environment={"A": "ours"}, template=THEIRS))
    pod = document["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["name"], container["image"], container["command"]) == ("eval", "theirs", ["true"])
    assert [(one["name"], one["value"]) for one in container["env"]][:2] == [("A", "ours"), ("B", "b")]
    assert pod["restartPolicy"] == "Never" and pod["tolerations"] == [{"key": "gpu"}]
    assert document["spec"]["ttlSecondsAfterFinished"] == 60 and document["metadata"]["labels"]["team"] == "x"
    assert document["metadata"]["labels"]["gpueval/run"] == job_name("one")
    assert THEIRS["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure", "theirs is left as it is"


@pytest.mark.parametrize(
    ("theirs", "ours", "both"),
    [
        ([1], [2], [1, 2]),
        ([{"name": "a", "x": 1}], [{"name": "b"}], [{"name": "a", "x": 1}, {"name": "b"}]),
        ([{"name": "a"}], [{"name": "a", "y": 2}, {"z": 3}], [{"name": "a", "y": 2}, {"z": 3}]),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_merging(theirs, ours, both):
    assert merged(theirs, ours) == both


@pytest.mark.parametrize(
    ("settings", "more", "said"),
    [
        (Settings(), {}, "which image do its pods run"),
        (Settings("x", shards=2), {}, "the command does not say which is which; add: --gpueval-shard-index {shard_index}"),
        (Settings("x"), {"directory": "~/code"}, "begins with /"),
        (Settings("x"), {"root": "~/runs"}, "--remote-outputs-dir ~/runs"),
    ],
)
def test_what_cannot_be_a_job_says_why(settings, more, said):
    with pytest.raises(UsageProblem) as problem:
        made("true", settings=settings, **more)
    assert said in str(problem.value) and str(problem.value).startswith("cluster: ")


def test_the_same_request_has_the_same_digest_and_another_has_not():
    def digest(**more):
        return made("true", **more)["metadata"]["annotations"]["gpueval/request"]

    assert digest() == digest()
    others = [digest(variables=["A=1"]), digest(directory="/x"), digest(root="/x"), digest(settings=Settings("eval:2")), digest(run_id="two")]
    assert len({digest(), *others}) == 6
