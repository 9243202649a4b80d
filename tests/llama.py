"""llama.cpp's OpenAI-compatible server, as `make llama-server` installs it, and a tiny model made on the spot."""

import subprocess
from pathlib import Path

import pytest

from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.servers.openai import CommandServer, CommandSettings, Started
from pytest_gpueval.servers.server import Server

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-llama" / "bin" / "python"
ARGV = (str(PYTHON), "-m", "llama_cpp.server", "--model", "{model}", "--host", "{host}", "--port", "{port}", "--interrupt_requests", "false", "--n_ctx", "512")


def tiny_model(directory, *options):
    """Writes the model, and returns its path."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing; `make llama-server` builds it")
    path = directory / "tiny.gguf"
    subprocess.run([PYTHON, Path(__file__).with_name("tiny_gguf.py"), path, *options], check=True, capture_output=True, text=True)
    return path


def server(model, log, *more, **settings):
    """A server, not started, and the endpoint that a runtime sees."""
    kind = CommandServer(CommandSettings(argv=(*ARGV, "--n_threads", "1", *more), model=str(model), start_s=120, **settings), name="llama")
    started = Server(kind, log, Redactor())
    return started, Started(started, kind)
