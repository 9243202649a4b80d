"""slovnet's network from token ids to emissions: embeddings, three convolutions, a projection. The same lines run on the CPU and on a GPU.

float32 throughout. Products of matrices are summed in another order by each library, so that emissions differ between devices by rounding: `AGREEMENT`
bounds it, and `on` refuses a device that does not keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import device as devices
from .device import Device

Ints = npt.NDArray[np.int64]

# Of emissions, which reach about 40: float32 sums in another order differ by less than 1e-4, products in TF32 by more than 1e-2.
AGREEMENT = 1e-3


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of width three, the ReLU and the normalisation after it."""

    weight: Any
    bias: Any
    scale: Any
    shift: Any

    def __call__(self, xp: Any, rows: Any, gaps: Any) -> Any:
        """Rows [tokens, inputs] to rows [tokens, filters]; those numbered in `gaps` are zero before and after."""
        size, width = rows.shape
        windows = xp.zeros((size, 3 * width), dtype=np.float32)
        windows[1:, :width] = rows[:-1]
        windows[:, width : 2 * width] = rows
        windows[:-1, 2 * width :] = rows[1:]
        result = windows @ self.weight
        result += self.bias
        xp.maximum(result, 0, out=result)
        result *= self.scale
        result += self.shift
        result[gaps] = 0
        return result

    def on(self, xp: Any) -> Layer:
        """The same layer with its weights as arrays of `xp`."""
        return Layer(xp.asarray(self.weight), xp.asarray(self.bias), xp.asarray(self.scale), xp.asarray(self.shift))


@dataclass(frozen=True, slots=True)
class Network:
    """The weights, as arrays of one device.

    A word's vector is made of parts: `words` [words, parts] says for each which of the `centroids` [parts x 256, numbers] it is, and `begins` [parts]
    where the part's own centroids begin. `shapes` [shapes, numbers] are the vectors of the words' shapes.
    """

    device: Device
    words: Any
    centroids: Any
    begins: Any
    shapes: Any
    layers: tuple[Layer, ...]
    out: Any
    out_bias: Any

    @classmethod
    def of(cls, loaded: Any) -> Network:
        """The network that slovnet has loaded, on the CPU. Raises ValueError for one of another make."""
        codes = loaded.emb.word.codes.array
        parts, count, numbers = codes.shape
        return cls(
            devices.CPU,
            loaded.emb.word.indexes.array,
            codes.reshape(parts * count, numbers),
            np.arange(parts, dtype=np.int64) * count,
            loaded.emb.shape.weight.array,
            tuple(_layer(layer) for layer in loaded.encoder.layers),
            loaded.head.proj.weight.array,
            loaded.head.proj.bias.array,
        )

    def emissions(self, words: Ints, shapes: Ints, gaps: Ints) -> npt.NDArray[np.float64]:
        """How much each token speaks for each tag, [tokens, tags], from the tokens' word and shape ids; `gaps` are the numbers of the empty rows."""
        xp = self.device.xp
        words, shapes, gaps = xp.asarray(words), xp.asarray(shapes), xp.asarray(gaps)
        chosen = self.words[words].astype(np.int64) + self.begins
        rows = xp.concatenate((self.centroids[chosen].reshape(len(words), -1), self.shapes[shapes]), axis=1)
        rows[gaps] = 0
        for layer in self.layers:
            rows = layer(xp, rows, gaps)
        found: npt.NDArray[np.float64] = self.device.to_host(rows @ self.out + self.out_bias).astype(np.float64)
        return found


def on(network: Network, name: str) -> Network:
    """A network of the CPU, on the device of this name. Raises DeviceProblem, and what says that the GPU's memory is full."""
    if name == "cpu":
        return network
    device = devices.cuda()
    try:
        moved = _moved(network, device)
        difference = _difference(network, moved)
    except Exception as error:
        if devices.is_out_of_memory(error):
            raise
        raise devices.cannot_compute(error) from error
    if not difference <= AGREEMENT:  # NaN is none either
        raise devices.DeviceProblem(
            f"what the GPU computes differs from the CPU's float32 by {difference:.2g}, where {AGREEMENT:g} is allowed: "
            "does something make its products less exact (TF32, emulation), or is it damaged"
        )
    return moved


def _moved(network: Network, device: Device) -> Network:
    xp = device.xp
    return Network(
        device,
        xp.asarray(network.words),
        xp.asarray(network.centroids),
        xp.asarray(network.begins),
        xp.asarray(network.shapes),
        tuple(layer.on(xp) for layer in network.layers),
        xp.asarray(network.out),
        xp.asarray(network.out_bias),
    )


def _difference(one: Network, other: Network) -> float:
    """The largest difference of emissions, of a made-up text whose words come from all over the vocabulary."""
    size = 130
    number = np.arange(size, dtype=np.int64)
    words, shapes = number * 7919 % len(one.words), number * 31 % len(one.shapes)
    gaps = np.array([0, size // 2, size - 1], dtype=np.int64)
    return float(np.abs(one.emissions(words, shapes, gaps) - other.emissions(words, shapes, gaps)).max())


def _layer(layer: Any) -> Layer:
    """Turn slovnet's layer (filters x inputs x width) into matrices for whole rows."""
    weight = layer.conv.weight.array
    filters, inputs, width = weight.shape
    if width != 3 or layer.conv.padding != 1:
        raise ValueError(f"the model's convolution is {width} wide; this code runs width 3")
    scale = layer.norm.weight.array / layer.norm.std.array
    return Layer(
        np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(3 * inputs, filters)),
        layer.conv.bias.array,
        scale.astype(np.float32),
        (layer.norm.bias.array - layer.norm.mean.array * scale).astype(np.float32),
    )
