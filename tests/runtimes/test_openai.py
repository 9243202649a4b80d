"""The OpenAI runtime against a server that fails on demand. tests/servers/test_openai.py has a real one."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import RuntimeFault, Unreachable, UsageProblem
from pytest_gpueval.runtimes import openai_client, openai_reply, openai_request, pressure
from pytest_gpueval.runtimes.openai import OpenAIRuntime
from pytest_gpueval.runtimes.openai_reply import Malformed, Stream, Truncated
from pytest_gpueval.runtimes.openai_request import Request, RowProblem
from tests.openai_faults import FaultServer, hang, raw, refusal, reply, reset, status, stream

KEY = "sk-test-0123456789abcdefghij"


class Endpoint:
    """Knows how to bring the server back: `back` is called, and may raise."""

    def __init__(self, url, back=None):
        self.url = url
        self.generation = 1
        self.problems = []
        self._back = back

    def recover(self, generation, problem):
        if generation != self.generation:
            return
        self.problems.append(problem)
        if self._back is not None:
            self._back()
        self.generation += 1


@pytest.fixture
def server():
    server = FaultServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses double from a hundredth of a second on."""
    monkeypatch.setattr(pressure, "_FIRST_S", 0.01)


@pytest.fixture
def make(server):
    made = []

    def runtime(in_flight=4, at=None, key=None, **request):
        request = {"endpoint": "completions", **request}
        made.append(OpenAIRuntime(at or Endpoint(server.url), Request(**request), in_flight, key=key))
        made[-1].start()
        return made[-1]

    yield runtime
    for one in made:
        one.close()


def rows(*prompts, **inputs):
    return [SimpleNamespace(id=f"r{number}", inputs={"id": f"r{number}", "prompt": prompt, **inputs}) for number, prompt in enumerate(prompts)]


def values(answers):
    return [answer.value for answer in answers]


def all_answered(answers, prompts):
    assert [(answer.value, answer.error) for answer in answers] == [(f"re: {prompt}", None) for prompt in prompts]


# What is asked, and what comes back


def test_answers_come_in_order_with_their_tokens_and_no_more_at_once_than_allowed(server, make):
    server.delay_s = 0.01
    prompts = [f"p{number}" for number in range(40)]
    answers = list(make(in_flight=4).answers(rows(*prompts)))
    all_answered(answers, prompts)
    assert {answer.tokens for answer in answers} == {(3, 2)}
    assert 1 < server.most_at_once <= 4


def test_only_a_bounded_number_of_samples_is_taken_ahead(make):
    taken = 0

    def source():
        nonlocal taken
        for row in rows(*map(str, range(100))):
            taken += 1
            yield row

    answers = make(in_flight=4).answers(source())
    next(answers)
    assert taken <= 9


def test_settings_reach_the_server_and_what_is_not_set_does_not(server, make):
    runtime = make(temperature=0.5, max_tokens=7, top_p=0.9, seed=3, stop=("\n",), extra={"top_k": 20})
    next(runtime.answers(rows("a")))
    assert server.bodies == [{"model": "model-a", "prompt": "a", "temperature": 0.5, "max_tokens": 7, "top_p": 0.9, "seed": 3, "stop": ["\n"], "top_k": 20}]
    server.bodies.clear()
    next(make(temperature=None, max_tokens=None, model="mine").answers(rows("a")))
    assert server.bodies == [{"model": "mine", "prompt": "a"}]


def test_chat_sends_messages_and_the_system_prompt_unless_the_row_has_one(server, make):
    server.answer = lambda body: reply("", choices=[{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}])
    runtime = make(endpoint="chat", system="Be brief.")
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "b", "name": None}]
    assert values(runtime.answers([*rows("a"), *rows(None, messages=own)])) == ["yes", "yes"]
    assert [body["messages"] for body in server.bodies] == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}],
        [{"role": "system", "content": "Mine."}, {"role": "user", "content": "b"}],
    ]


def test_a_template_is_filled_with_inputs(server, make):
    runtime = make(template="{{{text}}} of {parts}?")
    next(runtime.answers([SimpleNamespace(id="r", inputs={"id": "r", "text": "What {x}", "parts": ["я", 1]})]))
    assert server.bodies[0]["prompt"] == '{What {x}} of ["я", 1]?'


@pytest.mark.parametrize("template", ["{a.__class__}", "{a[0]}", "{a!r}", "{a:>9}", "{}", "{0}", "{", "}"])
def test_a_template_is_no_code(template):
    with pytest.raises(UsageProblem, match=r"request\.template"):
        Request(template=template)


def test_a_template_that_names_what_rows_do_not_have_is_said_once_for_all(make):
    with pytest.raises(RuntimeFault, match=r"names \{question\}, which rows do not have \(row 'r0'\)\. Rows have: id, prompt\."):
        list(make(template="{question}").answers(rows("a", "b")))


def test_a_null_in_a_template_is_that_rows_error(make):
    answers = list(make(template="{context}").answers([*rows("a", context=None), *rows("b", context="c")]))
    assert [answer.error for answer in answers] == ["the template's field 'context' is null in this row", None]


def test_rows_without_anything_to_ask(make):
    with pytest.raises(RuntimeFault, match="neither `prompt` nor `messages`"):
        list(make().answers([SimpleNamespace(id="r", inputs={"id": "r", "text": "a"})]))
    with pytest.raises(RuntimeFault, match=r"Set request\.endpoint to 'chat'"):
        list(make().answers(rows(None, messages=[{"role": "user", "content": "a"}])))


def test_settings_that_contradict_each_other():
    with pytest.raises(UsageProblem, match=r"request\.extra: logprobs, n cannot be set there"):
        Request(extra={"n": 2, "logprobs": 1, "top_k": 1})
    with pytest.raises(UsageProblem, match=r"request\.system"):
        Request(endpoint="completions", system="x")
    with pytest.raises(UsageProblem, match=r"request\.choices"):
        Request(endpoint="chat", choices="echo")


def test_several_texts(server, make):
    def answer(body):
        return reply("", choices=[{"index": number, "text": f"t{number}", "finish_reason": "stop"} for number in reversed(range(body.get("n", 1)))])

    server.answer = answer
    assert values(make(n=3).answers(rows("a"))) == [["t0", "t1", "t2"]]


def test_several_texts_of_a_server_that_gives_one(server, make):
    server.answer = lambda body: reply(f"seed {body['seed']}")
    (answer,) = make(n=3, seed=7).answers(rows("a"))
    assert answer.value == ["seed 7", "seed 8", "seed 9"]
    assert answer.tokens == (9, 6)


def test_the_first_model_listed_is_asked_and_none_listed_is_said(server, make):
    assert make().model == "model-a"
    server.models = []
    with pytest.raises(RuntimeFault, match=r"lists no model; say in request\.model"):
        make()
    assert make(model="x").model == "x"


def test_the_key_is_in_the_header_only(server, make):
    next(make(key=KEY).answers(rows("a")))
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(server.bodies)


# Refusals for load


def test_a_storm_of_429_loses_no_row_and_lowers_the_pressure(server, make):
    server.anything.extend([refusal(after="0.05")] * 12)
    prompts = [f"p{number}" for number in range(60)]
    runtime = make(in_flight=8)
    answers = runtime.answers(rows(*prompts))
    first = next(answers)
    lowered = runtime._client.pressure.limit
    all_answered([first, *answers], prompts)
    assert lowered < 8
    assert runtime._client.pressure.limit > lowered, "it recovers"
    assert len(server.bodies) == 72, "each row was answered once"


@pytest.mark.parametrize("after", [None, "0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
def test_503_is_waited_out_however_it_says_so(server, make, after):
    server.plan["a"].extend([refusal(503, after)] * 3)
    all_answered(make().answers(rows("a", "b")), ["a", "b"])


def test_patience_ends_without_a_row_lost_in_silence(server, make):
    server.always["a"] = refusal(after="3600")
    with pytest.raises(RuntimeFault, match=r"asks for 3600 s more .*too many requests.*\n.*--gpueval-workers"):
        list(make().answers(rows("a")))


def test_an_exhausted_quota_is_no_matter_of_patience(server, make):
    server.always["a"] = status(429, "You exceeded your current quota", code="insufficient_quota")
    with pytest.raises(RuntimeFault, match="quota of the key in OPENAI_API_KEY is used up"):
        list(make().answers(rows("a")))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0.5", 0.5),
        ("-3", 0),
        ("Sat, 01 Jan 2000 00:01:00 GMT", 60),
        ("Fri, 31 Dec 1999 00:00:00 GMT", 0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert pressure.retry_after(value, now=946684800.0) == seconds


def test_pauses_double_and_are_spread(monkeypatch):
    monkeypatch.setattr(pressure, "_FIRST_S", 0.5)
    assert [pressure.back_off(attempt, draw=1.0) for attempt in (1, 2, 3, 99)] == [0.5, 1.0, 2.0, 30.0]
    assert pressure.back_off(3, draw=0.0) == 1.0


# The server's errors, and the row's


def test_500_is_asked_again_and_then_the_rows_error(server, make):
    server.plan["a"].extend([status(500)] * 3)
    server.always["b"] = status(500, "b is bad")
    answers = list(make().answers(rows("a", "b", "c")))
    assert [answer.error for answer in answers] == [None, "HTTP 500: b is bad", None]
    assert (server.asked("a"), server.asked("b")) == (4, 4)


def test_500_for_every_row_is_a_server_that_is_gone(server, make):
    endpoint = Endpoint(server.url, back=server.always.clear)
    prompts = [f"p{number}" for number in range(8)]
    server.always.update(dict.fromkeys(prompts, status(500, "engine died")))
    answers = list(make(in_flight=1, at=endpoint).answers(rows(*prompts)))
    assert endpoint.problems == ["5 rows one after another were answered with HTTP 500: engine died"]
    assert [answer.error is None for answer in answers] == [False] * 4 + [True] * 4


@pytest.mark.parametrize("form", [{"error": {"message": "too long"}}, {"message": "too long"}, {"detail": "too long"}, {"error": "too long"}])
def test_400_is_the_rows_error_in_the_servers_words(server, make, form):
    async def outcome(_server, _request, _body):
        from aiohttp import web

        return web.json_response(form, status=400)

    server.always["a"] = outcome
    answers = list(make().answers(rows("a", "b")))
    assert [answer.error for answer in answers] == ["HTTP 400: too long", None]
    assert server.asked("a") == 1


def test_a_field_that_is_refused_is_named():
    data = b'{"detail": [{"loc": ["body", "top_k"], "msg": "extra fields not permitted"}]}'
    assert openai_reply.message(data) == "body.top_k: extra fields not permitted"


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (401, {}, "OPENAI_API_KEY, which is not accepted"),
        (403, {}, "OPENAI_API_KEY, which is not accepted"),
        (404, {}, "request.model must be one that"),
        (400, {"code": "model_not_found"}, "request.model must be one that"),
        (405, {}, "usually ends in /v1"),
        (302, {}, "usually ends in /v1"),
    ],
)
def test_what_no_row_would_survive_ends_the_case_and_tells_no_key(server, make, code, error, said):
    server.always["a"] = status(code, f"no: {KEY}", **error)
    with pytest.raises(RuntimeFault) as raised:
        list(make(key=KEY).answers(rows("a", "b")))
    assert said in str(raised.value)
    assert KEY not in str(raised.value)
    assert server.asked("a") == 1


def test_a_key_that_is_missing_is_said(server, make):
    server.always["a"] = status(401)
    with pytest.raises(RuntimeFault, match="OPENAI_API_KEY, which is not set"):
        list(make().answers(rows("a")))


BROKEN = [
    b"{",
    b"[]",
    b"",
    b'{"choices": []}',
    b'{"choices": [{"index": 0}]}',
    b'{"choices": [{"text": null}]}',
    b'{"choices": [{"index": "x", "text": "a"}]}',
    b"\xff",
]


@pytest.mark.parametrize("data", BROKEN)
def test_a_reply_that_breaks_the_protocol_is_asked_again_and_then_the_rows_error(server, make, data):
    server.plan["a"].extend([raw(data)] * 2)
    server.always["b"] = raw(data)
    answers = list(make().answers(rows("a", "b", "c")))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert (server.asked("a"), server.asked("b")) == (3, 3)


def test_a_reply_without_end_is_not_read_to_it(server, make, monkeypatch):
    monkeypatch.setattr(openai_client, "_MOST_BYTES", 1000)
    server.always["a"] = raw(b" " * 100_000)
    (answer,) = make().answers(rows("a"))
    assert answer.error.startswith("the reply is larger than")


# Connections


def test_a_connection_that_breaks_off_is_asked_again(server, make):
    server.plan["a"].extend([reset, reset])
    all_answered(make().answers(rows("a", "b")), ["a", "b"])


def test_a_row_that_breaks_every_connection_is_found_and_the_others_are_answered_once(server, make):
    endpoint = Endpoint(server.url)
    server.always["p5"] = reset
    prompts = [f"p{number}" for number in range(12)]
    answers = list(make(at=endpoint).answers(rows(*prompts)))
    assert [answer.sample.id for answer in answers if answer.error is not None] == ["r5"]
    assert "does not survive this row" in answers[5].error
    assert values(answers)[:5] == [f"re: {prompt}" for prompt in prompts[:5]]
    assert endpoint.problems


def test_a_server_that_hangs_is_brought_back_after_the_time_of_a_request(server, make):
    server.plan["p1"].append(hang)
    endpoint = Endpoint(server.url)
    prompts = [f"p{number}" for number in range(6)]
    all_answered(make(at=endpoint, timeout_s=0.3).answers(rows(*prompts)), prompts)
    assert endpoint.problems == ["no answer within 0.3 s"]


def test_a_server_that_is_away_is_waited_for(server, make):
    endpoint = Endpoint(server.url, back=server.open)
    runtime = make(at=endpoint)
    prompts = [f"p{number}" for number in range(30)]
    answers = runtime.answers(rows(*prompts))
    first = next(answers)
    server.shut()
    all_answered([first, *answers], prompts)
    assert len(endpoint.problems) == 1, "whoever comes second finds it done"


def test_a_server_that_does_not_come_back(server, make):
    def give_up():
        raise Unreachable("away for good")

    runtime = make(at=Endpoint(server.url, back=give_up))
    server.shut()
    with pytest.raises(Unreachable, match="away for good"):
        list(runtime.answers(rows("a", "b")))


# Streams


def event(text=None, reason=None, index=0, **more):
    return {"choices": [{"index": index, "text": text, "finish_reason": reason}], **more}


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def test_a_stream_is_put_together(server, make):
    server.always["a"] = stream(b": a comment\r\n\r\n", event("Hé"), event("llo", "stop"), USAGE, b"data: [DONE]\r\n\r\n")
    (answer,) = make(stream=True).answers(rows("a"))
    assert (answer.value, answer.tokens, answer.error) == ("Héllo", (5, 2), None)
    assert server.bodies[0]["stream"] is True


def test_a_stream_that_breaks_off_is_asked_again(server, make):
    server.plan["a"].extend([stream(event("hal"), ended=False), stream(event("hal"), b"data: [DONE]\n\n")])
    server.always["a"] = stream(event("whole"), event("", "length"), b"data: [DONE]\n\n")
    assert values(make(stream=True).answers(rows("a"))) == ["whole"]
    assert server.asked("a") == 3


def test_an_error_in_a_stream_is_asked_again(server, make):
    server.plan["a"].append(stream(event("hal"), {"error": {"message": "engine died"}}))
    server.always["a"] = stream(event("whole", "stop"))
    assert values(make(stream=True).answers(rows("a"))) == ["whole"]


def test_streams_however_they_are_cut():
    data = b"".join(b"data: " + line + b"\n\n" for line in ['{"choices":[{"delta":{"content":"жук"},"finish_reason":"stop"}]}'.encode(), b"[DONE]"])
    for cut in range(len(data)):
        one = Stream()
        one.feed(data[:cut])
        one.feed(data[cut:])
        assert one.texts().texts == ["жук"]


def test_a_stream_of_several_texts_is_whole_when_each_is():
    one = Stream()
    one.feed(b'data: {"choices":[{"index":1,"text":"b","finish_reason":"stop"}]}\n\ndata: {"choices":[{"index":0,"text":"a"}]}\n\n')
    with pytest.raises(Truncated):
        one.texts()
    one.feed(b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n')
    assert one.texts().texts == ["a", "b"]


# Choices


def likeliest(**tokens):
    return {"choices": [{"index": 0, "text": "A", "logprobs": {"tokens": ["A"], "token_logprobs": [-1.0], "top_logprobs": [tokens]}}]}


def test_choices_by_letters_where_a_server_has_no_echo(server, make):
    server.answer = lambda body: (
        likeliest(**{" B": -0.5, "A": -1.5, "x": -4.0}) if body.get("logprobs") == openai_request.TOP else reply("no log-probabilities")
    )
    runtime = make()
    answers = list(runtime.answers(rows("Which?", "And?", choices=["one", "two", "three"])))
    assert runtime.choice_scoring == "letters"
    for answer in answers:
        assert answer.value == pytest.approx([-1.5, -0.5, -4.0])
    assert server.bodies[-1]["prompt"] == "And?\nA. one\nB. two\nC. three\nAnswer:"
    assert sum(body.get("logprobs") == 1 for body in server.bodies) == 1, "it is tried out once"


def test_echo_that_is_asked_for_must_be_right(server, make):
    with pytest.raises(RuntimeFault, match=r"request\.choices is 'echo', which .* cannot do"):
        list(make(choices="echo").answers(rows("a", choices=["b"])))


def test_choices_may_be_ignored(make):
    assert values(make(choices="text").answers(rows("a", choices=["b"]))) == ["re: a"]


@pytest.mark.parametrize("choices", [[], [str(number) for number in range(27)]])
def test_choices_that_cannot_be_told_apart_are_the_rows_error(make, choices):
    (answer,) = make(choices="letters").answers(rows("a", choices=choices))
    assert answer.error is not None


def test_the_log_probability_of_a_choice_is_that_of_the_tokens_behind_the_prompt():
    context = openai_reply.Echoed(["The", " sky"], [None, -2.0], (2, 1), "", [])
    assert openai_reply.continuation(context, openai_reply.Echoed(["The", " sky", " is", " blue"], [None, -2.0, -0.25, -0.5], (4, 1), "", [])) == -0.75
    merged = openai_reply.Echoed(["The", " skyline"], [None, -3.0], (2, 1), "", [])
    assert openai_reply.continuation(context, merged) == -3.0
    with pytest.raises(RowProblem):
        openai_reply.continuation(context, context)
    with pytest.raises(RowProblem):
        openai_reply.continuation(context, openai_reply.Echoed(["The", " sky", " is"], [None, -2.0, None], (3, 1), "", []))


def test_letters_of_a_chat_reply():
    entries = [{"token": "Ġb", "logprob": -0.1}, {"token": "B", "logprob": -1.0}, {"token": "A", "logprob": -2.0}]
    data = openai_reply.orjson.dumps({"choices": [{"message": {"content": "B"}, "logprobs": {"content": [{"token": "B", "top_logprobs": entries}]}}]})
    found, _ = openai_reply.top(data)
    assert openai_reply.letters(found, 2) == pytest.approx([-2.0, -1.0])
    with pytest.raises(RowProblem, match="none of the letters"):
        openai_reply.letters({"x": -1.0, "C": -2.0}, 2)
    with pytest.raises(Malformed):
        openai_reply.texts(data.replace(b'"B"}', b"7}"))


# The package without its extra


def test_without_aiohttp_the_extra_is_named():
    program = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from pytest_gpueval.runtimes.openai import OpenAIRuntime\nfrom pytest_gpueval.runtimes.openai_request import Request\n"
        "try:\n    OpenAIRuntime(None, Request(), 1).start()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingExtra") and "pytest-gpueval[openai]" in done.stdout
