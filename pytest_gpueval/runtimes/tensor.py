"""Triton's tensors of type BYTES: a request with one, and what a response has. No server's library is needed for what is pure.

Each element is its length, four bytes with the lowest first, and its bytes, one element after the other.
Source: github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, error
from typing import Any

_LENGTH = Struct("<I")


def join(elements: Sequence[bytes]) -> bytes:
    """A tensor's content. Raises OverflowError for an element of 4 GiB."""
    pack = _LENGTH.pack
    try:
        return b"".join([piece for element in elements for piece in (pack(len(element)), element)])
    except error:
        raise OverflowError("an element of a tensor has 4 GiB or more") from None


def split(content: bytes) -> list[bytes]:
    """The elements of a tensor's content. Raises ValueError for one that is cut off."""
    unpack, size, place = _LENGTH.unpack_from, len(content), 0
    elements = []
    while place + 4 <= size:
        start = place + 4
        place = start + unpack(content, place)[0]
        elements.append(content[start:place])
    if place != size:
        raise ValueError(f"its content ends in the middle of an element, at byte {size}")
    return elements


def request(kind: Any, model: str, given: str, elements: Sequence[bytes], asked: str) -> Any:
    """A `kind`, which is KServe's ModelInferRequest: the tensor `given` of shape [n, 1], to be answered with the tensor `asked`."""
    message = kind(model_name=model, raw_input_contents=[join(elements)])
    message.inputs.add(name=given, datatype="BYTES", shape=[len(elements), 1])
    message.outputs.add(name=asked)
    return message


def content(response: Any, place: int) -> list[bytes]:
    """The elements of the output at `place` of a ModelInferResponse. Raises ValueError."""
    raw = response.raw_output_contents
    return split(raw[place]) if place < len(raw) else list(response.outputs[place].contents.bytes_contents)
