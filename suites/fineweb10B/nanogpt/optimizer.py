"""AdamW under a norm's bound, and the learning rate over time. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from .model import DECAYED
from .settings import Settings

_EPSILON = 1e-8


def learning_rate(settings: Settings, step: int) -> float:
    """At ``step``, counted from 1: linear up to ``warmup_steps``, then half a cosine down to ``min_lr_share``."""
    if step <= settings.warmup_steps:
        return settings.learning_rate * step / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    share = settings.min_lr_share + (1 - settings.min_lr_share) * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * share


def norm(gradients: Mapping[str, jax.Array]) -> jax.Array:
    """Euclidean norm of all gradients together."""
    return jnp.sqrt(sum((jnp.sum(gradient**2) for gradient in gradients.values()), start=jnp.zeros(())))


def adamw(
    state: Mapping[str, Mapping[str, jax.Array]], gradients: Mapping[str, jax.Array], size: jax.Array, rate: jax.Array, step: jax.Array, settings: Settings
) -> dict[str, dict[str, jax.Array]]:
    """One step of AdamW: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2.

    Args:
        state: ``weights``, and the running ``mean`` and ``variance`` of their gradients.
        gradients: of this step.
        size: their norm.
        rate: the learning rate.
        step: counted from 1.
        settings: betas, bound and decay.
    """
    bound = jnp.minimum(1.0, settings.grad_clip / (size + 1e-6)) if settings.grad_clip else jnp.ones(())
    after: dict[str, dict[str, jax.Array]] = {"weights": {}, "mean": {}, "variance": {}}
    for name, weight in state["weights"].items():
        gradient = gradients[name] * bound
        mean = settings.beta1 * state["mean"][name] + (1 - settings.beta1) * gradient
        variance = settings.beta2 * state["variance"][name] + (1 - settings.beta2) * gradient**2
        move = mean / (1 - settings.beta1**step) / (jnp.sqrt(variance / (1 - settings.beta2**step)) + _EPSILON)
        decay = settings.weight_decay * weight if name in DECAYED else 0.0
        after["weights"][name], after["mean"][name], after["variance"][name] = weight - rate * (move + decay), mean, variance
    return after
