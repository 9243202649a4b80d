"""What every kind of host can do: the one interface that the rest of the house knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

# Of variables, where none are added.
NOTHING: Mapping[str, str] = MappingProxyType({})

# What a program reads: all of it, or pieces that are made while the program runs.
Stdin = bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended: its exit code, or minus the signal that ended it; what it wrote, and what it said on stderr.

    The code is None where it could not be started, took too long, or nobody knows.
    """

    code: int | None
    output: bytes
    said: str


class Host(Protocol):
    """A machine that runs things for us: this one, or one that is reached through SSH, Kubernetes or Slurm.

    Whatever shell it has, the words of a command arrive as they are. Whatever its profile prints, what is read is the program's own output.
    Relative paths count from the host's own directory: what is declared as its `workdir`, else where we are, or the home directory there.
    A link that breaks is no exit code: it raises Unreachable, since nobody knows how the program ended. AccessDenied: no key, or not the host that it says.
    """

    # As the user wrote it.
    name: str

    def run(
        self, argv: Sequence[str], *, stdin: Stdin = b"", timeout_s: float = 60.0, environment: Mapping[str, str] = NOTHING, directory: str | None = None
    ) -> Done:
        """Run a program there to its end. `environment` adds to what it has; a secret goes through `stdin`, never through argv.

        Whatever makes the pieces of `stdin` must not raise.
        """

    def put(self, source: Path, target: str, *, timeout_s: float = 3600.0) -> None:
        """Copy a file to a path there: beside its place first, then moved into it. Its folder is made where it is missing."""

    def get(self, source: str, target: Path, *, offset: int = 0, timeout_s: float = 3600.0) -> int:
        """Append what a file there holds from `offset` on to a file here. Returns how many bytes came; what came before a link broke stays."""

    def worker_command(self, argv: Sequence[str]) -> list[str]:
        """The command that, started here, is that program there: its stdin and stdout byte by byte, and its end with ours."""

    def interrupt(self) -> None:
        """End what other threads run there, and begin nothing more: they find it Unreachable. It takes seconds, however bad the link is."""

    def close(self) -> None:
        """Give back connections; again is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def pieces(stdin: Stdin) -> Iterable[bytes]:
    """What there is to read, in pieces; none where it is empty."""
    return ([stdin] if stdin else ()) if isinstance(stdin, bytes) else stdin
