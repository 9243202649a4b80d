"""A repository to send, and what came of it."""

import os
import subprocess
from pathlib import Path

from pytest_gpueval.hosts.detached import bundle
from pytest_gpueval.hosts.sync import request

CANARY = "canary-8d1f0c6b"
NAMES = ["a b.py", "-rf", "new\nline.py", "кот.py", "back\\slash", "quote'\".py", "\udcff.bin", "~", "*", "{x}", "deep/er/than/that.py", "empty"]
_STEP = 'def step(name: str) -> None:\n    """Where tests cut the work off."""\n'


def git(root, *words):
    subprocess.run(["git", "-C", root, "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True, capture_output=True)


def repository(root):
    """Tracked, untracked, ignored, secret, linked and executable files, some of them called strangely."""
    for name in NAMES:
        place = Path(root, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"" if name == "empty" else os.fsencode(name) * 50)
    (root / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (root / "run.sh").chmod(0o755)
    (root / "twice.py").write_text("same")
    (root / "again.py").write_text("same")
    (root / "link").symlink_to("deep/er")
    (root / "deep/up").symlink_to("../run.sh")
    (root / ".gitignore").write_text("ignored/\n*.log\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    (root / "untracked.py").write_text("x = 1\n")
    for name in (".env", ".env.eval", "sub/.envrc", "ignored/secret", "x.log", ".venv/pyvenv.cfg", ".venv/lib/mod.py", "key.pem", ".netrc"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(CANARY)
    return root


def shape(root):
    """What is below a directory: kind, content and mode of each."""
    found = {}
    for directory, folders, files in os.walk(root):
        for name in [*files, *folders]:
            path = Path(directory, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("link", str(path.readlink()))
            elif path.is_file():
                found[key] = ("x" if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else "f", path.read_bytes())
    return found


def stepping(code):
    """An agent that does this at each step."""
    text = bundle.joined(*request.CODE)
    assert _STEP in text
    return text.replace(_STEP, f"def step(name):\n{code}\n")
