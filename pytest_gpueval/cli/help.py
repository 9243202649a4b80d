"""The help of commands, whose examples stand as they are written: to be copied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand

_EXAMPLES = re.compile(r"\n+(Examples?:)\n")


class Command(TyperCommand):
    """A command whose text ends with examples; a paragraph would be filled, one example after the other."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """As typer does it, and then the examples, a line each."""
        whole = self.help or ""
        prose, *examples = _EXAMPLES.split(whole, maxsplit=1)
        self.help = prose
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = whole
        if examples:
            heading, text = examples
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            formatter.write("\n".join([f"\n  {heading}", *(f"    {line}" for line in lines), ""]))


def with_examples(app: typer.Typer) -> None:
    """Have all commands of an app, and of those in it, show their examples so."""
    for command in _commands(app):
        command.cls = Command


def _commands(app: typer.Typer) -> Iterator[Any]:
    yield from app.registered_commands
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance)
