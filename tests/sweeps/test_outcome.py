"""How a program ended is told apart by its code, its last words and what it left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.suites.sweep_schema import RetryEntry
from pytest_gpueval.sweeps.memory import oom_kills
from pytest_gpueval.sweeps.outcome import End, judge, may_retry, wait_s

TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 9, in <module>
    raise RuntimeError("CUDA out of memory?")
{last}
"""


def end(code: int | None, **more) -> End:
    return End(code, 1.5, **more)


@pytest.mark.parametrize(
    ("given", "tail", "kind", "reason"),
    [
        (end(0), "", "passed", None),
        (end(3), "one\nbad things\n", "exit", "exit code 3; its last line: bad things"),
        (end(-11), "", "signal", "died of SIGSEGV"),
        (end(-40), "", "signal", "died of signal 40"),
        (end(139), "", "exit", "exit code 139 (SIGSEGV)"),
        (end(-9), "", "signal", "died of SIGKILL; nobody of this session sent it, `dmesg` says whether the kernel did"),
        (
            end(-9, oom_kills=1),
            "",
            "host_oom",
            "out of memory (died of SIGKILL): the kernel ended it; the memory limit of this machine or container is too small for it",
        ),
        (
            end(137, oom_kills=2),
            "",
            "host_oom",
            "out of memory (exit code 137 (SIGKILL)): the kernel ended it; the memory limit of this machine or container is too small for it",
        ),
        (end(1, oom_kills=1), "ValueError\n", "exit", "exit code 1; its last line: ValueError"),
        (end(1), "MemoryError\n", "host_oom", "out of memory (exit code 1): MemoryError"),
        (end(1), "numpy.core._exceptions._ArrayMemoryError: cannot\n", "exit", "exit code 1; its last line: numpy.core._exceptions._ArrayMemoryError: cannot"),
        (
            end(-6),
            "terminate called after throwing an instance of 'std::bad_alloc'\n",
            "host_oom",
            "out of memory (died of SIGABRT): terminate called after throwing an instance of 'std::bad_alloc'",
        ),
        (
            end(1),
            TRACEBACK.format(last="torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"),
            "cuda_oom",
            "out of GPU memory (exit code 1): torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
        ),
        (
            end(1),
            "jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying\n",
            "cuda_oom",
            "out of GPU memory (exit code 1): jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying",
        ),
        (end(0), "CUDA out of memory, so the batch was halved\n", "passed", None),
        (end(-15, timed_out_s=1.5), "CUDA out of memory\n", "timeout", "not done after 1.5 s (timeout_s)"),
        (end(-15, asked_to="worse than the median"), "", "stopped", "worse than the median"),
        (end(None, why_not="'nope': no such program on PATH"), "", "not_started", "'nope': no such program on PATH"),
    ],
)
def test_what_is_known_tells_ends_apart(given, tail, kind, reason):
    found = judge(given, tail)
    assert (found.kind, found.reason) == (kind, reason)


def test_a_value_that_is_not_finite_is_the_reason_however_the_program_ended():
    assert judge(end(0), "", diverged="loss nan at step 3").kind == "diverged"
    assert judge(end(-15, asked_to="diverged: loss nan"), "", diverged="loss nan at step 3").reason == "diverged: loss nan at step 3"


def test_exit_code_0_is_not_all_that_a_suite_asks_for():
    assert judge(end(0), "", missing=["model.pt", "a/b"]).reason == "exit code 0, but expected files are missing: model.pt, a/b"
    assert judge(end(0), "", own={"ok": False, "error": "loss  too\nhigh"}).reason == "exit code 0, but its summary.json says ok: false: loss too high"
    assert judge(end(0), "", own={"ok": True}).kind == "passed"
    assert judge(end(0), "", own={}).kind == "passed"
    assert judge(end(1), "", missing=["model.pt"]).reason == "exit code 1"


@given(st.integers(-64, 255), st.text(max_size=50), st.integers(0, 2))
def test_only_code_0_passes_and_all_others_have_a_reason_in_one_line(code, tail, kills):
    found = judge(end(code, oom_kills=kills), tail)
    assert (found.kind == "passed") == (code == 0)
    assert found.reason is None if code == 0 else found.reason and "\n" not in found.reason
    assert found.status == {"passed": "passed", "exit": "failed", "signal": "crashed", "host_oom": "oom", "cuda_oom": "oom"}[found.kind]


def test_retries_are_counted_by_kind_and_wait_twice_as_long_each_time():
    entry = RetryEntry(times=2, on=["signal"], wait_s=1.5, most_wait_s=4.0)
    assert [may_retry(attempt, "signal", entry) for attempt in (1, 2, 3)] == [True, True, False]
    assert not may_retry(1, "exit", entry)
    assert not may_retry(1, "signal", RetryEntry())
    assert [wait_s(attempt, entry) for attempt in (1, 2, 3, 60)] == [1.5, 3.0, 4.0, 4.0]


def test_the_kernels_count_is_found_in_the_own_control_group(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/pod/worker\n")
    root = tmp_path / "fs"
    assert oom_kills(root, own) == 0
    (root / "pod/worker").mkdir(parents=True)
    (root / "memory.events").write_text("oom 9\noom_kill 9\n")
    assert oom_kills(root, own) == 9  # a container's own group is the root that it sees
    (root / "pod/worker/memory.events").write_text("low 0\nhigh 0\nmax 4\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills(root, own) == 2


def test_the_kernels_count_in_version_1(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("11:cpu,cpuacct:/x\n4:memory:/pod\n")
    (tmp_path / "fs/memory/pod").mkdir(parents=True)
    (tmp_path / "fs/memory/pod/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert oom_kills(tmp_path / "fs", own) == 5
