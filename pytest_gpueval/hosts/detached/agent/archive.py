"""Moves what a command left elsewhere on the host into the directory of its run."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
from typing import Any

from .files import Run, placed
from .processes import Refused, lives
from .slurm import active, by_slurm, job_of, settled

ARCHIVED = "archived"


def archive(message: dict[str, Any]) -> dict[str, Any]:
    """Move files and directories to ROOT/RUN_ID/archived; nothing is overwritten. To ask again after a cut moves the rest. Raises Refused."""
    run, claim = placed(message)
    os.makedirs(run.state, mode=0o700, exist_ok=True)  # a run of somebody else has none
    with run.locked():
        if claim is not None and writes(run, claim):
            raise Refused("conflict", f"{run.id} still runs; what it writes is archived once it has ended")
        moves = [move for pattern in message["paths"] for move in matches(run, pattern)]
        targets = [target for _, target in moves]
        for source, target in moves:
            if os.path.lexists(target) or targets.count(target) > 1:
                raise Refused("conflict", f"{source}: {target} is there already, or would be twice; move it by hand under another name")
        for source, target in moves if not message["dry_run"] else ():
            os.makedirs(os.path.dirname(target), exist_ok=True)
            move(source, target)
        return {"moved": [list(pair) for pair in moves]}


def writes(run: Run, claim: dict[str, Any]) -> bool:
    """Whether a run may still write."""
    if run.part(claim, "exit") is not None:
        return False
    return not settled(run, claim) and active(job_of(claim)) if by_slurm(claim) else lives(run.part(claim, "runner"))


def matches(run: Run, pattern: str) -> list[tuple[str, str]]:
    """What a path or pattern names, and where it goes. Raises Refused."""
    pattern = os.path.expanduser(pattern)
    if not os.path.isabs(pattern):
        raise Refused("usage", f"{pattern}: give an absolute path on the host, or one that begins with ~/")
    found = [os.path.normpath(path) for path in sorted(glob.glob(pattern))]
    place = os.path.join(run.directory, ARCHIVED)
    if not found:
        if glob.glob(os.path.join(glob.escape(place), os.path.basename(pattern))):
            return []  # they were moved before
        raise Refused("usage", f"{pattern}: nothing on the host is called so")
    for path in found:
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Refused("usage", f"{path}: is a link or no file; only files and directories are moved")
        if os.path.commonpath([path, run.directory]) in (path, run.directory):
            raise Refused("usage", f"{path}: holds the run's directory, or lies in it")
    return [(path, os.path.join(place, os.path.basename(path))) for path in found]


def move(source: str, target: str) -> None:
    """Rename, or between file systems copy whole, then rename, then remove."""
    try:
        os.rename(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.part")
    if os.path.isdir(source):
        shutil.rmtree(beside, ignore_errors=True)  # of a move that was cut off
        shutil.copytree(source, beside, symlinks=True)
        os.rename(beside, target)
        shutil.rmtree(source)
    else:
        shutil.copy2(source, beside)
        os.rename(beside, target)
        os.unlink(source)
