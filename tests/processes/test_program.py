"""A program beside us, and what is left once it, we, or its supervisor are gone: nothing."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_gpueval.processes import leftovers
from pytest_gpueval.processes.identity import own_name
from pytest_gpueval.processes.program import MOST_STDIN, Program
from tests.waiting import gone, wait_for

# Says its pid and those of two children, one of which left its session; then waits. "deaf" processes know no signal but KILL.
FAMILY = """
import os, signal, sys, time
deaf = "deaf" in sys.argv
def settle():
    if deaf:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    os.write(1, b"%d\\n" % os.getpid())
    while True:
        time.sleep(1)
for away in (False, True):
    if os.fork() == 0:
        if away:
            os.setsid()
        settle()
settle()
"""


def test_it_reads_what_it_is_told(tmp_path):
    """As much as a pipe takes, also where nobody reads it, or the program has ended."""
    told = b"x" * (MOST_STDIN - 1) + b"\n"
    log = tmp_path / "log"
    for code in ("import sys; print(len(sys.stdin.buffer.readline()))", "pass"):
        with log.open("wb") as file:
            program = Program([sys.executable, "-c", code], output=file.fileno(), environment=os.environ, stdin=told)
        assert program.wait(60) and program.stop() == 0
        assert log.read_text() == (f"{MOST_STDIN}\n" if "sys" in code else "")
    with pytest.raises(ValueError, match="at most 65536"):
        Program(["true"], output=2, environment={}, stdin=told + b"x")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def started(log, *words, grace_s=0.2, environment=None):
    with log.open("wb") as output:
        program = Program([sys.executable, "-c", FAMILY, *words], output=output.fileno(), environment=environment or os.environ, grace_s=grace_s)
    wait_for(lambda: len(log.read_text().split()) == 3)
    return program, [int(word) for word in log.read_text().split()]


@pytest.mark.parametrize("words", [(), ("deaf",)])
def test_stop_ends_all_that_it_started(log, words):
    program, family = started(log, *words)
    assert program.exit_code is None
    assert sorted(process.pid for process in program.processes()) == sorted(family)
    code = program.stop()
    assert gone(family)
    assert code == program.exit_code == program.stop() != 0
    assert program.processes() == []


def test_it_is_known_how_it_ended(log):
    with log.open("wb") as output:
        program = Program([sys.executable, "-c", "import sys; sys.exit(7)"], output=output.fileno(), environment=os.environ)
    assert program.wait(60)
    assert program.stop() == 7


def test_what_cannot_be_run_is_named(log):
    with log.open("wb") as output:
        program = Program(["/no/such/program"], output=output.fileno(), environment=os.environ)
    assert program.wait(60)
    assert program.stop() == 127
    assert "/no/such/program: No such file or directory" in log.read_text()


def test_it_ends_with_whoever_started_it(log):
    source = f"""
        import os, time
        from pytest_gpueval.processes.program import MOST_STDIN, Program
        with open({str(log)!r}, "wb") as output:
            program = Program([{sys.executable!r}, "-c", {FAMILY!r}, "deaf"], output=output.fileno(), environment=os.environ, grace_s=0.2)
        print("up", flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"up\n"
        wait_for(lambda: len(log.read_text().split()) == 3)
        parent.kill()
    wait_for(lambda: gone(map(int, log.read_text().split())))


def test_what_a_killed_supervisor_left_is_found_and_ended(log, tmp_path, monkeypatch):
    """Only what is its own: a program whose supervisor lives stays, and so does what somebody marked by hand with nonsense."""
    program, family = started(log, "deaf")
    other_log = tmp_path / "other"
    other, others = started(other_log)
    odd = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], env={**os.environ, leftovers.MARKER: "nonsense"})
    monkeypatch.setattr(leftovers, "pids", lambda: [*family, *others, odd.pid])  # other tests leave processes too
    monkeypatch.setattr(leftovers, "_TERM_S", 0.2)
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path / "shm")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    try:
        assert leftovers.processes() == []
        os.kill(program._supervisor.pid, signal.SIGKILL)
        program.stop()
        wait_for(lambda: len(leftovers.processes()) == 2)  # its own child is killed with it; what that one started is not
        left = {process.pid for process in leftovers.processes()}
        assert left < set(family)
        said = leftovers.end()
        assert gone(family)
        assert {line.split()[2] for line in said} == {str(pid) for pid in left}
        assert not gone(others)
        assert odd.poll() is None
        assert leftovers.end() == []
    finally:
        odd.kill()
        odd.wait()
        other.stop()


def test_files_that_dead_sessions_left_are_removed(tmp_path, monkeypatch):
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    name = "from pytest_gpueval.processes.identity import own_name; print(own_name())"
    dead = subprocess.run([sys.executable, "-c", name], check=True, capture_output=True, text=True).stdout.strip()
    (shared / f"{dead}.segment").touch()
    (temporary / f"{dead}.models").mkdir()
    (temporary / f"{dead}.models" / "file").touch()
    (temporary / f"{dead}.link").symlink_to(shared)
    mine = shared / f"{own_name()}.segment"
    mine.touch()
    for name in ("psm_theirs", "psm_of_another_since", "psm_not_listed"):
        (shared / name).touch()
    (shared / f"{dead}.segments").write_text(f"{(shared / 'psm_theirs').stat().st_ino} psm_theirs\n1 psm_of_another_since\n1 ../{temporary.name}\n1\n")
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", shared)
    monkeypatch.setattr(leftovers, "processes", list)  # those of other tests are theirs
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(temporary))
    assert len(leftovers.end()) == 4
    assert list(Path(temporary).iterdir()) == []
    assert sorted(shared.iterdir()) == sorted([mine, shared / "psm_of_another_since", shared / "psm_not_listed"])


def test_segments_that_a_program_made_are_removed_by_whoever_finds_us_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "none"))
    (tmp_path / "psm_one").touch()
    (tmp_path / "psm_two").touch()
    source = "from pathlib import Path; from pytest_gpueval.processes import leftovers; leftovers.SHARED_MEMORY = place = Path({!r})\n"
    source += "segments = leftovers.Segments(); segments.add([place / 'psm_one']); segments.add([place / 'psm_one', place / 'psm_two'])\n{}"
    run = [sys.executable, "-c", source.format(str(tmp_path), "import os; os._exit(1)")]
    assert subprocess.run(run).returncode == 1
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr(leftovers, "processes", list)
    assert len(leftovers.end()) == 1
    assert list(tmp_path.iterdir()) == []
    segments = leftovers.Segments()
    (tmp_path / "psm_one").touch()
    segments.add([tmp_path / "psm_one"])
    segments.remove()
    assert list(tmp_path.iterdir()) == []
