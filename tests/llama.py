"""llama.cpp's OpenAI-compatible server, as `make llama-server` installs it, and a tiny model made on the spot."""

import json
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


def suite(model, match, *datasets, more=""):
    """suite.toml of text that this server generates, from datasets with a split `fast`."""
    return f"""
task = "generation"
split = "fast"
runtime = "llama"
task_options = {{ match = "{match}" }}
{more}
[data]
note = "synthetic"
[runtimes.llama]
kind = "openai"
server = {{ command = {json.dumps(ARGV)}, model = {json.dumps(str(model))}, served_name = "tiny" }}
request = {{ endpoint = "completions", max_tokens = 4 }}
""" + "".join(f"[datasets.{name}]\nsplits.fast = {{}}\n" for name in datasets)


def server(model, log, *more, **settings):
    """A server, not started, and the endpoint that a runtime sees."""
    kind = CommandServer(CommandSettings(argv=(*ARGV, "--n_threads", "1", *more), model=str(model), start_s=120, **settings), name="llama")
    started = Server(kind, log, Redactor())
    return started, Started(started, kind)
