"""Stands around a run's command on its host."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from typing import Any

from .files import Run, back_up, read_bytes, write_json, write_text
from .leases import take_leases
from .processes import SETTLE_S, Process, Refused, children, end, family, identity, mark_of, prctl, step
from .progress import PROGRESS
from .slurm import by_slurm, forget_secrets, open_end, slurm_state, taken_secrets

KEPT = ("command.sh", "stdout.log", "log.md", PROGRESS, "summary.json", "results.jsonl")  # what another run in this directory left is moved aside
LEFTOVERS_S = 5.0  # between TERM and KILL for what a command leaves behind
GRACE_S = 10.0  # the same where a signal asked the runner to end
RESULTS = 1 << 18
LEAST_SECRET = 6
QUIET = 4  # looks that find only children of other runs, before we leave them alone
SECRET_NAME = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)$", re.IGNORECASE)
_BLOT = b"<redacted>"


def words_of(run: Run, request: dict[str, Any]) -> list[str]:
    """The command, with its run's directory and id in their places."""
    return [word.replace("{run_dir}", run.directory).replace("{run_id}", run.id) for word in request["command"]]


def shell_of(run: Run, request: dict[str, Any]) -> str:
    """command.sh: the command again, without values of secrets."""
    lines = ["#!/bin/sh", *(f"# needs {name} in its environment" for name in sorted(request["secrets"])), f"cd {shlex.quote(request['directory'])} || exit 1"]
    own = {"GPUEVAL_RUN_ID": run.id, "GPUEVAL_RUN_DIR": run.directory, **request["environment"]}
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(own.items())]
    return "\n".join([*lines, "exec " + " ".join(map(shlex.quote, words_of(run, request)))]) + "\n"


def commit_of(directory: str) -> str:
    """The commit of a directory, and whether it differs from it; empty where git knows none."""
    said = []
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            found = subprocess.run(["git", "-C", directory, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=5)  # noqa: S607
        except (OSError, subprocess.SubprocessError):
            return ""
        said.append(found.stdout.decode("utf-8", "replace").strip())
    head, changed = said
    return f"{head}{' with changes' if changed else ''}"


def utc(at: float) -> str:
    """`2026-01-31 12:00:00 UTC`, by the host's clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def outcome_of(how: dict[str, Any] | None) -> str:
    """How a run ended, in words."""
    if how is None:
        return "runs"
    told = {
        "stop": "cancelled: a stop was asked for",
        "hangup": "lost: its tmux server was ended",
        "error": f"failed: {how.get('error')}",
        "signal": "cancelled by a signal",
    }
    if how["cause"] in told:
        return told[how["cause"]]
    return f"ended by signal {how['signal']}" if how["signal"] else f"ended with exit code {how['code']}"


def write_log(run: Run, claim: dict[str, Any]) -> None:
    """log.md: what was run, with what, where things are, and what came of it."""
    request, begun, how = claim["request"], run.part(claim, "started") or {}, run.part(claim, "exit")
    results = read_bytes(run.place(claim, "results.txt", run.attempt(claim)), 0, RESULTS).decode("utf-8", "replace").rstrip()
    names = ", ".join(sorted(request["secrets"])) or "none"
    lines = [f"# {run.id}", "", "## Inputs", "", f"- directory: `{request['directory']}`"]
    lines += [f"- environment: `{name}={value}`" for name, value in sorted(request["environment"].items())]
    lines += [f"- secrets in its environment: {names}", "", "## Command", "", *(f"    {line}" for line in shlex.join(words_of(run, request)).splitlines()), ""]
    lines += ["## Versions", "", f"- commit: {begun.get('commit') or 'unknown'}", f"- host: {claim['host']}, {' '.join(os.uname()[:1] + os.uname()[2:3])}"]
    lines += [f"- Python of the runner: {sys.version.split()[0]}", "", "## Where", "", f"- log: `{run.log}`", f"- artifacts: `{run.directory}`"]
    flags = f"--host {shlex.quote(request['label'])} --remote-outputs-dir {shlex.quote(os.path.dirname(run.directory))} --run-id {run.id}"
    lines += [f"- {what}: `gpueval runs {verb} {flags}`" for what, verb in (("look at it", "status"), ("read it", "logs"), ("fetch it", "fetch"))]
    lines += ["", "## Outcome", "", f"- submitted: {utc(claim['at'])}", *([f"- ended: {utc(how['at'])}"] if how else []), f"- {outcome_of(how)}"]
    lines += ["", *(f"    {line}" for line in results.splitlines())] if results else []
    write_text(os.path.join(run.directory, "log.md"), "\n".join(lines) + "\n")


class Blotter:
    """Blots out secrets in a stream, also those that come in pieces."""

    def __init__(self, secrets: list[str]) -> None:
        forms: set[bytes] = set()
        for value in {line for secret in secrets for line in (secret, secret.strip(), *secret.splitlines()) if len(line) >= LEAST_SECRET}:
            raw = value.encode("utf-8", "surrogateescape")
            texts = (urllib.parse.quote(raw), urllib.parse.quote(raw, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1], shlex.quote(value).strip("'"))
            forms |= {raw, base64.b64encode(raw), *(text.encode("utf-8", "surrogateescape") for text in texts)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms))) if forms else None
        self._rest = b""

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What can be shown by now; an end that may be the beginning of a secret waits for what follows."""
        data = self._rest + data
        if self._pattern is None:
            return data
        cut = len(data) if last else min((self._begin(data, form) for form in self._forms), default=len(data))
        for match in self._pattern.finditer(data):
            if match.start() < cut < match.end():
                cut = match.start()
        self._rest = data[cut:]
        return self._pattern.sub(_BLOT, data[:cut])

    def _begin(self, data: bytes, form: bytes) -> int:
        """Where the end of the data may begin this form."""
        return next((at for at in range(max(0, len(data) - len(form) + 1), len(data)) if form.startswith(data[at:])), len(data))


class Runner:
    """Stands around the command: takes its output, ends what it leaves, and writes how it ended."""

    def __init__(self, run: Run, claim: dict[str, Any]) -> None:
        self.run, self.claim = run, claim
        self.attempt = 1 + int(os.environ.get("SLURM_RESTART_COUNT", "0")) if by_slurm(claim) else 1
        self.node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self.child = self.asked = self.lost_bytes = self.results = 0
        self.code: int | None = None
        self.error = ""
        self.leases: list[int] = []  # to our end; our command's processes hold them, too, which may outlive us
        self.by_itself = False
        self.line = b""
        self.output = self.log = -1
        names = {*claim["request"]["secrets"], *(name for name in os.environ if SECRET_NAME.search(name))}
        self.blotter = Blotter([os.environ[name] for name in names if name in os.environ])
        self.terminal = 1 if os.isatty(1) else -1
        self.socket = os.environ.pop("TMUX", "").rsplit(",", 2)[0]  # that is no tmux of the command's
        os.environ.pop("TMUX_PANE", None)
        self.wake, knock = os.pipe()
        for file in (self.wake, knock, *((1,) if self.terminal >= 0 else ())):
            os.set_blocking(file, False)
        signal.set_wakeup_fd(knock, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, self._note if self.terminal >= 0 else signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: Any) -> None:
        if number != signal.SIGCHLD:
            self.asked = self.asked or number

    def main(self) -> None:
        """Run the command to its end, unless another runner was first."""
        run, claim = self.run, self.claim
        around = identity(os.getppid()) if mark_of(os.getppid()) == claim["nonce"] else None  # tmux's server
        about = {"around": around, "tmux": self.terminal >= 0, "job": os.environ.get("SLURM_JOB_ID"), "node": self.node}
        os.makedirs(self.place(), mode=0o700, exist_ok=True)
        if not write_json(self.place("runner.json"), {**identity(os.getpid()), **about}, once=True):
            return
        step("runner")
        prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: whoever loses its parent becomes our child
        try:
            self._prepare()
            self.leases = take_leases(run, claim)
            if run.part(claim, "stop") is None:
                commit = commit_of(claim["request"]["directory"])  # before the command changes anything
                self._spawn()
                write_json(self.place("started.json"), {**identity(self.child), "at": time.time(), "commit": commit})
                write_log(run, claim)
                while self.code is None and not self.asked:
                    self.turn(None)
                self.by_itself = self.code is not None
        except (OSError, Refused) as error:
            self.error = " ".join(str(error).splitlines()).rstrip(".")  # a part of a sentence
        grace_s = (run.part(claim, "stop") or {}).get("grace_s", GRACE_S)
        asked, killed, left = end(self._others, grace_s if self.asked else LEFTOVERS_S, self.turn)
        left = left or self._strike()
        while self.output >= 0 and self._read():
            pass
        self._show(self.blotter.feed(b"", last=True))
        self._leave({"asked": asked, "killed": killed, "left": left})

    def place(self, name: str = "") -> str:
        """A file of this attempt."""
        return self.run.place(self.claim, name, self.attempt)

    def _prepare(self) -> None:
        """The files of a run. Room for the last words is taken now: the disk may be full by then."""
        run, claim = self.run, self.claim
        write_text(self.place("spare"), " " * 4096)
        for name in KEPT if self.attempt == 1 else ():
            back_up(os.path.join(run.directory, name))
        write_text(os.path.join(run.directory, "command.sh"), shell_of(run, claim["request"]), mode=0o755)
        self.log = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if self.attempt > 1:
            self._show(f"\ngpueval: attempt {self.attempt}, on {self.node}\n".encode())

    def _others(self) -> list[Process]:
        self._reap()
        return family(self.claim["nonce"], identity(os.getpid()), self.run.spare(self.claim))

    def _strike(self) -> list[int]:
        """Kill at sight whatever becomes our child, until the kernel says that we have none; gives those that outlive it.

        What forks and ends all the time is met by no look at all processes. But whoever it leaves is ours in that moment.
        """
        limit, quiet = time.monotonic() + SETTLE_S, 0
        living: list[int] = []
        while self._reap() and quiet < QUIET and time.monotonic() < limit:
            found = children()
            living = [pid for pid in found if mark_of(pid) in (None, self.claim["nonce"])]  # one that ends has no environment; other runs have theirs
            for pid in living:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)  # nobody else can have its pid before we collect it
            quiet = quiet + 1 if found and not living else 0
        return living

    def _spawn(self) -> None:
        """Fork the command. We have one thread: Python may run between fork and exec."""
        words, request = words_of(self.run, self.claim["request"]), self.claim["request"]
        self.output, write = os.pipe()
        os.set_blocking(self.output, False)
        sys.stdout.flush()
        self.child = os.fork()
        if self.child == 0:
            try:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                os.setsid()
                prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a run without its runner would be nobody's
                null = os.open(os.devnull, os.O_RDONLY)
                for here, there in ((null, 0), (write, 1), (write, 2)):
                    os.dup2(here, there)
                for lease in self.leases:
                    os.set_inheritable(lease, True)
                os.chdir(request["directory"])
                os.execvp(words[0], words)  # noqa: S606 - an argv list
            except OSError as error:
                os.write(2, f"gpueval: {words[0]}: {error.strerror}\n".encode("utf-8", "replace"))
            finally:
                os._exit(127)
        os.close(write)

    def turn(self, seconds: float | None) -> None:
        """Until the command says something, a signal comes, or the time is over; take what there is."""
        poller = select.poll()
        poller.register(self.wake, select.POLLIN)
        if self.output >= 0:
            poller.register(self.output, select.POLLIN)
        for file, _ in poller.poll(None if seconds is None else int(seconds * 1000) + 1):
            if file == self.wake:
                os.read(self.wake, 4096)
            else:
                self._read()
        self._reap()

    def _reap(self) -> bool:
        """Collect the dead. False once no child is left, alive or dead: the kernel's word."""
        while True:
            try:
                pid, how = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.child:
                self.code = -os.WTERMSIG(how) if os.WIFSIGNALED(how) else os.WEXITSTATUS(how)

    def _read(self) -> bool:
        """Take a piece of output; False where there is none right now, or no more."""
        try:
            data = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            os.close(self.output)
            self.output = -1
            return False
        self._show(self.blotter.feed(data))
        return True

    def _show(self, data: bytes) -> None:
        """Into the log, the terminal, and of results into a file of their own. A full disk loses output, not the run."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.log, view) :]
        except OSError:
            self.lost_bytes += len(view)
        if self.terminal >= 0:
            with contextlib.suppress(OSError):  # nobody waits for a terminal: what it does not take is in the log
                os.write(self.terminal, data)
        *lines, self.line = (self.line + data).split(b"\n")
        self.line = self.line[: 1 << 16]
        for line in lines:
            if line.startswith(b"RESULT_") and self.results + len(line) < RESULTS:
                self.results += len(line) + 1
                with contextlib.suppress(OSError), open(self.place("results.txt"), "ab") as file:
                    file.write(line + b"\n")

    def _leave(self, counts: dict[str, Any]) -> None:
        run, claim = self.run, self.claim
        if self.error:
            cause = "error"
        elif run.part(claim, "stop"):
            cause = "stop"
        elif self.by_itself:
            cause = "exit"
        else:
            cause = "hangup" if self.asked == signal.SIGHUP else "signal"
        code, number = (None, -self.code) if self.code is not None and self.code < 0 else (self.code, None)
        record = {"code": code, "signal": number, "cause": cause, "asked_by": self.asked, "error": self.error, "at": time.time(), "lost_bytes": self.lost_bytes}
        if by_slurm(claim):
            record["slurm"] = slurm_state() if open_end(record) else ""
            if not open_end(record):  # else it may be requeued
                forget_secrets(run, claim)
        spare = self.place("spare")
        with open(spare, "r+" if os.path.exists(spare) else "w", encoding="utf-8") as file:
            json.dump({**record, **counts}, file)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        os.replace(spare, self.place("exit.json"))
        with contextlib.suppress(OSError):  # a full disk
            write_log(run, claim)
        if self.socket and self.terminal >= 0:
            with contextlib.suppress(OSError):  # tmux leaves it
                os.unlink(self.socket)


def stand(place: str) -> None:
    """What the runner's process does; `place` is ROOT/RUN_ID/.gpueval/NONCE/agent.py."""
    directory, _, nonce, _ = place.rsplit(os.sep, 3)
    run = Run(*os.path.split(directory))
    claim = run.claim()
    if claim is None or claim["nonce"] != nonce:
        return
    if by_slurm(claim):
        os.environ.update(taken_secrets(run, claim), GPUEVAL_ATTEMPT=str(1 + int(os.environ.get("SLURM_RESTART_COUNT", "0"))))
    runner = Runner(run, claim)
    runner.main()
    if by_slurm(claim) and runner.code:
        sys.exit(runner.code if runner.code > 0 else 128 - runner.code)
