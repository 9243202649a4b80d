"""Files as a commit has them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pytest_gpueval.errors import UsageProblem

from . import local

# A blob may have to come from a remote, where the clone has left it there.
_TIMEOUT_S = 120.0


def commit(ref: str, root: Path) -> str:
    """The commit that a branch, tag or hash names, as 40 hexadecimal digits. Raises UsageProblem."""
    if not ref or ref.startswith("-") or any(character.isspace() or not character.isprintable() for character in ref):
        raise UsageProblem(f"git:{ref}: not the name of a commit; give a branch, a tag or a hash, such as git:main or git:v1.2")
    if local.call(["git", "rev-parse", "--git-dir"], root).code != 0:
        said = local.call(["git", "rev-parse", "--git-dir"], root).said
        raise UsageProblem(f"git:{ref}: {root} is in no git repository that can be read ({_first(said)})")
    found = local.call(["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"], root)
    if found.code != 0:
        raise UsageProblem(
            f"git:{ref}: there is no such commit in the repository of {root}.\n"
            f"See `git branch --all` and `git tag`; a clone that is not whole gets it with: git fetch origin {ref}"
        )
    return found.output.decode().strip()


def names(sha: str, folder: str, root: Path) -> list[str]:
    """The names of what a commit has in a folder below `root`; none where it has no such folder. Raises UsageProblem."""
    done = local.call(["git", "ls-tree", "-z", "--name-only", sha, f"./{folder}/"], root, _TIMEOUT_S)
    if done.code != 0:
        raise UsageProblem(f"git:{sha[:12]}: {folder} cannot be listed: {_first(done.said)}")
    return [PurePosixPath(name).name for name in done.output.decode("utf-8", "replace").split("\0") if name]


def blob(sha: str, path: str, root: Path) -> bytes | None:
    """A file below `root` as a commit has it; None where it has none. Raises UsageProblem."""
    folder, _, name = path.rpartition("/")
    if name not in names(sha, folder, root):
        return None
    done = local.call(["git", "cat-file", "blob", f"{sha}:./{path}"], root, _TIMEOUT_S)
    if done.code != 0:
        raise UsageProblem(f"git:{sha[:12]}: {path} cannot be read: {_first(done.said)}")
    return done.output


def _first(said: str) -> str:
    return said.strip().partition("\n")[0] or "git said nothing"
