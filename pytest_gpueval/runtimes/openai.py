"""Predictions by a server that speaks OpenAI's protocol: vLLM, llama.cpp and many others, and OpenAI itself.

A sample's `messages` or `prompt`, or the template filled with its inputs, is answered by a text, or by a list of them for `n` > 1. A sample with
`choices` is answered by one log-probability for each choice, in either of two ways:

    echo      the choice is put after the prompt, and the log-probabilities of its tokens are added (`completions` with `echo` and `logprobs`)
    letters   the choices are listed under A, B, C ..., and the first token's log-probabilities tell how likely each letter is

`auto` takes `letters` for the endpoint `chat`, whose prompt only the server knows. For `completions` it takes `echo` where the server's figures are
right, which is found out once: the log-probability of a token that was generated must be found again when that token is part of the prompt. vLLM
passes. llama-cpp-python passes where the prompt begins with the model's BOS token, by itself or by the template; its figures otherwise belong to
other tokens (seen in 0.3.36), and `letters` is taken, as for servers without `echo`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from pytest_gpueval.errors import MissingExtra, ModelFault, RuntimeFault

from . import openai_reply, openai_request
from .base import A, Answer, Asked, Endpoint, Tokens
from .openai_client import Client
from .openai_request import Request, RowProblem
from .window import Gone, Window

# What a prompt's own log-probabilities may differ by from those of generation: other kernels, and sums in another order.
_SAME = 0.05
_PROBE = "The capital of France is Paris. The capital of Italy is"
_COMPLETIONS = "/completions"


class OpenAIRuntime:
    """Asks the server at `endpoint`, `in_flight` samples at a time. `key` goes into the header `Authorization`; `key_name` is what messages call it."""

    def __init__(self, endpoint: Endpoint, request: Request, in_flight: int, *, key: str | None = None, key_name: str = "OPENAI_API_KEY") -> None:
        self._endpoint = endpoint
        self._request = request
        self._in_flight = in_flight
        self._client = Client(endpoint, in_flight, timeout_s=request.timeout_s, patience_s=request.patience_s, key=key, key_name=key_name)
        self._window: Window[Any] | None = None
        self._model = request.model or ""
        self._scoring: Literal["echo", "letters"] | None = None
        self._probing = asyncio.Lock()

    @property
    def request(self) -> Request:
        """How samples become requests."""
        return self._request

    @property
    def model(self) -> str:
        """The model that is asked; after `start`, the server's first one where the settings name none."""
        return self._model

    @property
    def choice_scoring(self) -> str | None:
        """How choices are scored: `echo` or `letters`; None until a sample had some."""
        return self._scoring

    def start(self) -> None:
        """Connect, and find the model. Raises MissingExtra, RuntimeFault, Unreachable."""
        try:
            import aiohttp  # noqa: F401, PLC0415 - of an extra; before a thread is started
        except ImportError:
            raise MissingExtra("aiohttp", needed_for="an OpenAI-compatible server", extra="openai") from None
        self._window = Window(self._serve, self._in_flight, self._endpoint, "openai")
        self._window.call(self._client.open())
        listed = self._models(self._window)
        if self._request.model is None:
            if not listed:
                raise ModelFault(f"{self._endpoint.url} lists no model; say in request.model what to ask for")
            self._model = listed[0]

    def answers(self, samples: Iterable[A]) -> Iterator[Answer[A]]:
        """Raises RuntimeFault, Unreachable."""
        if self._window is None:
            raise RuntimeFault("the OpenAI runtime is asked before it was started")
        return self._window.answers([sample] for sample in samples)

    def beside(self, request: Request) -> OpenAIRuntime:
        """A runtime that asks the same server something else, to be started after this one and closed before it.

        Both share connections and places: together they keep to `in_flight` and to what the server bears, and a row that ends the server betrays itself.
        """
        return _Beside(self._endpoint, request, self._in_flight, self._client, lambda: (self._window, self._model))

    def close(self) -> None:
        """Close the connections; again is harmless."""
        window, self._window = self._window, None
        if window is not None:
            try:
                window.call(self._client.close())
            finally:
                window.close()

    def _models(self, window: Window[Any]) -> list[str]:
        try:
            generation = self._endpoint.generation
            try:
                return window.call(self._client.models())
            except Gone as problem:
                self._endpoint.recover(generation, str(problem))
                return window.call(self._client.models())
        except (Gone, RowProblem) as problem:
            raise RuntimeFault(f"{self._endpoint.url}/models: {problem}") from None

    async def _serve(self, batch: list[A]) -> list[Answer[A]]:
        """Raises Gone, RuntimeFault."""
        return [await self._one(sample) for sample in batch]

    async def _one(self, sample: A) -> Answer[A]:
        begin = time.perf_counter()
        try:
            choices = sample.inputs.get("choices") if self._request.choices != "text" else None
            value, tokens = await (self._generated(sample) if choices is None else self._scored(sample, [str(choice) for choice in choices]))
        except RowProblem as problem:
            return Answer(sample, None, str(problem), _ms_since(begin))
        return Answer(sample, value, None, _ms_since(begin), tokens)

    async def _generated(self, sample: Asked) -> tuple[str | list[str], Tokens | None]:
        request = self._request
        prompt = openai_request.prompt_of(request, sample.inputs)
        found: list[str] = []
        counted: list[Tokens | None] = []
        while len(found) < request.n:  # llama.cpp's server gives one text whatever `n` says
            body = openai_request.body(request, self._model, prompt, n=request.n - len(found), again=len(found))
            reply = await self._client.texts(request.path, body, stream=request.stream)
            found += reply.texts
            counted.append(reply.tokens)
        return (found[: request.n] if request.n > 1 else found[0]), _sum(counted)

    async def _scored(self, sample: Asked, choices: list[str]) -> tuple[list[float], Tokens | None]:
        if not choices:
            raise RowProblem("`choices` is empty")
        prompt = openai_request.prompt_of(self._request, sample.inputs)
        if await self._way() == "letters" or not isinstance(prompt, str):
            return await self._by_letters(prompt, choices)
        return await self._by_echo(prompt, choices)

    async def _by_letters(self, prompt: str | list[dict[str, Any]], choices: list[str]) -> tuple[list[float], Tokens | None]:
        body = openai_request.letters_body(self._request, self._model, openai_request.with_letters(prompt, choices))
        likeliest, tokens = await self._client.data(self._request.path, body, openai_reply.top)
        return openai_reply.letters(likeliest, len(choices)), tokens

    async def _by_echo(self, prompt: str, choices: list[str]) -> tuple[list[float], Tokens | None]:
        """The prompt alone tells where its tokens end; one request after the other, so that `in_flight` stays what it says."""
        context = await self._echoed(prompt)
        wholes = [await self._echoed(openai_request.continued(prompt, choice)) for choice in choices]
        return [openai_reply.continuation(context, whole) for whole in wholes], _sum([context.counted, *(whole.counted for whole in wholes)])

    async def _echoed(self, prompt: str) -> openai_reply.Echoed:
        return await self._client.data(_COMPLETIONS, openai_request.echo_body(self._request, self._model, prompt), openai_reply.echoed)

    async def _way(self) -> Literal["echo", "letters"]:
        """How this server's choices are scored; found out once. Raises RuntimeFault."""
        async with self._probing:
            if self._scoring is None:
                self._scoring = await self._found_way()
            return self._scoring

    async def _found_way(self) -> Literal["echo", "letters"]:
        """Raises RuntimeFault where the settings ask for what the server cannot do."""
        if self._request.choices == "letters" or self._request.endpoint == "chat":
            return "letters"
        problem = await self._echo_problem()
        if problem is None:
            return "echo"
        if self._request.choices == "echo":
            raise ModelFault(f"request.choices is 'echo', which {self._endpoint.url} cannot do: {problem}.\nSet it to 'letters', or to 'auto'.")
        return "letters"

    async def _echo_problem(self) -> str | None:
        """Generates a token, makes it part of the prompt, and compares its log-probabilities. Returns why the two differ; None if they agree."""
        try:
            prompt = openai_request.probe_prompt(self._request, _PROBE)
            generate = openai_request.echo_body(self._request, self._model, prompt) | {"echo": False}
            text, expected = await self._client.data(_COMPLETIONS, generate, _first)
            context, whole = await self._echoed(prompt), await self._echoed(prompt + text)
            found = openai_reply.continuation(context, whole)
        except (RowProblem, RuntimeFault) as error:
            return str(error)
        if len(whole.tokens) != len(context.tokens) + 1 or not math.isclose(found, expected, abs_tol=_SAME, rel_tol=0.01):
            return f"the log-probability of {text!r} is {expected:.3f} as a generated token and {found:.3f} as a part of the prompt"
        return None


class _Beside(OpenAIRuntime):
    """Asks through another runtime's window and client; `other` gives that window, None before its start, and its model."""

    def __init__(self, endpoint: Endpoint, request: Request, in_flight: int, client: Client, other: Callable[[], tuple[Window[Any] | None, str]]) -> None:
        super().__init__(endpoint, request, in_flight)
        self._client = client
        self._other = other

    def start(self) -> None:
        """Take the other's window and, where the request names none, its model. Raises RuntimeFault if it was not started."""
        window, model = self._other()
        if window is None:
            raise RuntimeFault("the OpenAI runtime beside this one was not started")
        self._window = window.beside(self._serve)
        self._model = self._request.model or model

    def close(self) -> None:
        """Leave the connections to the other."""
        self._window = None


def _first(data: bytes) -> tuple[str, float]:
    """The generated token and its log-probability. Raises Malformed, RowProblem."""
    choice = openai_reply.parse(data)["choices"][0]
    if not choice.get("logprobs"):
        raise RowProblem("the server gives no log-probabilities")
    return str(choice["text"]), float(choice["logprobs"]["token_logprobs"][0])


def _sum(counted: list[Tokens | None]) -> Tokens | None:
    known = [one for one in counted if one is not None]
    return (sum(read for read, _ in known), sum(written for _, written in known)) if known else None


def _ms_since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000
