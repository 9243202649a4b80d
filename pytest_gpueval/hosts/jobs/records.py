"""What outlives a Job: a ConfigMap of its name, written before it. A Job that has a time to live, or that somebody deletes, takes all it says with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pytest_gpueval.errors import AccessDenied, GpuevalError
from pytest_gpueval.hosts.detached.states import Outcome, State
from pytest_gpueval.hosts.kubectl import Absent, Cluster, Exists

from .manifest import COMMAND, DIRECTORY, MANAGER, OURS, REQUEST, RUN, RUN_ID

Document = Mapping[str, Any]
_KIND: Final = "configmaps"
# In `data`: the Job that was created, that a stop was asked for, and how the run ended, once somebody has seen that.
_JOB, _STOP, _END = "job", "stop", "end"
# How often somebody else may be faster.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended. `seconds` is how long it took."""

    outcome: Outcome
    seconds: float | None
    exit_code: int | None


def blank(job: Document) -> dict[str, Any]:
    """The record of a Job that is about to be created, or is there. Pure."""
    about = job["metadata"]
    notes = {key: about["annotations"][key] for key in (RUN_ID, COMMAND, DIRECTORY, REQUEST)}
    metadata = {"name": about["name"], "namespace": about["namespace"], "labels": {**OURS, RUN: about["name"]}, "annotations": notes}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}


def ended(record: Document) -> End:
    """The end, or the beginning, of a run whose Job is not there. Pure."""
    data = record.get("data") or {}
    if _END in data:
        with suppress(ValueError, KeyError, TypeError):  # somebody else has edited it
            told = json.loads(data[_END])
            seconds, code = told["seconds"], told["exit_code"]
            outcome = Outcome(State(told["state"]), str(told["reason"]))
            return End(outcome, None if seconds is None else float(seconds), None if code is None else int(code))
    if _STOP in data:
        return End(Outcome(State.CANCELLED, "a stop was asked for; its Job is deleted"), None, None)
    if _JOB in data:
        return End(Outcome(State.LOST, "its Job has vanished: deleted by somebody else, or by its time to live before anybody saw how it ended"), None, None)
    return End(Outcome(State.QUEUED, "its submit was cut off, and no Job of it is there; submit it again: it starts once"), None, None)


def told(record: Document, job: Document, end: End | None) -> dict[str, str]:
    """What a record should say of a Job that is there, and of its end: the first look at that knows most, since pods are collected. Pure."""
    before, uid = record.get("data") or {}, str(job["metadata"]["uid"])
    kept = (_STOP, _END) if before.get(_JOB) == uid else (_STOP,)
    data = {key: before[key] for key in kept if key in before} | {_JOB: uid}
    if end is not None and _END not in data:
        told = {"state": str(end.outcome.state), "reason": end.outcome.reason, "seconds": end.seconds, "exit_code": end.exit_code}
        data[_END] = json.dumps(told, ensure_ascii=False)
    return data


def knows(record: Document | None, job: Document, end: End | None) -> bool:
    """Whether a record says all that there is to say. Pure."""
    return record is not None and (record.get("data") or {}) == told(record, job, end)


class Records:
    """The records of a namespace. An account that may not have any is told so once, in `notes`; all else goes on without."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.notes: tuple[str, ...] = ()

    def of(self, name: str) -> Document | None:
        """The record of a Job's name. Raises what the cluster raises."""
        try:
            return self._cluster.get(_KIND, name)
        except Absent:
            return None
        except AccessDenied as error:
            self._refused(error)
            return None

    def every(self) -> Sequence[Document]:
        """All that are ours."""
        try:
            found: list[Document] = self._cluster.get(_KIND, labelSelector=f"{MANAGER}={OURS[MANAGER]}")["items"]
        except AccessDenied as error:
            self._refused(error)
            return []
        return [record for record in found if RUN_ID in record["metadata"].get("annotations", {})]

    def begin(self, job: Document) -> None:
        """Write down that this Job is about to be created; what was written of an earlier one of its name goes."""
        document = blank(job)
        try:
            self._cluster.create(_KIND, document)
        except Exists:
            self._changed(document["metadata"]["name"], lambda before: {**document, "metadata": {**before["metadata"], **document["metadata"]}})
        except AccessDenied as error:
            self._refused(error)

    def settle(self, job: Document, end: End | None = None) -> None:
        """Write down that this Job is there, and how it ended, where that is news. Who may only look changes nothing."""
        name = job["metadata"]["name"]
        if RUN_ID not in job["metadata"].get("annotations", {}):
            return  # it is not ours
        with suppress(AccessDenied, Exists):  # a record that another one makes at this moment says the same
            record = self.of(name)
            if record is None:
                self._cluster.create(_KIND, {**blank(job), "data": told({}, job, end)})
            elif not knows(record, job, end):
                self._changed(name, lambda before: {**blank(job), "metadata": {**before["metadata"], **blank(job)["metadata"]}, "data": told(before, job, end)})

    def stop(self, name: str) -> None:
        """Write down that a stop was asked for, before anything is deleted."""
        self._changed(name, lambda before: {**before, "data": {**(before.get("data") or {}), _STOP: "asked"}})

    def _changed(self, name: str, change: Callable[[Document], Document]) -> None:
        """Replace a record by what becomes of it; again where somebody else was faster. Raises Exists where that never ends."""
        for last in range(_TRIES):
            before = self.of(name)
            if before is None:
                return
            try:
                self._cluster.replace(_KIND, name, change(before))
                return
            except AccessDenied as error:
                self._refused(error)
                return
            except Absent:
                return
            except Exists:
                if last == _TRIES - 1:
                    raise

    def _refused(self, error: GpuevalError) -> None:
        self.notes = (f"a run whose Job vanishes will not be known any more: {str(error).splitlines()[0]}",)
