"""Runs of a cluster: what an agent does on other hosts, its API server does here."""

from __future__ import annotations

import json
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from pytest_gpueval.errors import AccessDenied, Conflict, GpuevalError, Unreachable, UsageProblem, valid_values
from pytest_gpueval.hosts.detached.client import Agent, DetachedRun, Look, Piece, Stopped, Submitted
from pytest_gpueval.hosts.detached.states import Outcome, State
from pytest_gpueval.hosts.detached.submission import Submission
from pytest_gpueval.hosts.detached.text import harmless
from pytest_gpueval.hosts.kubectl import Absent, Cluster, Exists
from pytest_gpueval.runs.redact import Redactor
from pytest_gpueval.sweeps.output import results

from . import reader, states
from .manifest import COMMAND, DIRECTORY, MANAGER, OURS, REQUEST, RUN, RUN_ID, Settings, job_name, manifest, run_directory, secret
from .records import End, Records, ended, knows

Document = Mapping[str, Any]
# What stop takes beyond a pod's own grace: the kubelet, and the garbage collector.
_STOP_S: Final = 120.0
_GRACE_S: Final = 30.0
_CHUNK_S: Final = 1.0
# Records that one look at all runs changes: each is a request.
_MOST_NOTED = 20


class Jobs:
    """The runs of one namespace, as Indexed Jobs. Its methods are an agent's, and raise what those raise."""

    def __init__(self, cluster: Cluster, settings: Settings, root: str | None, *, index: int | None = None) -> None:
        """`root` is the directory of runs in pods; `index` says whose log is meant."""
        self.cluster, self.settings, self.root, self._index = cluster, settings, root, index
        self._records = Records(cluster)

    def manifest(self, what: Submission) -> dict[str, Any]:
        """The Job that a submit would create. Raises UsageProblem."""
        return manifest(self.cluster, what, self.settings, self.root)

    def submit(self, what: Submission, secrets: Mapping[str, str], *, force: bool = False, tmux: bool = True) -> Submitted:  # noqa: ARG002 - pods have no terminal
        """Create a run's Job, once: to submit the same again gives the same run. Raises Conflict, UsageProblem."""
        document = self.manifest(what)
        job = self._there(document, force=force)
        again = job is not None
        if job is None:
            gone = None if force else self._vanished(document)
            job = None if gone is None else self._there(document, force=force)  # of a submit at the same moment
            if gone is not None and job is None:
                return Submitted(gone, again=True, notes=self._records.notes)
            again = job is not None
        if job is None:
            self._records.begin(document)
            job, again = self._made(document, force=force)
        self._records.settle(job)
        if what.secrets:
            self._with_secrets(job, {name: secrets[name] for name in what.secrets})
        lasts = reader.lasting(document, self.settings, self.root)
        notes = () if lasts else ("what it writes ends with its pods: no volume_claim in hosts.toml",)
        return Submitted(self._run(job, self._pods(job), ""), again, (*notes, *self._records.notes))

    def _vanished(self, document: Document) -> DetachedRun | None:
        """The run of this id whose Job had been created and is there no more, if it was of the same request. Raises Conflict."""
        record = self._records.of(document["metadata"]["name"])
        if record is None or not ended(record).outcome.state.ended:
            return None
        notes = record["metadata"]["annotations"]
        if notes.get(REQUEST) == document["metadata"]["annotations"][REQUEST]:
            return self._ended(record)
        run_id = notes.get(RUN_ID)
        raise Conflict(f"{self.cluster.name}: {run_id} was submitted before, for something else: {notes.get(COMMAND, '')}\n--force runs it again.")

    def _made(self, document: Document, *, force: bool) -> tuple[Document, bool]:
        """The Job, and whether somebody else was faster."""
        try:
            return self._created(document), False
        except Exists:
            job = self._there(document, force=force)
            return (self._created(document), False) if job is None else (job, True)

    def _created(self, document: Document) -> Document:
        run_id = document["metadata"]["annotations"][RUN_ID]
        try:
            return self.cluster.create("jobs", document)
        except (Exists, AccessDenied, UsageProblem):
            raise
        except GpuevalError as error:
            kind = Unreachable if isinstance(error, Unreachable) else GpuevalError
            raise kind(f"{error}\n{run_id}: nobody knows whether its Job was created. Submit it again with --run-id {run_id}: it starts once.") from None

    def _there(self, document: Document, *, force: bool) -> Document | None:
        """The Job that has the name already, if it is of the same request; None where it has made room. Raises Conflict."""
        about = document["metadata"]
        run_id = about["annotations"][RUN_ID]
        try:
            job = self.cluster.get("jobs", about["name"])
        except Absent:
            return None
        notes = job["metadata"].get("annotations", {})
        if notes.get(RUN_ID) != run_id:
            raise Conflict(f"{self.cluster.name}: there is a Job {about['name']} in {self.cluster.namespace} that is not ours; choose another --run-id")
        if job["metadata"].get("deletionTimestamp"):
            raise Conflict(f"{self.cluster.name}: {run_id} is being stopped; once `gpueval runs status` says that it has ended, --force runs it again")
        ended = states.judge(job, self._pods(job)).state.ended
        if force and ended:
            self._delete(job)
            return None
        if notes.get(REQUEST) == about["annotations"][REQUEST]:
            return job
        before = f"{self.cluster.name}: {run_id} was submitted before, for something else: {notes.get(COMMAND, '')}"
        raise Conflict(
            f"{before}\n--force runs it again." if ended else f"{before}\nStop it first: gpueval runs stop --run-id {run_id}, or choose another --run-id."
        )

    def _with_secrets(self, job: Document, values: Mapping[str, str]) -> None:
        try:
            self.cluster.create("secrets", secret(job, values))
        except Exists:
            return
        except GpuevalError as error:
            run_id = job["metadata"]["annotations"][RUN_ID]
            raise type(error)(f"{error}\n{run_id}: its Job waits for its secret. Submit it again with --run-id {run_id}.") from None

    def look(self, run_ids: Sequence[str] | None = None, *, tail_lines: int = 0, gpus: bool = False) -> Look:  # noqa: ARG002 - nobody can look into pods
        """The runs of these ids, or all. Raises UsageProblem for one that is not there."""
        if run_ids is not None:
            return Look([self._found(run_id, tail_lines) for run_id in run_ids], ())
        jobs = self._ours()
        pods: dict[str, list[Document]] = {}
        for pod in self._all("pods"):
            pods.setdefault(pod["metadata"]["labels"].get(RUN, ""), []).append(pod)
        records = {record["metadata"]["name"]: record for record in self._records.every()}
        if not records.keys() <= {job["metadata"]["name"] for job in jobs}:
            jobs = self._ours()  # one that was submitted meanwhile has not vanished
        runs = [self._run(job, pods.get(job["metadata"]["name"], []), "") for job in jobs]
        self._note(zip(jobs, runs, strict=True), records)
        gone = [record for name, record in records.items() if name not in {job["metadata"]["name"] for job in jobs}]
        return Look([*runs, *(self._ended(record, pods.get(record["metadata"]["name"], [])) for record in gone)], self._records.notes)

    def _note(self, seen: Iterable[tuple[Document, DetachedRun]], records: Mapping[str, Document]) -> None:
        """Write down what is news of these runs; of many a part, whoever looks next the rest."""
        news = [(job, run) for job, run in seen if not knows(records.get(job["metadata"]["name"]), job, _end_of(run))]
        for job, run in news[:_MOST_NOTED]:
            self._records.settle(job, _end_of(run))

    def status(self, run_ids: Sequence[str] | None = None, *, tail_lines: int = 0) -> list[DetachedRun]:
        """The same, as a list."""
        return self.look(run_ids, tail_lines=tail_lines).runs

    def logs(self, run_id: str, *, after: Piece | None = None, tail_lines: int = 50, wait_s: float = 0.0) -> Piece:
        """A piece of a pod's log: its last lines, or what follows another piece, which is waited for. Raises UsageProblem."""
        job = self._job(run_id)
        if job is None:
            return Piece(b"", 0, "", ended=True, run=self._found(run_id, 0))
        pods = self._pods(job)
        pod, run = self._chosen(job, pods), self._run(job, pods, "")
        if pod is None:
            return self._later(job, Piece(b"", 0, "", ended=run.state.ended, run=run), wait_s)
        name, known = pod["metadata"]["name"], states.phase(pod) in {"Succeeded", "Failed"}
        over = known and run.state.ended
        offset = after.offset if after is not None and after.nonce == name else None
        whole = self._log(job, pod)
        if offset is None and after is None:
            lines = whole.splitlines(keepends=True)
            return Piece(b"".join(lines[-tail_lines:] if tail_lines else []), len(whole), name, over, run)
        piece = Piece(whole[offset or 0 :], len(whole), name, over, run)
        return piece if piece.data or over else self._later(job, piece, wait_s)

    def _later(self, job: Document, piece: Piece, wait_s: float) -> Piece:
        """Wait for an event of the Job, or a moment: logs have no events."""
        if wait_s and not piece.ended:
            self.cluster.event("jobs", job, timeout_s=min(wait_s, _CHUNK_S))
        return piece

    def reader(self, run_id: str) -> dict[str, Any]:
        """The Job whose pod would read the files of a run of the usual directory; nobody is asked. Raises UsageProblem where nothing is kept."""
        return reader.document(self.cluster, run_id, self.settings, self.root, mark=reader.mark())

    @contextmanager
    def files(self, run_id: str, *, ended: bool, tell: Callable[[str], None]) -> Iterator[Agent]:
        """An agent beside the files of a run, in a pod of its own, which goes at the end. With `ended` Conflict where the run has not.

        Raises UsageProblem where nothing is kept, or no such run is known, Unreachable, AccessDenied.
        """
        run = self._found(run_id, 0)
        root = posixpath.dirname(run.directory) or self.root
        job = reader.document(self.cluster, run_id, self.settings, root, mark=reader.mark())
        if ended and not run.state.ended:
            raise Conflict(f"{self.cluster.name}: {run_id} is {run.state}; what it writes is archived once it has ended")
        with reader.opened(self.cluster, job, tell=tell) as host:
            yield Agent(host, posixpath.dirname(run_directory(run_id, self.settings, root)), foreign=True)

    def stop(self, run_id: str, *, grace_s: float = _GRACE_S) -> Stopped:
        """Delete a run's Job, its pods first, and wait until they are gone. One that has ended stays as it is. Raises UsageProblem, GpuevalError."""
        job = self._job(run_id)
        if job is None:
            before = self._found(run_id, 0).state.ended
            if not before:
                self._records.stop(job_name(run_id))
            return Stopped(self._found(run_id, 0), ended_before=before, asked=0, killed=0)
        run = self._run(job, self._pods(job), "")
        if run.state.ended:
            self._records.settle(job, _end_of(run))
            return Stopped(run, ended_before=True, asked=0, killed=0)
        self._records.settle(job)
        self._records.stop(job["metadata"]["name"])
        self._delete(job, grace_s)
        stopped = Outcome(State.CANCELLED, "a stop was asked for; its Job is deleted")
        return Stopped(self._told(job, stopped, "", 0), ended_before=False, asked=run.processes, killed=0)

    def _delete(self, job: Document, grace_s: float = _GRACE_S) -> None:
        about = job["metadata"]
        try:
            self.cluster.delete("jobs", about["name"], uid=about["uid"])
        except Absent:
            return
        except Exists:
            raise Conflict(f"{self.cluster.name}: {about['name']} is another Job by now; look again: gpueval runs status") from None
        if not self.cluster.gone("jobs", about["name"], uid=about["uid"], timeout_s=_STOP_S + grace_s):
            raise GpuevalError(f"{self.cluster.name}: {about['name']} is being deleted, and still there after {_STOP_S + grace_s:g} s: see `kubectl get pods`")

    def _job(self, run_id: str) -> Document | None:
        """The Job of a run; None where its record, or pods of it, are left alone. Raises UsageProblem."""
        name = job_name(run_id)
        try:
            return self.cluster.get("jobs", name)
        except Absent:
            if self._records.of(name) is not None or self._pods_of(name):
                return self._late(name)
        known = {document["metadata"].get("annotations", {}).get(RUN_ID) for document in (*self._all("jobs"), *self._records.every())}
        near = valid_values(run_id, known - {None}, what="run ids")
        raise UsageProblem(f"{self.cluster.name}: there is no run {run_id!r} in {self.cluster.namespace}. {near}")

    def _late(self, name: str) -> Document | None:
        """A Job that was created between two looks: its record alone does not say that it has vanished."""
        try:
            return self.cluster.get("jobs", name)
        except Absent:
            return None

    def _found(self, run_id: str, tail_lines: int) -> DetachedRun:
        job = self._job(run_id)
        if job is None:
            about = {"metadata": {"name": job_name(run_id), "annotations": {RUN_ID: run_id}}, "data": {}}
            record, pods = self._records.of(job_name(run_id)), self._pods_of(job_name(run_id))
            return self._ended(record or about, pods)
        pods = self._pods(job)
        pod = self._chosen(job, pods) if tail_lines else None
        text = "" if pod is None else harmless(b"".join(self._log(job, pod).splitlines(keepends=True)[-tail_lines:]))
        run = self._run(job, pods, text)
        self._records.settle(job, _end_of(run))
        return run

    def _ended(self, record: Document, pods: Sequence[Document] = ()) -> DetachedRun:
        """A run of which its record, or pods, are left."""
        end, living = ended(record), sum(states.phase(pod) in {"Pending", "Running"} for pod in pods)
        outcome = end.outcome
        if pods and not outcome.state.ended:  # its record was not written to the end
            outcome = Outcome(State.LOST, "its Job has vanished")
        reason = f"{outcome.reason}, and pods of it are left" if pods else outcome.reason
        run = self._told(record, Outcome(outcome.state, harmless(reason)), "", living, end.exit_code)
        return replace(run, seconds=end.seconds)

    def _pods(self, job: Document) -> list[Document]:
        return self._pods_of(job["metadata"]["name"])

    def _pods_of(self, name: str) -> list[Document]:
        found: list[Document] = self.cluster.get("pods", labelSelector=f"{RUN}={name}")["items"]
        return found

    def _ours(self) -> list[Document]:
        return [job for job in self._all("jobs") if RUN_ID in job["metadata"].get("annotations", {})]

    def _all(self, kind: str) -> list[Document]:
        found: list[Document] = self.cluster.get(kind, labelSelector=f"{MANAGER}={OURS[MANAGER]}")["items"]
        return found

    def _chosen(self, job: Document, pods: Sequence[Document]) -> Document | None:
        """Whose log is shown: that of the index that was named, else of the first that failed, else of the first. Raises UsageProblem."""
        last = states.latest(pods)
        if self._index is not None:
            if not 0 <= self._index < job["spec"]["completions"]:
                raise UsageProblem(f"--index {self._index}: the indexes of this run are 0 to {job['spec']['completions'] - 1}")
            return last.get(self._index)
        failed = [index for index in sorted(last) if states.phase(last[index]) == "Failed"]
        return last[min(failed or last)] if last else None

    def _log(self, job: Document, pod: Document) -> bytes:
        """The whole lines of a pod's log, without the secrets that we know; nothing where it has not begun or has gone."""
        name = pod["spec"]["containers"][0]["name"] if len(pod["spec"]["containers"]) == 1 else "gpueval"
        try:
            data = self.cluster.read("pods/log", pod["metadata"]["name"], container=name)
        except UsageProblem:
            return b""
        if states.phase(pod) not in {"Succeeded", "Failed"}:
            data = data[: data.rfind(b"\n") + 1]  # half a secret could not be told
        text = data.decode("utf-8", "surrogateescape")
        return _redactor(job, os.environ).text(text).encode("utf-8", "surrogateescape")

    def _run(self, job: Document, pods: Sequence[Document], tail: str) -> DetachedRun:
        outcome = states.judge(job, pods)
        codes = [states.exit_code(pod) for pod in states.latest(pods).values()]
        code = 0 if outcome.state is State.PASSED else next((code for code in codes if code), None) if outcome.state is State.FAILED else None
        return self._told(job, Outcome(outcome.state, harmless(outcome.reason)), tail, job.get("status", {}).get("active") or 0, code)

    def _told(self, job: Document, outcome: Outcome, tail: str, living: int, code: int | None = None) -> DetachedRun:
        notes = job["metadata"].get("annotations", {})
        begun, over = states.times(job)
        made = states.seconds(job["metadata"].get("creationTimestamp"))
        return DetachedRun(
            run_id=notes.get(RUN_ID, job["metadata"]["name"]),
            outcome=outcome,
            command=tuple(json.loads(notes.get(COMMAND, "[]"))),
            directory=notes.get(DIRECTORY, ""),
            submitted_at=made or 0.0,
            seconds=None if begun is None else max(0.0, (over or time.time()) - begun),
            exit_code=code,
            signal=None,
            tmux=None,
            processes=living,
            tail=tail,
            results=results(tail),
            progress=states.progress(job, tail),
            parts="pods",
        )


def _end_of(run: DetachedRun) -> End | None:
    return End(run.outcome, run.seconds, run.exit_code) if run.state.ended else None


def _redactor(job: Document, own: Mapping[str, str]) -> Redactor:
    """Knows the values, as far as our own environment has them, of the secrets that a Job was given."""
    containers = job["spec"]["template"]["spec"]["containers"]
    names = {one["name"] for container in containers for one in container.get("env", []) if "secretKeyRef" in one.get("valueFrom", {})}
    return Redactor.of({**own, **{f"{name}_SECRET": own[name] for name in names if name in own}})
