"""The seam between a case and whatever computes its predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar


class Asked(Protocol):
    """What a runtime sees of a sample: never the gold."""

    @property
    def id(self) -> str: ...
    @property
    def inputs(self) -> Mapping[str, Any]: ...


S = TypeVar("S")
A = TypeVar("A", bound="Asked")
# Read and written.
Tokens = tuple[int, int]


class Answer(Generic[S]):
    """What a runtime says to one sample: a raw value, or the reason why there is none.

    `latency_ms` is the wall time of the call that served it; `tokens` what a language model read and wrote for it, where it says so, and
    `judge_tokens` what one that judged it did. `note` is what the user should know of how it came about, and that changed no answer.
    """

    __slots__ = ("error", "judge_tokens", "latency_ms", "note", "sample", "tokens", "value")

    def __init__(self, sample: S, value: Any, error: str | None, latency_ms: float, tokens: Tokens | None = None, judge_tokens: Tokens | None = None) -> None:
        self.sample = sample
        self.value = value
        self.error = error
        self.latency_ms = latency_ms
        self.tokens = tokens
        self.judge_tokens = judge_tokens
        self.note: str | None = None


class Runtime(Protocol):
    """Samples in, answers out."""

    def start(self) -> None:
        """Load the model and warm it up. Called once, before the first sample. Raises RuntimeFault."""

    def answers(self, samples: Iterable[A], /) -> Iterator[Answer[A]]:
        """Answer in the order of the samples, holding only a bounded number of them. Raises RuntimeFault when the model breaks its contract."""

    def close(self) -> None:
        """Give back what the runtime holds."""


class Endpoint(Protocol):
    """A server as a runtime sees it: where it is, and whom to tell that it does not answer."""

    @property
    def url(self) -> str:
        """Where requests go; another one after a recovery, perhaps."""

    @property
    def generation(self) -> int:
        """How often it was started: who finds it gone says which of them."""

    def recover(self, generation: int, problem: str, /) -> None:
        """Return once it answers again; who comes second finds it done. Blocks. Raises RuntimeFault if it cannot be brought back."""
