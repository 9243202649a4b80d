"""Leases, between real processes."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import Conflict, StorageError
from pytest_gpueval.gpus import leases, locks
from pytest_gpueval.gpus.devices import Device
from pytest_gpueval.gpus.leases import Leased, acquire, holder
from tests.waiting import wait_for

ZERO, ONE = Device(0, "GPU-0", "H100"), Device(1, "GPU-1", "H100")
LEFT, RIGHT = Device(2, "MIG-a", "H100 MIG", "GPU-2", 0), Device(2, "MIG-b", "H100 MIG", "GPU-2", 1)
WHOLE = Device(2, "GPU-2", "H100")

HOLD = """
    import os, sys
    from pathlib import Path
    from pytest_gpueval.gpus.devices import Device
    from pytest_gpueval.gpus.leases import acquire
    if len(sys.argv) > 3:
        os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[3]))
    devices = [Device(*one) for one in eval(sys.argv[2])]
    lease = acquire(devices, session="theirs", directory=Path(sys.argv[1]))
    print("held", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "leases"


@contextmanager
def another(place, *devices, user=None):
    """Another process that holds these until it is told otherwise."""
    wanted = repr([(one.index, one.uuid, one.name, one.parent, one.instance) for one in devices])
    argv = [sys.executable, "-c", textwrap.dedent(HOLD), str(place), wanted, *([str(user)] if user else [])]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def tell(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def take(place, *devices, **options):
    return acquire(devices, session="mine", directory=place, **options)


def test_a_second_session_is_told_who_has_it(place):
    with another(place, ZERO) as process:
        with pytest.raises(Leased) as caught:
            take(place, ZERO)
        assert re.fullmatch(
            rf"GPU 0 \(GPU-0\) is in use: pid {process.pid}, user \S+, session theirs, since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\.\n"
            r"Wait for it with --gpus-wait SECONDS, choose other GPUs with --gpus, or see `gpueval gpus`\.",
            str(caught.value),
        )
        assert (caught.value.device, caught.value.exit_code) == (ZERO, Conflict.exit_code)
        take(place, ONE).release()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_lease_dies_with_its_owner(place, end):
    with another(place, ZERO) as process:
        process.send_signal(end)
        process.wait()
        with take(place, ZERO):
            assert holder("GPU-0", place).session == "mine"


def test_two_leases_of_one_process_exclude_each_other_too(place):
    with take(place, ZERO), pytest.raises(Leased, match=f"pid {os.getpid()}, .*session mine"):
        take(place, ZERO)


def test_release_is_idempotent_and_leaves_no_record(place):
    lease = take(place, ZERO, ONE)
    assert (place / "GPU-0.lease").read_text() != ""
    lease.release()
    lease.release()
    assert (place / "GPU-0.lease").read_text() == ""
    take(place, ONE, ZERO).release()


def test_all_or_none(place):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with another(place, ONE):
        with pytest.raises(Leased, match="GPU 1 "):
            take(place, ZERO, ONE)
        assert holder("GPU-0", place) is None
        take(place, ZERO).release()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # earlier tests' may be closed meanwhile


def test_waiting_until_it_is_free(place):
    with another(place, ZERO) as process:
        told = []

        def on_wait(reason):
            told.append(reason)
            threading.Timer(0.5, process.kill).start()

        with take(place, ZERO, wait_s=30, on_wait=on_wait) as lease:
            assert list(lease.guards) == ["GPU-0"]
    assert len(told) == 1
    assert told[0].startswith(f"GPU 0 is in use: pid {process.pid}, user ")


def test_waiting_in_vain_polls_gently_and_ends_in_time(place, monkeypatch):
    attempts = []
    real = locks.lock
    monkeypatch.setattr(locks, "lock", lambda *args, **options: attempts.append(args) or real(*args, **options))
    with another(place, ZERO):
        began = time.monotonic()
        with pytest.raises(Leased):
            take(place, ZERO, wait_s=1)
        assert time.monotonic() - began >= 1
    assert len(attempts) <= 7


def test_sessions_that_want_the_same_in_another_order_do_not_block_each_other(place):
    done = []

    def session(*devices):
        for _ in range(5):
            with take(place, *devices, wait_s=60):
                done.append(devices)

    threads = [threading.Thread(target=session, args=order) for order in ((ZERO, ONE), (ONE, ZERO), (ONE,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 15


def test_a_child_started_by_exec_does_not_keep_the_lease(place):
    with another(place, ZERO) as process:
        tell(process, "import subprocess; child = subprocess.Popen(['sleep', '60'], close_fds=False)")
        tell(process, "import pathlib; pathlib.Path(sys.argv[1], 'child').write_text(str(child.pid))")
        process.kill()
        process.wait()
        try:
            take(place, ZERO).release()
        finally:
            os.kill(int((place / "child").read_text()), signal.SIGKILL)


def test_a_forked_child_cannot_give_away_its_parents_lease(place):
    with another(place, ZERO) as process:
        tell(process, "pid = os.fork(); pid or (lease.release(), os._exit(0)); os.waitpid(pid, 0)")
        with pytest.raises(Leased):
            take(place, ZERO)


def test_release_ends_the_lease_even_if_a_forked_child_shares_it(place):
    with another(place, ZERO) as process:
        tell(process, "import signal; pid = os.fork(); pid or (signal.pause(), os._exit(0)); lease.release()")
        try:
            take(place, ZERO).release()
        finally:
            tell(process, "os.kill(pid, 9); os.waitpid(pid, 0)")


def test_instances_and_their_gpu(place):
    with take(place, LEFT) as left, take(place, RIGHT):
        assert left.guards == {"MIG-a": place / "MIG-a.workers"}
        with pytest.raises(Leased, match=r"GPU 2 \(GPU-2\) is in use as MIG instances: pid \d+, .*session mine"):
            take(place, WHOLE)
        with pytest.raises(Leased, match=r"GPU 2:0 \(MIG-a\) is in use: pid"):
            take(place, LEFT)
    with take(place, WHOLE), pytest.raises(Leased, match=r"GPU 2:0 \(MIG-a\) is in use: pid"):
        take(place, LEFT)
    with take(place, LEFT, RIGHT):
        pass


def test_names_of_instances_of_old_drivers(place):
    old = Device(0, "MIG-GPU-1/7/0", "A100 MIG", "GPU-1", 0)
    with take(place, old):
        assert holder(old.uuid, place).parent == "GPU-1"
    assert {path.name for path in place.iterdir()} == {"MIG-GPU-1_7_0.lease", "MIG-GPU-1_7_0.workers", "GPU-1.lease"}


@pytest.fixture
def supervisor(place):
    """A worker's supervisor, in a process of its own."""
    take(place, ZERO).release()
    with subprocess.Popen(["flock", "--shared", "--no-fork", place / "GPU-0.workers", "sleep", "60"]) as process:
        wait_for(lambda: "sleep" in Path(f"/proc/{process.pid}/comm").read_text())
        yield process
        process.kill()


def test_workers_of_a_dead_session_are_waited_for(place, supervisor):
    told = []

    def on_wait(reason):
        told.append(reason)
        supervisor.kill()
        supervisor.wait()

    take(place, ZERO, on_wait=on_wait).release()
    assert told == ["GPU 0 is still used by workers of a session that has ended"]


def test_workers_that_do_not_go(place, supervisor):
    with pytest.raises(Leased) as caught:
        take(place, ZERO, cleanup_s=0.3)
    assert str(caught.value) == (
        "GPU 0 (GPU-0) is still used by workers of a session that has ended.\n"
        "They were given 0.3 s to go. See `nvidia-smi` for what runs there, or choose other GPUs with --gpus."
    )
    assert holder("GPU-0", place) is None


def test_supervisors_share_the_guard_of_a_living_session(place):
    import fcntl

    with take(place, ZERO) as lease:
        for _ in range(2):
            fcntl.flock(os.open(lease.guards["GPU-0"], os.O_RDWR), fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_who_looks_makes_nothing_and_takes_nothing(place):
    assert holder("GPU-0", place) is None
    assert not place.exists()
    with another(place, ZERO) as process:
        owner = holder("GPU-0", place)
        assert (owner.pid, owner.session, owner.host, owner.parent) == (process.pid, "theirs", socket.gethostname(), None)
    assert holder("GPU-0", place) is None


def test_who_looks_at_the_same_instant_does_not_refuse_a_lease(place):
    stop = threading.Event()

    def look():
        while not stop.is_set():
            holder("GPU-0", place)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            take(place, ZERO).release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_everybody_may_use_the_files(place):
    before = os.umask(0o077)
    try:
        take(place, ZERO).release()
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o7777 == 0o1777
    assert {path.stat().st_mode & 0o7777 for path in place.iterdir()} == {0o666}


@pytest.mark.parametrize("owner", ["ours", "theirs"])
def test_between_users(owner):
    user = os.getuid() or 65534  # only root can be somebody else
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:  # pytest's own directories are private
        Path(shared).chmod(0o755)
        place = Path(shared, "leases")
        if owner == "ours":
            take(place, ZERO).release()
        else:
            locks.prepare(place)
        with another(place, ZERO, user=user) as process:
            assert (place / "GPU-0.lease").stat().st_uid == (os.getuid() if owner == "ours" else user)
            with pytest.raises(Leased, match=f"pid {process.pid}, user {pwd.getpwuid(user).pw_name}, session theirs"):
                take(place, ZERO)
        with take(place, ZERO), pytest.raises(AssertionError), another(place, ZERO, user=user):
            pass


def test_a_kernel_that_protects_others_files(place, monkeypatch):
    """fs.protected_regular is the whole machine's, so its rule is played: O_CREAT on an existing file is refused."""
    real = os.open

    def protecting(path, flags, *args, **options):
        if flags & os.O_CREAT and not flags & os.O_EXCL and Path(path).exists():
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *args, **options)

    take(place, ZERO).release()
    monkeypatch.setattr(os, "open", protecting)
    take(place, ZERO, ONE).release()


def test_two_that_make_the_file_at_once(place, monkeypatch):
    locks.prepare(place)
    real = os.open
    absent = []

    def late(path, flags, *args, **options):
        if flags & os.O_CREAT and not absent:
            absent.append(path)
            os.close(real(path, flags, *args, **options))  # the other one
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", late)
    take(place, ZERO).release()
    assert absent


def test_a_file_removed_while_it_is_being_locked(place, monkeypatch):
    take(place, ZERO).release()
    import fcntl

    real, removed = fcntl.flock, []

    def cleaned(descriptor, operation):
        real(descriptor, operation)
        if not removed:
            removed.append((place / "GPU-0.lease").unlink())

    monkeypatch.setattr(fcntl, "flock", cleaned)
    with take(place, ZERO):
        assert holder("GPU-0", place) is not None


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "directory", "socket"])
def test_what_is_no_lock_file_is_refused(place, tmp_path, kind):
    locks.prepare(place)
    target, path = tmp_path / "precious", place / "GPU-0.lease"
    target.write_text("precious")
    listening = socket.socket(socket.AF_UNIX)
    make = {
        "link": lambda: path.symlink_to(target),
        "hard link": lambda: path.hardlink_to(target),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "socket": lambda: listening.bind(str(path)),
    }
    make[kind]()
    with listening, pytest.raises(StorageError, match=r"GPU-0.lease: cannot be used for leases of GPUs: .*\n.*GPUEVAL_LEASE_DIR"):
        take(place, ZERO)
    assert target.read_text() == "precious"
    assert holder("GPU-0", place) is None


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_directory_is_refused(place, tmp_path, kind):
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path)
    with pytest.raises(StorageError, match="leases: cannot be used for leases of GPUs: it is not a directory"):
        take(place, ZERO)


def test_a_directory_that_cannot_be_made():
    with pytest.raises(StorageError, match="cannot be used for leases"):
        take(Path("/proc/leases"), ZERO)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "an unknown process"),
        (b"\xff\x00{", "an unknown process"),
        (b"[1]", "an unknown process"),
        (b"[" * 4096, "an unknown process"),
        (b'{"pid": true, "user": 7}', "an unknown process"),
        (b'{"pid": -1}', "an unknown process"),
        (b'{"pid": 7, "user": "e\\u001b[31mve\\n\\u202e", "session": "a b"}', "pid 7, user e[31mve, session a b"),
        (b'{"pid": 7, "host": "elsewhere"}', "pid 7, on elsewhere"),
        (json.dumps({"user": "x" * 4000}).encode(), f"an unknown process, user {'x' * 200}"),
    ],
)
def test_what_others_wrote_is_only_text(place, raw, words):
    assert str(locks.parsed(raw)) == words
    with another(place, ZERO):
        (place / "GPU-0.lease").write_bytes(raw)
        with pytest.raises(Leased) as caught:
            take(place, ZERO)
        assert f"is in use: {words}.\n" in str(caught.value)


@given(st.binary(max_size=300) | st.dictionaries(st.text(), st.text() | st.integers() | st.none()).map(lambda told: json.dumps(told).encode()))
def test_any_record_is_one_printable_line(raw):
    assert str(locks.parsed(raw)).isprintable()


@given(st.fixed_dictionaries({key: st.text(max_size=50) for key in ("user", "session", "started_at", "host")}))
def test_any_owner_is_one_printable_line(told):
    assert str(locks.parsed(json.dumps(told).encode())).isprintable()


def test_where_leases_are_kept(monkeypatch, tmp_path):
    assert locks.default_directory({"GPUEVAL_LEASE_DIR": "/mnt/leases"}) == Path("/mnt/leases")
    open_to_all = Path("/run/lock").is_dir() and Path("/run/lock").stat().st_mode & 0o1002 == 0o1002
    assert locks.default_directory({"GPUEVAL_LEASE_DIR": ""}) == Path("/run/lock/pytest-gpueval" if open_to_all else "/tmp/pytest-gpueval")
    for status in (tmp_path.stat(), FileNotFoundError):
        monkeypatch.setattr(os, "stat", Mock(side_effect=[status]))
        assert locks.default_directory({}) == Path("/tmp/pytest-gpueval")
        monkeypatch.undo()
    monkeypatch.setenv("GPUEVAL_LEASE_DIR", str(tmp_path / "named"))
    with acquire([ZERO], session="s"):
        assert holder("GPU-0").session == "s"
        assert (tmp_path / "named" / "GPU-0.lease").exists()


def test_a_user_without_a_name(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert locks.myself("s").user == "4000000"


def test_a_full_disk(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks, "write", full)
    with pytest.raises(StorageError, match=r"GPU-0.lease: cannot be written: No space left on device\. Free some space there\."):
        take(place, ZERO)
    assert leases.holder("GPU-0", place) is None
