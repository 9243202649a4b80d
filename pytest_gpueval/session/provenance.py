"""What was run, on what: commit, packages, environment, machine."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import socket
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_gpueval.datasets import sources
from pytest_gpueval.hosts import local
from pytest_gpueval.runs.redact import is_secret_name
from pytest_gpueval.suites.schema import RuntimeEntry

# Variables worth recording, by name or prefix. Everything else stays unrecorded: nobody has looked at it.
_ALLOWED = ("CUDA_VISIBLE_DEVICES", "DATA_DIR", "LANG", "LC_ALL", "OMP_NUM_THREADS", "PYTHONHASHSEED", "TZ", "VLLM_BASE_URL", "OPENAI_API_BASE")
_ALLOWED_PREFIXES = ("CUDA_", "CUPY_", "GPUEVAL_", "GR_", "HF_", "NCCL_", "NVIDIA_", "OPENBLAS_", "MKL_", "PYTORCH_", "TORCH_", "TRITON_")

_PACKAGES = (
    "pytest",
    "pytest-xdist",
    "pytest-gpueval",
    "numpy",
    "pyarrow",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "transformers",
    "datasets",
    "natasha",
    "tritonclient",
    "vllm",
)


def code_state(root: Path) -> dict[str, Any]:
    """Commit, branch-independent; `diff_sha256` of uncommitted changes to tracked files, None where the tree is clean. Empty outside git."""
    commit = local.run(["git", "rev-parse", "HEAD"], root)
    if commit is None:
        return {"commit": None, "dirty": None, "diff_sha256": None}
    difference = local.run(["git", "diff", "HEAD", "--no-ext-diff", "--no-color"], root) or ""
    untracked = local.run(["git", "status", "--porcelain", "--untracked-files=normal"], root) or ""
    return {
        "commit": commit.strip(),
        "dirty": bool(untracked.strip()),
        "diff_sha256": hashlib.sha256(difference.encode()).hexdigest() if difference else None,
    }


def model_code(entry: RuntimeEntry, directory: Path) -> str | None:
    """A hash of the Python files of a suite's folder, or of the module that `package.module:Class` names; None where there is no source."""
    if entry.command is not None:  # a program may use any file there
        return sources.fingerprint(directory)
    target = entry.target
    if target is None:
        return None
    place = target.rpartition(":")[0]
    if place.endswith(".py"):
        return sources.fingerprint(directory)
    try:
        spec = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The allow-listed variables; of a secret only that it is set."""
    kept = {name: "<set>" if is_secret_name(name) else variables[name] for name in variables if _is_kept(name)}
    return dict(sorted(kept.items()))


@lru_cache(maxsize=4096)  # the same variables come with every run
def _is_kept(name: str) -> bool:
    return name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES) or is_secret_name(name)


def packages() -> dict[str, str]:
    """Versions of the packages that change results, where installed."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Python, host name and platform."""
    return {"python": sys.version.split()[0], "host": socket.gethostname(), "platform": platform.platform()}
