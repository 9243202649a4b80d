"""Suites whose models live on servers: the same results as in this process, and nothing left, however the session ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpueval.processes import leftovers
from tests import llama
from tests import triton as real
from tests.session.conftest import processes_of
from tests.waiting import SESSION_S, wait_for

CONFTEST = """
import json, os
with open(os.environ["TOY_EVENTS"], "a") as file:
    file.write(json.dumps({"event": "conftest", "at": 0, "pid": os.getpid()}) + "\\n")
"""
both = pytest.mark.parametrize("engine", real.ENGINES)
SHARED_MEMORY = Path("/dev/shm")
UUID = "GPU-00000000-0000-4000-8000-000000000000"


@pytest.fixture
def triton(toy):
    """A toy suite whose model lives on Triton, and an environment for it."""

    def make(texts, *gpus, engine="tritonserver"):
        toy.datasets(texts)
        toy.edit('kind = "inprocess"', f'kind = "triton"\ntriton = {{ engine = "{engine}" }}')
        toy.append("[runtimes.inside]\nkind = 'inprocess'\ntarget = 'model.py:Model'\n")
        toy.pytester.makeconftest(CONFTEST)
        return {**toy.on_gpus(*gpus or (2,)), "GPUEVAL_TRITON_PYTHON": real.PYTHON}

    yield make
    assert not segments(toy)


def segments(toy):
    """Of shared memory, those of this session's processes."""
    pids = {f".{line['pid']}." for line in toy.events("conftest")}
    return {path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith("gpueval.") and any(pid in path.name for pid in pids)}


def plain(lines):
    return [{key: value for key, value in line.items() if key != "latency_ms"} for line in lines]


@both
def test_it_answers_as_in_this_process(toy, triton, engine):
    environment = triton({"d0": ["pass"] * 40, "d1": "meet(2)", "d2": ["pass", "raise ValueError('no')", "pass"]}, engine=engine)
    toy.edit("max_error_share = 0.0", "max_error_share = 0.5")
    toy.finish(environment, "--gpus", "0-1")
    toy.finish(environment, "--gpus", "0-1", "--gpueval-runtime", "inside", "--gpueval-session=inside")
    for run in ("toy-d0-fast", "toy-d2-fast"):
        assert plain(toy.lines(run, "it")) == plain(toy.lines(run, "inside"))
    assert toy.lines("toy-d2-fast", "it")[1]["error"] == "ValueError: no"
    logs = sorted(path.name for path in (toy.session("it") / "servers").iterdir())
    name = "triton" if engine == "tritonserver" else engine
    assert logs == [f"gpu0-{name}.log", f"gpu1-{name}.log"], "each worker has a server of its own"
    gpus = {(line["worker"], line["gpus"]) for line in toy.events("load") if line["worker"]}
    assert len(gpus) == 2, "which sees its GPU"


def test_a_row_that_ends_the_models_process_is_the_one_error(toy, triton):
    environment = triton({"d0": [*["pass"] * 20, "os._exit(7)", *["pass"] * 20]})
    toy.edit("max_error_share = 0.0", "max_error_share = 0.5")
    toy.finish(environment, "--gpus", "0")
    lines = toy.lines("toy-d0-fast", "it")
    assert [line["id"] for line in lines] == [f"d0-{number}" for number in range(41)]
    assert [number for number, line in enumerate(lines) if "error" in line] == [20]
    assert "does not survive this row" in lines[20]["error"]


@pytest.mark.parametrize("place", [*real.ENGINES, "inside"])
def test_a_batch_that_is_too_much_for_the_memory_is_halved_and_told(toy, triton, place):
    environment = triton({"d0": ["pass"] * 40}, engine="pytriton" if place == "pytriton" else "tritonserver")
    model = toy.root / "suites/toy/model.py"
    model.write_text(
        model.read_text().replace("def predict(self, batch):", "def predict(self, batch):\n        if len(batch) > 4: raise RuntimeError('CUDA out of memory')")
    )
    output = toy.finish(environment, "--gpus", "0", *(["--gpueval-runtime", "inside"] if place == "inside" else []))
    summary = toy.summary("toy-d0-fast", "it")
    assert summary["ok"] and summary["rows"]["scored"] == 40
    assert all("out of memory with " in note and " at a time from here on" in note for note in summary["notes"]) and summary["notes"]
    log = (toy.session("it") / "toy-d0-fast/stdout.log").read_text()
    for note in summary["notes"]:
        assert f"gpueval: {note}" in log and f"WARNING: gpu0: toy-d0-fast: {note}" in output


def test_a_model_that_does_not_start_says_why(toy, triton):
    environment = triton({"d0": "pass"})
    model = toy.root / "suites/toy/model.py"
    model.write_text(model.read_text().replace('record("load")', "raise OSError('no weights in /models')"))
    output, _ = toy.start(environment, "--gpus", "0").communicate(timeout=SESSION_S)
    assert "model model.py:Model did not start on tritonserver: OSError: no weights in /models" in output


def test_settings_come_from_a_fixture(toy, triton):
    environment = triton({"d0": "pass"})
    toy.pytester.makeconftest(
        """
        import pytest
        @pytest.fixture(scope="session")
        def triton_settings():
            return {"arguments": ["--log-verbose=1"], "nonsense": 1}
        """
    )
    output = toy.finish(environment, "--gpus", "0", expect=1)
    assert "fixture triton_settings: 'nonsense' is no setting." in output


@both
def test_a_model_whose_close_was_cut_off_is_named(toy, triton, engine):
    environment = triton({"d0": "pass"}, engine=engine)
    model = toy.root / "suites/toy/model.py"
    model.write_text(model.read_text().replace('record("close")', "time.sleep(1000)"))
    toy.pytester.makeconftest(f"{CONFTEST}\nimport pytest\n@pytest.fixture(scope='session')\ndef triton_settings():\n    return {{'stop_s': 0.5}}\n")
    said = "gpu0: model.py:Model: close() was cut off, 0.5 s after it was asked for. To give it more, let the fixture triton_settings return"
    assert said in toy.finish(environment, "--gpus", "0")
    assert "close() was cut off" in next((toy.session("it") / "servers").iterdir()).read_text()


@pytest.mark.parametrize(
    ("how", "engine"),
    [
        (signal.SIGINT, "tritonserver"),
        (signal.SIGTERM, "tritonserver"),
        (signal.SIGKILL, "tritonserver"),
        (signal.SIGINT, "pytriton"),
        (signal.SIGKILL, "pytriton"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_nothing_is_left_when_the_session_is_ended(toy, triton, how, engine):
    environment = triton({f"d{number}": ["pass", "time.sleep(1000)"] for number in range(2)}, engine=engine)
    session = toy.start(environment, "--gpus", "0-1")
    wait_for(lambda: len([line for line in toy.events("begin") if line["id"].endswith("-1")]) == 2)
    assert len(segments(toy)) >= 2
    session.send_signal(how)
    session.communicate(timeout=SESSION_S)
    wait_for(lambda: not processes_of(environment))
    if how == signal.SIGKILL:  # its workers had no time to clean up: the next session does
        toy.finish(environment, "--gpus", "0", "--gpueval-session=next", "--gpueval-limit=1")
        assert not segments(toy)


def test_what_a_dead_session_left_is_cleaned_first(toy, triton):
    environment = triton({"d0": "pass"})
    dead = subprocess.run([sys.executable, "-c", "from pytest_gpueval.processes import identity; print(identity.myself())"], capture_output=True, text=True)
    marked = {**environment, leftovers.MARKER: dead.stdout.strip()}
    with subprocess.Popen(["sleep", "1000"], env=marked) as orphan:
        toy.finish(environment, "--gpus", "0", "--gpueval-runtime", "inside")
        assert orphan.wait(60) == -signal.SIGTERM


def test_what_was_cleaned_is_said(toy, monkeypatch):
    monkeypatch.setattr(leftovers, "end", lambda: ["ended process 7 (tritonserver) of a session that is gone"])
    assert "gpueval: ended process 7 (tritonserver) of a session that is gone" in toy.run("--gpueval-suite", "toy").outlines
    assert "of a session that is gone" not in str(toy.run("--gpueval-suite", "toy", "--collect-only").stdout), "looking ends nothing"


@pytest.mark.parametrize(
    ("engine", "lingers", "where"),
    [("tritonserver", True, ()), ("tritonserver", True, ("-n", "0")), ("tritonserver", False, ()), ("pytriton", True, ()), ("pytriton", False, ())],
)
def test_gpu_memory_that_a_server_does_not_give_back_is_told(toy, triton, engine, lingers, where):
    """The driver still counts the memory of a process that has ended: the screen and the server's log say so, and nothing fails."""
    environment = triton({"d0": "pass"}, engine=engine)
    model = toy.root / "suites/toy/model.py"
    held = f'open(os.environ["FAKE_GPUS_STATE"], "a").write(f"tenants.0={{os.getpid()}}:3000:{-1 if lingers else 300}\\n")'
    model.write_text(model.read_text().replace('record("load")', f'record("load"); {held}'))
    output = toy.finish(environment, "--gpus", "0", *where)
    words = f"{engine} has ended; 10 s later GPU {UUID} has 3,000 MiB more in use than before, by no process that the driver shows; `gpueval gpus` says who"
    log = (toy.session("it") / f"servers/gpu0-{'triton' if engine == 'tritonserver' else engine}.log").read_text()
    assert (f"WARNING: gpu0: {words}" in output) == (words in log) == lingers, output + log
    assert "1 passed" in output


@pytest.mark.parametrize("fixture", ["triton_server", "pytriton_server"])
def test_a_users_own_test_has_the_server(toy, triton, fixture):
    environment = triton({"d0": "pass"})
    toy.pytester.makepyfile(
        test_mine=f"""
        from pathlib import Path
        from pytest_gpueval.servers.triton import TritonModel

        def test_mine({fixture}):
            name = {fixture}.load(TritonModel("model.py:Model", Path("suites/toy").resolve()))
            assert {fixture}.problem() is None and name
        """
    )
    toy.finish(environment, "--gpus", "0", "test_mine.py")


def test_without_a_session_the_fixture_says_so(toy):
    toy.pytester.makepyfile("def test_mine(triton_server): pass")
    result = toy.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture triton_server needs a session: add --gpueval-session NAME*"])


@pytest.fixture
def language(toy, tmp_path):
    """A suite of generated text by a real llama.cpp server with a tiny model of random weights."""
    toy.suite("toy", llama.suite(llama.tiny_model(tmp_path), "exact", "one", "two"))
    for dataset in ("one", "two"):
        toy.split([{"id": f"{dataset}-{number}", "prompt": f"say {number}", "answer": "x"} for number in range(12)], dataset)
    return toy.on_gpus(1)


def test_a_language_model_behind_a_suite(toy, language):
    output = toy.finish(language, "--gpus", "0")
    assert "runtime llama (openai)" in output
    for run in ("toy-one-fast", "toy-two-fast"):
        summary, lines = toy.summary(run, "it"), toy.lines(run, "it")
        assert len(lines) == 12 and all(isinstance(line["prediction"], str) for line in lines)
        assert summary["tokens"]["prompt"] == sum(line["tokens"][0] for line in lines) > 0
        assert 0 < summary["tokens"]["completion"] <= 4 * 12
    log = (toy.session("it") / "servers/gpu0-openai.log").read_text()
    assert log.count("Started server process") == 1, "one server for both datasets"


def test_a_language_server_elsewhere(toy, language, monkeypatch):
    """Where nobody answers, the message says which variable and what to do."""
    text = (toy.root / "suites/toy/suite.toml").read_text()
    (toy.root / "suites/toy/suite.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("server = ")))
    output = toy.finish({name: value for name, value in language.items() if name not in ("VLLM_BASE_URL", "OPENAI_API_BASE")}, "--gpus", "0", expect=1)
    assert "VLLM_BASE_URL and OPENAI_API_BASE" in output


def test_two_places_of_one_server_contradict_each_other(toy, language):
    toy.edit('kind = "openai"', 'kind = "openai"\nurl = "http://127.0.0.1:1/v1"')
    output = toy.finish(language, "--gpus", "0", expect=1)
    assert "runtimes.llama: has server and url; one of them says where the server is" in output
