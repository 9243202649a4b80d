"""Whatever writes to the descriptors or the streams is in the log, redacted, and nothing hangs, leaks or grows."""
# ruff: noqa: PT012, PTH115, PTH208, T201

import io
import os
import subprocess
import sys
import textwrap

import pytest

from pytest_gpueval.runs import capture, redact
from pytest_gpueval.runs.capture import captured
from pytest_gpueval.runs.redact import MARK, Redactor
from tests.waiting import wait_for

SECRET = "very-secret-value"


@pytest.fixture(autouse=True)
def _real_descriptors(capfd):
    """The tests write to 1 and 2; pytest keeps it from the terminal."""
    return capfd


@pytest.fixture
def log(tmp_path):
    return tmp_path / "stdout.log"


def run(source, *argv, **options):
    """Run a program of its own; `capture` there is the log, `captured(...)` the context."""
    head = f"import os, sys\nfrom pathlib import Path\nfrom {capture.__name__} import captured\nfrom {redact.__name__} import Redactor\nSECRET = {SECRET!r}\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(source), *map(str, argv)], capture_output=True, text=True, timeout=50, check=False, **options
    )


def test_streams_descriptors_and_children(log):
    with captured(log, Redactor()):
        print("stream 1")
        print("stream 2", file=sys.stderr)
        os.write(1, b"descriptor 1\n")
        os.write(2, b"descriptor 2\n")
        subprocess.run(["sh", "-c", "echo child 1; echo child 2 >&2"], check=True)
        print("no newline at the end", end="")
    assert sorted(log.read_text().replace("end", "end\n").split("\n")) == sorted(
        ["", "stream 1", "stream 2", "descriptor 1", "descriptor 2", "child 1", "child 2", "no newline at the end"]
    )


def test_one_descriptor_keeps_its_order(log):
    with captured(log, Redactor()):
        for number in range(50):
            print("python", number)
            os.write(1, b"raw %d\n" % number)
            if number % 10 == 0:
                subprocess.run(["echo", f"child {number}"], check=True)
    expected = [line for n in range(50) for line in (f"python {n}", f"raw {n}", *([f"child {n}"] if n % 10 == 0 else []))]
    assert log.read_text().splitlines() == expected


def test_it_is_still_shown_and_shown_redacted(log, capfd):
    with captured(log, Redactor([SECRET])):
        print(f"token {SECRET}")
        print(f"error {SECRET}", file=sys.stderr)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == (f"token {MARK}\n", f"error {MARK}\n")
    assert sorted(log.read_text().splitlines()) == [f"error {MARK}", f"token {MARK}"]


def test_a_secret_cut_across_writes(log):
    with captured(log, Redactor([SECRET])):
        for letter in SECRET:
            os.write(1, letter.encode())
        os.write(1, b"\n")
    assert log.read_text() == f"{MARK}\n"


@pytest.mark.parametrize("before", [0, 1, 5, 11, 16, 17, 1000])
def test_a_secret_where_a_line_without_end_is_cut(log, before):
    """The line is cut 64 KiB before its end once it is longer than a mebibyte: put the secret around that place, whatever it is."""
    with captured(log, Redactor([SECRET])):
        text = b"x" * before + (SECRET.encode() + b"." * 7) * 130_000
        os.write(1, text[:10])
        for start in range(10, len(text), 50_000):
            os.write(1, text[start : start + 50_000])
    assert log.read_text() == "x" * before + (MARK + "." * 7) * 130_000


def test_a_character_where_a_line_without_end_is_cut(log):
    with captured(log, Redactor()):
        os.write(1, ("x" + "ж" * 1_000_000).encode())
    assert log.read_text() == "x" + "ж" * 1_000_000


def test_bytes_that_are_no_text(log):
    with captured(log, Redactor()):
        os.write(1, b"a\xff\xfeb\x00\n")
        print("\udcff lone")
    assert log.read_bytes() == b"a\\xff\\xfeb\x00\n\\udcff lone\n"


def test_it_appends(log):
    for word in ("first", "second"):
        with captured(log, Redactor()):
            print(word)
    assert log.read_text() == "first\nsecond\n"


def test_an_exception_passes_and_everything_is_restored(log):
    streams, places = (sys.stdout, sys.stderr), [os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)]
    with pytest.raises(KeyboardInterrupt), captured(log, Redactor()):
        print("last words")
        raise KeyboardInterrupt
    assert (sys.stdout, sys.stderr) == streams
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)] == places
    assert log.read_text() == "last words\n"


def test_contexts_in_contexts(log, tmp_path):
    with captured(log, Redactor()):
        print("outer")
        with captured(tmp_path / "inner.log", Redactor()):
            print("inner")
    assert log.read_text() == "outer\ninner\n"
    assert (tmp_path / "inner.log").read_text() == "inner\n"


@pytest.mark.parametrize("stream", [None, io.StringIO(), object()], ids=["none", "text", "object"])
def test_odd_streams(log, monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    with captured(log, Redactor()):
        print("there")
    assert log.read_text() == "there\n"
    assert sys.stdout is stream


def test_a_closed_stream(log, monkeypatch):
    monkeypatch.setattr(sys, "stderr", closed := io.StringIO())
    closed.close()
    with captured(log, Redactor()):
        print("there", file=sys.stderr)
    assert log.read_text() == "there\n"


def test_no_descriptor_is_lost(log):
    before = os.listdir("/proc/self/fd")
    for _ in range(100):
        with captured(log, Redactor()):
            print("x")
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= len(before))  # a thread may still be at its end, and earlier tests' may be closed meanwhile


def test_closed_descriptors(log):
    source = """
        os.close(1)
        os.close(2)
        with captured(Path(sys.argv[1]), Redactor()):
            os.write(1, b"one\\n")
            os.write(2, b"two\\n")
    """
    assert run(source, log).returncode == 0
    assert sorted(log.read_text().splitlines()) == ["one", "two"]


def test_a_child_that_outlives_the_context_is_not_waited_for(log):
    """It writes after the context has ended: the test holds the other end of the pipe it waits on."""
    reader, writer = os.pipe()
    with captured(log, Redactor([SECRET])):
        print("before")
        child = subprocess.Popen(["sh", "-c", f"read go; echo late {SECRET}"], stdin=reader)
    try:
        assert log.read_text() == "before\n"
        assert child.poll() is None
        os.write(writer, b"go\n")
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.wait()
        os.close(reader)
        os.close(writer)


def test_what_c_buffers_is_in_the_log(log):
    source = """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.printf(b"before the run\\n")
        with captured(Path(sys.argv[1]), Redactor()):
            libc.printf(b"from C\\n")
        libc.printf(b"after the run\\n")
    """
    done = run(source, log)
    assert log.read_text() == "from C\n"
    assert done.stdout == "before the run\nfrom C\nafter the run\n"


@pytest.mark.parametrize("newline", ["\\n", "\\r", ""])
def test_much_output_in_little_memory(log, newline):
    source = f"""
        import resource, time
        data = (b"x" * 99 + {newline!r}.encode().decode("unicode_escape").encode()) * 5000
        with captured(Path(sys.argv[1]), Redactor([SECRET])):
            os.write(1, data)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(100):
                os.write(1, data)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(data) * 101, file=sys.stderr)
    """
    done = run(source, log)
    grown_kib, written = map(int, done.stderr.split())
    assert log.stat().st_size == written
    assert written > 45_000_000
    assert grown_kib < 12_000


def test_a_progress_bar_is_in_the_log_at_once(log):
    """Its carriage returns count as ends of lines: the child waits until the test has seen it in the log."""
    source = """
        log = Path(sys.argv[1])
        with captured(log, Redactor()):
            os.write(1, b"10 %\\r")
            while log.read_bytes() != b"10 %\\r":
                pass
    """
    assert run(source, log).returncode == 0


@pytest.mark.parametrize("mode", ["-s", "--capture=sys", "--capture=fd", "--capture=tee-sys"])
def test_under_each_of_pytests_own_captures(tmp_path, mode):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(f"""
        import os, subprocess, sys
        from pathlib import Path
        from pytest_gpueval.runs.capture import captured
        from pytest_gpueval.runs.redact import Redactor

        def test_it():
            with captured(Path({str(tmp_path / "stdout.log")!r}), Redactor([{SECRET!r}])):
                print("stream {SECRET}")
                os.write(2, b"descriptor {SECRET}\\n")
                subprocess.run(["echo", "child {SECRET}"], check=True)
            assert False
        """)
    )
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:hypothesispytest",
        mode,
        "--tb=no",
        "-rN",
        str(tmp_path),
    ]
    done = subprocess.run([*argv, "--show-capture=all"], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted((tmp_path / "stdout.log").read_text().splitlines()) == [f"child {MARK}", f"descriptor {MARK}", f"stream {MARK}"]
    assert SECRET not in done.stdout + done.stderr
