"""Texts with spans: append pieces, edit single characters, read exact offsets.

A text is kept as a list of *cells*. A cell starts as one code point; noise may replace it with any
string, the empty one included. Marks point at cells, never at characters, so an edit anywhere
cannot misplace them. Character offsets are computed once, in `Builder.result`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled range of cells `[start, end)`; `kind` is the generator's own fine label."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A labelled range of code points `[start, end)` of the finished text."""

    start: int
    end: int
    label: str


class Builder:
    """Collects cells and marks; offsets come out of `result` only."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.marks: list[Mark] = []

    def __len__(self) -> int:
        return len(self.cells)

    def add(self, text: str) -> None:
        """Append unlabelled text, one cell per code point."""
        self.cells.extend(text)

    def entity(self, text: str, kind: str) -> None:
        """Append text covered by one mark."""
        start = len(self.cells)
        self.add(text)
        self.close(start, kind)

    def close(self, start: int, kind: str) -> None:
        """Mark every cell from `start` to the present end; lets an entity hold another one."""
        if start < len(self.cells):
            self.marks.append(Mark(start, len(self.cells), kind))

    def last(self) -> str:
        """The last non-empty cell, or the empty string."""
        for cell in reversed(self.cells):
            if cell:
                return cell
        return ""

    def kinds(self) -> list[str]:
        """Per cell, the kind of the shortest mark over it; the empty string outside marks."""
        found = [""] * len(self.cells)
        for mark in sorted(self.marks, key=lambda m: (m.start - m.end, m.start, m.kind)):
            for index in range(mark.start, mark.end):
                found[index] = mark.kind
        return found

    def result(self) -> tuple[str, list[Span]]:
        """The text and its spans, trimmed of outer white space, empty ones dropped, sorted."""
        offsets = [0]
        for cell in self.cells:
            offsets.append(offsets[-1] + len(cell))
        text = "".join(self.cells)
        left = len(text) - len(text.lstrip())
        text = text.strip()
        spans: dict[Span, None] = {}
        for mark in self.marks:
            start = max(offsets[mark.start] - left, 0)
            end = min(offsets[mark.end] - left, len(text))
            while start < end and text[start].isspace():
                start += 1
            while end > start and text[end - 1].isspace():
                end -= 1
            if start < end:
                spans[Span(start, end, mark.kind)] = None
        return text, sorted(spans)
