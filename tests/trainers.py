"""Trainers of sweeps as programs: argv in, lines and files out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

SUITES = Path(__file__).resolve().parents[1] / "suites"
PENDULUM = SUITES / "pendulum" / "train.py"
FINEWEB10B = SUITES / "fineweb10B" / "train.py"
# Runs a program that waits once it has printed a line that begins so: however late the signal comes, it comes in time.
_HALTED = """
import builtins, os, runpy, signal, sys
line, said = sys.argv[1], builtins.print
def told(*words, **more):
    said(*words, **more)
    if words and str(words[0]).startswith(line):
        signal.pause()
builtins.print, sys.argv = told, sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def environment(run_dir: Path, **more: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key not in ("DATA_DIR", "FINEWEB10B_LOCAL_DIR", "GPUEVAL_ATTEMPT")}
    return {**own, "GPUEVAL_RUN_DIR": str(run_dir), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1", **more}


def train(program: Path, run_dir: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """To its end, in another directory than its own."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, program, *arguments], cwd=run_dir.parent, env=environment(run_dir, **more), capture_output=True, text=True, timeout=300
    )


def train_until(line: str, program: Path, run_dir: Path, *arguments: str) -> None:
    """Killed as soon as it has printed a line that begins so."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _HALTED, line, program, *arguments]
    with subprocess.Popen(command, cwd=run_dir.parent, env=environment(run_dir), stdout=subprocess.PIPE, text=True) as running:
        found = any(said.startswith(line) for said in running.stdout)
        running.kill()
    assert found, f"ended before it said {line!r}"
    assert running.returncode == -signal.SIGKILL


def result(output: str, name: str) -> dict[str, float]:
    """Figures of the only line RESULT_<name>, but for the seconds."""
    (line,) = re.findall(rf"^RESULT_{name} (.*)$", output, re.MULTILINE)
    found = {key: float(value) for key, value in (pair.split("=") for pair in line.split())}
    assert found.pop("seconds") > 0
    return found


def losses(output: str) -> list[float]:
    """Of the steps, in their order, as the suites' patterns find them."""
    return [float(match["loss"]) for match in re.finditer(r"step (?P<step>\d+) loss (?P<loss>\S+)", output)]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one message of arguments that cannot be."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line
