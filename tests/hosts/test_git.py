"""Files as a commit has them, of a real repository."""

import subprocess

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts import git, local


def run(root, *argv):
    known = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *known, *argv], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Files below a folder that is not the repository's top; the second commit has others."""
    below = tmp_path / "below"
    (below / "кот").mkdir(parents=True)
    (below / "кот" / "a b\n.bin").write_bytes(b"\x00first\r\n")
    run(tmp_path, "init")
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "-m", "first")
    run(tmp_path, "tag", "-a", "v1", "-m", "v1")
    (below / "кот" / "a b\n.bin").write_bytes(b"second")
    run(tmp_path, "commit", "-am", "second")
    return below


def test_files_of_a_commit(repository):
    first = git.commit("v1", repository)
    assert first == run(repository, "rev-parse", "HEAD~1")
    assert git.names(first, "кот", repository) == ["a b\n.bin"]
    assert git.blob(first, "кот/a b\n.bin", repository) == b"\x00first\r\n", "bytes as they are"
    assert git.blob(git.commit("main", repository), "кот/a b\n.bin", repository) == b"second"


def test_what_a_commit_does_not_have(repository):
    sha = git.commit("HEAD", repository)
    assert git.blob(sha, "кот/nothing", repository) is None
    assert git.blob(sha, "nothing/at/all", repository) is None
    assert git.names(sha, "nothing", repository) == []


@pytest.mark.parametrize("ref", ["", "-x", "--output=stolen", "a b", "a\nb", "HEAD\x00"])
def test_what_is_no_name_of_a_commit(repository, ref):
    with pytest.raises(UsageProblem, match="not the name of a commit"):
        git.commit(ref, repository)
    assert not (repository / "stolen").exists()


@pytest.mark.parametrize("ref", ["nothing", "HEAD:below", "0" * 40])
def test_commits_that_there_are_not(repository, ref):
    with pytest.raises(UsageProblem, match=f"git:{ref}: there is no such commit"):
        git.commit(ref, repository)


def test_no_repository(tmp_path):
    with pytest.raises(UsageProblem, match=r"is in no git repository that can be read \(fatal: "):
        git.commit("HEAD", tmp_path)


def test_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageProblem, match=r"is in no git repository that can be read \(git: No such file or directory\)"):
        git.commit("HEAD", tmp_path)


def test_how_programs_end(tmp_path):
    assert local.call(["sh", "-c", "printf out; printf said >&2; exit 3"], tmp_path) == local.Done(3, b"out", "said")
    assert local.call(["sleep", "60"], tmp_path, 0.1).said == "sleep took longer than 0.1 s"
    assert local.run(["sh", "-c", "echo x; exit 1"], tmp_path) is None
    assert local.run(["echo", "x"], tmp_path) == "x\n"
