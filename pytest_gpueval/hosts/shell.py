"""One command string that arrives word by word, whatever login shell reads it. Pure.

SSH hands over a string, not words, and the account's login shell reads it: sh, bash, zsh, fish or csh. They agree on very little. They do agree on plain
words, and on single quotes around text that holds neither quotes, backslashes, `!` nor a newline. So the login shell is only ever told to become
`/bin/sh`, with a fixed text in single quotes whose payload is base64; what `/bin/sh` reads in there is POSIX.

Profiles print things. The script begins with a mark on stdout and on stderr: what came before it is not the program's.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpueval.errors import UsageProblem

from .host import NOTHING

# A word of a command is at most 32 pages on Linux (MAX_ARG_STRLEN in man 2 execve), its end included, and sshd passes the whole string as one.
MOST_COMMAND = 131_071
# What is kept of the talk around a program, to quote it.
_MOST_TALK = 1 << 16
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def script(argv: Sequence[str], *, mark: str, environment: Mapping[str, str] = NOTHING, directory: str | None = None, pid: str = "$$") -> str:
    """A POSIX script that becomes the program: it writes the mark, its process id and a newline to stdout, the mark and a newline to stderr.

    `pid` is the word of the script that becomes that id. Where the program cannot be started, `<mark>!` follows on stderr behind what the shell says.
    Raises UsageProblem for what no shell can pass on.
    """
    _check([*argv, *environment.values(), directory or ""])
    lines = [f"printf '%s %s\\n' {mark} {pid}", f"printf '%s\\n' {mark} >&2", f"trap 'printf %s {mark}! >&2' EXIT"]
    # bash, where it is /bin/sh, does not always run the trap after an exec that failed.
    lines.append('[ -z "$BASH_VERSION" ] || shopt -s execfail')
    lines += [f"export {_name(name)}={shlex.quote(value)}" for name, value in environment.items()]
    if directory:
        lines.append(f"cd {place(directory)} || exit 127")
    return "\n".join([*lines, f"exec {shlex.join(argv)}", "exit 127"])


def reporting(argv: Sequence[str], *, mark: str, environment: Mapping[str, str] = NOTHING, directory: str | None = None) -> str:
    """The same in a shell that stays, for a link which loses how programs end: at the end it writes `<mark>=<code>` and a newline to stderr.

    The process id that is told is that shell's. What it would say itself of a program that was killed goes nowhere. Raises UsageProblem.
    """
    # dash says `Killed` wherever the command's own redirections lead.
    text = f"exec 2>&4 4>&-\n{script(argv, mark=mark, environment=environment, directory=directory, pid='$1')}"
    return f"exec 4>&2 2>/dev/null\n/bin/sh -c {shlex.quote(text)} sh $$\nprintf '%s=%s\\n' {mark} $? >&4"


def place(path: str) -> str:
    """A path as a word of a script. Never an option, never looked for in CDPATH; `~` and `~/...` are the home directory.

    >>> place("a b"), place("/x"), place("~/x"), place("-")
    ("./'a b'", '/x', '"$HOME"/x', './-')
    """
    if path == "~":
        return '"$HOME"'
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path) if path.startswith("/") else f"./{shlex.quote(path)}"


def command(text: str) -> str:
    """The string that makes any login shell run a POSIX script, as bytes exactly as they are. Raises UsageProblem if it is too long to be passed on."""
    payload = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
    line = f"exec /bin/sh -c 'eval \"$(printf %s {payload} | base64 -d)\"'"
    if len(line) > MOST_COMMAND:
        raise UsageProblem(f"a command of {len(text):,} characters is too long for a remote shell, which takes some 98,000; send what is large through stdin.")
    return line


@dataclass(frozen=True, slots=True)
class Begun:
    """What stdout has shown so far: whether the program has begun, as which process, and its own first bytes."""

    pid: int
    output: bytes


def begun(seen: bytes, mark: str) -> Begun | None:
    """What follows the mark on stdout; None while it has not come as a whole. A profile cannot know the mark, which is drawn for each command."""
    _, found, rest = seen.partition(mark.encode() + b" ")
    head, newline, output = rest.partition(b"\n")
    return Begun(int(head), output) if found and newline and head.isdigit() else None


def said(seen: bytes, mark: str) -> tuple[str, bool]:
    """What the program said on stderr, and whether it was started at all."""
    _, found, own = seen.partition(mark.encode() + b"\n")
    text = own if found else seen
    failed = text.endswith(mark.encode() + b"!")
    if failed:
        text = text[: -len(mark) - 1]
    return text.decode("utf-8", "replace"), not failed


def code_of(status: int) -> int:
    """What a shell's `$?` says: an exit code, or minus a signal. A program that itself exits with 129 to 192 is taken for one that a signal ended.

    >>> code_of(3), code_of(137), code_of(255)
    (3, -9, 255)
    """
    return 128 - status if 128 < status <= 192 else status


class Report:
    """What a script that is `reporting` writes to stderr, piece by piece: talk before it, the program's own words, its code, and talk after it."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._rest = b""
        self.begun = self.failed = False
        self.code: int | None = None
        # What was said by whoever carries the script, before and after.
        self.talk = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece. Returns what is known by now to be the program's."""
        self._rest += data
        if not self.begun:
            talk, found, rest = self._rest.partition(self._mark + b"\n")
            if not found:
                self._rest = self._rest[-_MOST_TALK:]
                return b""
            self.begun, self.talk, self._rest = True, talk[-_MOST_TALK:], rest
        own = bytearray()
        while self.code is None:
            before, found, after = self._rest.partition(self._mark)
            own += before
            if not found:
                kept = _beginning(before, self._mark)
                self._rest = before[len(before) - kept :]
                return bytes(own[: len(own) - kept])
            if after.startswith(b"!"):
                self.failed, self._rest = True, after[1:]
                continue
            digits, newline, after = after.partition(b"\n")
            if not newline:
                self._rest = self._rest[len(before) :]
                return bytes(own)
            self.code, self._rest = int(digits.removeprefix(b"=")), after
        return bytes(own)

    def end(self) -> bytes:
        """Nothing more comes. Returns what was held back and is the program's after all; what came behind its end is talk."""
        rest, self._rest = self._rest, b""
        if self.begun and self.code is None:
            return rest
        self.talk += rest
        return b""


def _beginning(data: bytes, mark: bytes) -> int:
    """How many of the last bytes could be the beginning of the mark."""
    return next((size for size in range(min(len(mark) - 1, len(data)), 0, -1) if data.endswith(mark[:size])), 0)


def _name(name: str) -> str:
    if not _VARIABLE.match(name):
        raise UsageProblem(f"{name!r} is not the name of an environment variable that a shell can set: letters, digits and _, and no digit first.")
    return name


def _check(words: Sequence[str]) -> None:
    for word in words:
        if "\0" in word:
            raise UsageProblem(f"{word[:80]!r} holds a NUL character, which no program can be given.")
