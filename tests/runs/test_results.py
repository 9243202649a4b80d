"""results.jsonl: what is written can be read, and a kill at any byte costs at most one line."""

import json
import math
import os
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.errors import Conflict, RuntimeFault, StorageError
from pytest_gpueval.runs import results
from pytest_gpueval.runs.redact import MARK, Redactor
from pytest_gpueval.runs.results import ResultsWriter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.fixed_dictionaries({"id": st.text(min_size=1), "prediction": JSON}), max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("r") / "results.jsonl"
    writer = ResultsWriter(path, Redactor())
    for record in records:
        writer.write(record)
    writer.close()
    assert list(results.read(path)) == records


@given(sizes=st.lists(st.integers(0, 40), max_size=6), cut=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_cut_at_any_byte(tmp_path_factory, sizes, cut):
    path = tmp_path_factory.mktemp("r") / "results.jsonl"
    whole = b"".join(results.encode({"id": f"ж{i}", "text": "x" * size}) + b"\n" for i, size in enumerate(sizes))
    kept = whole[: round(len(whole) * cut)]
    path.write_bytes(kept)
    results.drop_torn_tail(path)
    assert path.read_bytes() == kept[: kept.rfind(b"\n") + 1]
    assert [record["id"] for record in results.read(path)] == [f"ж{i}" for i in range(kept.count(b"\n"))]


@pytest.mark.parametrize("whole", [0, 1, 2])
@pytest.mark.parametrize("torn", [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 5])
def test_a_huge_torn_line(tmp_path, whole, torn):
    path = tmp_path / "results.jsonl"
    line = json.dumps({"id": "x", "text": "y" * (3 << 20)}).encode() + b"\n"
    path.write_bytes(line * whole + b"z" * torn)
    results.drop_torn_tail(path)
    assert path.read_bytes() == line * whole
    assert sum(1 for _ in results.read(path)) == whole


def test_no_file_has_no_tail(tmp_path):
    results.drop_torn_tail(tmp_path / "results.jsonl")
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize("garbage", [b"\n", b"{}\n", b"[]\n", b"3\n", b'{"id":\n', b"\xff\n", b"\0\0\n", b'{"x":1}\n', b"[" * 100_000 + b"\n"])
def test_garbage_names_the_line(tmp_path, garbage):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + garbage)
    found = results.read(path)
    assert next(found) == {"id": "a"}
    with pytest.raises(Conflict, match=r"results\.jsonl:2: not a result line(.|\n)*--gpueval-force"):
        next(found)


def test_lone_surrogates_survive_a_resume(tmp_path):
    path = tmp_path / "results.jsonl"
    writer = ResultsWriter(path, Redactor(["secret-1"]))
    writer.write({"id": "a", "prediction": "\ud800 secret-1", "score": {"x": np.float32(0.5)}})
    writer.close()
    assert list(results.read(path)) == [{"id": "a", "prediction": f"\ud800 {MARK}", "score": {"x": 0.5}}]


def test_numpy_values():
    record = {"id": "a", "score": {"f": np.float64(0.25), "i": np.int32(3), "b": np.bool_(1), "a": np.array([[1, 2], [3, 4]])}}
    assert json.loads(results.encode(record)) == {"id": "a", "score": {"f": 0.25, "i": 3, "b": True, "a": [[1, 2], [3, 4]]}}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf"), np.array([1.0, np.nan])])
@pytest.mark.parametrize("text", ["plain", "\ud800"])
def test_a_number_without_meaning_is_refused_not_nulled(tmp_path, number, text):
    record = {"id": "r7", "prediction": [{"text": text}], "score": {"own": [number]}}
    with pytest.raises(RuntimeFault, match=r"^the result of 'r7' is -?(nan|inf) at score\.own\[0\](\[1\])?\.\n.*None where it has no meaning"):
        results.encode(record)
    writer = ResultsWriter(tmp_path / "results.jsonl", Redactor())
    with pytest.raises(RuntimeFault):
        writer.write(record)
    writer.close()
    assert (tmp_path / "results.jsonl").read_bytes() == b""


def test_null_itself_is_fine():
    assert results.encode({"id": "a", "score": {"x": None, "y": "null"}}) == b'{"id":"a","score":{"x":null,"y":"null"}}'


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j])
def test_what_json_cannot_hold_names_its_place(value):
    with pytest.raises(RuntimeFault, match=rf"the result of 'a' holds a {type(value).__name__} at score\.x\[1\], which JSON cannot hold"):
        results.encode({"id": "a", "score": {"x": [1, value]}})


def test_a_full_disk(tmp_path):
    path = tmp_path / "results.jsonl"
    path.symlink_to("/dev/full")
    writer = ResultsWriter(path, Redactor())
    with pytest.raises(StorageError, match=r"results\.jsonl: cannot be written: No space left on device\.\n.*--gpueval-output-dir"):
        writer.write({"id": "a"})
    with pytest.raises(StorageError):
        writer.close()  # a device that cannot be synced; the descriptor is given back nevertheless
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer._fd)


def test_a_disk_that_fills_within_a_line(tmp_path):
    path = tmp_path / "results.jsonl"
    script = f"""
        import resource, signal
        from pathlib import Path
        from pytest_gpueval.errors import StorageError
        from pytest_gpueval.runs.redact import Redactor
        from pytest_gpueval.runs.results import ResultsWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        writer = ResultsWriter(Path({str(path)!r}), Redactor())
        writer.write({{"id": "a"}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        try:
            writer.write({{"id": "b", "text": "x" * 50}})
        except StorageError as error:
            print(error)
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in done.stdout
    assert path.stat().st_size == 20
    results.drop_torn_tail(path)
    assert list(results.read(path)) == [{"id": "a"}]


def test_a_killed_writer_loses_nothing_it_has_written(tmp_path):
    path = tmp_path / "results.jsonl"
    script = f"""
        import os, signal
        from pathlib import Path
        from pytest_gpueval.runs.redact import Redactor
        from pytest_gpueval.runs.results import ResultsWriter
        writer = ResultsWriter(Path({str(path)!r}), Redactor())
        for number in range(100):
            writer.write({{"id": str(number)}})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    assert [record["id"] for record in results.read(path)] == [str(number) for number in range(100)]
