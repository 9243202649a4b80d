"""What can be asked about a host: facts, environment, netrc."""

from __future__ import annotations

import os
import stat
from typing import Any, BinaryIO

from pytest_gpueval.hosts.detached.agent.processes import Refused
from pytest_gpueval.hosts.sync.agent.receive import CODE_VERBS

from .environments import environment
from .facts import facts_of


def netrc(message: dict[str, Any], _: BinaryIO) -> dict[str, Any]:
    """Have an entry for a machine in ~/.netrc, all others as they were; nobody else may read it, and nobody ever reads half of it."""
    path = os.path.realpath(os.path.expanduser("~/.netrc"))
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            before = file.read()
        safe = not stat.S_IMODE(os.stat(path).st_mode) & 0o077
    except FileNotFoundError:
        before, safe = "", True
    after = with_machine(before, message["machine"], message["login"], message["password"])
    if after == before and safe:
        return {"path": path, "again": True}
    beside = f"{path}.{os.urandom(4).hex()}"
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        if os.path.exists(beside):
            os.unlink(beside)
    return {"path": path, "again": False}


def with_machine(text: str, machine: str, login: str, password: str) -> str:
    """The file's text with this entry. Entries are words on one line or several; a macdef goes on to an empty line, and stays."""
    kept: list[str] = []
    skipping = in_macro = False
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        words = line.split()
        if in_macro:
            in_macro = bool(words)
        elif words and words[0] == "macdef":
            skipping, in_macro = False, True
        elif words and words[0] in ("machine", "default"):
            skipping = words[:2] == ["machine", machine]
        elif not words or words[0].startswith("#"):
            kept.append(line)
            continue
        if skipping and words.count("machine") > 1:
            raise Refused("usage", f"~/.netrc: line {number} names several machines; write each on a line of its own")
        if not skipping:
            kept.append(line)
    own = f"machine {machine}\n  login {login}\n  password {password}\n"
    rest = "".join(kept)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    place = next((number for number, line in enumerate(kept) if line.split()[:1] == ["default"]), None)  # what follows it is never read
    return rest + own if place is None else "".join(kept[:place]) + own + "".join(kept[place:])


CODE_VERBS.update({"facts": facts_of, "environment": environment, "netrc": netrc})
