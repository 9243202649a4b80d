"""What a client can ask for: launch, status, servers, tail, stop, manifest, archive."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, Iterator

from .archive import archive
from .files import RUN_ID, STATE, TAIL, Run, back_up, named, read_bytes, size_of, tail_offset, write_json, write_text
from .gpus import ASKED_S, UNASKED, GpuLook, given_back
from .leases import leasable, write_leases
from .manifest import manifest
from .processes import MARKER, POLL_S, SETTLE_S, Process, Refused, boot, end, family, family_in, identity, lives, marks, started_of, step
from .progress import progress_of
from .runner import LEFTOVERS_S, RESULTS, SECRET_NAME, stand, words_of, write_log
from .serving import answers, awaited, look_at_port, server_runs
from .slurm import active, by_slurm, end_job, forget_secrets, job_of, jobs_of, seen_job, settled, submit_job

START_S = 30.0
# Of a terminal, a session or a test within which somebody submits: a run is no part of it.
NOT_INHERITED = ("TMUX", "TMUX_PANE", "GPUEVAL_SUPERVISOR", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT")
CHUNK = 1 << 20
FREE_S = 10.0  # until GPU memory is given back, after every process has ended
SOURCE = ""  # this very text: what becomes the runner's file


def environment_of(run: Run, claim: dict[str, Any], secrets: dict[str, str]) -> dict[str, str]:
    """What the command sees."""
    request = claim["request"]
    own = {MARKER: claim["nonce"], "GPUEVAL_RUN_ID": run.id, "GPUEVAL_RUN_DIR": run.directory}
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return {"PYTHONUNBUFFERED": "1", **inherited, **request["environment"], **secrets, **own}


def digest_of(request: dict[str, Any]) -> str:
    """What makes two requests the same; values of secrets do not."""
    said = [request["command"], request["directory"], request["environment"], sorted(request["secrets"])]
    said += [request["slurm"]] if "slurm" in request else []
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def check(run: Run, request: dict[str, Any]) -> None:
    """Raises Refused where the command could not start."""
    directory, word = request["directory"], words_of(run, request)[0]
    if not os.path.isdir(directory):
        raise Refused("usage", f"{directory}: there is no such directory on {socket.gethostname()}; say where the command runs with --remote-repo")
    path = request["environment"].get("PATH", os.environ.get("PATH", os.defpath))
    found = shutil.which(os.path.join(directory, word)) if "/" in word else shutil.which(word, path=path)
    if found is None:
        raise Refused(
            "usage", f"{word}: there is no such program on {socket.gethostname()} (directory {directory}, PATH {path}); give its path, or --env PATH=..."
        )


def launch(message: dict[str, Any]) -> dict[str, Any]:
    """Submit a run once. Raises Refused."""
    request = message["request"]
    request["directory"] = os.path.expanduser(request["directory"])
    run = Run(message["root"], request["run_id"])
    check(run, request)
    os.makedirs(run.directory, exist_ok=True)
    foreign = [name for name in os.listdir(run.directory) if name != STATE and not os.path.isdir(run.state)]
    if foreign and not message["force"]:
        raise Refused("conflict", f"{run.directory} is there already and no run of ours (it holds {foreign[0]}); choose another --run-id, or --force")
    os.makedirs(run.state, mode=0o700, exist_ok=True)
    step("made")
    with run.locked():
        step("locked")
        claim, again = decided(run, request, force=message["force"])
        cards, notes = leasable({**os.environ, **request["environment"]}) if message["lease"] and not again else ([], [])
        if claim is None:
            claim = new_claim(run, request)
        job = None
        if not again:
            write_leases(run, claim, cards)
            step("claimed")
            if by_slurm(claim):
                job = submit_job(run, claim, message["secrets"], job_environment(run, claim))
                step("submitted")
            else:
                notes += start(run, claim, message)
            step("started")
        elif by_slurm(claim):
            job = None if settled(run, claim) else job_of(claim)
        elif run.part(claim, "runner") is not None:
            until_begun(run, claim)  # of a submit that was cut off a moment ago
        return {"again": again, "notes": notes, "run": facts(run, claim, marks(), job)}


def job_environment(run: Run, claim: dict[str, Any]) -> dict[str, str]:
    """What sbatch hands on, and Slurm writes down: no secrets, those of the login node's own environment included; nothing of a job that we may be in."""
    inherited = environment_of(run, claim, {})
    secret, inside = set(claim["request"]["secrets"]), "SLURM_JOB_ID" in inherited
    foreign = {name for name in inherited if inside and name.startswith("SLURM_") and name != "SLURM_CONF"}
    return {name: value for name, value in inherited.items() if name not in secret | foreign and not SECRET_NAME.search(name)}


def decided(run: Run, request: dict[str, Any], *, force: bool) -> tuple[dict[str, Any] | None, bool]:
    """The claim to start, None for a new one; and whether it has started already. Raises Refused."""
    claim = run.claim()
    if claim is None:
        return None, False
    same = claim["digest"] == digest_of(request)
    begun = any(run.part(claim, name) for name in ("runner", "stop", "exit", "job"))
    alive = begun and goes_on(run, claim)
    if same and not begun:
        return claim, False
    if same and (alive or not force):
        return claim, True
    if alive:
        raise Refused("conflict", f"{run.id} still runs something else: {shlex.join(claim['request']['command'])}\nStop it first, or choose another --run-id.")
    elsewhere = claim["host"] != socket.gethostname() and run.part(claim, "exit") is None and not by_slurm(claim)
    if not force:
        where = f" on {claim['host']}" if elsewhere else ""
        raise Refused(
            "conflict",
            f"{run.id} was submitted before{where}, for: {different(claim['request'], request)}\nChoose another --run-id, or --force to put it aside.",
        )
    back_up(os.path.join(run.state, "claim.json"))
    return None, False


def goes_on(run: Run, claim: dict[str, Any]) -> bool:
    """Whether something of it waits or lives."""
    if by_slurm(claim):
        return not settled(run, claim) and active(job_of(claim))
    return bool(family(claim["nonce"], run.part(claim, "runner"), set()))


def different(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What an earlier request asked for that this one does not."""
    for name in ("command", "directory", "environment", "secrets", "slurm"):
        if before.get(name) != now.get(name):
            shown = shlex.join(before[name]) if name == "command" else before.get(name, "no job of Slurm")
            return f"{name} {shown}"
    return shlex.join(before["command"])


def new_claim(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    """Make the claim, in one step. Raises Refused."""
    nonce = os.urandom(8).hex()
    claim = {
        "nonce": nonce,
        "digest": digest_of(request),
        "request": request,
        "launcher": identity(os.getpid()),
        "host": socket.gethostname(),
        "at": time.time(),
    }
    os.makedirs(run.place(claim), mode=0o700)
    write_text(run.place(claim, "agent.py"), SOURCE)
    if not write_json(os.path.join(run.state, "claim.json"), claim, once=True):
        raise Refused("conflict", f"{run.id}: somebody else has submitted it at this moment")
    return claim


def start(run: Run, claim: dict[str, Any], message: dict[str, Any]) -> list[str]:
    """Start the runner and wait until it says who it is. Returns what to know. Raises Refused."""
    environment = environment_of(run, claim, message["secrets"])
    argv = [sys.executable or "python3", "-I", "-S", "-X", "utf8", run.place(claim, "agent.py"), "run"]  # no word ends with ;, which is tmux's
    tmux = shutil.which("tmux") if message["tmux"] else None
    notes = [] if tmux or not message["tmux"] else ["tmux is not there: the run has a session of its own, but no terminal to attach to"]
    said = ""
    if tmux:
        server = tmux_of(run, claim)
        # A server of its own: a second session of one server has the environment of the first.
        words = [tmux, "-L", server, "-f", "/dev/null", "new-session", "-d", "-s", "run", "-x", "200", "-y", "50", *argv]
        done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=START_S)
        said = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode != 0 and "duplicate session" not in said:  # that of a submit that was cut off: its runner comes
            raise Refused("fault", f"{run.id}: tmux cannot start it: {said}\nTry again with --no-tmux.")
    else:
        with open(run.place(claim, "runner.err"), "ab") as errors:
            subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
    step("spawned")
    until_begun(run, claim, said)
    if ends_at_logout("/"):
        notes.append("this account's processes end when it logs out: `loginctl enable-linger` on the host changes that")
    return notes


def until_begun(run: Run, claim: dict[str, Any], said: str = "") -> None:
    """Wait until the command has been started, or its runner is gone. Raises Refused, with what was said, where there is no runner."""
    limit = time.monotonic() + START_S
    while run.part(claim, "started") is None and run.part(claim, "exit") is None:
        runner = run.part(claim, "runner")
        if time.monotonic() > limit or (runner is not None and not lives(runner)):
            if runner is not None:
                break
            with contextlib.suppress(OSError), open(run.place(claim, "runner.err"), encoding="utf-8", errors="replace") as errors:
                said += errors.read()[-2000:]
            raise Refused("fault", f"{run.id}: its runner has not begun within {START_S:g} s. {said}".strip())
        time.sleep(POLL_S)


def ends_at_logout(root: str) -> bool:
    """Whether systemd ends what this account leaves: we are in one of its sessions, it is told to, and lingering is off."""
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as file:
            in_session = re.search(r"/session-[^/]*\.scope|/user@\d+\.service", file.read()) is not None
    except OSError:
        return False
    name = os.environ.get("USER") or os.environ.get("LOGNAME") or ""
    return in_session and name != "root" and not os.path.exists(os.path.join(root, "var/lib/systemd/linger", name))


def facts(run: Run, claim: dict[str, Any], table: dict[int, tuple[Process, str | None]], job: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is known of a run. Who lives, and what Slurm says of its job, is looked at first: a runner writes how it ended before it does."""
    runner = run.part(claim, "runner")
    runner_now, launcher_now = started_of(runner), started_of(claim["launcher"])
    parts = {name: run.part(claim, name) for name in ("started", "stop", "exit")}
    around = [who["pid"] for who in (runner, (runner or {}).get("around")) if who]
    marked = [process for pid, (process, mark) in table.items() if mark == claim["nonce"] and pid not in around]
    own = [process for process in marked if started_of({"pid": process.pid}) == process.started]  # once more: they may have ended with the run
    tmux = tmux_of(run, claim) if runner and runner.get("tmux") else None
    about = {
        "run_id": run.id,
        "directory": run.directory,
        "nonce": claim["nonce"],
        "request": claim["request"],
        "host": claim["host"],
        "at": claim["at"],
        "tmux": tmux,
    }
    if by_slurm(claim):
        about.update(job=seen_job(run, claim, job), submitted=run.part(claim, "job"), attempt=run.attempt(claim))
    return {**about, "launcher": claim["launcher"], "launcher_now": launcher_now, "runner": runner, "runner_now": runner_now, "processes": len(own), **parts}


def status(message: dict[str, Any]) -> dict[str, Any]:
    """Facts of the runs that are named, or of all, with the ends of their logs, and how far they are; with `gpus`, what those that live may hold of them."""
    root, wanted = message["root"], message["run_ids"]
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        names = []
    claims: list[tuple[Run, dict[str, Any]]] = []
    found: list[dict[str, Any]] = []
    skipped: list[str] = []
    look: GpuLook | None = None
    for name in names if wanted is None else wanted:
        with passing_over(skipped, name, everything=wanted is None):
            run = Run(root, name) if RUN_ID.fullmatch(name) else None
            claim = run.claim() if run else None
            if run is not None and claim is not None:
                claims.append((run, claim))
                if look is None and message.get("gpus") and lives(run.part(claim, "runner")):
                    look = GpuLook(ASKED_S)
    table = marks()
    jobs = jobs_of([claim for run, claim in claims if by_slurm(claim) and not settled(run, claim)])
    for run, claim in claims:
        with passing_over(skipped, run.id, everything=wanted is None):
            more = {"pids": [process.pid for process in family_in(table, claim["nonce"], run.part(claim, "runner"), set())], "progress": progress_of(run)}
            found.append({**facts(run, claim, table, jobs.get(claim["nonce"])), **read_ends(run, claim, message["tail_lines"]), **more})
    if look is None and message.get("gpus") and any(run["pids"] for run in found):
        look = GpuLook(ASKED_S)  # of a run whose runner is lost
    missing = sorted(set(wanted or ()) - {run["run_id"] for run in found})
    known = [name for name in names if os.path.isdir(os.path.join(root, name, STATE))]
    return {"runs": found, "missing": missing, "skipped": skipped, "known": known, "gpus": look.answer() if look else UNASKED}


@contextlib.contextmanager
def passing_over(skipped: list[str], name: str, *, everything: bool) -> Iterator[None]:
    """Where all are asked for, a run that cannot be read, somebody else's for one, does not hide the others."""
    try:
        yield
    except (OSError, Refused) as error:
        if not everything:
            raise
        skipped.append(f"{name}: {error}")


def servers(message: dict[str, Any]) -> dict[str, Any]:
    """The runs that are servers, those that are named or all, with what they answer; who listens at an address; what an address answers; GPU memory."""
    root, found = message["root"], []
    for name in server_runs(root, message["run_ids"]):
        run = Run(root, name)
        claim = run.claim()
        if claim is not None:
            seen = awaited(run, claim, message["wait_s"])
            found.append({**facts(run, claim, marks()), **read_ends(run, claim, message["tail_lines"]), "server": seen})
    url, port = message["url"], message["port_of"]
    return {
        "servers": found,
        "url": answers(url, message["key"]) if url else None,
        "listener": look_at_port(port) if port else None,
        "gpus": GpuLook().answer() if message["gpus"] else UNASKED,
    }


def read_ends(run: Run, claim: dict[str, Any], lines: int) -> dict[str, Any]:
    """The last lines of the log, what the command printed as RESULT_, and its summary.json."""
    at = tail_offset(run.log, lines)
    results = read_bytes(run.place(claim, "results.txt", run.attempt(claim)), 0, RESULTS)
    summary = read_bytes(os.path.join(run.directory, "summary.json"), 0, TAIL)
    texts = {"tail": read_bytes(run.log, at, TAIL) if lines else b"", "results": results, "summary": summary}
    return {**{name: base64.b64encode(data).decode() for name, data in texts.items()}, "log_bytes": size_of(run.log)}


def tail(message: dict[str, Any]) -> dict[str, Any]:
    """The log from an offset on; waits for more while the run lives, as long as it is told. Raises Refused."""
    run, claim = named(message)
    offset = message["offset"] if message["nonce"] == claim["nonce"] else None
    at = tail_offset(run.log, message["tail_lines"]) if offset is None else offset
    limit = time.monotonic() + message["wait_s"]
    job = job_of(claim) if by_slurm(claim) and not settled(run, claim) else None  # once for a request: its controller is everybody's
    while True:
        # Before the look at the log: what is read then is all.
        ended = settled(run, claim) or not active(job) if by_slurm(claim) else run.part(claim, "exit") is not None or not lives(run.part(claim, "runner"))
        data = read_bytes(run.log, at, CHUNK)
        if data or ended or time.monotonic() > limit:
            break
        time.sleep(POLL_S)
    more = {"data": base64.b64encode(data).decode(), "offset": at + len(data), "ended": ended, "nonce": claim["nonce"]}
    return {**more, "run": facts(run, claim, marks(), job)}


def stop(message: dict[str, Any]) -> dict[str, Any]:
    """End a run: every process of it, and no other; then see that its GPU memory is given back. Raises Refused."""
    run, claim = named(message)
    with run.locked():
        runner = run.part(claim, "runner")
        before = run.part(claim, "exit")
        if before is None or (by_slurm(claim) and not settled(run, claim)):
            write_json(run.place(claim, "stop.json"), {"at": time.time(), "grace_s": message["grace_s"]}, once=True)
        pids = {process.pid for process in family(claim["nonce"], runner, set())}
        before_gpus = GpuLook(ASKED_S).answer() if pids else UNASKED
        job = end_job(run, claim, message["grace_s"], SETTLE_S + 40) if by_slurm(claim) and not settled(run, claim) else None
        spare = run.spare(claim)
        asked, killed, _ = end(lambda: family(claim["nonce"], runner or run.part(claim, "runner"), spare | run.spare(claim)), message["grace_s"], time.sleep)
        limit = time.monotonic() + SETTLE_S
        while run.spare(claim) and time.monotonic() < limit:
            time.sleep(POLL_S)  # the runner writes how it ended, and then its tmux server has nothing left to do
        more, _, left = end(lambda: family(claim["nonce"], runner, set()), LEFTOVERS_S, time.sleep)
        if run.part(claim, "exit") is None:
            path = run.place(claim, "exit.json", run.attempt(claim))
            write_json(path, {"code": None, "signal": None, "cause": "stop", "at": time.time()}, once=True)
            write_log(run, claim)
        forget_secrets(run, claim)
        counts = (run.part(claim, "exit") or {}) if job else {}  # what the runner counted on its node
        asked, killed, left = asked + more + counts.get("asked", 0), killed + counts.get("killed", 0), left + counts.get("left", [])
        ended = {"ended_before": before is not None, "asked": asked, "killed": killed, "left": left, "job": job, "run": facts(run, claim, marks())}
    return {**ended, "pids": sorted(pids), "gpus": before_gpus, "given_back": given_back(before_gpus, pids, FREE_S)}


def tmux_of(run: Run, claim: dict[str, Any]) -> str:
    """The name of a run's tmux server."""
    return f"gpueval-{run.id[:32]}-{claim['nonce'][:8]}"


VERBS = {"launch": launch, "status": status, "servers": servers, "tail": tail, "stop": stop, "manifest": manifest, "archive": archive}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Do what a request says. What goes wrong is an answer, too."""
    about = {"boot": boot(), "hostname": socket.gethostname()}
    try:
        message["root"] = os.path.abspath(os.path.expanduser(message["root"]))
        return {**about, **VERBS[message["do"]](message), "now": time.time()}
    except Refused as refused:
        return {**about, "error": {"kind": refused.kind, "text": str(refused)}}
    except OSError as error:
        return {**about, "error": {"kind": "storage", "text": str(error)}}
    except subprocess.SubprocessError as error:
        return {**about, "error": {"kind": "fault", "text": str(error)}}


def main(source: str, request: bytes) -> None:
    """One request, one answer."""
    global SOURCE  # noqa: PLW0603 - set once
    SOURCE = source
    print(json.dumps(answer(json.loads(request))))  # noqa: T201 - the answer


if __name__ == "__main__" and sys.argv[1:2] == ["run"]:
    stand(os.path.abspath(__file__))
