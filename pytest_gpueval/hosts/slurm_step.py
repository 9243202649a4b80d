"""Stands around one `srun` on a login node, and leaves no job behind.

    python -I -S slurm_step.py NAME -- srun --job-name=NAME ... COMMAND...

A script of its own, as the supervisor is: it goes to login nodes as a text, and imports the standard library alone. `srun` has our stdin and stdout:
nothing that the program reads or writes passes through here. What it says on stderr does, since srun adds how the task ended, from which we learn it.

The job is known by its name, which nobody else has, before anything asks for it: whatever is cut off when, that name is cancelled.

    our stdin hangs up   the program has GRACE_S to end by itself; then the job is cancelled, whether it waits or runs
    a signal to us       it is cancelled at once: Slurm asks the program with TERM
    we are killed        srun goes with us (PR_SET_PDEATHSIG), and a guard in a session of its own cancels the job
    srun is killed       the guard cancels the job

We exit as the program did: with its code, or by its signal; with 255 where nobody knows; as srun where there was no job.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time

USAGE = "usage: slurm_step.py NAME -- srun COMMAND..."
# The supervisor in the step takes STEP_GRACE_S and a little; whoever supervises us, 8 s at most.
STEP_GRACE_S = 5.0
GRACE_S = 6.5
UNKNOWN = 255
_POLL_S, _MOST_PAUSE_S = 0.1, 5.0
# Until whoever srun left behind with its stderr is not waited for.
_LAST_WORDS_S = 2.0
# For how long the end of our stdout waits for the job's; a controller that is away is asked longer than that.
_GONE_S, _AWAY_S, _ASK_S = 30.0, 1800.0, 60.0
_PR_SET_PDEATHSIG = 1
_STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_ERROR = b"srun: error: "
_ENDED = re.compile(rb"srun: error: [^\s:]+: task 0: (Exited with exit code \d+|[A-Z][^\n:]*)\n")
# After these srun may well exit with 0.
_CUT = re.compile(rb"slurmstepd-[^\s:]+: error: \*\*\* (?:STEP|JOB) [^\n]* CANCELLED|srun: error: Timed out waiting for job step|srun: Force Terminated job")
_DONE, _CANCEL = b"d", b"c"


class Said:
    """What srun says on stderr, without its last words on how the task ended; those are in `ended`. `cut`: Slurm ended the task."""

    def __init__(self) -> None:
        self.ended, self.cut = "", False
        self._rest = b""

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What can be passed on; an end that may become srun's words waits."""
        data = _ENDED.sub(self._note, self._rest + data)
        self.cut = self.cut or _CUT.search(data) is not None
        at = data.rfind(_ERROR)
        if at < 0 or b"\n" in data[at:]:
            at = next((at for at in range(max(0, len(data) - len(_ERROR) + 1), len(data)) if _ERROR.startswith(data[at:])), len(data))
        if last:
            at = len(data)
        self._rest = data[at:]
        return data[:at]

    def _note(self, found: re.Match[bytes]) -> bytes:
        self.ended = found[1].decode("utf-8", "replace")
        return b""


def own_environment(environment: dict[str, str]) -> dict[str, str]:
    """Inside a job of Slurm, its variables would make srun a step of that job, of that job's size."""
    if "SLURM_JOB_ID" not in environment:
        return environment
    return {name: value for name, value in environment.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}


def cancel(name: str) -> bool:
    """Cancel the jobs of this name. True once Slurm says that none waits or runs."""
    subprocess.run(["scancel", "--quiet", f"--name={name}"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_S, check=False)  # noqa: S603, S607
    left = subprocess.run(["squeue", "--noheader", f"--name={name}", "--format=%i"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_S, check=False)  # noqa: S603, S607
    return left.returncode == 0 and not left.stdout.strip()


def guard(name: str, orders: int) -> None:
    """Cancel the job once that is asked for, or nobody is left who could: all others who hold the other end of the pipe are gone."""
    order = os.read(orders, 1)
    if order == _DONE:
        return
    begin, again, pause_s = time.monotonic(), order == _CANCEL, _POLL_S
    while time.monotonic() - begin < _AWAY_S:
        if time.monotonic() - begin > _GONE_S:
            for number in (0, 1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
        try:
            gone = cancel(name)
        except (OSError, subprocess.SubprocessError):
            gone = False
        if gone and not again:
            return
        # srun may be about to ask for the job: looked at once more when it is gone. Slurm's controller is everybody's: asked less and less often.
        ready, _, _ = select.select([orders] if again else [], [], [], pause_s)
        pause_s = min(2 * pause_s, _MOST_PAUSE_S)
        if ready and not os.read(orders, 1):
            again = False


class Step:
    """srun, its guard, and what is known of them."""

    def __init__(self, name: str, words: list[str]) -> None:
        self.said, self.stops = Said(), 0
        self.wake, knock = os.pipe()
        for file in (self.wake, knock):
            os.set_blocking(file, False)
        signal.set_wakeup_fd(knock, warn_on_full_buffer=False)
        for number in (*_STOPS, signal.SIGCHLD):
            signal.signal(number, self._note)
        read, self.orders = os.pipe()
        self.guard = self._fork_guard(name, read)
        os.close(read)
        self.errors, write = os.pipe()
        os.set_inheritable(self.orders, True)  # srun holds it as well
        self.srun = self._fork_srun(words, write)
        os.close(write)
        self.code: int | None = None
        self.asked_at: float | None = None
        self.ended_at = 0.0

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self.stops += 1

    def _fork_guard(self, name: str, read: int) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                os.close(self.orders)
                os.setsid()
                for number in _STOPS:
                    signal.signal(number, signal.SIG_IGN)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                guard(name, read)
            finally:
                os._exit(0)
        return pid

    def _fork_srun(self, words: list[str], write: int) -> int:
        parent, environment = os.getpid(), own_environment(dict(os.environ))
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                for number in (*_STOPS, signal.SIGCHLD, signal.SIGPIPE):
                    signal.signal(number, signal.SIG_DFL)
                os.setsid()  # Ctrl-C is for us: srun would ask for a second one
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                os.dup2(write, 2)
                if os.getppid() == parent:
                    os.execvpe(words[0], words, environment)  # noqa: S606 - an argv list
            except OSError as error:
                os.write(2, f"gpueval: {words[0]}: {error.strerror}: Slurm's client programs are needed on the login node\n".encode())
            finally:
                os._exit(127)
        return pid

    def run(self) -> int:
        """Until srun has ended. Returns the exit code, minus the signal where the program died by one."""
        hung_at: float | None = None
        poller = select.poll()
        poller.register(0, 0)  # its hang-up alone
        poller.register(self.wake, select.POLLIN)
        poller.register(self.errors, select.POLLIN)
        reads = True
        while self.code is None or (reads and time.monotonic() - self.ended_at < _LAST_WORDS_S):
            for file, _ in poller.poll(None if hung_at is None and self.asked_at is None and self.code is None else int(_POLL_S * 1000)):
                if file == 0:
                    hung_at = time.monotonic()
                    poller.unregister(0)
                elif file == self.wake:
                    os.read(self.wake, 4096)
                elif not self._read():
                    reads = False
                    poller.unregister(self.errors)
            self._reap()
            if self.code is None and self.asked_at is None and (self.stops or (hung_at is not None and time.monotonic() - hung_at > GRACE_S)):
                self.asked_at = time.monotonic()
                os.write(self.orders, _CANCEL)
                os.kill(self.srun, signal.SIGTERM)  # where it has no job yet
            if self.code is None and self.asked_at is not None and time.monotonic() - self.asked_at > _GONE_S:
                os.kill(self.srun, signal.SIGKILL)
        return self._leave()

    def _read(self) -> bool:
        data = os.read(self.errors, 1 << 16)
        _write(self.said.feed(data, last=not data))
        return bool(data)

    def _reap(self) -> None:
        if self.code is None:
            pid, how = os.waitpid(self.srun, os.WNOHANG)
            if pid:
                self.code, self.ended_at = os.waitstatus_to_exitcode(how), time.monotonic()

    def _leave(self) -> int:
        _write(self.said.feed(b"", last=True))
        code = self.code if self.code is not None else UNKNOWN
        if code >= 0 and self.asked_at is None and not self.said.cut:
            os.write(self.orders, _DONE)
        os.close(self.orders)
        os.waitpid(self.guard, 0)
        if code < 0 or (code == 0 and self.said.cut):
            return UNKNOWN
        return 128 - code if code > 128 and self.said.ended and not self.said.ended.startswith("Exited") else code


def _write(data: bytes) -> None:
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        return  # nobody listens


def main(argv: list[str]) -> int:
    """Run it, and end as it did."""
    if len(argv) < 3 or argv[1] != "--":
        _write(f"{USAGE}\n".encode())
        return 64
    code = Step(argv[0], argv[2:]).run()
    if code < 0:
        if -code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        code = 128 - code
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
