"""How commands speak: a table for people, JSON for programs; errors on stderr with the exit code of their kind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any

import typer

from pytest_gpueval.errors import GpuevalError

# The exit code of what Ctrl-C ended, as a shell gives it.
INTERRUPTED = 130


class Form(Enum):
    """Table, compact JSON or indented JSON."""

    TABLE = "table"
    JSON = "json"
    PRETTY = "pretty"


Json = Annotated[bool, typer.Option("--json", help="One line of JSON.")]
Pretty = Annotated[bool, typer.Option("--pretty", help="Indented JSON.")]


def form(json_: bool, pretty: bool) -> Form:  # noqa: FBT001 - two command-line switches
    """The form that `--json` and `--pretty` ask for."""
    return Form.PRETTY if pretty else Form.JSON if json_ else Form.TABLE


def show(rows: Sequence[Mapping[str, Any]], headers: Sequence[str], form: Form) -> None:
    """Print rows; the table shows `headers` only, JSON everything."""
    if form is not Form.TABLE:
        show_document(list(rows), form)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    console = Console(soft_wrap=True, highlight=False)
    for header in headers:  # what a program reads is never shortened
        table.add_column(header.replace("_", " "), no_wrap=not console.is_terminal, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if row.get(header) is None else str(row[header])) for header in headers))
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)


def show_document(value: Any, form: Form) -> None:
    """Print JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if form is Form.PRETTY else None))  # noqa: T201


def tell(text: str) -> None:
    """What goes on, on stderr."""
    sys.stderr.write(f"gpueval: {text}\n")


@contextmanager
def user_errors() -> Iterator[None]:
    """Print an error of ours and leave with its exit code."""
    try:
        yield
    except GpuevalError as error:
        tell(str(error))
        raise typer.Exit(error.exit_code) from None


@contextmanager
def interruptible(words: str) -> Iterator[None]:
    """Ctrl-C leaves with its exit code, and with words on how things are then."""
    try:
        yield
    except KeyboardInterrupt:
        tell(words)
        raise typer.Exit(INTERRUPTED) from None
