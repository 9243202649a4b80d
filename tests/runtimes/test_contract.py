"""What every runtime does, whatever is behind it. A new runtime joins by adding a maker to RUNTIMES.

A maker takes a folder to write into and the number of samples in flight, and returns a runtime, not started, whose model answers a sample
with the length of its text and fails on the text "fail".
"""

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import RuntimeFault
from pytest_gpueval.runtimes.command import Command
from pytest_gpueval.runtimes.inprocess import InProcess
from pytest_gpueval.runtimes.judged import Judged
from pytest_gpueval.runtimes.openai import OpenAIRuntime
from pytest_gpueval.runtimes.openai_request import Request
from pytest_gpueval.runtimes.triton import TritonRuntime
from pytest_gpueval.servers.external import External
from tests import triton
from tests.openai_faults import FaultServer, reply, status

_MODEL = """
class Model:
    def predict(self, batch):
        if any(row["text"] == "fail" for row in batch):
            raise ValueError("told to fail")
        return [len(row["text"]) for row in batch]
"""


def _in_process(directory, in_flight):
    (directory / "model.py").write_text(_MODEL)
    return InProcess("model.py:Model", {}, directory, in_flight)


_PROGRAM = """
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    told = {"error": "told to fail"} if row["text"] == "fail" else {"prediction": len(row["text"])}
    print(json.dumps({"id": row["id"], **told}), flush=True)
"""


def _command(directory, in_flight):
    (directory / "program.py").write_text(_PROGRAM)
    return Command([sys.executable, "program.py"], directory, in_flight=in_flight)


class _Number(OpenAIRuntime):
    """A language model answers in text."""

    def answers(self, samples):
        for answer in super().answers(samples):
            answer.value = None if answer.value is None else int(answer.value)
            yield answer


@cache
def _language_model():
    server = FaultServer()
    server.always["fail"] = status(400, "told to fail")
    server.answer = lambda body: reply(str(len(body["prompt"])))
    atexit.register(server.close)
    return server


def _openai(_directory, in_flight):
    return _Number(External(_language_model().url), Request("completions", template="{text}"), in_flight)


@cache
def _triton_server(engine):
    directory = Path(tempfile.mkdtemp(prefix="contract-"))
    (directory / "model.py").write_text(_MODEL)
    server = triton.server(directory / f"{engine}.log", engine=engine)
    atexit.register(shutil.rmtree, directory)
    atexit.register(server.stop)
    return server, triton.model(directory)


def _triton(engine):
    def make(_directory, in_flight):
        server, model = _triton_server(engine)
        return TritonRuntime(server.endpoint(model), rows=1, in_flight=in_flight - 1)  # where a batch ends shows with the row after it

    return make


class _JudgedNumber(Judged):
    """The judge repeats what it is shown, in words."""

    def answers(self, samples):
        for answer in super().answers(samples):
            if answer.value is not None:
                assert answer.value["judge"] == f"says {answer.value['text']}"
                answer.value = int(answer.value["text"])
            yield answer


class _Text(InProcess):
    def answers(self, samples):
        for answer in super().answers(samples):
            answer.value = None if answer.value is None else str(answer.value)
            yield answer


_JUDGE = """
class Judge:
    def predict(self, batch):
        return ["says " + row["text"] for row in batch]
"""


def _judged(directory, in_flight):
    """Both look ahead: half as far each."""
    (directory / "model.py").write_text(_MODEL)
    (directory / "judge.py").write_text(_JUDGE)
    half = in_flight // 2
    return _JudgedNumber(_Text("model.py:Model", {}, directory, half), InProcess("judge.py:Judge", {}, directory, half), _shown)


def _judged_openai(_directory, in_flight):
    model = OpenAIRuntime(External(_language_model().url), Request("completions", template="{text}"), in_flight // 2)
    judge = OpenAIRuntime(External(_judging_model().url), Request("completions", template="{text}"), in_flight // 2)
    return _JudgedNumber(model, judge, _shown)


@cache
def _judging_model():
    server = FaultServer()
    server.answer = lambda body: reply(f"says {body['prompt']}")
    atexit.register(server.close)
    return server


def _shown(sample, text):
    return {"id": sample.id, "text": text}


RUNTIMES = {
    "inprocess": _in_process,
    "command": _command,
    "openai": _openai,
    "judged": _judged,
    "judged_openai": _judged_openai,
    **{engine: _triton(engine) for engine in triton.ENGINES},
}
IN_FLIGHT = 4


@pytest.fixture(params=sorted(RUNTIMES))
def fresh(request, tmp_path):
    return RUNTIMES[request.param](tmp_path, IN_FLIGHT)


@pytest.fixture
def runtime(fresh):
    fresh.start()
    yield fresh
    fresh.close()


class Source:
    """Samples that count how many of them were taken. They have no gold: a runtime that asks for it fails."""

    def __init__(self, *texts):
        self.taken = 0
        self._texts = texts

    def __iter__(self):
        for number, text in enumerate(self._texts):
            self.taken += 1
            yield SimpleNamespace(id=f"r{number}", inputs={"id": f"r{number}", "text": text})


def test_one_answer_for_each_sample_in_their_order(runtime):
    answers = list(runtime.answers(Source(*("x" * (i * 7 % 13) for i in range(50)))))
    assert [(answer.sample.id, answer.value, answer.error) for answer in answers] == [(f"r{i}", i * 7 % 13, None) for i in range(50)]
    assert all(answer.latency_ms >= 0 for answer in answers)


@pytest.mark.parametrize("failing", [0, 1, 3, 4, 9])
def test_a_sample_that_fails_costs_no_other_its_answer(runtime, failing):
    answers = list(runtime.answers(Source(*("fail" if i == failing else "x" * i for i in range(10)))))
    assert [answer.sample.id for answer in answers] == [f"r{i}" for i in range(10)]
    assert [answer.value for answer in answers if answer.error is None] == [i for i in range(10) if i != failing]
    (error,) = [answer.error for answer in answers if answer.error is not None]
    assert "told to fail" in error
    assert answers[failing].value is None


def test_all_samples_may_fail(runtime):
    assert all(answer.error and answer.value is None for answer in runtime.answers(Source(*["fail"] * 9)))


def test_no_samples_no_answers(runtime):
    assert list(runtime.answers(Source())) == []


def test_nothing_is_taken_before_an_answer_is_wanted_and_no_more_than_in_flight(runtime):
    source = Source(*["x"] * 40)
    answers = runtime.answers(source)
    assert source.taken == 0
    for given in range(40):
        next(answers)
        assert given + 1 <= source.taken <= given + 2 * IN_FLIGHT  # as many wait for the slowest one's answer
    assert next(answers, None) is None


def test_an_error_of_the_source_passes_through(runtime):
    def broken():
        yield from Source("a")
        raise LookupError("the split is damaged")

    with pytest.raises(LookupError, match="the split is damaged"):
        list(runtime.answers(broken()))


def test_it_can_be_asked_again_also_after_being_left_half_way(runtime):
    first = runtime.answers(Source(*["x"] * 20))
    next(first)
    first.close()
    assert [answer.value for answer in runtime.answers(Source("a", "bb"))] == [1, 2]


def test_answers_before_the_start_are_a_fault_not_an_answer(fresh):
    with pytest.raises(RuntimeFault):
        list(fresh.answers(Source("a")))


def test_closing_is_always_allowed(fresh):
    fresh.close()
    fresh.start()
    fresh.close()
    fresh.close()
