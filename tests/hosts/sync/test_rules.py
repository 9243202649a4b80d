"""What is code: by name, by size, and as hosts.toml says."""

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.local import LocalHost
from pytest_gpueval.hosts.sync.request import ask
from pytest_gpueval.hosts.sync.rules import CodeEntry, Rules, environments

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "size", "found"),
    [
        ("a.py", 10 * MIB, None),
        ("a.py", 10 * MIB + 1, "10.0 MiB (max_file_mib = 10)"),
        ("suites/x/fast.parquet", 5 * MIB, None),
        ("suites/x/fast.parquet", 6 * MIB, "data of 6.0 MiB (max_data_mib = 5)"),
        ("weights/M.SafeTensors", 2 * MIB, "a model of 2.0 MiB (max_model_mib = 1)"),
        ("weights/tiny.pt", MIB, None),
        ("environment.py", 1, None),
        ("a/.git/config", 1, "version control"),
        ("a/.env", 1, "may hold secrets, which stay here"),
        (".envrc", 1, "may hold secrets, which stay here"),
        ("certs/x.pem", 1, "may hold secrets, which stay here"),
        ("a/__pycache__/x.pyc", 1, "a cache"),
        ("v/lib/x.py", 1, "a virtual environment"),
        ("very/x.py", 1, None),
    ],
)
def test_the_rules(path, size, found):
    said = Rules(environments=environments(["v/pyvenv.cfg", "v/lib/x.py"])).objection(path, size)
    assert (None if said is None else said[1]) == found


def test_a_folder_is_named_once():
    rules = Rules()
    assert {rules.objection(f"a/.git/{name}", 1) for name in "xyz"} == {("a/.git/", "version control")}
    assert rules.objection("a/.git", None) == ("a/.git/", "version control")
    assert rules.objection("a/.git", 1) == ("a/.git", "version control"), "of a worktree, a file"


def test_include_and_exclude():
    rules = Rules(CodeEntry(include=["keys/*.pem", "big.bin", "wandb", ".env", "id_rsa"], exclude=["docs", "*.mp4", "a/*/c.py", "/top.py"]))
    sent = ["keys/x.pem", "x/big.bin", "wandb/run/x", "my docs/x", "adocs", "a/c.py", "b/a/x/c.py"]
    assert [path for path in sent if rules.objection(path, 20 * MIB if "big" in path else 1)] == []
    left = ["docs/x.md", "x/docs/y/z", "film.mp4", "a/b/c.py", "a/b/d/c.py", "top.py", ".env", "x/.env", "id_rsa", "other.pem"]
    assert [path for path in left if not rules.objection(path, 1)] == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a//b", "a/./b", "", "a/../../b", "x\0y"])
def test_the_agent_takes_no_name_that_leads_elsewhere(tmp_path, path):
    message = {"do": "look", "root": str(tmp_path / "there"), "runs": "~", "tree": "0" * 64, "dry": False, "about": {}}
    with pytest.raises(UsageProblem, match="no file below the directory"):
        ask(LocalHost(), "python3", {**message, "manifest": [[path, "f", "0" * 64, 1]]}, timeout_s=60)
    with pytest.raises(UsageProblem, match="not the hash of a tree"):
        ask(LocalHost(), "python3", {**message, "tree": "../../x", "manifest": []}, timeout_s=60)
    assert not (tmp_path / "there").exists()
