"""What is asked of an OpenAI-compatible server: settings and a sample -> the body of a request. Pure.

Protocol: https://platform.openai.com/docs/api-reference, `chat` and `completions`.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_gpueval.errors import ModelFault, UsageProblem
from pytest_gpueval.suites.template import names

# Letters in front of the choices of a sample, where the server is asked for one of them.
LETTERS = string.ascii_uppercase
# So many of the likeliest first tokens are asked for: the most that OpenAI and vLLM give.
TOP = 20

# What the settings themselves say, or what the answer could then not be read from.
_OURS = frozenset(
    {"model", "messages", "prompt", "temperature", "max_tokens", "top_p", "seed", "stop", "n", "stream", "stream_options", "logprobs", "top_logprobs", "echo"}
)


class RowProblem(Exception):
    """A sample that cannot be asked, or has no answer; the text says why."""


@dataclass(frozen=True)
class Request:
    """How samples become requests. What is None is left to the server.

    `template` holds fields of a sample's inputs, `{question}`, and braces written twice; without it a sample's `messages` or `prompt` is asked.
    `extra` is added to each body (`{"top_k": 20}`). `timeout_s` is for one request. `patience_s` is how long a server may refuse with 429 or 503.
    """

    endpoint: Literal["chat", "completions"] = "chat"
    model: str | None = None
    temperature: float | None = 0.0
    max_tokens: int | None = 256
    top_p: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    n: int = 1
    system: str | None = None
    template: str | None = None
    stream: bool = False
    choices: Literal["auto", "echo", "letters", "text"] = "auto"
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 120.0
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        """Raises UsageProblem."""
        if twice := sorted(_OURS.intersection(self.extra)):
            raise UsageProblem(f"request.extra: {', '.join(twice)} cannot be set there; use the setting of that name where there is one")
        if self.system is not None and self.endpoint == "completions":
            raise UsageProblem("request.system: endpoint 'completions' has no system prompt; use endpoint 'chat', or put it into `template`")
        if self.choices == "echo" and self.endpoint == "chat":
            raise UsageProblem("request.choices: 'echo' needs endpoint 'completions', with the model's own form of a prompt as `template`; or use 'letters'")
        if self.template is not None:
            fields(self.template)

    @property
    def path(self) -> str:
        """The path below the server's base URL."""
        return "/chat/completions" if self.endpoint == "chat" else "/completions"


def fields(template: str) -> list[str]:
    """The names in a template. Raises UsageProblem for what is more than a name."""
    try:
        return names(template)
    except ValueError as error:
        raise UsageProblem(f"request.template: {error}") from None


def fill(template: str, inputs: Mapping[str, Any]) -> str:
    """The template with a sample's inputs. Raises RuntimeFault for a name that rows do not have, RowProblem for an input that is null."""
    pieces = []
    for text, name, _, _ in string.Formatter().parse(template):
        pieces.append(text)
        if name is None:
            continue
        if name not in inputs:
            raise ModelFault(f"request.template names {{{name}}}, which rows do not have (row {inputs.get('id')!r}). Rows have: {', '.join(sorted(inputs))}.")
        if inputs[name] is None:
            raise RowProblem(f"the template's field {name!r} is null in this row")
        pieces.append(_as_text(inputs[name]))
    return "".join(pieces)


def prompt_of(request: Request, inputs: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    """The text of a sample, or its messages. Raises RuntimeFault for rows that have neither, RowProblem."""
    if request.template is not None:
        return fill(request.template, inputs)
    messages = inputs.get("messages")
    if messages is not None:
        if request.endpoint == "completions":
            raise ModelFault(f"row {inputs.get('id')!r} has `messages`, which endpoint 'completions' cannot take. Set request.endpoint to 'chat'.")
        return [{name: value for name, value in message.items() if value is not None} for message in messages]
    prompt = inputs.get("prompt")
    if prompt is None:
        known = ", ".join(sorted(inputs))
        raise ModelFault(f"row {inputs.get('id')!r} has neither `prompt` nor `messages` (it has: {known}). Set request.template, as in template = '{{text}}'.")
    return str(prompt)


def probe_prompt(request: Request, text: str) -> str:
    """A prompt of the form that rows have, of this text."""
    return text if request.template is None else fill(request.template, dict.fromkeys(fields(request.template), text))


def body(request: Request, model: str, prompt: str | list[dict[str, Any]], *, n: int = 1, again: int = 0) -> dict[str, Any]:
    """A request for `n` texts. `again` counts earlier requests for the same sample: its seed must then be another one."""
    settings: dict[str, Any] = {
        **_asked(request, model, prompt),
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "top_p": request.top_p,
        "seed": None if request.seed is None else request.seed + again,
        "stop": list(request.stop) or None,
        "n": n if n > 1 else None,
        **request.extra,
    }
    if request.stream:
        settings |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in settings.items() if value is not None}


def echo_body(request: Request, model: str, prompt: str) -> dict[str, Any]:
    """A request for the log-probability of each token of `prompt`, to `/completions`.

    One token is generated, and then ignored: llama.cpp's server takes 0 as "without limit".
    """
    return {**request.extra, "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}


def letters_body(request: Request, model: str, prompt: str | list[dict[str, Any]]) -> dict[str, Any]:
    """A request for the likeliest first tokens after `prompt`, with their log-probabilities."""
    asked = {**request.extra, **_asked(request, model, prompt), "max_tokens": 1, "temperature": 0.0}
    return asked | ({"logprobs": True, "top_logprobs": TOP} if request.endpoint == "chat" else {"logprobs": TOP})


def with_letters(prompt: str | list[dict[str, Any]], choices: Sequence[str]) -> str | list[dict[str, Any]]:
    """The prompt, or its last message, with the choices below it, each after its letter. Raises RowProblem for too many."""
    if len(choices) > len(LETTERS):
        raise RowProblem(f"{len(choices)} choices cannot be told apart by letters; {len(LETTERS)} can")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    if isinstance(prompt, str):
        return f"{prompt}\n{listed}\nAnswer:"
    *before, last = prompt
    return [*before, {**last, "content": f"{last['content']}\n{listed}\nAnswer with the letter only."}]


def continued(prompt: str, choice: str) -> str:
    """The prompt and a choice behind it, with a space between them unless there is one."""
    return f"{prompt}{choice}" if prompt[-1:].isspace() or choice[:1].isspace() else f"{prompt} {choice}"


def _asked(request: Request, model: str, prompt: str | list[dict[str, Any]]) -> dict[str, Any]:
    if request.endpoint == "completions":
        return {"model": model, "prompt": prompt}
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if request.system is not None and not any(message.get("role") == "system" for message in messages):
        messages = [{"role": "system", "content": request.system}, *messages]
    return {"model": model, "messages": messages}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
