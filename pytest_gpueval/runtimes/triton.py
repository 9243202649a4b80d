"""A model on a Triton server, by gRPC: batches of rows, several on the way at a time.

tritonclient's messages go through a channel of our own: its client costs twice the processor time for a request.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from pytest_gpueval.errors import MissingExtra, ModelFault, RuntimeFault

from . import tensor, wire
from .base import A, Answer, Endpoint
from .window import Batching, Gone, TooMuch, Window

ROWS, ANSWERS = "rows", "answers"
# A gRPC message of a batch stays well below what the channel takes; shared memory between server and model never shrinks after a large one.
BATCH_BYTES = 8 << 20
MESSAGE_BYTES = 256 << 20
_CLOSE_S = 5.0
# gRPC calls its own errors by these names: github.com/grpc/grpc, doc/statuscodes.md.
_GONE = frozenset({"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED", "StatusCode.ABORTED"})
# The last: PyTriton's part in the server for anything that goes wrong between it and PyTriton. What the model raises never gets there.
_DEAD_STUB = re.compile(
    r"(?i)stub process .{0,200}(not healthy|unhealthy)|stub process is not ready|failed to .{0,40}stub|has no available versions|model execute error: traceback"
)
_MEMORY = re.compile(r"(?i)out of memory|OutOfMemory|cannot allocate memory|bad_alloc|increase the shared memory pool|No space left on device")
# The python backend's words for an exception that a model's code let through.
_RAISED = re.compile(r"Failed to process the request\(s\)")


class TritonEndpoint(Endpoint, Protocol):
    """A model on a server. `str` of it names both."""

    @property
    def name(self) -> str:
        """The model's name there, once it is prepared."""

    @property
    def most_rows(self) -> int:
        """Rows that a request may have; known once it is prepared."""

    def prepare(self) -> None:
        """See that the model is there and answers. Raises UsageProblem, RuntimeFault."""


class TritonRuntime:
    """Asks a model with the tensors `rows` and `answers` of `servers/triton_model.py`, which this package brings to servers that it starts.

    `rows` and `batch_bytes` bound a request, `in_flight` requests are on the way at a time, and each has `deadline_s` seconds from when it is sent: those
    before it at the server included.
    """

    def __init__(
        self,
        endpoint: TritonEndpoint,
        *,
        rows: int = 32,
        in_flight: int = 4,
        deadline_s: float = 300.0,
        batch_bytes: int = BATCH_BYTES,
        message_bytes: int = MESSAGE_BYTES,
    ) -> None:
        self._endpoint = endpoint
        self._rows = rows
        self._in_flight = in_flight
        self._deadline_s = deadline_s
        self._batch_bytes = batch_bytes
        self._message_bytes = message_bytes
        self._library: Any = None
        self._grpc: Any = None
        self._channel: Any = None
        self._infer: Any = None
        self._channel_generation = -1
        self._window: Window[Any] | None = None
        self._batching: Batching[Any] | None = None
        # For the next answer to tell.
        self._note: str | None = None
        # Samples that wait for their turn, by id(): encoded when they were measured.
        self._encoded: dict[int, bytes] = {}

    def start(self) -> None:
        """Load the model, and have one request answered. Raises MissingExtra, and as `TritonEndpoint.prepare` does."""
        self._library, self._grpc = client_library()
        self._endpoint.prepare()
        self._rows = max(1, min(self._rows, self._endpoint.most_rows))
        self._window = Window(self._serve, self._in_flight, self._endpoint, str(self._endpoint))
        try:
            self._window.call(self._ping())
        except (Gone, TooMuch) as problem:
            self.close()
            raise RuntimeFault(f"{self._endpoint} does not answer: {problem}") from None
        except BaseException:
            self.close()
            raise

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """Answer in order, whatever becomes of the server meanwhile. Raises RuntimeFault for answers that are none, or a server that stays away."""
        if self._window is None:
            raise RuntimeFault(f"{self._endpoint} is asked before it was started")
        self._encoded.clear()
        self._batching = Batching(self._rows, self._batch_bytes, self._size)
        yield from self._window.answers(self._batching.cut(samples))

    def close(self) -> None:
        """Close the connection. The model stays loaded: whoever has the server unloads it."""
        window, self._window = self._window, None
        if window is not None:
            try:
                if self._channel is not None:
                    window.call(self._close_channel())
            finally:
                window.close()
        self._encoded.clear()

    def _size(self, sample: Any) -> int:
        """Bytes of a sample in a message."""
        data = self._encoded[id(sample)] = self._encode(sample)
        return len(data) + 4

    def _encode(self, sample: Any) -> bytes:
        try:
            return wire.encode(dict(sample.inputs))
        except (wire.NotSendable, ValueError, RecursionError) as problem:
            raise ModelFault(f"{self._endpoint}: row {sample.id!r} cannot be sent to a server: {problem}") from None

    async def _serve(self, batch: list[Any]) -> list[Answer[Any]]:
        """One request. Raises Gone, TooMuch, RuntimeFault."""
        elements = [self._encoded.pop(id(sample), b"") or self._encode(sample) for sample in batch]
        begin = time.perf_counter()
        found = await self._ask(elements)
        latency_ms = (time.perf_counter() - begin) * 1000
        answers = [self._answer(sample, answer, latency_ms) for sample, answer in zip(batch, found, strict=True)]
        told = [found[0].get("note"), self._note]
        answers[0].note = "; ".join(note for note in told if isinstance(note, str)) or None
        self._note = None
        return answers

    def _answer(self, sample: Any, found: Any, latency_ms: float) -> Answer[Any]:
        if isinstance(found, dict):
            if "value" in found:
                return Answer(sample, found["value"], None, latency_ms)
            if isinstance(found.get("error"), str):
                return Answer(sample, None, found["error"], latency_ms)
            if isinstance(found.get("fault"), str):
                raise RuntimeFault(found["fault"])
        raise self._wrong(f"for row {sample.id!r}, {found!r:.200}; expected a mapping with 'value' or 'error'")

    async def _ping(self) -> None:
        """A request that the model answers without its class. Raises Gone, TooMuch, RuntimeFault."""
        if await self._ask([b"null"]) != [{"value": None}]:
            raise self._wrong("something else for a row of null than a value of null")

    async def _ask(self, elements: list[bytes]) -> list[Any]:
        request = tensor.request(self._library.service_pb2.ModelInferRequest, self._endpoint.name, ROWS, elements, ANSWERS)
        infer = await self._connected()
        try:
            response = await infer(request, timeout=self._deadline_s)
        except self._grpc.RpcError as error:
            raise self._classified(str(error.code()), str(error.details()), len(elements)) from None
        return self._read(response, [len(elements), 1])

    def _read(self, response: Any, shape: list[int]) -> list[Any]:
        """The answers of a response. Raises RuntimeFault for other tensors than were asked for."""
        place = next((place for place, output in enumerate(response.outputs) if output.name == ANSWERS), None)
        if place is None:
            raise self._wrong(f"no tensor {ANSWERS!r} but {', '.join(repr(output.name) for output in response.outputs) or 'none'}")
        output = response.outputs[place]
        if output.datatype != "BYTES" or list(output.shape) != shape:
            raise self._wrong(f"{ANSWERS!r} as {output.datatype} {list(output.shape)}; expected BYTES {shape}")
        try:
            elements = tensor.content(response, place)
        except ValueError as problem:
            raise self._wrong(f"{ANSWERS!r}: {problem}") from None
        if len(elements) != shape[0]:
            raise self._wrong(f"{ANSWERS!r} with {len(elements)} elements; expected {shape[0]}")
        found = []
        for element in elements:
            try:
                found.append(wire.decode(element))
            except (ValueError, RecursionError) as problem:
                raise self._wrong(f"an answer that is not JSON ({problem}): {element[:200]!r}") from None
        return found

    def _classified(self, status: str, message: str, rows: int) -> Exception:
        """What an error of the client library means for the batch."""
        text = " ".join(f"{status.removeprefix('StatusCode.')}: {message}".split())[:1000]
        if _MEMORY.search(message):
            self._take_fewer(rows, text)
            return TooMuch(text)
        if status == "StatusCode.RESOURCE_EXHAUSTED":  # a message above the limit, the server's or ours
            return TooMuch(text)
        if status == "StatusCode.DEADLINE_EXCEEDED":
            return Gone(f"no answer within {self._deadline_s:g} s")
        if status in _GONE or _DEAD_STUB.search(message):
            return Gone(f"the model's process ended ({text})" if _DEAD_STUB.search(message) else text)
        if _RAISED.search(message):
            return TooMuch(text)
        return RuntimeFault(f"{self._endpoint} at {self._endpoint.url} refuses a request of {rows} rows: {text}")

    def _take_fewer(self, rows: int, text: str) -> None:
        """Batches from here on are smaller than one for which there was not enough memory."""
        fewer = max(1, rows // 2)
        if fewer < self._rows:
            self._rows = fewer
            if self._batching is not None:
                self._batching.rows = fewer
            self._note = f"not enough memory for {rows} rows; {fewer} at a time from here on ({text[:200]})"

    def _wrong(self, what: str) -> RuntimeFault:
        return RuntimeFault(f"{self._endpoint} at {self._endpoint.url} answered with {what}")

    async def _connected(self) -> Any:
        """What asks the server's present start."""
        generation = self._endpoint.generation
        if self._channel is None or generation != self._channel_generation:
            await self._close_channel()
            limits = [(f"grpc.max_{way}_message_length", self._message_bytes) for way in ("send", "receive")]
            # Without a proxy on the way to this machine; without retries, so that a request is not answered twice.
            local = [("grpc.enable_http_proxy", 0)] if self._endpoint.url.startswith(("127.", "localhost:", "[::1]", "unix:")) else []
            self._channel = self._grpc.aio.insecure_channel(self._endpoint.url, options=[*limits, *local, ("grpc.enable_retries", 0)])
            self._infer = self._library.service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer
            self._channel_generation = generation
        return self._infer

    async def _close_channel(self) -> None:
        channel, self._channel, self._infer = self._channel, None, None
        if channel is not None:
            await asyncio.wait_for(channel.close(), _CLOSE_S)


def client_library() -> tuple[Any, Any]:
    """`tritonclient.grpc` with its messages, and `grpc` with its `aio`. Raises MissingExtra."""
    # Read when gRPC is imported. With it, gRPC's handlers run in every child that is forked, and some abort there (grpc/grpc issue 43055).
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        import grpc.aio  # noqa: PLC0415 - of an extra
        import tritonclient.grpc as library  # noqa: PLC0415 - as above
    except ImportError as error:
        raise MissingExtra(error.name or "tritonclient", needed_for="a runtime of kind triton", extra="triton") from None
    return library, grpc
