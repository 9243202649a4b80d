"""A model whose answers another one judges. What it has in common with all runtimes is in test_contract.py."""

import asyncio
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import RuntimeFault, Unreachable
from pytest_gpueval.runtimes import judged
from pytest_gpueval.runtimes.base import Answer
from pytest_gpueval.runtimes.judged import Judged, Lent
from pytest_gpueval.runtimes.openai import OpenAIRuntime
from pytest_gpueval.runtimes.openai_request import Request
from pytest_gpueval.runtimes.suspects import most_ends
from tests.openai_faults import FaultServer, reply, status


class Model:
    """Answers by a function of the sample's inputs, so many samples ahead; an exception that it returns is a row's error, one that it raises the end."""

    def __init__(self, answer, ahead=3, log=(), fails=None):
        self._answer, self._ahead, self._log, self._fails = answer, ahead, log, fails
        self.asked = []
        self.open = 0

    def start(self):
        if self._fails is not None:
            raise self._fails
        self.open += 1
        self._log and self._log[0].append((self._log[1], "start"))

    def close(self):
        self.open -= 1
        self._log and self._log[0].append((self._log[1], "close"))

    def answers(self, samples):
        waiting = []
        for sample in samples:
            self.asked.append(dict(sample.inputs))
            waiting.append(sample)
            if len(waiting) >= self._ahead:
                yield self._one(waiting.pop(0))
        for sample in waiting:
            yield self._one(sample)

    def _one(self, sample):
        value = self._answer(sample.inputs)
        if isinstance(value, Exception):
            return Answer(sample, None, str(value), 7.0)
        return Answer(sample, value, None, 7.0, (3, 2))


def rows(*texts):
    return [SimpleNamespace(id=f"r{number}", inputs={"id": f"r{number}", "prompt": text}, gold=f"gold {number}") for number, text in enumerate(texts)]


def question(sample, text):
    return {"id": sample.id, "prediction": text, "answer": sample.gold}


def judging(answer, verdict=lambda shown: f"verdict on {shown['prediction']}", ahead=3):
    return Judged(Model(answer, ahead), Model(verdict, ahead), question)


def outcome(answers):
    return [(answer.sample.id, answer.value, answer.error) for answer in answers]


def test_each_answer_comes_with_what_the_judge_said_of_it():
    found = list(judging(lambda inputs: inputs["prompt"].upper()).answers(rows("a", "b", "c", "d", "e")))
    assert outcome(found) == [(f"r{n}", {"text": x.upper(), "judge": f"verdict on {x.upper()}"}, None) for n, x in enumerate("abcde")]


def test_the_judge_sees_the_gold_and_the_model_does_not():
    runtime = judging(lambda inputs: "x")
    list(runtime.answers(rows("a", "b")))
    assert "gold" not in str(runtime._model.asked)
    assert [shown["answer"] for shown in runtime._judge.asked] == ["gold 0", "gold 1"]


def test_several_completions_are_judged_one_by_one():
    counts = [3, 1, 2, 5]
    runtime = judging(lambda inputs: [f"{inputs['prompt']}{n}" for n in range(counts[int(inputs["prompt"])])])
    found = list(runtime.answers(rows("0", "1", "2", "3")))
    for answer, count in zip(found, counts, strict=True):
        texts = [f"{answer.sample.inputs['prompt']}{n}" for n in range(count)]
        assert answer.value == {"text": texts, "judge": [f"verdict on {text}" for text in texts]}


def test_latency_and_tokens_are_the_models_own_and_the_judges_are_apart():
    (answer,) = judging(lambda inputs: ["x", "y"]).answers(rows("a"))
    assert (answer.latency_ms, answer.tokens, answer.judge_tokens) == (7.0, (3, 2), (6, 4))


def test_an_error_of_the_model_is_passed_on_and_costs_no_verdict():
    runtime = judging(lambda inputs: ValueError("no idea") if inputs["prompt"] == "bad" else "x")
    found = list(runtime.answers(rows("bad", "a", "bad", "bad", "b", "bad")))
    assert [answer.error for answer in found] == ["no idea", None, "no idea", "no idea", None, "no idea"]
    assert [answer.sample.id for answer in found] == [f"r{n}" for n in range(6)]
    assert len(runtime._judge.asked) == 2


@pytest.mark.parametrize("value", [None, 3, [-1.0, -2.0], [], {"text": "x"}, b"x", ["x", None]], ids=repr)
def test_what_is_no_text_is_passed_on_for_its_task_to_judge(value):
    runtime = judging(lambda inputs: value)
    assert outcome(runtime.answers(rows("a"))) == [("r0", value, None)]
    assert runtime._judge.asked == []


def test_where_the_judge_fails_the_row_fails_and_says_so():
    def verdict(shown):
        return ValueError("HTTP 400: too long") if shown["prediction"] == "b" else None if shown["prediction"] == "c" else "fine"

    found = list(judging(lambda inputs: inputs["prompt"], verdict).answers(rows("a", "b", "c", "d")))
    assert [answer.error for answer in found] == [None, "the judge: HTTP 400: too long", "the judge: expected a text, got None", None]
    assert found[1].value is None and found[1].tokens == (3, 2), "the model has answered"
    several = judging(lambda inputs: ["a", "b", "a"], verdict).answers(rows("x"))
    assert [answer.error for answer in several] == ["the judge of completion 2: HTTP 400: too long"]


@pytest.mark.parametrize("kind", [RuntimeFault, Unreachable])
def test_a_judge_that_gives_up_says_that_it_was_the_judge(kind):
    def verdict(_shown):
        raise kind("no server")

    with pytest.raises(kind, match=r"^the judge: no server$"):
        list(judging(lambda inputs: "x", verdict).answers(rows("a")))


@pytest.mark.parametrize("error", [RuntimeFault("it is gone"), Unreachable("it is gone"), KeyError("it is gone")], ids=lambda error: type(error).__name__)
def test_a_model_that_gives_up_is_not_taken_for_the_judge(error):
    def answer(inputs):
        if inputs["prompt"] == "c":
            raise error
        return "x"

    taken = []
    with pytest.raises(type(error)) as caught:
        taken.extend(judging(answer, ahead=1).answers(rows("a", "b", "c")))
    assert caught.value is error


def test_memory_stays_bounded_where_the_model_only_fails(monkeypatch):
    """The judge is asked nothing, and so would never let go of what waits."""
    monkeypatch.setattr(judged, "_MOST_WAITING", 10)
    taken = 0

    def source():
        nonlocal taken
        for row in rows("ok", *["bad"] * 500, "ok", *["bad"] * 500):
            taken += 1
            yield row

    runtime = judging(lambda inputs: ValueError("no") if inputs["prompt"] == "bad" else "x")
    given = 0
    for answer in runtime.answers(source()):
        given += 1
        assert taken - given <= 3 + 3 + 10, answer.sample.id
    assert given == taken == 1002


def test_both_are_started_and_closed():
    log = []
    runtime = Judged(Model(str, log=(log, "model")), Model(str, log=(log, "judge")), question)
    runtime.start()
    runtime.close()
    assert log == [("judge", "start"), ("model", "start"), ("judge", "close"), ("model", "close")]


def test_a_judge_that_does_not_start_says_so_before_the_model_is_loaded():
    model = Model(str)
    with pytest.raises(Unreachable, match=r"^the judge: nobody there$"):
        Judged(model, Model(str, fails=Unreachable("nobody there")), question).start()
    assert model.open == 0


def test_a_model_that_does_not_start_leaves_no_judge():
    judge = Model(str)
    with pytest.raises(RuntimeFault, match=r"^no weights$"):
        Judged(Model(str, fails=RuntimeFault("no weights")), judge, question).start()
    assert judge.open == 0


def test_a_lent_runtime_is_left_to_its_owner():
    model = Model(lambda inputs: "x")
    model.start()
    lent = Lent(lambda: model)
    with pytest.raises(RuntimeFault, match="before it was started"):
        lent.answers(rows("a"))
    lent.start()
    assert [answer.value for answer in lent.answers(rows("a"))] == ["x"]
    lent.close()
    assert model.open == 1


# A model that judges itself: one server, one window.


class Endpoint:
    """Brings the server back by `open`."""

    def __init__(self, server):
        self.url, self.generation, self._server = server.url, 1, server

    def recover(self, generation, _problem):
        if generation == self.generation:
            self._server.shut()
            self._server.open()
            self.generation += 1


@pytest.fixture
def server():
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture
def itself(server):
    """A runtime that judges itself, started."""
    model = OpenAIRuntime(Endpoint(server), Request("completions"), 4)
    model.start()
    judge = model.beside(Request("completions", template="is {prediction} {answer}?"))
    runtime = Judged(Lent(lambda: model), judge, question)
    runtime.start()
    yield runtime
    runtime.close()
    model.close()


def test_itself_in_the_same_places(server, itself):
    server.delay_s = 0.01
    server.answer = lambda body: reply(f"re {body['prompt']}")
    found = list(itself.answers(rows(*map(str, range(40)))))
    assert outcome(found) == [(f"r{n}", {"text": f"re {n}", "judge": f"re is re {n} gold {n}?"}, None) for n in range(40)]
    assert 1 < server.most_at_once <= 4, "both together keep to the window"
    assert {body["model"] for body in server.bodies} == {"model-a"}


def test_a_row_that_ends_the_server_is_the_one_error_although_the_judge_asks_beside_it(server, itself):
    server.answer = lambda body: reply(f"re {body['prompt']}")
    beside = []

    async def end(server, _request, _body):
        """The server stops listening, and takes all that is on the way with it; from the second time on, it waits a little for company."""
        company = server.at_once - 1
        for _ in range(30 if beside else 0):
            company = max(company, server.at_once - 1)
            await asyncio.sleep(0.001)
        beside.append(company)
        for site in list(server._runner.sites):
            await site.stop()
        for connection in list(server._runner.server.connections):
            connection.force_close()
        raise asyncio.CancelledError

    server.always["poison"] = end
    server.delay_s = 0.005
    found = list(itself.answers(rows(*[str(n) if n != 13 else "poison" for n in range(30)])))
    assert [answer.sample.id for answer in found if answer.error] == ["r13"]
    assert "does not survive this row" in found[13].error
    assert 3 <= len(beside) <= most_ends(30) and beside[-2:] == [0, 0], "whoever is blamed was alone, twice"
    assert all(answer.value["judge"].startswith("re is re") for answer in found if answer.error is None)


def test_the_judge_beside_a_model_that_was_not_started_is_a_fault(server):
    model = OpenAIRuntime(Endpoint(server), Request("completions"), 4)
    with pytest.raises(RuntimeFault, match="was not started"):
        model.beside(Request("completions", template="{prediction}")).start()


def test_a_text_full_of_braces_is_shown_as_it_is(server, itself):
    text = "{prediction} {answer.__class__} {0} {{ }} %s"
    server.answer = lambda body: reply(text if body["prompt"] == "a" else "Verdict: right")
    (answer,) = itself.answers(rows("a"))
    assert answer.value == {"text": text, "judge": "Verdict: right"}
    assert server.bodies[-1]["prompt"] == f"is {text} gold 0?"


def test_the_judges_refusal_for_one_row_is_that_rows_error(server, itself):
    server.answer = lambda body: reply("x")
    server.always["is x gold 1?"] = status(400, "too long for me")
    assert [answer.error for answer in itself.answers(rows("a", "b", "c"))] == [None, "the judge: HTTP 400: too long for me", None]
