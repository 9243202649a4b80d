"""Run with JAX_ENABLE_X64=1: gradients against finite differences, and hyper-connections against what they generalise. Says OK."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from suites.fineweb10B.nanogpt import model
from suites.fineweb10B.nanogpt.settings import Settings, settings

SMALL = settings(["--n_layer=2", "--n_head=2", "--n_embd=8", "--block_size=6", "--batch_size=2"])
HYPER = replace(SMALL, model="hc", n_streams=3)
DRAW = np.random.default_rng(0)
LOGITS = jax.jit(model.logits, static_argnames="settings")


def in_float64(found: Settings, *, stirred: float) -> dict[str, jax.Array]:
    """Initial weights, moved a little so that no gradient is zero by symmetry."""
    return {name: jnp.asarray(value, jnp.float64) + stirred * DRAW.standard_normal(value.shape) for name, value in model.initial(found, 11).items()}


def a_hyper_connected_layer() -> None:
    weights = in_float64(HYPER, stirred=0.3)
    block = {name.removeprefix("blocks."): value[0] for name, value in weights.items() if name.startswith("blocks.")}
    streams = jnp.asarray(DRAW.standard_normal((2, 5, 3, 8)))

    @jax.jit
    def connected(streams: jax.Array, own: dict[str, jax.Array]) -> jax.Array:
        return model.hyper_connected(streams, own, jnp.tanh)

    check_grads(connected, (streams, model.connections(block, 1)), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def the_whole_model() -> None:
    """Less sharply: JAX takes the softmax of attention in float32."""
    loss = jax.jit(partial(model.loss, windows=jnp.asarray(DRAW.integers(0, 11, (2, 7))), settings=HYPER))
    check_grads(loss, (in_float64(HYPER, stirred=0.3),), order=1, modes=["rev"], eps=1e-3, atol=1e-3, rtol=1e-3)


def the_formula_by_loops() -> None:
    """Equations 2 and 10 to 13 for one position."""
    weights = in_float64(HYPER, stirred=0.3)
    own = model.connections({name.removeprefix("blocks."): value[0] for name, value in weights.items() if name.startswith("blocks.")}, 0)
    got = model.hyper_connected(jnp.asarray(streams := DRAW.standard_normal((3, 8)))[None, None], own, lambda x: 2 * x + 1)[0, 0]
    own = {name: np.asarray(value) for name, value in own.items()}
    centred = streams - streams.mean(1, keepdims=True)
    seen = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * own["norm"]
    a_m = own["read"] + own["gate_in"] * np.tanh(seen @ own["read_by"])
    a_r = own["mix"] + own["gate_in"] * np.tanh(seen @ own["mix_by"])
    b = own["write"] + own["gate_out"] * np.tanh(seen @ own["write_by"])
    expected = a_r.T @ streams + np.outer(b, 2 * (streams.T @ a_m) + 1)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def the_start_is_that_of_base() -> None:
    tokens = jnp.asarray(DRAW.integers(0, 11, (2, 6)))

    def logits(found: Settings) -> jax.Array:
        weights = in_float64(found, stirred=0.0)
        weights["token_embedding"] *= 100.0  # the epsilon of the last norm, which sees the sum of all streams, is then small
        return LOGITS(weights, tokens, found)

    np.testing.assert_allclose(logits(HYPER), logits(SMALL), rtol=1e-5)


def no_token_sees_a_later_one() -> None:
    tokens = DRAW.integers(0, 11, (2, 6))
    for found in (SMALL, HYPER):
        weights = in_float64(found, stirred=0.3)
        before = LOGITS(weights, jnp.asarray(tokens), found)
        after = LOGITS(weights, jnp.asarray(np.concatenate([tokens[:, :4], 10 - tokens[:, 4:]], axis=1)), found)
        np.testing.assert_array_equal(before[:, :4], after[:, :4])
        assert not np.allclose(before[:, 4:], after[:, 4:])


if __name__ == "__main__":
    assert jnp.zeros(()).dtype == jnp.float64
    for check in (a_hyper_connected_layer, the_formula_by_loops, the_start_is_that_of_base, no_token_sees_a_later_one, the_whole_model):
        check()
        print("OK", check.__name__, flush=True)  # noqa: T201 - its reader is another program
