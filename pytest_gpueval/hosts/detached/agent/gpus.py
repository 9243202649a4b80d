"""The GPUs of this host, and whose processes hold their memory, as nvidia-smi tells."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from typing import Any

from .processes import POLL_S

SMI_PLACES = ("/usr/bin/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")
CSV = "--format=csv,noheader,nounits"
SMI_QUERIES = (
    ("--query-gpu=index,uuid,name,memory.used,memory.total,driver_version,utilization.gpu", CSV),
    ("--query-compute-apps=pid,gpu_uuid,used_gpu_memory", CSV),
)
NO_SMI = "no nvidia-smi"
UNASKED: dict[str, Any] = {"gpus": None, "why": "", "strangers": []}
SMI_S = 15.0
# How long it may hold up a request that is about something else.
ASKED_S = 5.0
# Of the memory that was held, what must be free again: others may have taken some.
GIVEN_BACK = 0.9
# For what is there already, whatever else took the time.
SMI_LEAST_S = 0.5


class GpuLook:
    """Asks nvidia-smi, which may take a second, while the caller goes on; `answer` is what it said, `limit_s` after the start at the latest."""

    def __init__(self, limit_s: float = SMI_S, questions: tuple[tuple[str, ...], ...] = SMI_QUERIES) -> None:
        self._limit, self._limit_s = time.monotonic() + limit_s, limit_s
        self._asked: list[subprocess.Popen[bytes]] = []
        self._why = ""
        program = shutil.which("nvidia-smi") or next(filter(os.path.exists, SMI_PLACES), None)
        if program is None:
            self._why = NO_SMI
            return
        try:
            for question in questions:  # all at once; each in a group of its own, which can be ended whole
                asked = subprocess.Popen(
                    [program, *question], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
                )
                self._asked.append(asked)
        except OSError as error:
            self._why = f"nvidia-smi: {error}"

    def answer(self) -> dict[str, Any]:
        """The GPUs with their processes, memory in MiB; `gpus` is None, with a reason as `why`, where nvidia-smi is not there, fails or hangs.

        `strangers` are pids that nobody has here: in a container the driver may tell those of the machine around it.
        """
        said, why = self.said()
        if why:
            return {**UNASKED, "why": why}
        found = with_processes(rows(said[0]), rows(said[1]))
        return {**UNASKED, "gpus": found, "strangers": [pid for gpu in found for pid, _ in gpu["processes"] if nobody_has(pid)]}

    def said(self) -> tuple[list[bytes], str]:
        """What it said to each question; or why it said nothing."""
        answers = [self._said(one) for one in self._asked]
        return answers, self._why

    def _said(self, asked: subprocess.Popen[bytes]) -> bytes:
        try:
            said, _ = asked.communicate(timeout=max(SMI_LEAST_S, self._limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            if asked.stdout is not None:
                asked.stdout.close()
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                os.killpg(asked.pid, signal.SIGKILL)
                asked.wait(SMI_LEAST_S)  # no longer: where the driver hangs, nobody can end it
            self._why = self._why or f"nvidia-smi: no answer within {self._limit_s:g} s"
            return b""
        if asked.returncode != 0:
            words = said.decode("utf-8", "replace").strip()[:300] or f"it ended with {asked.returncode}"
            self._why = self._why or f"nvidia-smi: {words}"
        return said


def nobody_has(pid: int) -> bool:
    """Whether no process here has this pid; those of others count, also where /proc hides them."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


def given_back(before: dict[str, Any], pids: set[int], most_s: float) -> dict[str, Any]:
    """Of processes that have ended, and an answer from before that: whether their GPUs have the memory again; waits for that as long as it is told.

    A GPU's memory is `back` if nvidia-smi lists none of them there, and most of what they held is free: others may have taken some meanwhile.
    """
    if before["gpus"] is None:
        return {"gpus": None, "why": before["why"]}
    held = [gpu for gpu in before["gpus"] if any(pid in pids for pid, _ in gpu["processes"])]
    limit = time.monotonic() + most_s
    while held:
        after = GpuLook(ASKED_S).answer()
        if after["gpus"] is None:
            return {"gpus": None, "why": after["why"]}
        found = [compared(gpu, after["gpus"], pids) for gpu in held]
        if all(one["back"] for one in found) or time.monotonic() > limit:
            return {"gpus": found, "why": ""}
        time.sleep(POLL_S * 5)  # nobody announces it
    return {"gpus": [], "why": ""}


def compared(gpu: dict[str, Any], after: list[dict[str, Any]], pids: set[int]) -> dict[str, Any]:
    """A GPU before and after some processes ended: what they held, what is in use, and which of them nvidia-smi still lists."""
    own = [used for pid, used in gpu["processes"] if pid in pids and used is not None]
    now = next((other for other in after if other["uuid"] == gpu["uuid"]), {})
    was_mib, now_mib, left = gpu["used_mib"], now.get("used_mib"), [pid for pid, _ in now.get("processes", ()) if pid in pids]
    more = None not in (was_mib, now_mib) and bool(own) and now_mib > was_mib - sum(own) * GIVEN_BACK
    held_mib = sum(own) if own else None
    return {"index": gpu["index"], "held_mib": held_mib, "before_mib": was_mib, "after_mib": now_mib, "pids": left, "back": bool(now) and not left and not more}


def rows(said: bytes) -> list[list[str]]:
    """The cells of what nvidia-smi printed."""
    return [[cell.strip() for cell in line.split(",")] for line in said.decode("utf-8", "replace").splitlines()]


def with_processes(cards: list[list[str]], held: list[list[str]]) -> list[dict[str, Any]]:
    """The GPUs of a table, and what each process holds; lines that are none of either are words, such as "No running processes found"."""
    found: dict[str, dict[str, Any]] = {}
    for row in cards:
        if len(row) == 7 and row[0].isdecimal():
            about = {"index": int(row[0]), "uuid": row[1], "name": row[2], "used_mib": whole(row[3]), "total_mib": whole(row[4])}
            found[row[1]] = {**about, "driver": row[5], "utilization_percent": whole(row[6]), "processes": []}
    for row in held:
        if len(row) == 3 and row[0].isdecimal() and row[1] in found:
            found[row[1]]["processes"].append([int(row[0]), whole(row[2])])
    return list(found.values())


def whole(cell: str) -> int | None:
    """A number; None for [N/A] and the like."""
    return int(cell) if cell.isdecimal() else None
