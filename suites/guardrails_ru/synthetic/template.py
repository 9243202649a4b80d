"""A small template language for sentences.

`[a|b|]` picks one alternative (an empty one is allowed, nesting too); `{name}` or `{name:arg}`
calls a slot; `⏎` is a line break. Templates are parsed once and cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Literal:
    """Text to be appended as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A call of the slot `name` with the raw argument `arg`."""

    name: str
    arg: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Alternatives, each a sequence of nodes; one is picked at random."""

    options: tuple[tuple[Node, ...], ...]


Node = Literal | Slot | Choice


@cache
def parse(template: str) -> tuple[Node, ...]:
    """Parse a template; a `ValueError` names the template when brackets do not match."""
    nodes, end = _sequence(template, 0, nested=False)
    if end != len(template):
        raise ValueError(f"unbalanced brackets at {end} in template: {template}")
    return nodes


def _sequence(text: str, at: int, *, nested: bool) -> tuple[tuple[Node, ...], int]:
    """Parse from `at` to the end, or to the `|` or `]` that closes a nested sequence."""
    nodes: list[Node] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            nodes.append(Literal("".join(plain)))
            plain.clear()

    while at < len(text):
        char = text[at]
        if char == "{":
            flush()
            close = text.index("}", at)
            name, _, arg = text[at + 1 : close].partition(":")
            nodes.append(Slot(name, arg))
            at = close + 1
        elif char == "[":
            flush()
            choice, at = _choice(text, at + 1)
            nodes.append(choice)
        elif char == "]" or (char == "|" and nested):
            break
        else:
            plain.append("\n" if char == "⏎" else char)
            at += 1
    flush()
    return tuple(nodes), at


def _choice(text: str, at: int) -> tuple[Choice, int]:
    """Parse the alternatives that start at `at`, just after the opening bracket."""
    options: list[tuple[Node, ...]] = []
    while True:
        option, at = _sequence(text, at, nested=True)
        options.append(option)
        if at >= len(text):
            raise ValueError(f"unclosed bracket in template: {text}")
        at += 1
        if text[at - 1] == "]":
            return Choice(tuple(options)), at


def lines(block: str) -> Sequence[str]:
    """The templates of a block, one a line; blank lines are skipped."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())
