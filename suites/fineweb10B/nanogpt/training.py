"""The loop: steps, evaluations, checkpoints, and the lines that a sweep reads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from . import corpus as corpora
from . import model, optimizer, storage
from .corpus import Corpus
from .settings import Settings, TrainingError
from .tracking import Tracker

DIVERGED = 3
State = dict[str, dict[str, jax.Array]]
Windows = npt.NDArray[np.int32]


def say(line: str) -> None:
    """A line for whoever watches, at once."""
    print(line, flush=True)


def train(settings: Settings, corpus: Corpus, out_dir: Path, tracker: Tracker, *, resume: bool) -> int:
    """Trains, and says so on stdout.

    Returns:
        The exit code: 0, or ``DIVERGED``.

    Raises:
        TrainingError: the device that is asked for is not there, or the checkpoint is of no use.
    """
    device = _device(settings)
    checkpoint = out_dir / storage.CHECKPOINT
    essentials = settings.essentials() | {"dataset": corpus.manifest["dataset"], "text": corpus.manifest["train"]}
    state, done = _begin(settings, corpus, checkpoint, essentials, resume=resume)
    parameters = sum(value.size for value in state["weights"].values())
    effective = {"config": asdict(settings), "parameters": parameters, "device": device, "jax": jax.__version__}
    storage.write_json(out_dir / "config_effective.json", effective)
    say(f"{settings.model}: {parameters:,} parameters on {device}, text {corpus.manifest['dataset']}, steps {done + 1} to {settings.steps}")
    take_step, evaluate = jax.jit(partial(_step, settings=settings), donate_argnums=0), _evaluation(settings, corpus)
    began = time.perf_counter()
    for step in range(done + 1, settings.steps + 1):
        begun = time.perf_counter()
        windows = corpora.batch(corpus, settings, step)
        state, loss, size = take_step(state, windows, jnp.float32(optimizer.learning_rate(settings, step)), jnp.float32(step))
        figures = {"loss": float(loss), "tokens_per_s": settings.batch_size * settings.block_size / (time.perf_counter() - begun)}
        say(f"step {step} loss {figures['loss']:.6f} tokens_per_s {figures['tokens_per_s']:.0f}")
        tracker.log(figures, step)
        if not (math.isfinite(figures["loss"]) and math.isfinite(float(size))):
            return _diverged(f"step {step}: loss {figures['loss']:.6g}, norm of the gradients {float(size):.6g}", settings)
        if _due(step, settings.checkpoint_every, settings.steps):
            storage.save(checkpoint, state, step, essentials)
        if step < settings.steps and _due(step, settings.eval_every, settings.steps):
            say(f"eval {step} val_loss {evaluate(state):.6f}")
    val_loss = evaluate(state)
    if not math.isfinite(val_loss):
        return _diverged(f"after the last step: held-out loss {val_loss:.6g}", settings)
    tracker.log({"val_loss": val_loss}, settings.steps)
    tokens = settings.steps * settings.batch_size * settings.block_size
    say(f"RESULT_FINEWEB10B val_loss={val_loss:.6f} steps={settings.steps} tokens={tokens} seconds={time.perf_counter() - began:.3f}")
    return 0


def _due(step: int, every: int, last: int) -> bool:
    return every > 0 and (step % every == 0 or step == last)


def _diverged(what: str, settings: Settings) -> int:
    say(f"DIVERGED {what}. A lower learning_rate than {settings.learning_rate:g}, a longer warm-up or a lower grad_clip may help")
    return DIVERGED


def _device(settings: Settings) -> str:
    """Raises TrainingError: see ``train``."""
    try:
        found = jax.devices()[0]
    except RuntimeError as error:
        raise TrainingError(f"device {settings.device!r}: JAX finds none: {error}") from None
    if settings.device == "gpu" and found.platform != "gpu":
        raise TrainingError(
            f"device 'gpu', and JAX finds only {found.platform}: pip install 'jax[cuda12]' where there is an NVIDIA GPU, or take --device='cpu', which is slow"
        )
    return str(found.device_kind)


def _begin(settings: Settings, corpus: Corpus, checkpoint: Path, essentials: dict[str, Any], *, resume: bool) -> tuple[State, int]:
    """State and number of steps done: of the checkpoint if there is one to continue from, otherwise as drawn."""
    if resume and checkpoint.exists():
        kept, done = storage.restore(checkpoint, essentials)
        say(f"continues after step {done} of {checkpoint}")
        return {part: {name: jnp.asarray(value) for name, value in values.items()} for part, values in kept.items()}, done
    # A later attempt of this run must not continue an earlier run.
    checkpoint.unlink(missing_ok=True)
    weights = model.initial(settings, corpus.vocabulary)
    return {"weights": weights, **{part: {name: jnp.zeros_like(value) for name, value in weights.items()} for part in ("mean", "variance")}}, 0


def _step(state: State, windows: Windows, rate: jax.Array, step: jax.Array, *, settings: Settings) -> tuple[State, jax.Array, jax.Array]:
    """State after one step, its loss before, and the norm of the gradients."""
    loss, gradients = jax.value_and_grad(model.loss)(state["weights"], windows, settings)
    size = optimizer.norm(gradients)
    return optimizer.adamw(state, gradients, size, rate, step, settings), loss, size


def _evaluation(settings: Settings, corpus: Corpus) -> Callable[[State], float]:
    """Mean loss of the held-out windows, in nats a token."""
    loss = jax.jit(partial(model.loss, settings=settings))
    return lambda state: float(np.mean([float(loss(state["weights"], windows)) for windows in corpora.held_out_batches(corpus, settings)]))
