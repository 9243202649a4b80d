"""However many rows go through a real Triton server, this process and the server need no more memory for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import triton

MEASURE = """
import json, re, select, sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from pytest_gpueval.runtimes.triton import TritonRuntime
from tests import triton

def peaks():
    files = {"self": "/proc/self/status", **{f"{name} {pid}": f"/proc/{pid}/status" for name, pids in triton.processes(behind).items() for pid in pids}}
    return {name: int(re.search(r"VmHWM:\\s+(\\d+)", Path(file).read_text())[1]) / 1024 for name, file in files.items()}

def rows(count):
    for number in range(count):
        yield SimpleNamespace(id=str(number), inputs={"id": str(number), "text": f"{number} " + "x" * 1000})

place, engine, few, many, pause_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
server, model = triton.server(place / "log", engine=engine), triton.model(triton.suite(place / "suite"))
runtime = TritonRuntime(server.endpoint(model))
try:
    runtime.start()
    behind = triton.behind(server, model)
    found = []
    for count in (few, many):
        read = 0
        for answer in runtime.answers(rows(count)):
            assert answer.value[0]["text"].startswith(answer.sample.id), answer.error
            read += 1
            if pause_s:
                select.select([], [], [], pause_s)
        assert read == count
        found.append(peaks())
    runtime.close()
finally:
    server.stop()
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("engine", "few", "many", "pause_s"),
    [("tritonserver", 20_000, 200_000, 0.0), ("tritonserver", 2_000, 20_000, 0.0002), ("pytriton", 2_000, 20_000, 0.0)],
    ids=["fast", "slow", "pytriton"],
)
def test_memory_does_not_grow_with_the_rows(tmp_path, engine, few, many, pause_s):
    """Ten times the rows, of 1 kB there and more back: held, they would be `many` kB and more."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path), engine, str(few), str(many), str(pause_s)]
    done = subprocess.run(command, cwd=Path(triton.__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, then = json.loads(done.stdout)
    growth = {name: round(then[name] - first[name], 1) for name in first}
    assert then.keys() == first.keys() and max(growth.values()) < min(16, many / 1024 / 2), (growth, then)
