"""The package itself as a wheel, made of its files as they are here: the same files give the same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest_gpueval
from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.sync.rules import Rules
from pytest_gpueval.suites.load import search_path

DISTRIBUTION: Final = "pytest-gpueval"
_ZERO: Final = (1980, 1, 1, 0, 0, 0)
_TAG: Final = "Wheel-Version: 1.0\nGenerator: pytest-gpueval\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file NAME that holds `data`."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Of the data."""
        return hashlib.sha256(self.data).hexdigest()


@cache
def wheel() -> Wheel:
    """The wheel. Raises UsageProblem where this package runs without having been installed."""
    try:
        about = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise UsageProblem(f"{DISTRIBUTION} runs here without having been installed, so it cannot be sent to a host; pip install it") from None
    folder = f"pytest_gpueval-{pytest_gpueval.__version__}.dist-info"
    files = dict(_package())
    files |= {f"{folder}/{name}": (about.read_text(name) or "").encode() for name in ("METADATA", "entry_points.txt")}
    files[f"{folder}/WHEEL"] = _TAG.encode()
    lines = [f"{name},sha256={urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n" for name, data in files.items()]
    files[f"{folder}/RECORD"] = "".join([*lines, f"{folder}/RECORD,,\n"]).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZERO), data, zipfile.ZIP_DEFLATED)
    return Wheel(f"pytest_gpueval-{pytest_gpueval.__version__}-py3-none-any.whl", whole.getvalue())


def _package() -> Iterator[tuple[str, bytes]]:
    """Its modules, and the suites that it ships with."""
    package = Path(pytest_gpueval.__file__).parent
    yield from _below(package, "pytest_gpueval")
    shipped = search_path(package)[-1]
    if shipped.parent != package and shipped.is_dir():
        yield from _below(shipped, "pytest_gpueval/_suites")


def _below(place: Path, name: str) -> Iterator[tuple[str, bytes]]:
    rules = Rules()
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place).as_posix()
        if path.is_file() and not path.is_symlink() and rules.objection(inside, path.stat().st_size) is None:
            yield f"{name}/{inside}", path.read_bytes()
