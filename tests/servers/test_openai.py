"""Servers that speak OpenAI's protocol: a real one (llama.cpp's), a stand-in for vLLM, and one that runs elsewhere."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_gpueval.errors import Conflict, RuntimeFault, Unreachable, UsageProblem
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.runtimes.openai import OpenAIRuntime
from pytest_gpueval.runtimes.openai_request import Request
from pytest_gpueval.servers import external, openai, ports
from pytest_gpueval.servers.external import External
from pytest_gpueval.servers.openai import CommandServer, CommandSettings, Started, Vllm, VllmSettings
from pytest_gpueval.servers.openai_causes import CAUSES
from pytest_gpueval.servers.server import Server
from tests import llama
from tests.openai_faults import FaultServer
from tests.waiting import DEADLINE_S, alive, wait_for

KEY = "sk-test-0123456789abcdefghij"


def rows(*prompts, **inputs):
    return [SimpleNamespace(id=f"r{number}", inputs={"id": f"r{number}", "prompt": prompt, **inputs}) for number, prompt in enumerate(prompts)]


# Commands and environments


def test_the_command_of_vllm():
    settings = VllmSettings(
        model="owner/name",
        served_name="mine",
        binary="/opt/vllm/bin/vllm",
        tensor_parallel=2,
        gpu_memory_utilization=0.85,
        max_model_len=4096,
        dtype="bfloat16",
        quantization="awq",
        trust_remote_code=True,
        seed=7,
        arguments=("--enforce-eager", "--max-num-seqs=64"),
    )
    assert settings.argv(8123) == [
        *("/opt/vllm/bin/vllm", "serve", "owner/name", "--host", "127.0.0.1", "--port", "8123", "--served-model-name", "mine"),
        *("--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.85", "--max-model-len", "4096", "--dtype", "bfloat16"),
        *("--quantization", "awq", "--seed", "7", "--trust-remote-code", "--enforce-eager", "--max-num-seqs=64"),
    ]
    assert VllmSettings(model="m").argv(1) == ["vllm", "serve", "m", "--host", "127.0.0.1", "--port", "1"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [("--api-key", "VLLM_API_KEY"), ("--api_key=x", "VLLM_API_KEY"), ("--port", "server.port"), ("--max_model_len=1", "server.max_model_len")],
)
def test_arguments_that_settings_stand_for(argument, said):
    with pytest.raises(UsageProblem, match=re.escape(said)):
        VllmSettings(model="m", arguments=(argument, "x")).argv(1)


def test_a_vllm_that_is_not_there(tmp_path):
    with pytest.raises(UsageProblem, match=r"There is no program '.*/vllm'\.\nGive the path"):
        Vllm(VllmSettings(model="m", binary=str(tmp_path / "vllm"))).launch()


def test_the_environment_of_vllm(tmp_path):
    environment = openai.vllm_environment(tmp_path, {"A": "b", "CUDA_VISIBLE_DEVICES": "3"})
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_RPC_BASE_PATH"] == str(tmp_path)
    assert (environment["A"], environment["CUDA_VISIBLE_DEVICES"]) == ("b", "3")
    assert "TRANSFORMERS_OFFLINE" not in environment
    assert openai.vllm_environment(tmp_path, {"HF_HUB_OFFLINE": "1"})["TRANSFORMERS_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("mask", "numbers"),
    [("GPU-bb", "1"), ("GPU-cc1,GPU-aa", "2,0"), ("GPU-c", None), ("GPU-xx", None), ("MIG-aa,GPU-aa", None), ("GPU-aa,1", None)],
)
def test_vllm_gets_its_gpus_by_number(mask, numbers):
    found = openai.numbered(mask, ["GPU-aa1", "GPU-bb1", "GPU-cc1", "GPU-cc2"])
    assert found == ({} if numbers is None else {"CUDA_VISIBLE_DEVICES": numbers, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})


def test_the_command_of_any_server():
    settings = CommandSettings(argv=("{python}", "{suite}/srv", "--at={host}:{port}", "--model", "{model}", "{{}}"), model="a {b}", suite=Path("/s"))
    assert settings.command(7) == [sys.executable, "/s/srv", "--at=127.0.0.1:7", "--model", "a {b}", "{}"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "is empty"),
        (("srv",), r"no field \{port\}"),
        (("srv", "{prt}"), "Did you mean 'port'"),
        (("{port.real}",), "unknown field"),
        (("{suite}/srv", "{port}"), r"unknown field \{suite\}"),
        (("{port!r}",), "unknown field"),
        (("{port",), "braces|Braces"),
    ],
)
def test_a_template_that_is_wrong(argv, said):
    with pytest.raises(UsageProblem, match=said):
        CommandSettings(argv=argv, model="m").command(7)


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "gpu_memory_utilization"),
        ("ValueError: Free memory on device (3.1/79.2 GiB) on startup is less than desired GPU memory utilization", "gpu_memory_utilization"),
        (
            "ValueError: To serve at least one request with the models's max seq len (131072), 16.00 GiB KV cache is needed, which is larger than",
            "max_model_len",
        ),
        ("ValueError: The model's max seq len (4096) is larger than the maximum number of tokens that can be stored in KV cache (1024).", "max_model_len"),
        ("ValueError: Model architectures ['FooForCausalLM'] are not supported for now", "architecture"),
        ("llama_model_load: error loading model: unknown model architecture: 'foo'", "architecture"),
        ("ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0", "server.dtype"),
        ("OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use", "server.port"),
        ("/usr/bin/python: No module named llama_cpp", "package is missing"),
        ("ModuleNotFoundError: No module named 'vllm'", "package is missing"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "HF_TOKEN"),
        ("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files", "cache"),
        ("OSError: /x is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'", "no such model"),
        ("ValueError: Model path does not exist: /x.gguf", "no such model"),
        ("vllm: error: unrecognized arguments: --foo", "option"),
        ("ValueError: invalid literal for int() with base 10: 'MIG-377e0049'", "0.24"),
        ("gpueval supervisor: /opt/vllm: No such file or directory", "no such program"),
    ],
)
def test_causes_of_failed_starts(log, advice):
    found = next(said for pattern, said in CAUSES.items() if re.search(pattern, log))
    assert advice in found


# One that runs elsewhere


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a:8000", "http://a:8000/v1"),
        ("http://a/v1/", "http://a/v1"),
        ("https://a.b/openai/v2", "https://a.b/openai/v2"),
        ("http://[::1]:1/", "http://[::1]:1/v1"),
    ],
)
def test_base_urls(url, base):
    assert external.base_url(url) == base


@pytest.mark.parametrize("url", ["a:8000", "ftp://a/v1", "http://", "http://a:x/v1", "http://user:secret@a/v1", "http://a/v1?key=secret", ""])
def test_what_is_no_base_url(url):
    with pytest.raises(UsageProblem, match=r"server\.url") as raised:
        external.base_url(url)
    assert "secret" not in str(raised.value)


def test_where_the_environment_says():
    environment = {"OPENAI_API_BASE": "http://b/v1", "OPENAI_API_KEY": KEY}
    assert (External.of(None, environment).url, External.of(None, environment).key) == ("http://b/v1", KEY)
    assert External.of(None, {**environment, "VLLM_BASE_URL": "http://a:1"}).url == "http://a:1/v1"
    assert External.of("http://c", environment).url == "http://c/v1"
    with pytest.raises(UsageProblem, match="VLLM_BASE_URL and OPENAI_API_BASE"):
        External.of(None, {})


def test_an_external_server_is_waited_for_by_one_for_all():
    server = FaultServer()
    with closing(server):
        there = External(server.url, wait_s=DEADLINE_S)
        server.shut()
        waiting = [threading.Thread(target=there.recover, args=(1, "gone")) for _ in range(3)]
        for thread in waiting:
            thread.start()
        server.open()
        for thread in waiting:
            thread.join(DEADLINE_S)
        assert there.generation == 2


def test_an_external_server_that_stays_away():
    (port,) = ports.free(1)
    with pytest.raises(Unreachable, match=r"does not answer, for 0.1 s now: reset\.\nIt was not started here"):
        External(f"http://127.0.0.1:{port}", wait_s=0.1).recover(1, "reset")


# A stand-in for vLLM


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A program that is called as vllm is, and the folder where it writes the pids of its engine and worker."""
    pids = tmp_path / "pids"
    pids.mkdir()
    binary = tmp_path / "vllm"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_vllm.py")} "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("FAKE_VLLM", str(pids))
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    kind = Vllm(VllmSettings(model="m", binary=str(binary), start_s=DEADLINE_S, stop_s=1))
    log = tmp_path / "vllm.log"
    server = Server(kind, log, Redactor([KEY]))
    yield SimpleNamespace(server=server, kind=kind, log=log, endpoint=Started(server, kind), pids=lambda: [int(path.name) for path in pids.iterdir()])
    server.stop()


def test_nothing_of_a_vllm_is_left_and_nobody_learns_its_key(fake):
    fake.server.start()
    launch = fake.server.launch
    pids = fake.pids()
    (segment,) = fake.kind._segments.paths
    (sockets,) = launch.made
    assert len(pids) == 2 and all(map(alive, pids)) and segment.exists() and sockets.exists()
    with closing(OpenAIRuntime(fake.endpoint, Request("completions"), 1, key=fake.endpoint.key, key_name=fake.endpoint.key_name)) as runtime:
        runtime.start()
        assert [answer.value for answer in runtime.answers(rows("a"))] == ["ok"]
    fake.server.stop()
    assert not any(map(alive, pids)) and not segment.exists() and not sockets.exists()
    text = fake.log.read_text()
    assert "argv" in text and KEY not in text
    assert KEY not in " ".join(launch.argv)


def test_nothing_is_left_of_a_vllm_whose_front_is_killed(fake):
    fake.server.start()
    pids = fake.pids()
    (segment,) = fake.kind._segments.paths
    front = next(process for process in fake.server._program.processes() if process.pid not in pids and "python" in process.name)
    os.kill(front.pid, signal.SIGKILL)
    wait_for(lambda: fake.server.problem() is not None and not fake.server.running)
    assert fake.server.problem() == "it was ended by signal 9"
    fake.endpoint.recover(1, "killed")
    assert fake.endpoint.generation == 2
    assert not any(map(alive, pids)) and not segment.exists()


def test_a_server_that_dies_of_its_first_request_did_not_start(fake, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM_MODE", "dies")
    with pytest.raises(
        RuntimeFault, match=r"(?s)vllm did not start: it ended with exit code 1\.\nProbable cause: the GPU's memory is too small.*CUDA out of memory"
    ):
        fake.server.start()
    assert not any(map(alive, fake.pids()))


def test_a_server_that_refuses_its_first_request_did_not_start(fake, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM_MODE", "refuses")
    with pytest.raises(RuntimeFault, match=r"refuses a first request to /completions: HTTP 400: .*no chat template"):
        fake.server.start()
    assert not any(map(alive, fake.pids()))


def test_a_listener_that_is_not_ours_is_not_taken_for_the_server(fake, monkeypatch):
    monkeypatch.setenv("FAKE_VLLM_MODE", "silent")
    other = FaultServer()
    with closing(other):
        monkeypatch.setattr(ports, "free", lambda _count: [other.port])
        fake.kind.settings = VllmSettings(model="m", binary=fake.kind.settings.binary, start_s=1.5, stop_s=1)
        with pytest.raises(RuntimeFault, match=r"is not ready after 1\.5 s"):
            fake.server.start()
        assert other.bodies == []


# The real one


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return llama.tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def shared(model, tmp_path_factory):
    """A server for tests that leave it as it is."""
    server, endpoint = llama.server(model, tmp_path_factory.mktemp("server") / "llama.log")
    server.start()
    yield endpoint
    server.stop()


@pytest.fixture
def own(model, tmp_path):
    """A server for tests that break it."""
    server, endpoint = llama.server(model, tmp_path / "llama.log", stop_s=1)
    server.start()
    yield SimpleNamespace(server=server, endpoint=endpoint)
    server.stop()


@pytest.fixture
def ask():
    """Answers of a server to rows, under settings."""
    runtimes = []

    def answers(server, samples, in_flight=4, **request):
        runtimes.append(OpenAIRuntime(server, Request(**{"endpoint": "completions", "max_tokens": 4, **request}), in_flight))
        runtimes[-1].start()
        return runtimes[-1].answers(samples)

    yield answers
    for runtime in runtimes:
        runtime.close()


def test_it_answers_in_order_and_counts_tokens(shared, ask):
    prompts = [f"Row {number} of the test, {chr(65 + number)}" for number in range(12)]
    answers = list(ask(shared, rows(*prompts)))
    again = {answer.sample.id: answer.value for answer in ask(shared, reversed(rows(*prompts)), in_flight=1)}
    assert [answer.error for answer in answers] == [None] * 12
    assert {answer.sample.id: answer.value for answer in answers} == again
    assert len({answer.value for answer in answers}) > 6, "or the order would show nothing"
    assert all(answer.tokens[0] > 5 and answer.tokens[1] == 4 for answer in answers)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_streamed_reply_is_the_same(shared, ask, endpoint):
    prompts = [f"Say {chr(65 + number)}" for number in range(6)]
    whole, streamed = ([answer.value for answer in ask(shared, rows(*prompts), endpoint=endpoint, stream=stream)] for stream in (False, True))
    assert streamed == whole and all(whole)


def test_several_texts_differ(shared, ask):
    (answer,) = ask(shared, rows("Once upon a time"), n=3, temperature=1.5, seed=1, max_tokens=8)
    assert len(set(answer.value)) == 3
    assert answer.tokens[1] == 24


def test_a_prompt_that_is_too_long_is_its_rows_error(shared, ask):
    answers = list(ask(shared, rows("a", "word " * 600)))
    assert answers[0].error is None
    assert re.match(r"HTTP 400: .*maximum context length is 512 tokens", answers[1].error)


CHOICES = ["cat", "horse", "elephant", "dog", "mouse", "goat", "hen", "pig"]
# The figures themselves, from the library, without a server.
DIRECT = """
import json, sys, numpy, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=512, logits_all=True, verbose=False, n_threads=1)
def logprobs(text):
    tokens = model.tokenize(text.encode(), add_bos=model._model.add_bos_token())
    model.reset(); model.eval(tokens)
    return tokens, llama_cpp.Llama.logits_to_logprobs(numpy.array(model.scores[:len(tokens)]))
prompt, choices = json.loads(sys.argv[2])
_, found = logprobs(prompt + "".join(f"\\n{letter}. {choice}" for letter, choice in zip("ABCDEFGH", choices)) + "\\nAnswer:")
letters = []
for letter in "ABCDEFGH"[:len(choices)]:
    ids = {tuple(model.tokenize(text.encode(), add_bos=False)) for text in (letter, " " + letter)}
    letters.append(float(numpy.log(sum(numpy.exp(found[-1][one[0]]) for one in ids if len(one) == 1))))
context, _ = logprobs(prompt)
echo = []
for choice in choices:
    tokens, found = logprobs(prompt + " " + choice)
    echo.append(float(sum(found[i - 1][tokens[i]] for i in range(len(context), len(tokens)))))
print(json.dumps([letters, echo]))
"""


def direct(model, prompt):
    import json

    done = subprocess.run([llama.PYTHON, "-c", DIRECT, model, json.dumps([prompt, CHOICES])], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_choices_are_scored_by_letters_where_echo_is_wrong(shared, model, ask):
    """Without a BOS token llama-cpp-python's echoed figures belong to the tokens before."""
    runtime = OpenAIRuntime(shared, Request("completions"), 2)
    with closing(runtime):
        runtime.start()
        (answer,) = runtime.answers(rows("Which animal is the largest?", choices=CHOICES))
        assert runtime.choice_scoring == "letters"
    letters, _ = direct(model, "Which animal is the largest?")
    least = min(answer.value)  # of those that are not among the likeliest, no more is known
    assert len(set(answer.value)) > 3
    assert [value for value in answer.value if value > least] == pytest.approx(
        [value for value, got in zip(letters, answer.value, strict=True) if got > least], abs=0.1
    )
    assert answer.value.index(max(answer.value)) == letters.index(max(letters))
    with pytest.raises(RuntimeFault, match="as a generated token and"):
        list(ask(shared, rows("a", choices=["b"]), choices="echo"))


def test_choices_are_scored_by_echo_where_it_is_right(tmp_path):
    model = llama.tiny_model(tmp_path, "--bos")
    server, endpoint = llama.server(model, tmp_path / "llama.log")
    server.start()
    try:
        with closing(OpenAIRuntime(endpoint, Request("completions"), 2)) as runtime:
            runtime.start()
            (answer,) = runtime.answers(rows("Which animal is the largest?", choices=CHOICES))
            assert runtime.choice_scoring == "echo"
    finally:
        server.stop()
    _, echo = direct(model, "Which animal is the largest?")
    assert answer.value == pytest.approx(echo, abs=0.05)


def test_a_key_it_was_started_with_is_asked_for(model, tmp_path, monkeypatch):
    monkeypatch.setenv("API_KEY", KEY)
    server, endpoint = llama.server(model, tmp_path / "llama.log", key_variable="API_KEY")
    server.start()
    try:
        with closing(OpenAIRuntime(endpoint, Request("completions", max_tokens=1), 1, key=endpoint.key)) as runtime:
            runtime.start()
            assert next(runtime.answers(rows("a"))).error is None
        with closing(OpenAIRuntime(endpoint, Request("completions"), 1)) as runtime, pytest.raises(RuntimeFault, match="which is not set"):
            runtime.start()
    finally:
        server.stop()
    assert KEY not in server.log.read_text()


def test_it_is_ready_until_it_is_stopped_and_leaves_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PORT", "1")  # which it would obey
    server, endpoint = llama.server(model, tmp_path / "llama.log")
    server.start()
    (port,) = server.launch.ports.values()
    pids = [process.pid for process in server._program.processes()]
    assert server.problem() is None and ports.listener(port) in pids
    assert endpoint.url == f"http://127.0.0.1:{port}/v1"
    server.stop()
    assert not any(map(alive, pids)) and ports.listener(port) is None
    with pytest.raises(RuntimeFault, match="was not started"):
        _ = endpoint.url


def test_killed_in_mid_stream_it_is_restarted_and_no_row_is_lost_or_doubled(own, shared, ask):
    prompts = [f"Row {number} of the test, {chr(65 + number)}" for number in range(24)]
    expected = [answer.value for answer in ask(shared, rows(*prompts), max_tokens=24)]
    answers = ask(own.endpoint, rows(*prompts), max_tokens=24, stream=True)
    found = [next(answers) for _ in range(3)]
    killed = own.server._program.processes()[0].pid
    os.kill(killed, signal.SIGKILL)
    found += answers
    assert [(answer.sample.id, answer.value, answer.error) for answer in found] == [(f"r{number}", text, None) for number, text in enumerate(expected)]
    assert own.endpoint.generation == 2 and not alive(killed)
    assert "restarted:" in own.server.log.read_text()


def test_one_that_hangs_is_restarted(own, shared, ask):
    prompts = [f"Row {number} of the test, {chr(65 + number)}" for number in range(8)]
    expected = [answer.value for answer in ask(shared, rows(*prompts))]
    answers = ask(own.endpoint, rows(*prompts), timeout_s=3.0)
    found = [next(answers)]
    os.kill(own.server._program.processes()[0].pid, signal.SIGSTOP)
    found += answers
    assert [answer.value for answer in found] == expected
    assert own.endpoint.generation >= 2


def test_a_model_that_is_not_there(tmp_path):
    server, _ = llama.server(tmp_path / "none.gguf", tmp_path / "llama.log")
    with pytest.raises(RuntimeFault) as raised:
        server.start()
    text = str(raised.value)
    assert text.startswith("llama did not start: it ended with exit code 1.\nProbable cause: there is no such model.")
    assert f"Last lines of {tmp_path / 'llama.log'}:" in text and "Model path does not exist" in text


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"no model" * 100)
    server, _ = llama.server(tmp_path / "broken.gguf", tmp_path / "llama.log")
    with pytest.raises(RuntimeFault, match="Probable cause: the model's file is damaged"):
        server.start()


def test_a_module_that_is_missing(tmp_path):
    kind = CommandServer(CommandSettings(argv=("{python}", "-m", "no_such_server", "{port}"), model="m"), name="mine")
    with pytest.raises(RuntimeFault, match=r"mine did not start: .*\nProbable cause: a Python package is missing"):
        Server(kind, tmp_path / "log", Redactor()).start()


def test_a_fixed_port_that_somebody_has(model, tmp_path):
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        server, _ = llama.server(model, tmp_path / "llama.log", port=port)
        with pytest.raises(Conflict, match=rf"the http port {port} is in use by pid {os.getpid()} "):
            server.start()


SESSION = """
import sys, time
from pathlib import Path
from tests import llama
server, endpoint = llama.server(sys.argv[1], Path(sys.argv[2]))
server.start()
print(server.launch.ports["http"], *(process.pid for process in server._program.processes()), flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_session_that_is_killed(model, tmp_path):
    argv = [sys.executable, "-c", SESSION, model, tmp_path / "llama.log"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=llama.ROOT) as session:
        port, *pids = map(int, session.stdout.readline().split())
        assert pids and ports.listener(port) in pids
        session.kill()
    wait_for(lambda: not any(map(alive, pids)) and ports.listener(port) is None)


# vLLM itself, where there is one: GPUEVAL_TEST_VLLM=/path/to/vllm, and GPUEVAL_TEST_VLLM_MODEL, a model it can serve.
if "GPUEVAL_TEST_VLLM" in os.environ:

    def test_vllm(tmp_path, ask):
        name = os.environ["GPUEVAL_TEST_VLLM_MODEL"]
        settings = VllmSettings(
            model=name,
            served_name="mine",
            binary=os.environ["GPUEVAL_TEST_VLLM"],
            max_model_len=512,
            dtype="float32",
            seed=0,
            arguments=("--enforce-eager",),
            start_s=600,
        )
        kind = Vllm(settings)
        server = Server(kind, tmp_path / "vllm.log", Redactor())
        endpoint = Started(server, kind)
        segments = set(Path("/dev/shm").glob("psm_*"))
        server.start()
        try:
            pids = [process.pid for process in server._program.processes()]
            with closing(OpenAIRuntime(endpoint, Request("completions"), 2)) as runtime:
                runtime.start()
                assert runtime.model == "mine"
                (answer,) = runtime.answers(rows("The sky is", choices=["blue", "green"]))
                assert answer.error is None and runtime.choice_scoring == "echo"
            answers = ask(endpoint, rows(*map(str, range(8))), n=2, temperature=1.0, stream=True)
            found = [next(answers)]
            os.kill(pids[0], signal.SIGKILL)
            found += answers
            assert [answer.error for answer in found] == [None] * 8 and all(len(answer.value) == 2 and answer.tokens[1] for answer in found)
            assert not any(map(alive, pids))
            pids = [process.pid for process in server._program.processes()]
            (sockets,) = server.launch.made
            assert sockets.exists()
        finally:
            server.stop()
        assert not any(map(alive, pids))
        assert set(Path("/dev/shm").glob("psm_*")) <= segments
        assert not sockets.exists()
