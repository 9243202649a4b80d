"""Which file holds a split, and how it comes to be there."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_gpueval.datasets import cache, sources
from pytest_gpueval.errors import DataError, StorageError, UsageProblem


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A suite with a generator, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = tmp_path / "suite" / "generate.py"
    generator.parent.mkdir()
    generator.write_text("VERSION = 1\n")
    return sources.Location("mine", tmp_path / "suite" / "data", "synthetic", generator)


def write(dataset, split, path):
    pq.write_table(pa.table({"id": [f"{dataset}-{split}"]}), path)


def generator(write):
    return SimpleNamespace(write=write)


def test_a_committed_split_comes_first(where):
    committed = where.directory / "reviews" / "fast.parquet"
    committed.parent.mkdir(parents=True)
    write("reviews", "fast", committed)
    assert sources.locate(where, "reviews", "fast") == committed
    assert sources.ensure(committed, "reviews", "fast", "embedded", None).rows == 1


def test_a_generated_split_lies_in_the_cache(where, tmp_path):
    path = sources.locate(where, "reviews", "full")
    assert path.relative_to(tmp_path / "cache" / "pytest-gpueval" / "mine").parts[1:] == ("reviews", "full.parquet")
    split = sources.ensure(path, "reviews", "full", "embedded: synthetic", generator(write))
    assert next(split.read(["id"])) == {"id": "reviews-full"}
    assert split.origin == "embedded: synthetic"
    assert sources.ensure(path, "reviews", "full", "", None).rows == 1


def test_without_a_generator_the_error_names_the_file(where):
    where = sources.Location("mine", where.directory, "", None)
    path = sources.locate(where, "reviews", "fast")
    assert path == where.directory / "reviews" / "fast.parquet"
    with pytest.raises(DataError, match=r"data/reviews/fast\.parquet: no such file; it should hold split 'fast' of dataset 'reviews'$"):
        sources.ensure(path, "reviews", "fast", "", None)


def test_a_changed_generator_never_meets_its_old_output(where):
    def found():
        return sources.locate(where, "reviews", "full")

    paths = [found()]
    where.generator.write_text("VERSION = 2\n")
    paths.append(found())
    (where.generator.parent / "beside").mkdir()
    (where.generator.parent / "beside" / "rows.py").write_text("")
    paths.append(found())
    (where.generator.parent / "beside" / "rows.py").rename(where.generator.parent / "beside" / "rows2.py")
    paths.append(found())
    assert len(set(paths)) == 4
    (where.generator.parent / "beside" / "rows2.py").unlink()
    (where.generator.parent / "notes.txt").write_text("no source")
    (where.generator.parent / "odd.py").mkdir()
    assert found() == paths[1]


class Stop(BaseException):
    """As KeyboardInterrupt: not an Exception."""


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (ValueError("no seed"), DataError, "the generator of split 'full' of dataset 'reviews' failed: ValueError: no seed"),
        (FileNotFoundError(errno.ENOENT, "No such file", "names.txt"), DataError, "failed: FileNotFoundError: .*names.txt"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "full.parquet: cannot be written: No space left on device.\nXDG_CACHE_HOME"),
        (DataError("as it is"), DataError, "^as it is$"),
        (Stop("stopped"), Stop, "^stopped$"),
    ],
)
def test_a_generator_that_dies_half_way_leaves_nothing(where, failure, expected, message):
    def die(_dataset, _split, path):
        path.write_bytes(b"PAR1 half")
        raise failure

    path = sources.locate(where, "reviews", "full")
    with pytest.raises(expected, match=message):
        sources.ensure(path, "reviews", "full", "", generator(die))
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".lock"] == []
    assert sources.ensure(path, "reviews", "full", "", generator(write)).rows == 1


def test_a_killed_generator_leaves_no_split(where):
    script = f"""
        import os, signal
        from pathlib import Path
        from types import SimpleNamespace
        from pytest_gpueval.datasets import sources
        def write(dataset, split, path):
            path.write_bytes(b"PAR1 half")
            os.kill(os.getpid(), signal.SIGKILL)
        sources.ensure(Path({str(where.directory / "full.parquet")!r}), "reviews", "full", "", SimpleNamespace(write=write))
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode == -9
    path = where.directory / "full.parquet"
    assert not path.exists()
    assert sources.ensure(path, "reviews", "full", "", generator(write)).rows == 1


def test_a_generator_that_writes_nothing(where):
    path = sources.locate(where, "reviews", "full")
    with pytest.raises(DataError, match=r"wrote no file: write\(dataset, split, path\) must write \.parquet"):
        sources.ensure(path, "reviews", "full", "", generator(lambda *_: None))
    with pytest.raises(DataError, match=r"failed: AttributeError: .*'write'"):
        sources.ensure(path, "reviews", "full", "", SimpleNamespace())


def test_a_cache_that_cannot_be_written(where, tmp_path):
    (tmp_path / "cache").write_text("a file where the directory should be")
    path = sources.locate(where, "reviews", "full")
    with pytest.raises(StorageError, match=r"full\.parquet: cannot be written: .*\nXDG_CACHE_HOME"):
        sources.ensure(path, "reviews", "full", "", generator(write))


def test_processes_that_ask_at_once_generate_once(where, tmp_path):
    """Both processes say that they are there before either may ask."""
    path, log = where.directory / "full.parquet", tmp_path / "log"
    script = f"""
        import os, sys
        from pathlib import Path
        from types import SimpleNamespace
        import pyarrow as pa, pyarrow.parquet as pq
        from pytest_gpueval.datasets import sources
        def write(dataset, split, path):
            with open({str(log)!r}, "a") as log:
                log.write("wrote\\n")
            pq.write_table(pa.table({{"id": ["x"] * 7}}), path)
        print("ready", flush=True)
        sys.stdin.readline()
        print(sources.ensure(Path({str(path)!r}), "reviews", "full", "", SimpleNamespace(write=write)).rows)
    """
    argv = [sys.executable, "-c", textwrap.dedent(script)]
    asking = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for process in asking:
            assert process.stdout.readline() == "ready\n"
        for process in asking:
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0] for process in asking] == ["7\n"] * 3
    finally:
        for process in asking:
            process.kill()
            process.wait()
    assert log.read_text() == "wrote\n"


def test_the_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.cache_directory() == Path("/x/pytest-gpueval")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache.cache_directory() == Path("/home/somebody/.cache/pytest-gpueval")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 987_654_321)
    with pytest.raises(UsageProblem, match="set XDG_CACHE_HOME or HOME"):
        cache.cache_directory()
