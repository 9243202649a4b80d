"""All of a file or nothing of it, and words that say what to do."""

import errno
import json
import math
import os
from datetime import UTC, datetime

import pytest

from pytest_gpueval.errors import StorageError
from pytest_gpueval.runs import files


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "summary.json"
    files.write_atomically(path, "old")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=r"summary\.json: cannot be written: Input/output error\.\n.*--gpueval-output-dir"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_atomically(path, "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    sync, asked = os.fsync, []

    def only_files(fd):
        asked.append(fd)
        if len(asked) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(fd)

    monkeypatch.setattr(os, "fsync", only_files)
    files.write_atomically(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"
    assert len(asked) == 2


@pytest.mark.parametrize("place", ["missing/x.json", "file/x.json"])
def test_a_place_that_cannot_hold_files(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"x\.json: cannot be written: (No such file|Not a directory)"):
        files.write_atomically(tmp_path / place, "text")


def test_json_that_python_can_hold_and_json_cannot(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": math.nan, "b": [math.inf, (1.5, None)], "c": "\ud800 ж", "d": -math.inf})
    assert json.loads(path.read_bytes()) == {"a": "nan", "b": ["inf", [1.5, None]], "c": "\ud800 ж", "d": "-inf"}
    files.write_json(path, {"ж": 1})
    assert path.read_text() == '{\n  "ж": 1\n}\n'


def test_backups_of_one_second_get_names_of_their_own(tmp_path):
    path, now = tmp_path / "stdout.log", lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    backups = []
    for number in range(3):
        path.write_text(str(number))
        backups.append(files.back_up(path, now))
        assert not path.exists()
    assert [backup.name for backup in backups] == [f"stdout.log.bak-20260102T030405{tail}" for tail in ("", "-1", "-2")]
    assert [backup.read_text() for backup in backups] == ["0", "1", "2"]
    assert files.back_up(path, now) is None
    assert len(list(tmp_path.iterdir())) == 3


def test_a_backup_needs_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "x").write_text("kept")
    assert files.back_up(tmp_path / "x").read_text() == "kept"
