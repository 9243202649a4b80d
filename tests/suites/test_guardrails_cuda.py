"""The detector with its network on a GPU: CuPy's part is played by a stand-in that refuses what CuPy refuses; tests marked `gpu` have the real one."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("slovnet", reason="needs the extra guardrails-ru")
pytest.importorskip("phonenumbers", reason="needs the extra guardrails-ru")
pytest.importorskip("stdnum", reason="needs the extra guardrails-ru")
pytest.importorskip("names", reason="needs the extra guardrails-ru")

from suites.guardrails_ru.detection import network
from suites.guardrails_ru.detection.device import DeviceProblem
from suites.guardrails_ru.detector import Detector
from tests import triton

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "suites/guardrails_ru/data"
DATASETS = ("russian-pii-66k", "meddies", "scanpatch", "rubai", "kaggle", "hf-sample-en", "presidio-test")
# Scores are rounded to four decimals; see suite.toml.
SCORES = 1e-3


def rows(dataset: str, count: int) -> list[dict]:
    table = pq.read_table(DATA / dataset / "fast.parquet", columns=["id", "text"])
    return table.slice(0, count).to_pylist()


@pytest.fixture(scope="module")
def on_cpu():
    model = Detector()
    model.warm_up()
    yield model
    model.close()


@pytest.fixture
def cupy(monkeypatch):
    """Install the stand-in, with the trouble and the variables that a test wants; returns it."""
    monkeypatch.syspath_prepend(ROOT / "tests/fake_cupy")

    def install(trouble="", **variables):
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        for name, value in {"FAKE_CUPY": trouble, **variables}.items():
            monkeypatch.setenv(name, value)
        import cupy

        assert cupy.__file__ == str(ROOT / "tests/fake_cupy/cupy.py")
        return cupy

    yield install
    sys.modules.pop("cupy", None)


@pytest.fixture
def to_gpu(on_cpu):
    """What the detector does with its network, again and again without loading it."""
    return lambda: network.on(on_cpu._ner._network, "cuda")


@pytest.fixture
def on_gpu(on_cpu, to_gpu):
    """The detector with its network there, for a fraction of what loading it again would take."""

    def make():
        model = copy.copy(on_cpu)
        model._ner = copy.copy(on_cpu._ner)
        model._ner._network = to_gpu()
        return model

    return make


def same(one, other, scores=0.0):
    """Spans are equal, and scores but for so much."""
    assert [[span[:3] for span in spans] for spans in one] == [[span[:3] for span in spans] for spans in other]
    return all(abs(mine[3] - theirs[3]) <= scores for some, others in zip(one, other, strict=True) for mine, theirs in zip(some, others, strict=True))


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_same_lines_on_arrays_of_another_module(cupy, on_cpu, on_gpu, dataset):
    cupy()
    batch = rows(dataset, 25)
    assert same(on_gpu().predict(batch), on_cpu.predict(batch))


def test_float32_alone_and_the_weights_go_there_once(cupy, on_cpu):
    done = cupy().done
    model = Detector(device="cuda")
    model.warm_up()
    assert done["largest"] > 10**7
    assert done["dtypes"] <= {"float32", "int64", "uint8"}
    done.update(to_device=0, to_host=0, largest=0)
    item = {"id": 1, "text": "Вчера в Казань приехала Мария Кузнецова.\nЕё встретил Орлов Степан Ильич."}
    assert same(model.predict([item]), on_cpu.predict([item]))
    assert (done["to_device"], done["to_host"]) == (3, 1), "ids of words and shapes and gaps there, emissions back"
    assert done["largest"] < 100
    model.close()
    assert done["freed"] == 2


def test_sums_of_another_order_change_no_span(cupy, on_cpu, on_gpu):
    cupy("other_order")
    model = on_gpu()
    for dataset in DATASETS:
        batch = rows(dataset, 6)
        assert same(model.predict(batch), on_cpu.predict(batch), SCORES)


def test_tf32_is_off_whatever_the_environment_says(cupy, on_cpu, on_gpu, monkeypatch):
    monkeypatch.setattr(network, "AGREEMENT", 10.0)
    batch = rows("scanpatch", 12)
    expected = on_cpu.predict(batch)
    cupy(CUPY_TF32="1")
    assert same(on_gpu().predict(batch), expected)
    cupy("inexact")
    assert not same(on_gpu().predict(batch), expected), "the stand-in's TF32 would have been noticed"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("no_driver", "no NVIDIA driver is loaded here."),
        ("old_driver", "the NVIDIA driver is too old: it is for CUDA 11.4, and this CuPy for 12.9."),
        ("no_gpu", "this process sees no GPU (CUDA_VISIBLE_DEVICES is ''; CPU lanes hide all)."),
        ("none", "this process sees no GPU (CUDA_VISIBLE_DEVICES is ''; CPU lanes hide all)."),
        ("mismatch", "CUDA does not start: cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver combination."),
        ("no_blas", "CuPy sees a GPU, but cannot compute on it: ImportError: libcublas.so.12: cannot open shared object file: No such file or directory."),
        ("inexact", "what the GPU computes differs from the CPU's float32 by 0.059, where 0.001 is allowed: "),
    ],
)
def test_what_is_missing_is_said_and_nothing_falls_back(cupy, to_gpu, trouble, words):
    cupy(trouble, CUDA_VISIBLE_DEVICES="")
    with pytest.raises(DeviceProblem) as caught:
        to_gpu()
    check_words(caught.value, words)


def test_a_cupy_that_cannot_be_imported(cupy, to_gpu, monkeypatch):
    cupy()
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setenv("FAKE_CUPY", "broken")
    with pytest.raises(DeviceProblem) as caught:
        to_gpu()
    check_words(caught.value, "CuPy cannot be imported: libcudart.so.12: cannot open shared object file.")


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceProblem) as caught:
        Detector(device="cuda").warm_up()
    check_words(caught.value, "the package cupy is not installed where the model runs.")


def check_words(problem, words):
    first, *rest = str(problem).splitlines()
    assert first.startswith(f'device = "cuda": {words}')
    assert "pip install 'pytest-gpueval[cuda]'" in rest[0] and "make triton-server CUDA=1" in rest[0]
    assert rest[1].endswith("--gpueval-runtime cpu-triton")


def test_a_full_gpu_is_called_that(cupy, to_gpu):
    """The harness knows what to do then."""
    cupy("full")
    with pytest.raises(MemoryError, match="Out of memory allocating"):
        to_gpu()


@pytest.mark.parametrize(("version", "loaded"), [("13.6.0", ["nvrtc", "cublas"]), ("14.2.0", [])])
def test_libraries_of_wheels_are_found_for_a_cupy_that_does_not_look_there(cupy, to_gpu, monkeypatch, version, loaded):
    asked = []
    monkeypatch.setitem(sys.modules, "cuda", type(sys)("cuda"))
    pathfinder = type(sys)("cuda.pathfinder")
    pathfinder.load_nvidia_dynamic_lib = asked.append
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    cupy(FAKE_CUPY_VERSION=version)
    to_gpu()
    assert asked == loaded


def test_options():
    with pytest.raises(ValueError, match="device is one of cpu, cuda, not 'gpu'"):
        Detector(device="gpu")
    with pytest.raises(ValueError, match="goes with the Russian entity model"):
        Detector(device="cuda", ner=False)


@pytest.mark.gpu
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_real_gpu_gives_the_same_spans(on_cpu, monkeypatch, dataset):
    pytest.importorskip("cupy", reason="needs CuPy")
    monkeypatch.setenv("CUPY_TF32", "1")
    model = Detector(device="cuda")
    batch = rows(dataset, 400)
    assert same(model.predict(batch), on_cpu.predict(batch), SCORES)
    model.close()


@pytest.mark.gpu
def test_a_real_gpu_has_its_memory_back():
    cupy = pytest.importorskip("cupy", reason="needs CuPy")
    model = Detector(device="cuda")
    model.predict(rows("meddies", 20))
    assert cupy.get_default_memory_pool().total_bytes() > 20 << 20
    model.close()
    assert cupy.get_default_memory_pool().total_bytes() == 0


# Behind a real Triton server, in its own interpreter.


@pytest.fixture
def session(pytester, monkeypatch):
    monkeypatch.setenv("GPUEVAL_TRITON_PYTHON", triton.PYTHON)
    monkeypatch.delenv("GR_RUNTIME_MODE", raising=False)

    def run(runtime):
        arguments = ("--gpueval-suite", "guardrails_ru", "--gpus", "none", "-n", "0", "-k", "meddies", "--gpueval-limit", "8", "--gpueval-session", runtime)
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--gpueval-runtime", runtime, "--gpueval-policy", "everything", *arguments)
        return result, pytester.path / "reports/evaluations" / runtime

    return run


def predictions(place):
    (results,) = place.glob("guardrails_ru-meddies-fast*/results.jsonl")
    return [json.loads(line)["prediction"] for line in results.read_text().splitlines()]


def test_the_suites_runtime_answers_as_the_cpu_does(session, pytester):
    shutil.copy(ROOT / "tests/fake_cupy/cupy.py", pytester.path)  # a model looks there first
    (there, gpu), (here, cpu) = session("cuda"), session("cpu")
    there.assert_outcomes(passed=1, deselected=6)
    here.assert_outcomes(passed=1, deselected=6)
    there.stdout.fnmatch_lines(["gpueval: guardrails_ru * runtime cuda (triton) *"])
    assert predictions(gpu) == predictions(cpu) != []


def test_without_a_gpu_the_suites_runtime_says_what_to_do(session):
    """One message, whether CuPy is there or not: CPU lanes show no GPU."""
    result, _ = session("cuda")
    result.assert_outcomes(failed=1, deselected=6)
    said = str(result.stdout)
    assert 'model detector.py:Detector: device = "cuda": ' in said
    assert "make triton-server CUDA=1" in said and "--gpueval-runtime cpu-triton" in said
    assert "Traceback" not in said and "At:" not in said
