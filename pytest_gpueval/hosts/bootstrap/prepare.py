"""Makes a host ready: looks at it, sends the code, and has a Python there that can run it. To do it again completes what was cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest_gpueval
from pytest_gpueval.hosts.declared import Declared
from pytest_gpueval.hosts.detached.submission import DEFAULT_ROOT
from pytest_gpueval.hosts.host import Host
from pytest_gpueval.hosts.sync.client import Synced, sync
from pytest_gpueval.hosts.sync.place import base
from pytest_gpueval.hosts.sync.request import HOST, ask
from pytest_gpueval.hosts.sync.rules import Rules

from . import checks, own, plan

_FACTS_S: Final = 60.0
# Hashing models takes its time, the first time.
_VERIFY_S: Final = 3600.0
_INSTALL_S: Final = 3600.0
_UNSURE: Final = "Bootstrap again: what is complete there is not done twice"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A host that is ready. `directory` holds the code, and does not change; `python` are the words that start an interpreter which imports it from there.

    `environment` is what those words set, for whoever starts programs there otherwise. Where `again`, the interpreter was there. In a dry run paths are None
    that do not exist yet, and `todo` says what would be done.
    """

    host: str
    directory: str | None
    python: tuple[str, ...] | None
    environment: Mapping[str, str]
    synced: Synced
    again: bool
    notes: tuple[str, ...]
    todo: tuple[str, ...] = ()

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        """A command for there: where it begins with python or pytest, by the interpreter that was made ready. `environment` goes with it."""
        interpreter = self.python[-1] if self.python else "python3"
        if words and words[0] == "pytest":
            return (interpreter, "-m", "pytest", *words[1:])
        return (interpreter, *words[1:]) if words and words[0] in ("python", "python3") else tuple(words)


def facts(declared: Declared, host: Host, root: Path, *, runs: str = DEFAULT_ROOT, verify: bool = True, timeout_s: float = _FACTS_S) -> dict[str, Any]:
    """What the host says of itself and of the `runs` there, in one request. Raises Unreachable, AccessDenied, UsageProblem."""
    entry = declared.entry
    assets = {name: path for name in ("data", "models") if (path := getattr(entry, name)) and verify and not entry.internet}
    message = {
        "do": "facts",
        "root": base(root, entry.workdir),
        "runs": runs,
        "volume": entry.volume,
        "uv": entry.uv,
        "assets": assets,
    }
    return ask(host, entry.python, message, timeout_s=max(timeout_s, _VERIFY_S) if assets else timeout_s, modules=HOST)


def prepare(
    declared: Declared,
    host: Host,
    root: Path,
    *,
    rules: Rules | None = None,
    runs: str = DEFAULT_ROOT,
    dry_run: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Prepared:
    """Make the host ready for the code of `root`. Raises GpuevalError of every kind, before anything is sent where the host itself is not fit."""
    entry, tell = declared.entry, tell or (lambda _: None)
    seen = facts(declared, host, root, runs=runs)
    wrong = checks.problems(entry, seen)
    if wrong:
        raise type(wrong[0])("\n".join(f"{declared.name}: {problem}" for problem in wrong))
    synced = sync(host, root, base(root, entry.workdir), rules=rules, python=entry.python, runs=runs, dry_run=dry_run, tell=tell)
    pyproject = _text(synced, "pyproject.toml")
    words, wheel = plan.words(synced.tree, pyproject, entry.install), own.wheel()
    key = plan.key(synced.tree, words, seen["python"], wheel.sha256)
    if dry_run:
        return Prepared(declared.name, synced.directory, None, {}, synced, False, synced.notes, tuple(_todo(synced, seen, words, key)))
    assert synced.directory is not None  # noqa: S101 - but for dry runs it is there
    there = wheel.sha256[:16] in seen["own"]
    message = {
        "do": "environment",
        "root": synced.base,
        "runs": runs,
        "key": key,
        "uv": seen["uv"],
        "words": words,
        "path": plan.search_path(synced.tree, synced.directory),
        "imports": list(plan.IMPORTS),
        "version": pytest_gpueval.__version__,
        "wheel": {"name": wheel.name, "sha256": wheel.sha256, "size": len(wheel.data), "sent": not there},
    }
    if key is not None and key not in seen["envs"]:
        tell(f"{declared.name}: environment {key} ({'uv' if seen['uv'] else 'venv and pip'}): {' '.join(words)}")
    answer = ask(host, entry.python, message, () if there else [wheel.data], timeout_s=_INSTALL_S, unsure=_UNSURE, modules=HOST)
    environment = {"PYTHONPATH": ":".join(answer["path"])}
    python = ("env", *(f"{name}={value}" for name, value in environment.items()), answer["python"])
    notes = (*synced.notes, *([f"environment made by {answer['by']}"] if answer["by"] else []))
    return Prepared(declared.name, synced.directory, python, environment, synced, answer["again"], notes)


def _text(synced: Synced, name: str) -> str:
    if not any(item.path == name for item in synced.tree.items):
        return ""
    return (synced.tree.root / name).read_text(encoding="utf-8", errors="replace")


def _todo(synced: Synced, seen: Mapping[str, Any], words: list[str], key: str | None) -> list[str]:
    """What would be done, in words."""
    done = [f"send {len(synced.sent):,} file(s), {synced.sent_bytes:,} bytes, to {synced.base}"] if synced.sent or synced.directory is None else []
    if key is None:
        return [*done, f"install nothing: use {seen['python']['executable']} as it is"]
    if key in seen["envs"]:
        return [*done, f"use environment {synced.base}/envs/{key}, which is complete"]
    tool = f"{seen['uv']} pip" if seen["uv"] else "python -m venv and pip"
    return [*done, f"make environment {synced.base}/envs/{key}: {tool} install {' '.join(words)}"]
