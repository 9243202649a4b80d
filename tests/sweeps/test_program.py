"""One attempt with real programs: output, time, and what is left of its tree."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_gpueval.sweeps.program import attempt
from tests.waiting import alive, wait_for


@pytest.fixture
def go(tmp_path):
    """Runs a Python program; gives its End and its output."""

    def run(code: str, *, timeout_s: float | None = None, grace_s: float = 5.0, sink=None, argv=None, directory: Path = tmp_path):
        got: list[bytes] = []

        def keep(lines: bytes) -> str | None:
            got.append(lines)
            return sink(lines) if sink else None

        end = attempt(
            argv or [sys.executable, "-I", "-S", "-c", code],
            directory=directory,
            environment=dict(os.environ),
            timeout_s=timeout_s,
            grace_s=grace_s,
            sink=keep,
        )
        return end, b"".join(got)

    return run


def test_output_of_both_streams_and_the_code(go):
    end, output = go("import sys; print('one', flush=True); sys.stderr.write('two'); sys.exit(7)")
    assert (end.exit_code, end.timed_out_s, end.asked_to) == (7, None, None)
    assert output == b"one\ntwo"


def test_the_signal_that_ended_it(go):
    assert go("import os; os.kill(os.getpid(), 11)")[0].exit_code == -signal.SIGSEGV


def test_lines_arrive_whole_and_a_line_without_end_arrives_too(go):
    pieces: list[bytes] = []
    end, output = go("import sys\nfor i in range(20000): sys.stdout.write(f'{i} ' + 'x' * 300 + '\\n')\nsys.stdout.write('end')", sink=pieces.append)
    assert end.exit_code == 0
    assert output.count(b"\n") == 20_000
    assert all(piece.endswith(b"\n") for piece in pieces[:-1] if piece)
    assert output.endswith(b"end")


def test_a_program_that_hears_term_has_its_grace(go, tmp_path):
    code = (
        "import signal, sys, time\n"
        "def bye(*_): print('checkpoint', flush=True); time.sleep(0.3); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, bye); print('up', flush=True)\n"
        "while True: time.sleep(100)"
    )
    for timeout_s in (1.0, 10.0, 60.0):  # the first one that lets it begin at all
        end, output = go(code, timeout_s=timeout_s, grace_s=30)
        if output.startswith(b"up"):
            break
    assert (end.exit_code, end.timed_out_s) == (5, timeout_s)
    assert output == b"up\ncheckpoint\n"


def test_after_the_grace_nothing_of_the_tree_is_left(go):
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', "
        "'import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(1000)'], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(1000)"
    )
    for timeout_s in (1.5, 10.0, 60.0):  # the first one that lets both begin at all
        end, output = go(code, timeout_s=timeout_s, grace_s=0.5)
        if len(output.split()) == 2:
            break
    assert (end.exit_code, end.timed_out_s) == (-signal.SIGKILL, timeout_s)
    (child,) = (int(word) for word in output.split() if word != b"1")
    assert not alive(child)


def test_what_outlives_a_program_that_ended_well_is_ended(go):
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(1000)'], start_new_session=True).pid)"
    end, output = go(code)
    assert end.exit_code == 0
    assert not alive(int(output))


def test_whoever_reads_may_stop_it(go):
    end, _ = go("import time\nwhile True: print('step', flush=True); time.sleep(0.01)", sink=lambda lines: "seen enough" if lines else None)
    assert end.asked_to == "seen enough"
    assert end.exit_code == -signal.SIGTERM


def test_a_silent_program_can_be_stopped_too(go):
    asked: list[bytes] = []

    def after_a_while(lines: bytes) -> str | None:
        asked.append(lines)
        return "enough" if len(asked) > 1 else None

    assert go("import time; time.sleep(1000)", sink=after_a_while)[0].asked_to == "enough"


def test_whoever_cannot_read_on_gets_the_program_ended_before_the_error_arrives(go):
    pids: list[int] = []

    def full(lines: bytes) -> None:
        if lines:
            pids.append(int(lines.split()[0]))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        go(
            "import os, signal, sys, time\nsay = lambda *_: print(os.getpid(), flush=True)\n"
            "signal.signal(15, lambda *_: (say(), sys.exit(0)))\nsay(); time.sleep(1000)",
            sink=full,
        )
    assert len(pids) == 1
    assert not alive(pids[0])


def test_an_interrupt_ends_the_program_and_goes_on(go, tmp_path):
    file = tmp_path / "pid"
    code = f"import os, time; open({str(file)!r} + '.new', 'w').write(str(os.getpid())); os.rename({str(file)!r} + '.new', {str(file)!r}); time.sleep(1000)"

    def interrupt() -> None:
        wait_for(file.exists)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            go(code)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert not alive(int(file.read_text()))


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["no-such-program-anywhere"], "'no-such-program-anywhere': no such program on PATH"),
        (["./nothing"], "/nothing: no such program"),
        (["./text"], "/text: not executable (chmod +x)"),
    ],
)
def test_a_program_that_cannot_start(go, tmp_path, argv, why):
    (tmp_path / "text").write_text("x")
    end, _ = go("", argv=argv)
    assert end.exit_code is None
    assert end.why_not.endswith(why)


def test_a_folder_that_is_not_there(go, tmp_path):
    assert go("", directory=tmp_path / "gone")[0].why_not == f"{tmp_path / 'gone'}: no such folder"


def test_time_is_counted_to_the_last_process(go):
    began = time.perf_counter()
    end, _ = go("pass")
    assert 0 < end.seconds <= time.perf_counter() - began
