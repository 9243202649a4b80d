"""What a record says when its Job is not there."""

import json

import pytest

from pytest_gpueval.hosts.detached.states import Outcome, State
from pytest_gpueval.hosts.jobs.records import End, blank, ended, knows, told

ANNOTATIONS = {"gpueval/run-id": "one", "gpueval/command": '["true"]', "gpueval/directory": "/runs/one", "gpueval/request": "digest"}
JOB = {"metadata": {"name": "gpueval-one", "namespace": "evals", "uid": "u", "annotations": {**ANNOTATIONS, "team": "x"}}}
PASSED = End(Outcome(State.PASSED), 1.5, 0)


def test_a_record_says_what_was_asked_for_and_no_more():
    record = blank(JOB)
    assert record["metadata"]["annotations"] == ANNOTATIONS and record["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gpueval"
    assert (record["kind"], record["data"], record["metadata"]["name"]) == ("ConfigMap", {}, "gpueval-one")


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (None, State.QUEUED),
        ({"job": "u"}, State.LOST),
        ({"stop": "asked"}, State.CANCELLED),
        ({"job": "u", "stop": "asked"}, State.CANCELLED),
        (told({}, JOB, PASSED), State.PASSED),
        (told({"data": {"job": "u", "stop": "asked"}}, JOB, PASSED), State.PASSED),
        ({"job": "u", "end": "edited"}, State.LOST),
        ({"job": "u", "end": '{"state": "happy", "reason": "", "seconds": 1, "exit_code": 0}'}, State.LOST),
        ({"job": "u", "end": '{"state": "passed", "reason": "", "seconds": "long", "exit_code": 0}'}, State.LOST),
        ({"job": "u", "end": "[]"}, State.LOST),
    ],
)
def test_each_record_means_one_state(data, state):
    assert ended({"data": data}).outcome.state is state


def test_the_first_end_that_was_seen_stays_and_another_job_begins_anew():
    failed = End(Outcome(State.FAILED, "by index: 0 (OOMKilled)"), 2.0, 137)
    record = {"data": told({}, JOB, failed)}
    assert ended(record) == failed and knows(record, JOB, End(Outcome(State.FAILED, "its pods are collected"), 2.0, None))
    other = {"metadata": {**JOB["metadata"], "uid": "v"}}
    assert not knows(record, other, None) and told(record, other, None) == {"job": "v"}
    assert json.loads(told(record, other, PASSED)["end"])["state"] == "passed" and not knows(None, JOB, None)
