"""Asks a host's agent: one request, one answer, each in one round trip of the host's `run`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_gpueval.errors import Conflict, GpuevalError, StorageError, Unreachable, UsageProblem, valid_values
from pytest_gpueval.hosts.host import Done, Host, Stdin
from pytest_gpueval.sweeps.output import results

from . import bundle
from .agent.gpus import UNASKED
from .gpus import Freed, Held, freed, memory
from .gpus import gpus as seen
from .jobs import Job, judge_job
from .progress import Progress, progress
from .serving import Servers, served
from .states import Facts, Outcome, State, judge
from .submission import Submission
from .text import harmless

_ERRORS: Final[Mapping[str, type[GpuevalError]]] = {
    "usage": UsageProblem,
    "conflict": Conflict,
    "storage": StorageError,
    "fault": GpuevalError,
    "unreachable": Unreachable,
}
_LAUNCH_S: Final = 120.0
_ASK_S: Final = 60.0
# Hashing, or copying, large files.
_HASH_S: Final = 3600.0
# What stop takes beyond its grace: killing, and waiting for the lock and the runner's last words.
_STOP_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class DetachedRun:
    """A run on a host, as its agent saw it. Times are seconds since the epoch by the host's own clock."""

    run_id: str
    outcome: Outcome
    command: tuple[str, ...]
    directory: str
    submitted_at: float
    # From its start to its end, or until now.
    seconds: float | None
    exit_code: int | None
    signal: int | None
    tmux: str | None
    processes: int
    log_bytes: int | None = None
    # Of Slurm: the job's id, the node that it runs or ran on, and which attempt it is.
    job: str | None = None
    node: str | None = None
    attempt: int = 1
    # Of output that a full disk did not take.
    lost_bytes: int = 0
    tail: str = ""
    results: Mapping[str, float] = field(default_factory=dict)
    summary: Mapping[str, Any] | None = None
    # What `processes` counts.
    parts: str = "processes"
    # What was asked for besides the command; of secrets their names.
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    secrets: tuple[str, ...] = ()
    # What its processes hold of the host's GPUs, while it lives; None where nobody asked, or nobody knows: `gpus_unknown` says why, if there is a nvidia-smi.
    gpus: tuple[Held, ...] | None = None
    gpus_unknown: str = ""
    progress: Progress | None = None

    @property
    def state(self) -> State:
        """Where it is."""
        return self.outcome.state


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submit; `again` where the run had been started before."""

    run: DetachedRun
    again: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of a stop: how many of the run's parts were asked and had to be killed."""

    run: DetachedRun
    ended_before: bool
    asked: int
    killed: int
    # Of which Slurm says that it is over.
    job: str | None = None
    memory: Freed = field(default_factory=Freed)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a log. `offset` is where the next one begins; `nonce` says of which submission."""

    data: bytes
    offset: int
    nonce: str
    ended: bool
    run: DetachedRun


@dataclass(frozen=True, slots=True)
class Look:
    """The runs that were asked for, and why others could not be looked at."""

    runs: list[DetachedRun]
    skipped: tuple[str, ...]


class Agent:
    """The agent of a host; `root` is the directory of runs there. Its methods raise Unreachable where nobody knows what became of a request.

    Where runs are `foreign`, somebody else started them and knows how they are: of them there are a `manifest`, and `archive`.
    """

    def __init__(self, host: Host, root: str, *, source: str | None = None, foreign: bool = False) -> None:
        self.host, self.root, self._foreign = host, root, foreign
        self._source = source or bundle.source()

    def submit(self, what: Submission, secrets: Mapping[str, str], *, force: bool = False, tmux: bool = True, lease: bool = False) -> Submitted:
        """Start a run, once: to submit the same again gives the same run. With `lease` the GPUs that CUDA_VISIBLE_DEVICES leaves it are its own.

        Raises Conflict, UsageProblem, StorageError.
        """
        message = {
            "do": "launch",
            "request": what.request(self.host.name),
            "secrets": {name: secrets[name] for name in what.secrets},
            "force": force,
            "tmux": tmux,
            "lease": lease,
        }
        answer = self._ask(message, _LAUNCH_S, what.unsure)
        return Submitted(parsed_run(answer, answer["run"]), answer["again"], tuple(harmless(note) for note in answer["notes"]))

    def status(self, run_ids: Sequence[str] | None = None, *, tail_lines: int = 0) -> list[DetachedRun]:
        """The runs of these ids, or all that can be read. Raises UsageProblem for one that is not there."""
        return self.look(run_ids, tail_lines=tail_lines).runs

    def look(self, run_ids: Sequence[str] | None = None, *, tail_lines: int = 0, gpus: bool = False) -> Look:
        """The same in one request, with what was passed over where all were asked for; with `gpus` nvidia-smi is asked, if a run lives. Raises UsageProblem."""
        wanted = list(run_ids) if run_ids is not None else None
        answer = self._ask({"do": "status", "run_ids": wanted, "tail_lines": tail_lines, "gpus": gpus}, _ASK_S)
        if answer["missing"]:
            raise self._unknown(answer["missing"][0], answer["known"])
        return Look([parsed_run(answer, run) for run in answer["runs"]], tuple(harmless(text) for text in answer["skipped"]))

    def servers(
        self,
        run_ids: Sequence[str] | None = None,
        *,
        port_of: str | None = None,
        url: str | None = None,
        key: str = "",
        wait_s: float = 0.0,
        tail_lines: int = 0,
        gpus: bool = True,
    ) -> Servers:
        """The runs that are servers, of these ids or all, and what they answer there; waits up to `wait_s` seconds until one that starts does.

        `port_of`: an address; who listens at its port is told. `url`: of any other server that is to be asked, with `key`.
        """
        asked = {"port_of": port_of, "url": url, "key": key, "wait_s": wait_s, "tail_lines": tail_lines, "gpus": gpus}
        answer = self._ask({"do": "servers", "run_ids": list(run_ids) if run_ids is not None else None, **asked}, _ASK_S + wait_s)
        there = seen(answer["gpus"])
        found = [served(parsed_run(answer, run), run["server"], there, answer["now"]) for run in answer["servers"]]
        listener = answer["listener"]
        return Servers(found, answer["url"], harmless(listener["words"]) if listener else None, there)

    def logs(self, run_id: str, *, after: Piece | None = None, tail_lines: int = 50, wait_s: float = 0.0) -> Piece:
        """A piece of stdout.log: its last lines, or what follows another piece, for which the agent waits up to `wait_s` seconds. Raises UsageProblem."""
        place = {"offset": after.offset, "nonce": after.nonce} if after else {"offset": None, "nonce": None}
        answer = self._ask({"do": "tail", "run_id": run_id, "tail_lines": tail_lines, "wait_s": wait_s, **place}, _ASK_S + wait_s)
        return Piece(base64.b64decode(answer["data"]), answer["offset"], answer["nonce"], answer["ended"], parsed_run(answer, answer["run"]))

    def manifest(self, run_id: str, *, known: Mapping[str, Sequence[Any]], most_files: int) -> dict[str, Any]:
        """The run's directory there, its files and what else is in it. Raises UsageProblem."""
        return self._ask({"do": "manifest", "run_id": run_id, "known": dict(known), "most_files": most_files}, _HASH_S)

    def archive(self, run_id: str, paths: Sequence[str], *, dry_run: bool = False) -> list[tuple[str, str]]:
        """Move files and directories of the host into a run that has ended; paths may be patterns. Returns pairs from, to. Raises Conflict, UsageProblem."""
        answer = self._ask({"do": "archive", "run_id": run_id, "paths": list(paths), "dry_run": dry_run}, _HASH_S, "what was moved stays moved; ask again")
        return [(source, target) for source, target in answer["moved"]]

    def stop(self, run_id: str, *, grace_s: float = 10.0) -> Stopped:
        """End a run's processes; see that none lives, and their GPU memory is given back. Raises UsageProblem; GpuevalError where one could not be ended."""
        answer = self._ask(
            {"do": "stop", "run_id": run_id, "grace_s": grace_s}, _STOP_S + grace_s, f"{run_id}: nobody knows whether it has ended; stop it again"
        )
        if answer["left"]:
            raise GpuevalError(f"{self.host.name}: {run_id}: these processes could not be ended: {', '.join(map(str, answer['left']))}")
        job = None if answer["job"] is None else harmless(str(answer["job"]))
        return Stopped(parsed_run(answer, answer["run"]), answer["ended_before"], answer["asked"], answer["killed"], job, freed(answer))

    def _ask(self, message: Mapping[str, Any], timeout_s: float, unsure: str = "try again") -> dict[str, Any]:
        request = json.dumps({"root": self.root, "foreign": self._foreign, **message}).encode()
        done = asked(self.host, "python3", bundle.LOADER, bundle.framed(self._source, request), timeout_s, unsure)
        answer = answered(self.host.name, done, unsure)
        if "error" in answer:
            if answer["error"]["kind"] == "missing":
                raise self._unknown(harmless(answer["error"]["text"]), ())
            raise refused(self.host.name, answer["error"])
        return answer

    def _unknown(self, run_id: str, known: Sequence[str]) -> UsageProblem:
        if self._foreign:
            return UsageProblem(f"{self.host.name}: {run_id} has left nothing: there is no directory {self.root}/{run_id}; its command writes to {{run_dir}}")
        near = valid_values(run_id, known, what="run ids") if known else "`gpueval runs status` lists those that are there."
        return UsageProblem(f"{self.host.name}: there is no run {run_id!r} in {self.root}. {near}")


def asked(host: Host, python: str, loader: str, stdin: Stdin, timeout_s: float, unsure: str, *, directory: str | None = None) -> Done:
    """Run the loader of an agent; `unsure` is what to do where nobody knows what became of the request. Raises Unreachable, AccessDenied, UsageProblem."""
    try:
        return host.run([python, "-I", "-S", "-X", "utf8", "-c", loader], stdin=stdin, timeout_s=timeout_s, directory=directory)
    except Unreachable as problem:
        raise Unreachable(f"{problem}\n{unsure}.") from None


def answered(name: str, done: Done, unsure: str, python: str = "python3") -> dict[str, Any]:
    """What an agent answered; `unsure` is what to do where nobody knows what became of the request. Raises Unreachable, UsageProblem, GpuevalError."""
    if done.code is None:
        raise Unreachable(f"{name}: {harmless(done.said).strip()}\n{unsure}.")
    answer = _parsed(done.output)
    if answer is None:
        said = harmless(done.said).strip()[-2000:]
        if done.code in (126, 127):
            raise UsageProblem(f"{name}: {python} is needed there, version 3.8 or newer, and cannot be run: {said}")
        raise GpuevalError(f"{name}: its agent ended with {done.code} and no answer: {said}\n{unsure}.")
    return answer


def refused(name: str, error: Mapping[str, str]) -> GpuevalError:
    """The error that an agent answered with."""
    return _ERRORS[error["kind"]](f"{name}: {harmless(error['text'])}")


def _parsed(output: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def parsed_run(answer: Mapping[str, Any], run: Mapping[str, Any]) -> DetachedRun:
    """A run as an agent's answer tells it."""
    held, unknown = memory(answer.get("gpus", UNASKED), run.get("pids", ()))
    facts, job = Facts.of(answer, run), Job.of(run)
    outcome = judge(facts) if job is None else judge_job(facts, job)
    how, begun = run["exit"] or {}, run["started"] or {}
    until = how.get("at") or (answer["now"] if not outcome.state.ended else None)
    summary = _parsed(base64.b64decode(run.get("summary", "")))
    return DetachedRun(
        run_id=run["run_id"],
        outcome=Outcome(outcome.state, harmless(outcome.reason)),
        command=tuple(run["request"]["command"]),
        directory=run["directory"],
        submitted_at=run["at"],
        seconds=until - begun["at"] if until and begun else None,
        exit_code=how.get("code"),
        signal=how.get("signal"),
        tmux=run["tmux"],
        processes=run["processes"],
        job=None if job is None or job.id is None else harmless(str(job.id)),
        node=None if job is None else harmless(str(job.node or (run["runner"] or {}).get("node") or "")) or None,
        attempt=1 if job is None else job.attempt,
        log_bytes=run.get("log_bytes"),
        lost_bytes=how.get("lost_bytes", 0),
        tail=harmless(base64.b64decode(run.get("tail", ""))),
        results=results(base64.b64decode(run.get("results", "")).decode("utf-8", "replace")),
        summary=summary,
        environment=run["request"]["environment"],
        workdir=run["request"]["directory"],
        secrets=tuple(run["request"]["secrets"]),
        gpus=held,
        gpus_unknown=unknown,
        progress=progress(run["progress"], answer["now"]) if "progress" in run else None,
    )
