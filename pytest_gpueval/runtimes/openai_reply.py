"""What an OpenAI-compatible server answers: bytes -> texts, log-probabilities and counts of tokens. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .openai_request import LETTERS, RowProblem


class Malformed(Exception):
    """Not what the protocol promises: no JSON, or a field is missing."""


class Truncated(Exception):
    """A stream that ended before the text did."""


@dataclass(frozen=True)
class Texts:
    """The texts of one reply, and (read, written) tokens where it says so."""

    texts: list[str]
    tokens: tuple[int, int] | None


@dataclass(frozen=True)
class Echoed:
    """The tokens of a prompt with their log-probabilities; None for the first, which nothing precedes."""

    tokens: list[str]
    logprobs: list[float | None]
    counted: tuple[int, int] | None
    # What was generated after the prompt.
    text: str
    generated: list[float | None]


def parse(data: bytes) -> dict[str, Any]:
    """A reply. Raises Malformed."""
    try:
        reply = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the reply is no JSON ({error}): {_start(data)}") from None
    if not isinstance(reply, dict):
        raise Malformed(f"the reply is no JSON object: {_start(data)}")
    return reply


def texts(data: bytes) -> Texts:
    """The texts of a reply of either endpoint. Raises Malformed."""
    reply = parse(data)
    found = [_text(choice) for choice in _choices(reply)]
    return Texts(found, tokens(reply))


def tokens(reply: Mapping[str, Any]) -> tuple[int, int] | None:
    """(read, written) tokens; None where the reply does not say."""
    usage = reply.get("usage")
    if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    written = usage.get("completion_tokens")
    return usage["prompt_tokens"], written if isinstance(written, int) else 0


def model_names(data: bytes) -> list[str]:
    """The ids that `/models` lists. Raises Malformed."""
    listed = parse(data).get("data")
    if not isinstance(listed, list):
        raise Malformed(f"`data` is missing in the list of models: {_start(data)}")
    return [str(entry["id"]) for entry in listed if isinstance(entry, dict) and "id" in entry]


def echoed(data: bytes) -> Echoed:
    """The prompt's own tokens in the reply to `echo_body`. Raises Malformed, RowProblem where the server gives none."""
    reply = parse(data)
    choice = _choices(reply)[0]
    told = choice.get("logprobs")
    names, values = (told.get("tokens"), told.get("token_logprobs")) if isinstance(told, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        raise RowProblem("the server gives no log-probabilities of the prompt")
    counted = tokens(reply)
    # vLLM counts an end of text as generated and lists it; llama.cpp's server does neither.
    generated = counted[1] if counted is not None else 1
    end = len(names) - generated
    logprobs = [float(value) if isinstance(value, (int, float)) else None for value in values]
    return Echoed([str(name) for name in names[:end]], logprobs[:end], counted, str(choice.get("text", "")), logprobs[end:])


def continuation(context: Echoed, whole: Echoed) -> float:
    """The log-probability of what `whole` has after `context`: the sum over the tokens behind those that both begin with. Raises RowProblem."""
    same = 0
    for before, here in zip(context.tokens, whole.tokens, strict=False):
        if before != here:
            break
        same += 1
    rest = whole.logprobs[same:]
    known = [value for value in rest if value is not None]
    if not known or len(known) < len(rest) - (same == 0):
        raise RowProblem("the server gives no log-probability for the tokens of a choice")
    return math.fsum(known)


def top(data: bytes) -> tuple[dict[str, float], tuple[int, int] | None]:
    """The likeliest first tokens of a reply of either endpoint, and the counts of tokens. Raises Malformed, RowProblem where the server gives none."""
    reply = parse(data)
    told = _choices(reply)[0].get("logprobs")
    found: dict[str, float] = {}
    if isinstance(told, dict) and isinstance(told.get("content"), list) and told["content"]:
        found = {str(entry["token"]): float(entry["logprob"]) for entry in told["content"][0].get("top_logprobs") or ()}
    elif isinstance(told, dict) and isinstance(told.get("top_logprobs"), list) and told["top_logprobs"]:
        found = {str(name): float(value) for name, value in (told["top_logprobs"][0] or {}).items()}
    if not found:
        raise RowProblem("the server gives no log-probabilities of the first token")
    return found, tokens(reply)


def letters(likeliest: Mapping[str, float], count: int) -> list[float]:
    """The log-probability of each of the first letters. One that is not listed gets that of the least likely listed token, which it cannot exceed.

    A letter's tokens with and without a space before them are added. Raises RowProblem if no letter is listed.
    """
    sums: dict[str, float] = {}
    for name, value in likeliest.items():
        letter = name.strip().lstrip("Ġ▁")
        if letter in LETTERS[:count] and letter:
            sums[letter] = sums.get(letter, 0.0) + math.exp(value)
    if not sums:
        listed = ", ".join(repr(name) for name in list(likeliest)[:5])
        raise RowProblem(f"none of the letters of the choices is among the {len(likeliest)} likeliest first tokens ({listed}, ...)")
    least = min(likeliest.values())
    return [math.log(sums[letter]) if sums.get(letter) else least for letter in LETTERS[:count]]


@dataclass
class Stream:
    """Server-sent events of a streamed reply, put together. Fed with bytes as they come.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; only `data` fields matter here, one line each.
    """

    _texts: dict[int, list[str]] = field(default_factory=dict)
    _finished: set[int] = field(default_factory=set)
    _tokens: tuple[int, int] | None = None
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Raises Malformed, also for an error that the server tells in the stream."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def texts(self) -> Texts:
        """The whole. Raises Truncated unless each text came to its end: a bare [DONE] is also what an interrupted server sends."""
        if not self._finished or self._finished != set(self._texts):
            raise Truncated("the stream ended before the text did")
        return Texts(["".join(self._texts[index]) for index in sorted(self._texts)], self._tokens)

    def _event(self, data: bytes) -> None:
        if data in {b"", b"[DONE]"}:
            return
        reply = parse(data)
        if "error" in reply:
            raise Malformed(f"the stream broke off with an error: {message(data)}")
        self._tokens = tokens(reply) or self._tokens
        for choice in reply.get("choices") or ():
            index = int(choice.get("index", 0))
            pieces = self._texts.setdefault(index, [])
            piece = choice["delta"].get("content") if isinstance(choice.get("delta"), dict) else choice.get("text")
            if piece:
                pieces.append(str(piece))
            if choice.get("finish_reason") is not None:
                self._finished.add(index)


def message(data: bytes) -> str:
    """What an error reply says, on one line; its beginning if it is in none of the known forms."""
    try:
        reply = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _start(data)
    texts_ = list(_messages(reply))
    return " ".join(texts_[0].split())[:500] if texts_ else _start(data)


def code(data: bytes) -> str:
    """The code of an error reply, such as `model_not_found`; empty without one."""
    try:
        reply = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    error = reply.get("error") if isinstance(reply, dict) else None
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""


def _messages(reply: Any) -> Iterator[str]:
    """OpenAI: {"error": {"message": ...}}; vLLM once: {"message": ...}; FastAPI: {"detail": ...}, also a list of them."""
    if isinstance(reply, str) and reply:
        yield reply
    elif isinstance(reply, dict):
        for name in ("error", "message", "detail"):
            if reply.get(name):
                yield from _messages(reply[name])
        if "msg" in reply:
            yield f"{'.'.join(map(str, reply.get('loc', ())))}: {reply['msg']}"
    elif isinstance(reply, list):
        found = [text for entry in reply for text in _messages(entry)]
        if found:
            yield "; ".join(found)


def _choices(reply: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Malformed(f"`choices` is missing in the reply: {_start(orjson.dumps(reply))}")
    return sorted(choices, key=lambda choice: int(choice.get("index") or 0))


def _text(choice: Mapping[str, Any]) -> str:
    spoken = choice.get("message")
    text = spoken.get("content") if isinstance(spoken, dict) else choice.get("text")
    if not isinstance(text, str):
        raise Malformed(f"a choice has no text (finish_reason {choice.get('finish_reason')!r})")
    return text


def _start(data: bytes) -> str:
    text = " ".join(data[:400].decode("utf-8", "replace").split())
    return repr(text[:200]) if text else "an empty body"
