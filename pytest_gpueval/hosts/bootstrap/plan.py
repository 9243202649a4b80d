"""What is installed for a project, and when an environment serves it again. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pytest_gpueval.hosts.sync.tree import Tree

from .own import DISTRIBUTION

WHEEL: Final = "WHEEL"
IMPORTS: Final = ("pytest", "xdist", "execnet", "pytest_gpueval", "pydantic", "orjson", "filelock", "jinja2", "junitparser", "pynvml", "rich", "typer")
_DECIDES = re.compile(r"pyproject\.toml|setup\.(py|cfg)|(requirements|constraints)[^/]*\.(txt|in)|uv\.lock|\.python-version")


def words(tree: Tree, pyproject: str, install: bool | Sequence[str]) -> list[str]:  # noqa: FBT001 - as hosts.toml has it
    """Words of `pip install`, run in the code's directory; WHEEL stands for this package. None where nothing is to be installed."""
    if install is False:
        return []
    names = {item.path for item in tree.items}
    own = [] if is_own(pyproject) else [WHEEL]
    if install is not True:
        return [*install, *own]
    project = "project" in _parsed(pyproject) or bool(names & {"setup.py", "setup.cfg"})
    what = ["-e", "."] if project else ["-r", "requirements.txt"] if "requirements.txt" in names else []
    return [*what, *own, *(["-c", "constraints.txt"] if "constraints.txt" in names else [])]


def is_own(pyproject: str) -> bool:
    """Whether the project is this package."""
    name = _parsed(pyproject).get("project", {}).get("name", "")
    return isinstance(name, str) and re.sub(r"[-_.]+", "-", name).lower() == DISTRIBUTION


def key(tree: Tree, wanted: Sequence[str], python: Mapping[str, Any], wheel: str) -> str | None:
    """The name of the environment: another where anything differs that decides what is in it. None where nothing is installed."""
    if not wanted:
        return None
    files = {item.path: item.content for item in tree.items if _DECIDES.fullmatch(item.path)}
    said = [list(wanted), files, python["version"], python["executable"], python["machine"], wheel if WHEEL in wanted else ""]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def search_path(tree: Tree, directory: str) -> list[str]:
    """Where the code is imported from: before what is installed, so that a run has the code as it was sent."""
    source = any(item.path.startswith("src/") for item in tree.items)
    return [*([f"{directory}/src"] if source else []), directory]


def _parsed(pyproject: str) -> dict[str, Any]:
    try:
        return tomllib.loads(pyproject)
    except ValueError:
        return {}
