"""Runs on a host of a session: leases its GPUs, and has a directory for the runs there, until whoever asked hangs up.

    python -m pytest_gpueval.gpus.keeper

It reads a request, one line of JSON; it answers with lines of JSON: any number of `{"wait": reason}`, then what it has, or an error. Then it waits for the
end of its stdin.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_gpueval import __version__
from pytest_gpueval.errors import GpuevalError

from . import leases

# Below the directory that a session runs in. A worker that leaves something there says so by this file.
FOLDER, KEPT = ".gpueval/sessions", ".kept"
_LOCK = ".lock"


def main() -> int:
    """Answer one request. Returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as by Ctrl-C, so that what is held is given back
    try:
        request = json.loads(sys.stdin.readline())
        with _place(Path(request["place"] or Path.cwd() / FOLDER), request["session"]) as place, _reserved(request) as found:
            _say({"have": _told(found, place)})
            sys.stdin.read()
    except GpuevalError as error:
        _say({"error": {"exit_code": error.exit_code, "text": str(error)}})
        return error.exit_code
    except OSError as error:
        _say({"error": {"exit_code": 1, "text": f"{error.filename or Path.cwd()}: {error.strerror or error}"}})
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0


@contextmanager
def _reserved(request: Mapping[str, Any]) -> Iterator[leases.Reservation]:
    found = leases.reserve(
        request["gpus"],
        session=request["session"],
        wait_s=request["wait_s"],
        shared=request["shared"],
        on_wait=lambda reason: _say({"wait": reason}),
    )
    try:
        yield found
    finally:
        found.leases.release()


def _told(found: leases.Reservation, place: Path) -> dict[str, Any]:
    return {
        "version": __version__,
        "python": sys.version.partition(" ")[0],
        "root": str(Path.cwd()),
        "session_dir": str(place),
        "cores": len(os.sched_getaffinity(0)),
        "devices": [asdict(device) for device in found.devices],
        "guards": {uuid: str(path) for uuid, path in found.leases.guards.items()},
        "passed_over": [[device.label, why] for device, why in found.passed_over],
    }


@contextmanager
def _place(folder: Path, session: str) -> Iterator[Path]:
    """A directory of its own, gone at the end unless something was left in it on purpose; those of sessions that died go first."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.iterdir():
        _remove(other)
    place = Path(tempfile.mkdtemp(prefix=f"{session}-", dir=folder))
    lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(lock)
        _remove(place)


def _remove(place: Path) -> None:
    """A directory that nobody holds and in which nothing was left."""
    with suppress(OSError):  # it is gone, or is being made right now
        lock = os.open(place / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (place / KEPT).exists():
                shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(lock)


def _say(what: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
