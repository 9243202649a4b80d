"""Triton's tensors of bytes, as its own client writes and reads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.runtimes import tensor
from pytest_gpueval.runtimes.triton import client_library

client_library()  # gRPC is imported as a runtime imports it: other tests of this process fork

from tritonclient.grpc import service_pb2  # noqa: E402
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor  # noqa: E402

contents = st.lists(st.binary(max_size=20), min_size=1, max_size=8)


@given(contents)
def test_as_tritons_client_has_them(elements):
    joined = tensor.join(elements)
    assert joined == serialize_byte_tensor(np.array(elements, dtype=object)).item()
    assert tensor.split(joined) == deserialize_bytes_tensor(joined).tolist() == elements


@given(contents, st.integers(1, 4))
def test_content_that_is_cut_off(elements, missing):
    joined = tensor.join(elements)[:-missing]
    try:
        found = tensor.split(joined)
    except ValueError:
        return
    assert tensor.join(found) == joined, "what is left is whole"


def test_a_request_and_its_response():
    request = tensor.request(service_pb2.ModelInferRequest, "m", "rows", [b"a", b""], "answers")
    (given_,), (asked,) = request.inputs, request.outputs
    assert (request.model_name, given_.name, given_.datatype, list(given_.shape), asked.name) == ("m", "rows", "BYTES", [2, 1], "answers")
    response = service_pb2.ModelInferResponse(raw_output_contents=[b"", tensor.join([b"x"])])
    assert tensor.content(response, 1) == [b"x"]
    typed = service_pb2.ModelInferResponse()
    typed.outputs.add(name="answers").contents.bytes_contents.extend([b"y"])
    assert tensor.content(typed, 0) == [b"y"]


@pytest.mark.parametrize("content", [b"\0", b"\1\0\0\0", b"\xff\xff\xff\xff"])
def test_content_that_is_none(content):
    with pytest.raises(ValueError, match="ends in the middle of an element"):
        tensor.split(content)
