"""What a run directory says about the run in it, and how a run may begin there."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpueval.errors import Conflict, StorageError
from pytest_gpueval.runs.directory import COMMAND, LOG, METADATA, RESULTS, SUMMARY, RunDirectory, blocked_message, read_summary
from pytest_gpueval.runs.records import RunMetadata, Summary
from pytest_gpueval.runs.redact import MARK, Redactor

SECRET = "very-secret-value"
COMMAND_LINE = ["pytest", "a b", "--hf-token", "abc"]


def metadata(**changes):
    fields = {
        "run_id": "mine-x", "nodeid": "n", "suite": "mine", "case": "x-fast", "task": "t", "dataset": {"rows": 3, "sha256": "abc"}, "runtime": {"name": "cpu"},
        "model": {}, "scoring": {},
        "policy": {}, "gates": [], "code": {}, "environment": {}, "packages": {}, "python": "3.11", "host": "h", "platform": "p", "worker": "main", "gpus": [],
        "started_at": "now", "plugin_version": "1",
    }  # fmt: skip
    return RunMetadata(**{**fields, **changes})


def summary(status, reason=None):
    return Summary(run_id="mine-x", ok=status == "passed", status=status, reason=reason)


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "session" / "mine-x", Redactor([SECRET]))


def left(directory, status=None, results=None):
    """What an earlier run left."""
    directory.begin(metadata(), COMMAND_LINE, force=False)
    if results is not None:
        directory.results_path.write_bytes(results)
    (directory.path / LOG).write_text("earlier\n")
    if status is not None:
        directory.finish(summary(status))


@pytest.mark.parametrize(
    ("status", "results", "state"),
    [
        (None, None, "new"),
        (None, b'{"id":"a"}\n', "resumable"),
        ("passed", b'{"id":"a"}\n', "finished"),
        ("passed", None, "finished"),
        ("interrupted", b'{"id":"a"}\n{"id', "resumable"),
        ("interrupted", None, "new"),
        ("skipped", None, "new"),
        ("skipped", b'{"id":"a"}\n', "new"),
        *((status, b'{"id":"a"}\n', "blocked") for status in ("failed", "error", "crashed", "oom", "timeout")),
    ],
)
def test_states(directory, status, results, state):
    assert directory.state().state == "new"
    left(directory, status, results)
    assert directory.state().state == state
    if state == "blocked":
        with pytest.raises(Conflict, match=rf"mine-x: {status}\nRun them anew with --gpueval-force"):
            directory.begin(metadata(), COMMAND_LINE, force=False)
        assert directory.state().state == "blocked"
        return
    before = {file.name: file.read_bytes() for file in directory.path.iterdir()}
    assert directory.begin(metadata(), COMMAND_LINE, force=False).state == state
    if state == "finished":
        assert {file.name: file.read_bytes() for file in directory.path.iterdir()} == before
        return
    assert read_summary(directory.path) is None
    assert directory.results_path.exists() == (state == "resumable")
    if state == "resumable":
        assert directory.results_path.read_bytes() == b'{"id":"a"}\n'
    kept = [file.read_bytes() for file in directory.path.glob(f"{RESULTS}.bak-*")]
    assert kept == ([results] if status == "skipped" and results else [])


@pytest.mark.parametrize("status", ["passed", "failed", "interrupted", "skipped", None])
def test_force_backs_up_everything_and_starts_anew(directory, status):
    for _ in range(2):
        left(directory, status, b'{"id":"a"}\n')
        assert directory.begin(metadata(suite="another"), COMMAND_LINE, force=True).state == "new"
        assert {file.name for file in directory.path.iterdir() if ".bak-" not in file.name} == {COMMAND, METADATA}
        directory.begin(metadata(), COMMAND_LINE, force=True)
    backups = [file.name.partition(".bak-")[0] for file in directory.path.iterdir() if ".bak-" in file.name]
    # Each round backs up what was left, and then what its own first beginning wrote; metadata and command are always there.
    assert {name: backups.count(name) for name in set(backups)} == {LOG: 2, RESULTS: 2, METADATA: 4, COMMAND: backups.count(COMMAND)} | (
        {SUMMARY: 2} if status else {}
    )
    assert backups.count(COMMAND) >= 2


@pytest.mark.parametrize("status", [None, "interrupted", "passed"])
def test_another_run_in_the_directory(directory, status):
    left(directory, status, b'{"id":"a"}\n')
    other = metadata(dataset={"rows": 4, "sha256": "abc"}, policy={"threshold": 0.5, "long": "x" * 200}, started_at="later", host="another")
    with pytest.raises(Conflict) as caught:
        directory.begin(other, COMMAND_LINE, force=False)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{directory.path}: holds an earlier run with another dataset and policy:"
    assert lines[1:3] == ["  dataset.rows: 3 there, 4 now", "  policy.threshold: null there, 0.5 now"]
    assert lines[3].startswith('  policy.long: null there, "xxx')
    assert len(lines[3]) < 160
    assert "--gpueval-session" in lines[4]
    assert "--gpueval-force" in lines[4]
    assert directory.results_path.read_bytes() == b'{"id":"a"}\n'


def test_the_same_run_is_recognised_whatever_its_options_hold(directory):
    """NaN equals nothing, a secret is not there to be compared, and JSON has no tuples."""
    options = {"x": math.nan, "y": (1, 2), "z": SECRET, "api_key": "plain", "w": "ж"}
    directory.begin(metadata(runtime=options), COMMAND_LINE, force=False)
    directory.results_path.write_bytes(b'{"id":"a"}\n')
    assert directory.begin(metadata(runtime=options), COMMAND_LINE, force=False).state == "resumable"
    stored = json.loads((directory.path / METADATA).read_text())["runtime"]
    assert stored == {"x": "nan", "y": [1, 2], "z": MARK, "api_key": MARK, "w": "ж"}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"ok": 3}', "\udcff"])
@pytest.mark.parametrize("name", [SUMMARY, METADATA])
def test_files_that_cannot_be_read_are_a_conflict_that_force_solves(directory, name, content):
    left(directory, None, b'{"id":"a"}\n')
    (directory.path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(Conflict, match="--gpueval-force"):
        directory.begin(metadata(), COMMAND_LINE, force=False)
    assert directory.begin(metadata(), COMMAND_LINE, force=True).state == "new"


def test_blocked_runs_are_listed(directory):
    directory.begin(metadata(), COMMAND_LINE, force=False)
    directory.finish(summary("failed", "gates failed\nmore"))
    assert blocked_message([directory.path]).splitlines()[:2] == [
        "1 earlier run(s) in this session did not pass:",
        f"  {directory.path}: failed: gates failed",
    ]


def test_the_command_runs_in_a_shell_with_its_arguments_as_they_were(directory):
    argv = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "it's", "$HOME", "line\nbreak", "--hf-token=abc", f"x{SECRET}", "", "ж*"]
    directory.begin(metadata(), argv, force=False)
    text = (directory.path / COMMAND).read_text()
    assert SECRET not in text
    done = subprocess.run(["sh", str(directory.path / COMMAND)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{['a b', 'it' + chr(39) + 's', '$HOME', 'line' + chr(10) + 'break', f'--hf-token={MARK}', 'x' + MARK, '', 'ж*']}\n"


def test_no_secret_reaches_any_file(directory):
    directory.begin(metadata(nodeid=SECRET, code={SECRET: [SECRET]}), ["x", SECRET], force=False)
    directory.finish(summary("failed", f"because of {SECRET}"))
    assert all(SECRET.encode() not in file.read_bytes() for file in directory.path.iterdir())
    assert read_summary(directory.path).reason == f"because of {MARK}"


def test_a_place_that_cannot_hold_directories(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        RunDirectory(tmp_path / "file" / "run", Redactor()).begin(metadata(), [], force=False)


def test_a_file_system_that_refuses_new_files():
    with pytest.raises(StorageError, match=r"/proc/self/run: cannot be written: "):
        RunDirectory(Path("/proc/self/run"), Redactor()).begin(metadata(), [], force=False)  # root cannot write there either
