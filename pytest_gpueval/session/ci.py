"""What a session says to the CI system that it runs in: annotations and a step summary on GitHub Actions. The others read junit.xml and the exit status."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pytest_gpueval.reports import github

from .failures import Failure, Kind

_TITLES: Final[dict[Kind, str]] = {"gate": "gate failed", "infrastructure": "infrastructure failed", "other": "failed"}
_FIRST: Final[tuple[Kind, ...]] = ("gate", "other", "infrastructure")


def failure_lines(failures: Sequence[Failure], labels: Mapping[str, str], root: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Lines for the log: an annotation for each failure of ours, those of gates first. `labels` has node id -> suite and case. None outside GitHub Actions."""
    ours = sorted((failure for failure in failures if failure.nodeid in labels), key=lambda failure: _FIRST.index(failure.kind))
    if not _on_github(environment) or not ours:
        return []
    most = github.MOST_ANNOTATIONS if len(ours) <= github.MOST_ANNOTATIONS else github.MOST_ANNOTATIONS - 1
    lines = [
        github.annotation(
            "error",
            failure.text or "failed without a word",
            title=f"{labels[failure.nodeid]}: {_TITLES[failure.kind]}",
            file=_in_workspace(root / failure.file, environment),
            line=failure.line,
        )
        for failure in ours[:most]
    ]
    if len(ours) > most:
        lines.append(github.annotation("error", f"{len(ours) - most} more failed; the step summary and the report have all", title="more failures"))
    return lines


def add_summary(text: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Append a session's Markdown to the summary of the step, as much as fits. Returns why it could not be, in a line: it fails nothing."""
    place = environment.get("GITHUB_STEP_SUMMARY")
    if not _on_github(environment) or not place:
        return []
    path = Path(place)
    try:
        there = path.stat().st_size if path.exists() else 0
        fits = github.shortened(
            text.encode(errors="backslashreplace").decode(), github.MOST_BYTES - there - 1, "*Shortened: report.md of the session has all of it.*"
        )
        if fits:
            with path.open("a", encoding="utf-8") as file:
                file.write(("\n" if there else "") + fits)
    except OSError as error:
        return [f"the step summary cannot be written: {path}: {error.strerror or error}"]
    return [] if fits else [f"the step summary is full: {path} has {there:,} of {github.MOST_BYTES:,} bytes"]


def _on_github(environment: Mapping[str, str]) -> bool:
    return environment.get("GITHUB_ACTIONS") == "true"


def _in_workspace(path: Path, environment: Mapping[str, str]) -> str | None:
    """A path as GitHub shows it: relative to the checkout. None where it lies elsewhere."""
    workspace = Path(environment.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    found = path.resolve()
    return found.relative_to(workspace).as_posix() if found.is_relative_to(workspace) else None
