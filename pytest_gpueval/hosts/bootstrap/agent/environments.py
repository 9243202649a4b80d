"""Python environments: made once, by whoever comes first, and complete when their marker is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from typing import Any, BinaryIO

from pytest_gpueval.hosts.detached.agent.files import alone, write_text
from pytest_gpueval.hosts.detached.agent.processes import Refused, step
from pytest_gpueval.hosts.sync.agent.receive import Payload
from pytest_gpueval.hosts.sync.agent.snapshots import at

from .facts import MARKER_NAME

ENV_LOCK_S = 1800.0
PROBE_S = 120.0
SAID = 3000
# What a session's workers import, and of which version this package is; printed as JSON behind a mark, since packages may print on import.
PROBE_TEXT = """
import importlib, importlib.metadata, json, sys
missing = []
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
    except Exception as error:
        missing.append(f"{name} ({type(error).__name__}: {error})")
try:
    own = importlib.metadata.version("pytest-gpueval")
    names = [point.name for point in importlib.metadata.entry_points(group="pytest11")]
except importlib.metadata.PackageNotFoundError:
    own, names = None, []
print("\\n<probe>" + json.dumps({"version": list(sys.version_info[:3]), "missing": missing, "own": own, "plugin": "gpueval" in names}))
"""


def environment(message: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    """Have an interpreter that can run the code: made here, or the one that is named where nothing is to be installed. Raises Refused."""
    root, key = message["root"], message["key"]
    os.makedirs(at(root, "envs"), exist_ok=True)
    wheel = own_wheel(root, message["wheel"], file)
    if key is None:
        return as_it_is(message, wheel)
    place = at(root, "envs", key)
    python = os.path.join(place, "bin", "python")
    with alone(at(root, "envs", f"{key}.lock"), f"{root}: another bootstrap makes this environment", ENV_LOCK_S) as lock:
        if os.path.exists(os.path.join(place, MARKER_NAME)) and os.access(python, os.X_OK):
            return {"python": python, "again": True, "path": message["path"], "by": None}
        shutil.rmtree(place, ignore_errors=True)  # of a bootstrap that was cut off
        step("cleared")
        with open(at(root, "envs", f"{key}.log"), "wb") as log:
            for argv in commands(message, place, python, wheel):
                called(argv, at(root, "current"), log, lock)
                step("called")
        found = probed(python, message["path"], message["imports"])
        complain(found, message, python)
        write_text(os.path.join(place, MARKER_NAME), json.dumps(found))
    return {"python": python, "again": False, "path": message["path"], "by": "uv" if message["uv"] else "venv and pip"}


def commands(message: dict[str, Any], place: str, python: str, wheel: str) -> list[list[str]]:
    """What makes an environment. Words of the project's own come as they are; WHEEL stands for this package."""
    words = [wheel if word == "WHEEL" else word for word in message["words"]]
    if message["uv"]:
        return [
            [message["uv"], "venv", "--quiet", "--no-project", "--python", sys.executable, place],
            [message["uv"], "pip", "install", "--python", python, *words],
        ]
    return [[sys.executable, "-m", "venv", place], [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", *words]]


def called(argv: list[str], directory: str, log: BinaryIO, lock: int) -> None:
    """Run a program to its end; it holds the lock too, so that nobody begins anew while it lives. Raises Refused."""
    log.write(("$ " + " ".join(argv) + "\n").encode("utf-8", "surrogateescape"))
    log.flush()
    before = log.tell()
    done = subprocess.run(argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, pass_fds=[lock])
    if done.returncode != 0:
        with open(log.name, "rb") as said:
            said.seek(max(before, os.fstat(said.fileno()).st_size - SAID))
            text = said.read().decode("utf-8", "replace").strip()
        raise Refused("fault", f"{' '.join(argv[:4])} ... ended with {done.returncode}; all it said is in {log.name}, at its end:\n{text}")


def as_it_is(message: dict[str, Any], wheel: str) -> dict[str, Any]:
    """The interpreter as it is, and this package beside it where it has another version or none. Raises Refused."""
    python, path = sys.executable, message["path"]
    found = probed(python, path, message["imports"])
    if not found["plugin"] or found["own"] != message["version"]:
        unpacked = os.path.join(os.path.dirname(wheel), "site")
        if not os.path.isdir(unpacked):
            beside = f"{unpacked}.{os.urandom(4).hex()}"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(beside)
            with contextlib.suppress(OSError):  # somebody else was faster
                os.rename(beside, unpacked)
            shutil.rmtree(beside, ignore_errors=True)
        path = [*path, unpacked]
        found = probed(python, path, message["imports"])
    complain(found, message, python)
    return {"python": python, "again": True, "path": path, "by": None}


def complain(found: dict[str, Any], message: dict[str, Any], python: str) -> None:
    """Raises Refused where the interpreter cannot run a session."""
    if found["missing"]:
        raise Refused("usage", f"{python} cannot import {'; '.join(found['missing'])}. Install it there, or let install = [...] of hosts.toml name what does")
    if not found["plugin"] or found["own"] != message["version"]:
        raise Refused("usage", f"{python} has pytest-gpueval {found['own'] or 'not at all'}, and this is {message['version']}; the two must be the same")


def probed(python: str, path: list[str], imports: list[str]) -> dict[str, Any]:
    """What an interpreter has. Raises Refused."""
    environment = {**{name: value for name, value in os.environ.items() if name != "PYTHONHOME"}, "PYTHONPATH": os.pathsep.join(path)}
    try:
        done = subprocess.run(
            [python, "-P", "-c", PROBE_TEXT, ",".join(imports)], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PROBE_S
        )
        found: dict[str, Any] = json.loads(done.stdout.rpartition(b"<probe>")[2])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise Refused("usage", f"{python} does not run as it should: {error}") from None
    return found


def own_wheel(root: str, about: dict[str, Any], file: BinaryIO) -> str:
    """Where this package lies as a wheel; it comes with the request if it was not there. Raises Refused."""
    target = at(root, "own", about["sha256"][:16], about["name"])
    if not os.path.exists(target):
        if not about["sent"]:
            raise Refused("conflict", f"{target} has gone; try again")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        data = b"".join(Payload(file, packed=False).pieces(about["size"]))
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise Refused("fault", "this package did not come as it was sent; try again")
        beside = f"{target}.{os.urandom(4).hex()}"
        with open(beside, "wb") as there:
            there.write(data)
        os.replace(beside, target)
    return target
