"""What a host has: Python, disks, GPUs, data, and what runs there."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import socket
import sys
import time
from typing import Any, BinaryIO

from pytest_gpueval.hosts.detached.agent.files import read_json, write_text
from pytest_gpueval.hosts.detached.agent.gpus import GpuLook
from pytest_gpueval.hosts.detached.agent.processes import Refused, boot
from pytest_gpueval.hosts.detached.agent.requests import status
from pytest_gpueval.hosts.sync.agent.snapshots import at, hash_of, looks

UV_PLACES = ("~/.local/bin/uv", "~/.cargo/bin/uv", "/usr/local/bin/uv", "/opt/homebrew/bin/uv")
SUPERVISED = b"GPUEVAL_SUPERVISOR="
MARKER_NAME = ".complete"
VERIFIED = "verified.json"


def facts_of(message: dict[str, Any], _: BinaryIO) -> dict[str, Any]:
    """All of them, in one answer. What cannot be found out is None, with a reason beside it."""
    root, look = message["root"], GpuLook()
    runs: dict[str, Any] = {"runs": [], "boot": boot(), "hostname": socket.gethostname(), "now": time.time()}
    with contextlib.suppress(OSError, Refused):
        runs["runs"] = status({"root": message["runs"], "run_ids": None, "tail_lines": 0})["runs"]
    return {
        "hostname": socket.gethostname(),
        "python": {"version": list(sys.version_info[:3]), "executable": sys.executable, "machine": platform.machine()},
        "disk": disk_of(root),
        "volume": volume_of(message["volume"]),
        "gpus": look.answer(),
        "uv": uv_of(message["uv"]),
        "runs": runs,
        "sessions": sessions(),
        "own": names_in(at(root, "own")),
        "envs": [name for name in names_in(at(root, "envs")) if os.path.exists(at(root, "envs", name, MARKER_NAME))],
        "assets": {name: assets_of(root, path) for name, path in message["assets"].items()},
        "root": root,
        "now": time.time(),
    }


def names_in(directory: str) -> list[str]:
    """Names of what is in it; none where it is not there."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def disk_of(path: str) -> dict[str, Any]:
    """Room where the path is, or will be; and whether we may write there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    about = os.statvfs(path)
    return {"path": path, "free": about.f_bavail * about.f_frsize, "total": about.f_blocks * about.f_frsize, "writable": os.access(path, os.W_OK | os.X_OK)}


def volume_of(path: str | None) -> dict[str, Any] | None:
    """Whether it is mounted: it, or what it is in, but for the root of all."""
    if path is None:
        return None
    place = os.path.abspath(os.path.expanduser(path))
    real = os.path.realpath(place)
    while real != "/" and not os.path.ismount(real):
        real = os.path.dirname(real)
    return {"path": place, "mounted": real != "/" and os.path.isdir(place), "at": real if real != "/" else None}


def uv_of(path: str | None) -> str | None:
    """Where uv is, although it may not be on PATH; None where it is not. Raises Refused for one that was named and is not there."""
    if path is not None:
        found = shutil.which(os.path.expanduser(path))
        if found is None:
            raise Refused("usage", f"uv = {path!r}: there is no such program on {socket.gethostname()}")
        return found
    places = [os.path.expanduser(place) for place in UV_PLACES]
    return shutil.which("uv") or next((place for place in places if os.access(place, os.X_OK)), None)


def sessions() -> int:
    """How many supervised workers run here."""
    found: set[bytes] = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            found.update(entry for entry in file.read().split(b"\0") if entry.startswith(SUPERVISED))
    return len(found)


def assets_of(root: str, directory: str) -> dict[str, Any]:
    """Whether a directory of data or models is what its manifest.json says; hashes that were right once are believed while a file looks the same."""
    place = os.path.expanduser(directory)
    path = os.path.join(place, "manifest.json")
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        entries = [*manifest.get("datasets", ()), *manifest.get("models", ())]
        listed = [(entry["file"], entry["bytes"], entry["sha256"]) for entry in entries]
        if manifest.get("version") != 1 or any(os.path.isabs(name) or ".." in name.split("/") for name, _, _ in listed):
            raise ValueError("not a manifest of version 1 whose files are below it")
    except OSError as error:
        return {"files": 0, "problems": [f"{path}: {error.strerror}"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"files": 0, "problems": [f"{path}: {error}"]}
    known: dict[str, Any] = {}
    with contextlib.suppress(Refused):
        known = read_json(at(root, VERIFIED)) or {}
    problems = [] if listed else [f"{path}: lists no file"]
    for name, size, digest in listed:
        problem = problem_of(os.path.join(place, name), size, digest, known)
        problems += [problem] if problem else []
    with contextlib.suppress(OSError):
        write_text(at(root, VERIFIED), json.dumps(known))
    return {"files": len(listed), "problems": problems}


def problem_of(path: str, size: int, digest: str, known: dict[str, Any]) -> str | None:
    """What is wrong with a file, if anything; `known` learns its hash."""
    try:
        now = looks(os.path.realpath(path))
        if now[0] != size:
            return f"{path}: has {now[0]:,} bytes, not {size:,}"
        if known.get(path) != [now, digest]:
            if hash_of(os.path.realpath(path)) != digest:
                return f"{path}: was damaged or replaced: its SHA-256 is not that of manifest.json"
            known[path] = [now, digest]
        return None
    except OSError as error:
        return f"{path}: {error.strerror}"
