"""Real Triton servers for tests, and a model that does whatever its rows say."""

import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.servers.pytriton import PyTritonServer
from pytest_gpueval.servers.triton import TritonModel, TritonSettings
from pytest_gpueval.servers.triton_server import TritonServer

# `make triton-server` makes it. Where it is missing, tests fail with the message that says so.
PYTHON = os.environ.get("GPUEVAL_TRITON_PYTHON") or str(Path(__file__).resolve().parent.parent / ".venv-triton/bin/python")
ENGINES = ("tritonserver", "pytriton")
SECRET = "very-secret-value"

MODEL = """
import os, signal, subprocess, sys, time
import numpy as np
from beside import BESIDE

class ForUser(Exception):
    for_user = True

class Nasty(Exception):
    def __str__(self):
        raise RuntimeError("no text")

VALUES = {
    "tuple": (1, ("a", [2.5, None])), "spans": [(0, 3, "PERSON", 0.5), (4, 6, "CITY", 1.0)], "numpy": [np.float32(0.1), np.int64(7), np.bool_(True)],
    "array": np.arange(6.0).reshape(2, 3), "nan": [float("nan"), float("inf"), -0.0], "keys": {1: "a", (2, 3): "b"}, "tag": {"\\0tuple": [1]}, "none": None,
    "surrogates": "\\ud83d\\ude00\\ud800 \\0 \\u2028", "big": 10**40, "beside": BESIDE,
}

class Model:
    def __init__(self, secret=None, note=None, most=None, start=None):
        self.note, self.most = note, most
        if start == "child":
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            print("child", child.pid)
        if start == "raise":
            raise ValueError("no such weights: /nowhere")
        if start == "for the user":
            raise ForUser("there is no GPU.\\nTake the CPU.")
        if start == "import":
            import no_such_package
        if start == "exit":
            sys.exit("enough")
        if start == "die":
            print("last words")
            os._exit(9)
        if start == "hang":
            time.sleep(1000)

    def warm_up(self):
        print("warm")

    def predict(self, batch):
        if self.most is not None and len(batch) > self.most:
            raise MemoryError(f"{len(batch)} rows")
        answers = [self.one(row) for row in batch]
        return answers[:-1] if any(row["text"] == "fewer" for row in batch) else answers

    def one(self, row):
        word = row["text"]
        if word == "raise":
            raise ValueError(f"row {row['id']} is\\nbad \\ud800")
        if word == "nasty":
            raise Nasty
        if word == "exit":
            os._exit(3)
        if word == "quit":
            sys.exit(5)
        if word == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "hang":
            time.sleep(1000)
        if word == "slow":
            time.sleep(0.002)
        if word == "set":
            return {1, 2}
        if word.startswith("long"):
            return "x" * int(word[4:])
        return VALUES[word] if word in VALUES else [row, len(word), os.getpid() if word == "pid" else None]

    def close(self):
        sys.stdout.write(f"closed {self.note}\\n")  # in one piece: two threads of one process may say it at once
        if self.note == "hangs":
            time.sleep(1000)

class Silent:
    pass
"""


def suite(directory):
    """A folder with the model."""
    directory.mkdir(exist_ok=True)
    (directory / "model.py").write_text(MODEL)
    (directory / "beside.py").write_text("BESIDE = 'found'\n")
    return directory


def model(directory, target="model.py:Model", **options):
    return TritonModel(target, directory, options)


def server(log, python=PYTHON, engine="tritonserver", **settings):
    made = {"tritonserver": TritonServer, "pytriton": PyTritonServer}[engine]
    return made(TritonSettings(python, **{"stop_s": 5.0, **settings}), log, Redactor([SECRET]))


@contextmanager
def of_each_engine(tmp_path_factory):
    """A server of each engine."""
    made = {engine: server(tmp_path_factory.mktemp("server") / f"{engine}.log", engine=engine) for engine in ENGINES}
    try:
        yield made
    finally:
        for one in made.values():
            one.stop()


def behind(one, loaded):
    """The server of a model: one for all of them, or one each."""
    endpoint = one.endpoint(loaded)
    return getattr(endpoint, "_server", endpoint)


def control(one):
    """By which a server is told what to do."""
    return one.kind.control(one.launch)


def rows(texts):
    return [SimpleNamespace(id=f"r{i}", inputs={"id": f"r{i}", "text": text}) for i, text in enumerate(texts)]


def processes(one):
    """Pids by name of all that a server started."""
    found = {}
    for process in one._program.processes():
        found.setdefault(process.name, []).append(process.pid)
    return found


def segments(prefix):
    return list(Path("/dev/shm").glob(f"{prefix}*"))
