"""A pre-norm decoder, and the same with hyper-connections. Weights are a flat mapping; those of all blocks are stacked along a first axis."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from .settings import Settings

Weights = Mapping[str, jax.Array]

_BLOCKS = "blocks."
_GATE_SCALE = 0.01  # of the dynamic part of hyper-connections, at the start
# Matrices that weight decay pulls to zero: not norms, nor what hyper-connections mix with.
DECAYED = frozenset({"token_embedding", "blocks.qkv", "blocks.attention_out", "blocks.mlp_in", "blocks.mlp_out"})


def initial(settings: Settings, vocabulary: int) -> dict[str, jax.Array]:
    """Weights drawn by seed and name, so that both kinds of model start with the same ones.

    As in GPT-2, projections into the residual stream are scaled by 1/sqrt(2 n_layer).
    """
    layers, width = settings.n_layer, settings.n_embd
    scales = {
        "token_embedding": ((vocabulary, width), 0.02),
        "position_embedding": ((settings.block_size, width), 0.02),
        "blocks.qkv": ((layers, width, 3 * width), 0.02),
        "blocks.attention_out": ((layers, width, width), 0.02 / math.sqrt(2 * layers)),
        "blocks.mlp_in": ((layers, width, 4 * width), 0.02),
        "blocks.mlp_out": ((layers, 4 * width, width), 0.02 / math.sqrt(2 * layers)),
    }
    weights = {
        name: np.random.default_rng([settings.seed, zlib.crc32(name.encode())]).standard_normal(shape, np.float32) * np.float32(scale)
        for name, (shape, scale) in scales.items()
    }
    weights |= {"norm": np.ones(width, np.float32), "blocks.norm": np.ones((layers, 2, width), np.float32)}
    if settings.model == "hc":
        weights |= _initial_connections(layers, settings.n_streams, width)
    return {name: jnp.asarray(value) for name, value in weights.items()}


def _initial_connections(layers: int, streams: int, width: int) -> dict[str, np.ndarray]:
    """Equation 14 of the paper: sublayer k reads stream k mod n, all streams take its output, and no stream flows into another.

    All streams are then what a single one would be. Unlike in the paper, output projections keep their scale, so that the model starts as the
    function that ``base`` starts as.
    """
    ones = np.ones((layers, 2), np.float32)
    sublayers = np.arange(2 * layers)
    return {
        "blocks.hc_read": np.eye(streams, dtype=np.float32)[sublayers % streams].reshape(layers, 2, streams),
        "blocks.hc_mix": np.broadcast_to(np.eye(streams, dtype=np.float32), (layers, 2, streams, streams)),
        "blocks.hc_write": np.ones((layers, 2, streams), np.float32),
        "blocks.hc_norm": np.ones((layers, 2, width), np.float32),
        "blocks.hc_read_by": np.zeros((layers, 2, width), np.float32),
        "blocks.hc_mix_by": np.zeros((layers, 2, width, streams), np.float32),
        "blocks.hc_write_by": np.zeros((layers, 2, width), np.float32),
        "blocks.hc_gate_in": ones * np.float32(_GATE_SCALE),
        "blocks.hc_gate_out": ones * np.float32(_GATE_SCALE),
    }


def loss(weights: Weights, windows: jax.Array, settings: Settings) -> jax.Array:
    """Mean cross-entropy, in nats a token, of predicting each next token of ``windows``, (batch, block_size + 1)."""
    scores = logits(weights, windows[:, :-1], settings)
    right = jnp.take_along_axis(scores, windows[:, 1:, None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(scores, axis=-1) - right)


def logits(weights: Weights, tokens: jax.Array, settings: Settings) -> jax.Array:
    """Scores of each next token, (batch, time, vocabulary), of ``tokens``, (batch, time)."""
    hidden = weights["token_embedding"][tokens] + weights["position_embedding"][: tokens.shape[1]]
    blocks = {name.removeprefix(_BLOCKS): value for name, value in weights.items() if name.startswith(_BLOCKS)}
    if settings.model == "hc":
        streams = jnp.broadcast_to(hidden[:, :, None, :], (*hidden.shape[:2], settings.n_streams, hidden.shape[2]))
        streams, _ = jax.lax.scan(lambda state, block: (_hyper_block(state, block, settings.n_head), None), streams, blocks)
        hidden = streams.sum(axis=2)
    else:
        hidden, _ = jax.lax.scan(lambda state, block: (_residual_block(state, block, settings.n_head), None), hidden, blocks)
    return normalized(hidden, weights["norm"]) @ weights["token_embedding"].T


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Layer normalisation over the last axis, without a bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * scale


def _attention(x: jax.Array, block: Weights, heads: int) -> jax.Array:
    """Causal self-attention of (batch, time, width)."""
    size, time, width = x.shape
    query, key, value = jnp.split((x @ block["qkv"]).reshape(size, time, 3 * heads, width // heads), 3, axis=2)
    return jax.nn.dot_product_attention(query, key, value, is_causal=True).reshape(size, time, width) @ block["attention_out"]


def _mlp(x: jax.Array, block: Weights) -> jax.Array:
    return jax.nn.gelu(x @ block["mlp_in"]) @ block["mlp_out"]


def _residual_block(hidden: jax.Array, block: Weights, heads: int) -> jax.Array:
    hidden += _attention(normalized(hidden, block["norm"][0]), block, heads)
    return hidden + _mlp(normalized(hidden, block["norm"][1]), block)


def _hyper_block(streams: jax.Array, block: Weights, heads: int) -> jax.Array:
    streams = hyper_connected(streams, connections(block, 0), lambda x: _attention(normalized(x, block["norm"][0]), block, heads))
    return hyper_connected(streams, connections(block, 1), lambda x: _mlp(normalized(x, block["norm"][1]), block))


def connections(block: Weights, sublayer: int) -> dict[str, jax.Array]:
    """The weights ``hc_*`` of one block's attention (0) or MLP (1)."""
    return {name.removeprefix("hc_"): value[sublayer] for name, value in block.items() if name.startswith("hc_")}


def hyper_connected(streams: jax.Array, own: Weights, layer: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """``layer`` between dynamic hyper-connections.

    Zhu et al., "Hyper-Connections", arXiv 2409.19606: equations 2 and 3 (how streams are read, mixed and written) and 10 to 13 (how the weights of
    that depend on the input).

    Args:
        streams: H, (batch, time, n, width).
        own: static A_m (n), A_r (n, n) and B (n) as ``read``, ``mix`` and ``write``; W_m, W_r and W_beta as ``..._by``; the scales s_alpha and
            s_beta as ``gate_in`` and ``gate_out``.
        layer: T, of (batch, time, width).

    Returns:
        A_r^T H + B^T T(H^T A_m), shaped as ``streams``.
    """
    seen = normalized(streams, own["norm"])
    read = own["gate_in"] * jnp.tanh(seen @ own["read_by"]) + own["read"]
    mix = own["gate_in"] * jnp.tanh(seen @ own["mix_by"]) + own["mix"]
    write = own["gate_out"] * jnp.tanh(seen @ own["write_by"]) + own["write"]
    output = layer(jnp.einsum("btn,btnd->btd", read, streams))
    return jnp.einsum("btij,btid->btjd", mix, streams) + write[..., None] * output[:, :, None, :]
