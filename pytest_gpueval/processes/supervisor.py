"""Stands around one worker process, and leaves nothing behind that the worker started.

    python -I -S supervisor.py [--lease FILE]... [--grace SECONDS] [--at-once] [--ask INT|TERM] [--marker NAME=VALUE]... -- COMMAND...

A script of its own: it is started by its path, on any host with Python 3.11, so it imports the standard library alone, and of
that only what starts fast. The worker has our stdin, stdout and stderr: nothing it says passes through here. We hold them open
as well, so whoever reads the worker's stdout sees its end only once everything it started is gone and its GPU is free.

Three things make us end the worker: it ends by itself, our stdin hangs up, or we get TERM, HUP or INT.

    hang-up   the worker has `--grace` seconds to notice by itself; near their end it gets one INT, so that finalizers run
              (with `--at-once` a hang-up is what a signal is: for a server, which does not know of it)
    a signal  the worker gets INT at once and has the same time; a second signal cuts it short, a third the next step too
              (with `--ask TERM` it gets TERM instead of INT: what trainings take for the moment to write a checkpoint)
    then      TERM to all descendants, then STOP and KILL until the kernel says that we have no children

We exit as the worker did: with its code, or by its signal. Other codes: 64 wrong options, 69 a system that cannot do this,
70 something could not be ended, 71 no process can be started, 73 a lease that cannot be opened, 126 and 127 a command that cannot be run or found.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping

USAGE = "usage: supervisor.py [--lease FILE]... [--grace SECONDS] [--at-once] [--ask INT|TERM] [--marker NAME=VALUE]... -- COMMAND..."
GRACE_S = 8.0
# execnet interrupts a worker 5 s after the hang-up. Ours must not cut short the finalizers that this set off, so it comes late.
INTERRUPT_AT = 7 / 8
# Between TERM and KILL; after a grace that ran out only one second: xdist kills what it started 10 s after it hung up.
TERM_S = 2.0
TERM_AFTER_GRACE_S = 1.0
# A driver may need many seconds to take a killed process off its GPU. Then we say what is left, rather than hang for ever.
SETTLE_S = 30.0

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_CAUGHT = (*_STOPS, signal.SIGCHLD)
_STDIN, _STDERR = 0, 2
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """There will be no worker; the text is one line for stderr."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Process:
    """One /proc/PID/stat. `started` tells a process from a later one that got the same pid."""

    __slots__ = ("dead", "group", "name", "parent", "pid", "session", "started", "stopped")

    def __init__(self, pid: int, stat: bytes) -> None:
        name, _, rest = stat.rpartition(b") ")  # a name may hold anything, brackets and spaces too
        fields = rest.split()
        self.pid, self.name = pid, name.partition(b"(")[2].decode("utf-8", "replace")
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.started = int(fields[19])
        # The first thread of a process may have ended while others live; that looks like a zombie with threads.
        self.dead = fields[0] in {b"Z", b"X"} and int(fields[17]) <= 1
        self.stopped = fields[0] in {b"T", b"t"}

    @property
    def identity(self) -> tuple[int, int]:
        """What no other process since boot has had."""
        return self.pid, self.started


def look(pid: int) -> Process | None:
    """The process as it is now, or None if there is none."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return Process(pid, os.read(file, 4096))
    except OSError:  # it ended meanwhile
        return None
    finally:
        os.close(file)


def lives(process: Process) -> bool:
    """Whether this very process is still there, and not only its remains."""
    now = look(process.pid)
    return now is not None and now.identity == process.identity and not now.dead


def pids() -> list[int]:
    """Every pid, newest first as far as numbers tell."""
    return sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)


def descendants(everyone: list[Process], root: int) -> list[Process]:
    """Those of `everyone` that descend from `root` and live, parents before their children."""
    children: dict[int, list[Process]] = {}
    for process in everyone:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    parents = [root]
    for parent in parents:
        for process in children.pop(parent, ()):  # pop: a look is not one moment, and must not walk in circles
            parents.append(process.pid)
            found.append(process)
    return [process for process in found if not process.dead]


def send(process: Process, number: int, *, group: bool = False) -> None:
    """Signal this very process, or the group it is in; nobody if it has ended, whoever has its pid now."""
    handle = -1
    try:
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(process.pid)  # from here on the pid may change hands, the handle does not
    except OSError as error:
        if error.errno == errno.ESRCH:
            return  # any other: a kernel or sandbox without it, where the look below has to do
    try:
        now = look(process.pid)
        if now is None or now.identity != process.identity:
            return
        if group:
            os.killpg(now.group, number)
        elif handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(process.pid, number)
    except OSError:
        return  # ended between two lines, or is not ours to signal: the end says what is left
    finally:
        if handle >= 0:
            os.close(handle)


def send_child(pid: int, number: int) -> None:
    """Signal a child of ours that is not reaped yet: until then nobody else can have its pid."""
    try:
        os.kill(pid, number)
    except OSError:
        return  # it has become somebody else's, by setuid


def say(text: str) -> None:
    """One line on stderr; lost rather than waited for if nobody reads there."""
    line = f"gpueval supervisor: {text}\n".encode("utf-8", "replace")[:4000]
    poller = select.poll()
    poller.register(_STDERR, select.POLLOUT)
    try:
        if poller.poll(0):
            os.write(_STDERR, line)
    except OSError:
        return


def prctl(option: int, value: int) -> None:
    """Raises Refused: without these nothing of what is promised holds."""
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise Refused(69, f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def open_lease(path: str) -> int:
    """The lease file's descriptor. Raises Refused.

    Opened before it is created: in a sticky directory O_CREAT on somebody else's file is refused (fs.protected_regular).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            try:
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            except OSError as error:
                raise Refused(73, f"--lease {path}: {error.strerror}") from None
        except OSError as error:
            raise Refused(73, f"--lease {path}: {error.strerror}") from None


class Options:
    """The command line. Raises Refused."""

    def __init__(self, argv: list[str]) -> None:
        self.leases: list[str] = []
        self.grace_s = GRACE_S
        self.at_once = False
        self.ask = signal.SIGINT
        self.markers: dict[str, str] = {}
        words = iter(argv)
        for word in words:
            if word == "--":
                break
            if word == "--at-once":
                self.at_once = True
                continue
            if word not in {"--lease", "--grace", "--marker", "--ask"}:
                raise Refused(64, f"{word!r} is not understood; {USAGE}")
            value = next(words, None)
            if value is None:
                raise Refused(64, f"{word} needs a value; {USAGE}")
            self._take(word, value)
        self.command = list(words)
        if not self.command:
            raise Refused(64, f"a command is missing; {USAGE}")

    def _take(self, option: str, value: str) -> None:
        if option == "--lease":
            self.leases.append(value)
        elif option == "--ask":
            if value not in {"INT", "TERM"}:
                raise Refused(64, f"--ask {value!r} is neither INT nor TERM; {USAGE}")
            self.ask = signal.Signals[f"SIG{value}"]
        elif option == "--marker":
            name, equals, content = value.partition("=")
            if not name or not equals:
                raise Refused(64, f"--marker {value!r} is not NAME=VALUE; {USAGE}")
            self.markers[name] = content
        else:
            try:
                self.grace_s = float(value)
            except ValueError:
                self.grace_s = -1
            if not 0 <= self.grace_s <= 86400:
                raise Refused(64, f"--grace {value!r} is not a number of seconds; {USAGE}")


class Supervisor:
    """One worker and all that comes from it. As subreaper we become the parent of every descendant whose own parent ended."""

    def __init__(self, grace_s: float, *, at_once: bool = False, ask: int = signal.SIGINT) -> None:
        self._me = os.getpid()
        self._grace_s = grace_s
        self._at_once = at_once
        self._request = ask
        self._child = 0
        self._code: int | None = None
        self._stops: list[int] = []
        self._hung_up = False
        self._asked_at: float | None = None
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._wake, knock = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(knock, warn_on_full_buffer=False)
        for number in _CAUGHT:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAUGHT)  # whoever started us may have blocked them
        self._poller = select.poll()
        self._poller.register(self._wake, select.POLLIN)
        self._poller.register(_STDIN, select.POLLRDHUP)  # not POLLIN: its bytes are the worker's. HUP and ERR always count

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stops.append(number)

    def _wait(self, seconds: float | None) -> None:
        """Until a signal came, stdin hung up, or the time is over."""
        for file, _ in self._poller.poll(None if seconds is None else int(max(seconds, 0) * 1000) + 1):
            if file == _STDIN:
                self._hung_up = True
                self._poller.unregister(_STDIN)
            else:
                os.read(self._wake, 4096)

    def _reap(self) -> bool:
        """Collect the dead. False once no descendant is left, alive or dead: the kernel's word, no race with any look."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._code = os.waitstatus_to_exitcode(status)

    def _fork(self, run: Callable[[], None]) -> None:
        """A child that runs `run` and is killed should we be.

        We have one thread, so there is no lock that another one could hold for ever in the child: Python may run between
        fork and exec. And PDEATHSIG is sent when the thread that forked ends: ours ends with the process.
        """
        self._code = None
        signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)  # no handler of ours in the child: it would knock on our pipe
        try:
            self._child = os.fork()
        except OSError as error:
            raise Refused(71, f"no process can be started: {error.strerror}") from None
        if self._child == 0:
            try:
                for number in (*_CAUGHT, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two
                    signal.signal(number, signal.SIG_DFL)
                signal.set_wakeup_fd(-1)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAUGHT)
                os.setsid()
                prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == self._me:  # else we ended before prctl, and nobody would tell it
                    run()
                    os._exit(0)
            finally:
                os._exit(126)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _CAUGHT)

    def hold(self, path: str) -> int | None:
        """Share the lease for as long as we live, waiting while somebody has it alone.

        Returns the signal to leave by if we were told to end before we had it. Raises Refused.
        """
        lease = open_lease(path)
        try:
            fcntl.flock(lease, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # A lock cannot be polled. A child waits for it: the lock belongs to the open file, which we share with the child.
            self._fork(lambda: fcntl.flock(lease, fcntl.LOCK_SH))
        except OSError as error:
            raise Refused(73, f"--lease {path}: {error.strerror}") from None
        while self._reap() and not self._stops and not self._hung_up:
            self._wait(None)
        if self._stops or self._hung_up:
            self._end()
            return self._stops[0] if self._stops else signal.SIGHUP
        if self._code:
            raise Refused(73, f"--lease {path}: cannot be locked")
        return None

    def supervise(self, command: list[str], environment: dict[str, str]) -> int:
        """Run the worker. Returns its exit code, -signal if it died by one, 70 if something could not be ended."""

        def run() -> None:
            try:
                os.execvpe(command[0], command, environment)
            except OSError as error:
                say(f"{command[0]}: {error.strerror}")
                os._exit(127 if error.errno in {errno.ENOENT, errno.ENOTDIR} else 126)

        self._fork(run)
        self._watch()
        self._ask()
        left = self._end()
        if left:
            say(f"could not be ended in {SETTLE_S:g} s: {', '.join(f'{process.pid} ({process.name})' for process in left)}")
        return 70 if left or self._code is None else self._code

    def _watch(self) -> None:
        """Until the worker has ended, or was asked to and took too long."""
        interrupt_at: float | None = None
        while self._reap() and self._code is None and len(self._stops) < 2:
            now = time.monotonic()
            if self._asked_at is None and (self._stops or self._hung_up):
                self._asked_at = now
                interrupt_at = now + INTERRUPT_AT * self._grace_s
            if self._asked_at is None:
                self._wait(None)
                continue
            if interrupt_at is not None and (self._stops or self._at_once or now >= interrupt_at):
                interrupt_at = None  # once: a second one would hit the finalizers that the first set off
                send_child(self._child, self._request)
            ends_at = self._asked_at + self._grace_s
            if now >= ends_at:
                return
            self._wait((ends_at if interrupt_at is None else interrupt_at) - now)

    def _ask(self) -> None:
        """TERM to each descendant, once, also to those that appear meanwhile."""
        limit = time.monotonic() + (TERM_AFTER_GRACE_S if self._code is None else TERM_S)
        if self._asked_at is not None:
            limit = min(limit, self._asked_at + self._grace_s + TERM_AFTER_GRACE_S)
        asked: set[tuple[int, int]] = set()
        while self._reap() and time.monotonic() < limit and len(self._stops) < 3:
            for process in self._living():
                if process.identity not in asked:
                    asked.add(process.identity)
                    send(process, signal.SIGTERM)
                    send(process, signal.SIGCONT)  # what is stopped would not hear it
            self._wait(min(limit - time.monotonic(), 0.25))

    def _end(self) -> list[Process]:
        """KILL until nobody is left. Returns those that outlived it."""
        limit = time.monotonic() + SETTLE_S
        pause_s = 0.02
        while self._reap() and time.monotonic() < limit:
            self._freeze(limit)
            for process in self._living():
                send(process, signal.SIGKILL)
            self._wait(pause_s)  # a child's end wakes us
            pause_s = min(pause_s * 1.5, 0.5)
        return self._living() if self._reap() else []

    def _freeze(self, limit: float) -> None:
        """STOP until a look finds nobody who runs: the stopped start nobody, while each one killed makes room for another.

        A group is stopped at one stroke, those that are being forked included. What leaves its group with every fork is
        met by looking at the newest first, and stopping our own children at sight.
        """
        limit = min(limit, time.monotonic() + 1)
        struck: set[tuple[int, int]] = set()
        while self._reap() and time.monotonic() < limit:
            everyone: list[Process] = []
            for process in filter(None, map(look, pids())):
                everyone.append(process)
                if process.parent == self._me and not (process.dead or process.stopped):
                    send_child(process.pid, signal.SIGSTOP)
            running = [process for process in descendants(everyone, self._me) if not process.stopped and process.identity not in struck]
            if not running:
                return
            # A session of its own was begun by a descendant, so all who are in its groups are descendants.
            for process in {process.group: process for process in running if process.session != os.getsid(0)}.values():
                send(process, signal.SIGSTOP, group=True)
            for process in running:
                send(process, signal.SIGSTOP)
                struck.add(process.identity)

    def _living(self) -> list[Process]:
        return descendants([process for process in map(look, pids()) if process is not None], self._me)


def identity() -> str:
    """`<pid>:<start time>:<boot id>`: this process, and no other one on this host at any time. Raises Refused."""
    me = look(os.getpid())
    if me is None:
        raise Refused(69, "/proc is not there; what a worker starts cannot be found without it")
    try:
        file = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return f"{me.pid}:{me.started}:"  # a sandbox that does not tell
    try:
        return f"{me.pid}:{me.started}:{os.read(file, 64).decode().strip()}"
    finally:
        os.close(file)


def leave(code: int) -> int:
    """The exit code for `code`; -N ends us by signal N, without a core dump of our own."""
    if code >= 0:
        return code
    _libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if signal.getsignal(-code) not in {signal.SIG_DFL, None}:
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
    os.kill(os.getpid(), -code)
    return 128 - code  # the first process of a container does not die by its own signals


def run(argv: list[str], environment: Mapping[str, str]) -> int:
    """Supervise as `argv` says. Returns the exit code, -signal where the worker died by one."""
    try:
        options = Options(argv)
        if os.getpgid(0) != os.getpid():
            os.setsid()  # away from the terminal and the group of whoever started us; a group's leader must stay where it is
        supervisor = Supervisor(options.grace_s, at_once=options.at_once, ask=options.ask)
        for path in options.leases:
            told = supervisor.hold(path)
            if told is not None:
                return -told
        return supervisor.supervise(options.command, {**environment, **options.markers, "GPUEVAL_SUPERVISOR": identity()})
    except Refused as error:
        say(str(error))
        return error.code


def main(argv: list[str]) -> int:
    """Run the script. Returns the exit code."""
    for file in range(3):  # a standard stream that is closed would be replaced by the first file we open
        try:
            os.fstat(file)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(file, True)
    return leave(run(argv, os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
