"""A model on a real Triton server answers as it does in process, whatever becomes of the server meanwhile."""

import contextlib
import os
import re
import select
import signal
import sys
import time
import warnings
from itertools import count
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import MissingExtra, RuntimeFault, Unreachable, UsageProblem
from pytest_gpueval.runtimes import suspects
from pytest_gpueval.runtimes.inprocess import InProcess
from pytest_gpueval.runtimes.triton import TritonRuntime
from pytest_gpueval.runtimes.window import Batching, Gone, TooMuch
from pytest_gpueval.servers import ports, triton_external
from pytest_gpueval.servers.triton_external import ExternalTriton
from tests import triton
from tests.triton import model, processes, rows
from tests.waiting import DEADLINE_S, alive, wait_for


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return triton.suite(tmp_path_factory.mktemp("suite"))


both = pytest.mark.parametrize("server", triton.ENGINES, indirect=True)


@pytest.fixture(scope="module")
def by_engine(tmp_path_factory):
    with triton.of_each_engine(tmp_path_factory) as made:
        yield made


@pytest.fixture
def server(by_engine, request):
    return by_engine[getattr(request, "param", "tritonserver")]


@pytest.fixture
def runtime(server, directory):
    """Started runtimes of the server, or of another endpoint."""
    made = []

    def make(endpoint=None, settings=None, **options):
        made.append(TritonRuntime(endpoint or server.endpoint(model(directory, **options)), **(settings or {})))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.close()  # again is harmless


def told(answers):
    return [(answer.sample.id, repr(answer.value), answer.error) for answer in answers]


# What it answers.


@both
def test_the_same_as_in_process(runtime, directory, server):
    texts = ["tuple", "spans", "numpy", "array", "nan", "keys", "tag", "none", "surrogates", "big", "beside", "raise", "nasty"]
    texts += ["", "\0", "пример", "\ud800", "\ud83d\ude00", "😀" * 1000, "\r\n\u2028", '"\\', "x" * 200_000, "long300000", *(["ok"] * 50), "raise", "tuple"]
    own = InProcess("model.py:Model", {}, directory, 16)
    own.start()
    expected = told(own.answers(rows(texts)))
    own.close()
    assert told(runtime().answers(rows(texts))) == expected
    assert sum(error is not None for _, _, error in expected) == 3


@both
def test_an_answer_that_cannot_travel_is_that_rows_error(runtime, server):
    found = list(runtime().answers(rows(["ok", "set", "ok"])))
    assert [answer.error for answer in found] == [None, found[1].error, None]
    assert found[1].error.startswith("NotSendable: a value of type builtins.set cannot be sent")


def test_a_row_that_cannot_travel_is_named(runtime):
    with pytest.raises(RuntimeFault, match=r"model model.py:Model on tritonserver: row 'r1' cannot be sent to a server: a value of type builtins.object"):
        list(runtime().answers(rows(["ok", object()])))


@both
def test_a_wrong_number_of_answers(runtime, server):
    with pytest.raises(RuntimeFault, match=r"model model.py:Model returned \d predictions for a batch of \d \(first row: 'r0'\)"):
        list(runtime().answers(rows(["ok", "fewer", "ok"])))


@both
def test_latencies_and_several_requests_at_a_time(runtime, server):
    found = list(runtime(settings={"rows": 4}).answers(rows(["slow"] * 64)))
    assert len(found) == 64 and all(answer.latency_ms > 0 for answer in found)


def test_samples_are_read_as_far_as_the_window_only(runtime):
    read = []

    def endless():
        for number in count():
            read.append(number)
            yield SimpleNamespace(id=str(number), inputs={"id": str(number), "text": "ok"})

    answers = runtime(settings={"rows": 4, "in_flight": 2}).answers(endless())
    for taken in range(200):
        assert next(answers).sample.id == str(taken)
        assert len(read) <= taken + 4 * 2 * 2 + 4 + 1
    answers.close()


def test_before_its_start(server, directory):
    with pytest.raises(RuntimeFault, match="is asked before it was started"):
        next(TritonRuntime(server.endpoint(model(directory))).answers(rows(["ok"])))


def test_without_the_client_library(server, directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpueval\[triton\]'"):
        TritonRuntime(server.endpoint(model(directory))).start()


# Sizes and memory.


@both
def test_a_message_above_the_limit_is_that_rows_error(runtime, server):
    texts = ["ok", "x" * 200_000, "ok", "long200000", "ok", *(["y" * 20_000] * 8)]
    found = list(runtime(settings={"message_bytes": 100_000}).answers(rows(texts)))
    assert [answer.sample.id for answer in found] == [f"r{i}" for i in range(len(texts))]
    assert {i: answer.error.split(":")[0] for i, answer in enumerate(found) if answer.error} == {1: "RESOURCE_EXHAUSTED", 3: "RESOURCE_EXHAUSTED"}


def test_batches_are_bounded_in_bytes(runtime):
    one = runtime(settings={"batch_bytes": 1000})
    assert len(list(one.answers(rows(["x" * 300] * 10)))) == 10
    assert [len(batch) for batch in one._batching.cut(rows(["x" * 300] * 5 + ["x" * 3000] + ["x"]))] == [3, 2, 1, 1]  # rows of 328 bytes


def test_a_model_that_runs_out_of_memory_gets_fewer_rows(runtime, server):
    found = list(runtime(most=4).answers(rows(["ok"] * 40)))
    assert [answer.error for answer in found] == [None] * 40
    told = [answer.note for answer in found if answer.note]
    assert told and re.fullmatch(r"out of memory with \d+ rows; \d+ at a time from here on(; .*)?", told[0])
    wait_for(lambda: "gpueval: out of memory with" in server.log.read_text())
    assert not [answer.note for answer in runtime(most=4).answers(rows(["ok"] * 40)) if answer.note], "it is known by now"
    found = list(runtime(most=0).answers(rows(["ok"] * 3)))
    assert [answer.error for answer in found] == ["MemoryError: 1 rows"] * 3


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", Gone),
        ("UNAVAILABLE", "Request for unknown model: 'm' has no available versions", Gone),
        ("CANCELLED", "", Gone),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Gone),
        ("INTERNAL", "Stub process 'm_0_0' is not healthy.", Gone),
        ("RESOURCE_EXHAUSTED", "Sent message larger than max (2 vs. 1)", TooMuch),
        ("INTERNAL", "CUDA out of memory. Tried to allocate 2 GiB", TooMuch),
        ("INTERNAL", "Failed to increase the shared memory pool size", TooMuch),
        ("INTERNAL", "Failed to process the request(s) for model instance 'm', message: SystemExit: 3", TooMuch),
        ("INTERNAL", "Failed to process the request(s) for model instance 'm', message: ..: Model execute error: Traceback (..) EOFError", Gone),
        ("INTERNAL", "Model execute error: Traceback (..) OSError: No space left on device", TooMuch),
        ("INVALID_ARGUMENT", "unexpected shape for input 'rows'", RuntimeFault),
        ("NOT_FOUND", "no such thing", RuntimeFault),
    ],
)
def test_what_an_error_means(server, directory, status, message, kind):
    server.start()
    assert type(TritonRuntime(server.endpoint(model(directory)))._classified(f"StatusCode.{status}", message, 8)) is kind


def test_after_a_lack_of_memory_batches_are_smaller(server, directory):
    one = TritonRuntime(server.endpoint(model(directory)))
    one._batching = Batching(32, 1000, lambda _: 1)
    one._classified("StatusCode.INTERNAL", "CUDA out of memory", 32)
    one._classified("StatusCode.INTERNAL", "CUDA out of memory", 32)  # on its way at that time
    assert one._batching.rows == 16
    assert one._note == "not enough memory for 32 rows; 16 at a time from here on (INTERNAL: CUDA out of memory)"


# Servers and models that go away.


@pytest.mark.parametrize(
    ("server", "victim"),
    [
        ("tritonserver", "tritonserver"),
        ("tritonserver", "triton_python_b"),
        *(("pytriton", name) for name in ("tritonserver", "triton_python_b", "model", "store")),
    ],
    indirect=["server"],
)
def test_nothing_is_lost_when_it_is_killed(runtime, server, directory, victim):
    one = runtime(settings={"rows": 8})
    behind = triton.behind(server, model(directory))
    generation, segments = behind.generation, list(getattr(getattr(behind.kind, "_seen", None), "paths", ()))
    answers = one.answers(rows(["slow"] * 400))
    found = [next(answers) for _ in range(50)]
    for pid in victims(behind, victim):
        os.kill(pid, signal.SIGKILL)
    found += answers
    assert [(answer.sample.id, answer.error) for answer in found] == [(f"r{i}", None) for i in range(400)]
    assert behind.generation > generation and server.problem() is None and not [path for path in segments if path.exists()]


def victims(server, name):
    """Pids of processes by their names; of PyTriton, the program that has the model, or the store of tensors between it and the server."""
    if name == "model":
        return [process.pid for process in server._program.processes() if process.parent == server._program._supervisor.pid]
    if name == "store":
        return [process.pid for process in server.kind.helpers if process.name not in ("tritonserver", "triton_python_b")]
    return processes(server)[name]


def test_a_call_that_ends_python_is_that_rows_error(runtime, by_engine, directory):
    for server in by_engine.values():
        found = list(runtime(server.endpoint(model(directory))).answers(rows(["ok", "quit", "ok"])))
        assert [answer.error is None for answer in found] == [True, False, True] and "SystemExit: 5" in found[1].error


def test_a_row_that_ends_the_program_of_pytriton(runtime, by_engine, directory, monkeypatch):
    monkeypatch.setattr(suspects, "_CHANCES", 1)  # each costs a start
    one = by_engine["pytriton"].endpoint(model(directory))
    found = list(runtime(one, {"rows": 1, "in_flight": 2}).answers(rows(["ok", "x" * 100_000, "exit", "ok", "ok"])))
    assert [i for i, answer in enumerate(found) if answer.error] == [2]
    assert "model model.py:Model on pytriton does not survive this row" in found[2].error and one.problem() is None


@pytest.mark.parametrize(("word", "said"), [("exit", "the model's process ended"), ("segv", "the model's process ended"), ("hang", "no answer within 2 s")])
def test_a_row_that_ends_the_model_is_the_only_one_without_an_answer(runtime, word, said):
    size = 2 if word == "exit" else 1
    settings = {"rows": size, "in_flight": 3, "deadline_s": 2.0 if word == "hang" else 300.0}
    found = list(runtime(settings=settings).answers(rows(["ok"] * 5 + [word] + ["ok"] * 10)))
    assert [answer.sample.id for answer in found] == [f"r{i}" for i in range(16)]
    assert [i for i, answer in enumerate(found) if answer.error] == [5]
    assert "model model.py:Model on tritonserver does not survive this row" in found[5].error and said in found[5].error


def test_a_server_that_stays_away_ends_the_run(directory, tmp_path):
    one = triton.server(tmp_path / "triton.log")
    runtime = TritonRuntime(one.endpoint(model(directory)), rows=1)
    runtime.start()
    try:
        answers = runtime.answers(rows(["slow"] * 400))
        next(answers)
        one._triton._interpreter = None
        one._triton.settings = triton.TritonSettings("/no/such/python")
        os.kill(processes(one)["tritonserver"][0], signal.SIGKILL)
        with pytest.raises(RuntimeFault, match="/no/such/python: no such program"):
            list(answers)
    finally:
        runtime.close()
        one.stop()


def test_children_that_are_forked_live(runtime):
    one = runtime()
    answers = one.answers(rows(["slow"] * 2000))
    next(answers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of threads and forks
        for _ in range(50):
            child = os.fork()
            if child == 0:
                os._exit(7)
            handle = os.pidfd_open(child)
            assert select.select([handle], [], [], DEADLINE_S)[0], "a forked child hangs"
            os.close(handle)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            next(answers)
    assert len(list(answers)) == 2000 - 51


# Models that are not ours.

FOREIGN = """
import numpy as np
import triton_python_backend_utils as backend

class TritonPythonModel:
    def initialize(self, args):
        self.kind = args["model_name"]

    def execute(self, requests):
        return [self.answer(len(backend.get_input_tensor_by_name(request, "rows").as_numpy())) for request in requests]

    def answer(self, rows):
        if self.kind == "raises":
            raise ValueError("not so")
        values = {"words": b"not json", "number": b"3", "empty": b"{}"}
        answers = np.full((rows, 1), 3, np.int32) if self.kind == "int" else np.array([[values.get(self.kind, b'{"value":null}')]] * rows, object)
        if self.kind == "wide":
            answers = np.repeat(answers, 2, 1)
        return backend.InferenceResponse([backend.Tensor("other" if self.kind == "named" else "answers", answers)])
"""


@pytest.fixture(scope="module")
def foreign(by_engine):
    """Loads a model of somebody else's."""
    server = by_engine["tritonserver"]

    def load(kind):
        server.start()
        directory = server.launch.made[0] / "repository" / kind
        (directory / "1").mkdir(parents=True)
        (directory / "1/model.py").write_text(FOREIGN)
        (directory / "config.pbtxt").write_text('backend: "python"\n')
        output = {
            "name": "other" if kind == "named" else "answers",
            "data_type": "TYPE_INT32" if kind == "int" else "TYPE_STRING",
            "dims": [2 if kind == "wide" else 1],
        }
        tensor = {"name": "rows", "data_type": "TYPE_STRING", "dims": [1]}
        triton.control(server).load(kind, {"backend": "python", "max_batch_size": 8, "input": [tensor], "output": [output]}, 60)
        return ExternalTriton(server.grpc_url, kind)

    return load


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("words", r"answered with an answer that is not JSON .*: b'not json'"),
        ("number", r"answered with something else"),
        ("int", r"it needs answers BYTES \[-1, 1\]"),
        ("named", r"has the outputs other BYTES .*; it needs answers"),
        ("wide", r"answered with 'answers' as BYTES \[1, 2\]; expected BYTES \[1, 1\]"),
        ("raises", r"does not answer: INTERNAL: Failed to process the request.*ValueError: not so"),
    ],
)
def test_what_a_foreign_model_answers(foreign, kind, said):
    with pytest.raises((RuntimeFault, UsageProblem), match=said) as problem:
        TritonRuntime(foreign(kind)).start()
    assert f"model {kind} on the Triton server unix:/" in str(problem.value)


def test_an_answer_that_says_nothing(foreign, monkeypatch):
    endpoint = foreign("empty")

    async def skip(_self):
        return None

    monkeypatch.setattr(TritonRuntime, "_ping", skip)
    one = TritonRuntime(endpoint)
    one.start()
    with contextlib.closing(one), pytest.raises(RuntimeFault, match=r"for row 'r0', \{\}; expected a mapping with 'value' or 'error'"):
        list(one.answers(rows(["ok"])))


# Servers that run elsewhere.


def test_an_external_server_that_comes_back(runtime, directory, tmp_path):
    http, grpc = ports.free(2)
    one = triton.server(tmp_path / "triton.log", http_port=http, grpc_port=grpc)
    try:
        name = one.load(model(directory))
        endpoint = ExternalTriton(f"127.0.0.1:{grpc}", name, patience_s=DEADLINE_S)
        answers = runtime(endpoint, {"rows": 4}).answers(rows(["slow"] * 100))
        assert endpoint.most_rows == 128
        found = [next(answers) for _ in range(10)]
        pid = processes(one)["tritonserver"][0]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid) and not one.running)
        one.restart()  # its own business
        found += answers
        assert [(answer.sample.id, answer.error) for answer in found] == [(f"r{i}", None) for i in range(100)]
    finally:
        one.stop()


def test_an_external_server_that_is_not_there(monkeypatch):
    (port,) = ports.free(1)
    monkeypatch.setattr(triton_external, "_POLL_S", 0.01)
    begin = time.monotonic()
    with pytest.raises(Unreachable, match=rf"model m on the Triton server 127.0.0.1:{port} is not ready after 0.3 s: .*\nIs it running"):
        ExternalTriton(f"127.0.0.1:{port}", "m", patience_s=0.3).prepare()
    assert time.monotonic() - begin >= 0.3


def test_an_external_server_without_the_model(server):
    server.start()
    with pytest.raises(Unreachable, match="it has no model 'nobody' that is ready"):
        ExternalTriton(server.grpc_url, "nobody", patience_s=0.1).prepare()


@pytest.mark.parametrize("url", ["", "here", "http://here:8000", "here:port", ":8001"])
def test_an_address_that_is_none(url):
    with pytest.raises(UsageProblem, match="is not of the form host:port"):
        ExternalTriton(url, "m")
