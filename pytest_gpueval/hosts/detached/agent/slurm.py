"""Runs that Slurm starts: one job each, known by a name that holds the nonce of its claim; asked about with squeue, which needs no accounting."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from typing import Any

from .files import Run, read_json, write_json, write_text
from .processes import Refused

ASK_SLURM_S = 60.0
JOB_POLL_S = 0.5
# States in which nothing more comes of a job, unless somebody requeues it by hand.
OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT")
_AWAY = re.compile(r"unable to contact|timed out|connect failure|connection refused|connection reset|zero bytes|communication", re.IGNORECASE)


def by_slurm(claim: dict[str, Any]) -> bool:
    """Whether Slurm is to run it."""
    return "slurm" in claim["request"]


def ask_slurm(words: list[str], script: str = "", environment: dict[str, str] | None = None) -> str:
    """What one of Slurm's programs prints. Raises Refused: missing programs, a controller that is away, and what Slurm says no to, in its words."""
    if shutil.which(words[0]) is None:
        raise Refused(
            "usage", f"{words[0]} is not there on {socket.gethostname()}: Slurm's client programs are needed on the login node, on the PATH of its login shell"
        )
    try:
        done = subprocess.run(words, input=script.encode("utf-8", "surrogateescape"), env=environment, capture_output=True, timeout=ASK_SLURM_S, check=False)
    except subprocess.TimeoutExpired:
        raise Refused("unreachable", f"{words[0]}: Slurm has not answered within {ASK_SLURM_S:g} s; what runs goes on") from None
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace").strip()
    if _AWAY.search(said):
        raise Refused("unreachable", f"{words[0]}: Slurm does not answer: {said}\nWhat runs goes on; try again")
    raise Refused("usage", f"{words[0]}: {said or f'exit code {done.returncode}'}")


def job_name(claim: dict[str, Any]) -> str:
    """Of the run's job."""
    return f"gpueval-{claim['nonce']}"


def jobs_of(claims: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Nonce -> id, state, reason and node of its job, in one question; those that Slurm has forgotten, or never met, are missing. Raises Refused."""
    if not claims:
        return {}
    names = {job_name(claim): claim["nonce"] for claim in claims}
    words = ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", f"--name={','.join(names)}", "--format=%i|%j|%T|%r|%N"]
    found: dict[str, dict[str, Any]] = {}
    for line in sorted(ask_slurm(words).splitlines(), key=rank):
        parts = [part.strip() for part in line.split("|")]
        if len(parts) == 5 and parts[1] in names:
            found[names[parts[1]]] = dict(zip(("id", "state", "reason", "node"), (parts[0], *parts[2:])))
    return found


def rank(line: str) -> tuple[bool, int]:
    """Of two jobs of one name the one that waits or runs counts, then the later one."""
    parts = line.split("|")
    return len(parts) > 2 and parts[2].strip() not in OVER, int(parts[0]) if parts[0].strip().isdigit() else 0


def job_of(claim: dict[str, Any]) -> dict[str, Any] | None:
    """The same for one. Raises Refused."""
    return jobs_of([claim]).get(claim["nonce"])


def settled(run: Run, claim: dict[str, Any]) -> bool:
    """Whether its files say how it ended, so that Slurm need not be asked."""
    if read_json(run.place(claim, "over.json", run.attempt(claim))) is not None:
        return True
    how = run.part(claim, "exit")
    return how is not None and not open_end(how)


def open_end(how: dict[str, Any]) -> bool:
    """Whether Slurm may know better why: of a signal to the runner, and of those that it sends to all processes of a job; a shell makes a code of them."""
    return how["cause"] == "signal" or (how["cause"] == "exit" and (how["signal"] in (9, 15) or how["code"] in (137, 143)))


def seen_job(run: Run, claim: dict[str, Any], job: dict[str, Any] | None) -> dict[str, Any] | None:
    """What Slurm says of its job, or said when it was over: Slurm forgets jobs after minutes, so that is written down, and secrets are no longer kept."""
    place = run.place(claim, "over.json", run.attempt(claim))
    before: dict[str, Any] | None = read_json(place)
    if job is not None and job["state"] in OVER:
        forget_secrets(run, claim)
        if before is None:
            with contextlib.suppress(OSError):  # a full disk
                write_json(place, job, once=True)
    return job or before


def active(job: dict[str, Any] | None) -> bool:
    """Whether it waits or runs."""
    return job is not None and job["state"] not in OVER


def submit_job(run: Run, claim: dict[str, Any], secrets: dict[str, str], environment: dict[str, str]) -> dict[str, Any]:
    """Submit its job, unless a submit that was cut off has. Returns it. Raises Refused; what Slurm says no to is no claim any more."""
    found = job_of(claim)
    if found is None:
        how = claim["request"]["slurm"]
        if secrets:
            write_text(run.place(claim, "secrets.json"), json.dumps(secrets), mode=0o600)
        runner = [how["python"], "-I", "-S", "-X", "utf8", run.place(claim, "agent.py"), "run"]
        script = "#!/bin/sh\nexec " + " ".join(map(shlex.quote, runner)) + "\n"
        words = ["sbatch", "--parsable", "--requeue" if how["requeue"] else "--no-requeue", f"--job-name={job_name(claim)}", "--export=ALL"]
        words += [f"--chdir={claim['request']['directory']}", f"--output={run.place(claim, 'slurm.out').replace('%', '%%')}", "--open-mode=append"]
        try:
            said = ask_slurm([*words, *how["options"]], script, environment)
        except Refused as refused:
            forget_secrets(run, claim)
            if refused.kind != "unreachable":
                os.unlink(os.path.join(run.state, "claim.json"))
            raise
        found = {"id": said.splitlines()[-1].partition(";")[0], "state": "PENDING", "reason": "just submitted", "node": ""}
    write_json(run.place(claim, "job.json"), {"id": found["id"], "at": time.time()})
    return found


def forget_secrets(run: Run, claim: dict[str, Any]) -> None:
    """Nobody needs them any more."""
    with contextlib.suppress(OSError):
        os.unlink(run.place(claim, "secrets.json"))


def taken_secrets(run: Run, claim: dict[str, Any]) -> dict[str, str]:
    """The secrets for the command. Where the job may be requeued, the file stays until the run has ended, since the next attempt needs it."""
    found: dict[str, str] = read_json(run.place(claim, "secrets.json")) or {}
    if not claim["request"]["slurm"]["requeue"]:
        forget_secrets(run, claim)
    return found


def end_job(run: Run, claim: dict[str, Any], grace_s: float, settle_s: float) -> str | None:
    """End its job: its runner is asked first, then Slurm. Returns the job's id once Slurm says that it is over, None if there is none. Raises Refused."""
    job = job_of(claim)
    if job is None:
        return None
    if active(job):
        if job["state"] == "RUNNING" and run.part(claim, "runner") is not None:
            with contextlib.suppress(Refused):  # it may have ended meanwhile: what follows says so
                ask_slurm(["scancel", "--signal=TERM", "--batch", job["id"]])
                await_job(run, claim, grace_s + 2)
        if active(job_of(claim)):
            with contextlib.suppress(Refused):  # the same
                ask_slurm(["scancel", job["id"]])
        if not await_job(run, claim, settle_s, exits=False):
            raise Refused("fault", f"{run.id}: Slurm was asked to end job {job['id']}, and has not in {settle_s:g} s; see: scontrol show job {job['id']}")
    return str(job["id"])


def await_job(run: Run, claim: dict[str, Any], most_s: float, *, exits: bool = True) -> bool:
    """Wait until its job is over, or with `exits` until its runner says how it ended. False if time runs out first. Raises Refused."""
    limit = time.monotonic() + most_s
    while active(job_of(claim)):
        if exits and run.part(claim, "exit") is not None:
            break
        if time.monotonic() > limit:
            return False
        time.sleep(JOB_POLL_S)  # Slurm does not announce it to others
    return True


def slurm_state() -> str:
    """What Slurm says of the job we are in; empty where it does not answer at once."""
    words = ["squeue", "--noheader", "--states=all", f"--jobs={os.environ.get('SLURM_JOB_ID', '')}", "--format=%T"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("ascii", "replace").strip()
