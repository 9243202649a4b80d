"""Trains one small language model: ``python train.py [CONFIG.py ...] [--key=<python literal> ...]``; config.py names the keys.

Exit codes: 0 trained, 2 a configuration that cannot be, 3 diverged. Writes config_effective.json, dataset_manifest.json and
checkpoint.npz to out_dir, or to $GPUEVAL_RUN_DIR. With $GPUEVAL_ATTEMPT above 1 it continues from that checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from nanogpt.settings import Settings, TrainingError, settings


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    try:
        return _run(settings(arguments), os.environ)
    except TrainingError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2


def _run(found: Settings, environment: Mapping[str, str]) -> int:
    """Raises TrainingError: what the user can put right."""
    for package in ("numpy", "jax"):
        if find_spec(package) is None:
            raise TrainingError(f"{package} is not installed: pip install 'pytest-gpueval[fineweb10b]', and on an NVIDIA GPU also 'jax[cuda12]'")
    resume = found.resume or _attempt(environment) > 1
    # Before JAX is imported. Memory is taken as it is needed, so that what is measured is what the model takes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if found.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    from nanogpt import corpus, storage, tracking, training  # noqa: PLC0415 - errors in arguments need no JAX

    out_dir = Path(found.out_dir or environment.get("GPUEVAL_RUN_DIR") or "out")
    out_dir.mkdir(parents=True, exist_ok=True)
    text = corpus.load(found, environment)
    storage.write_json(out_dir / "dataset_manifest.json", text.manifest)
    tracker = tracking.tracker(found, out_dir)
    try:
        code: int = training.train(found, text, out_dir, tracker, resume=resume)
        return code
    finally:
        tracker.finish()


def _attempt(environment: Mapping[str, str]) -> int:
    """Raises TrainingError: the variable holds no number."""
    text = environment.get("GPUEVAL_ATTEMPT") or "1"
    if not text.isdecimal():
        raise TrainingError(f"GPUEVAL_ATTEMPT is {text!r}: it counts attempts from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
