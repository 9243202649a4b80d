"""Python environments for hosts, made without an index: what this machine has, under another roof."""

import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

# A build backend that stands in the project itself, so that `pip install -e .` needs nothing.
BACKEND = """
import zipfile
def build_editable(directory, config_settings=None, metadata_directory=None):
    return made(directory)
def build_wheel(directory, config_settings=None, metadata_directory=None):
    return made(directory)
def made(directory):
    import os
    name = "theirs-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("theirs.pth", os.getcwd() + "\\n")
        wheel.writestr("theirs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: theirs\\nVersion: 1.0\\n")
        wheel.writestr("theirs-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("theirs-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = '[project]\nname = "theirs"\nversion = "1.0"\n[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def packages(place):
    """A folder with all that is installed here, but this package."""
    place.mkdir()
    for folder in {sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages")), *site.getsitepackages()}:
        for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
            name = path.name.lower()
            if not name.startswith(("pytest_gpueval", "__editable__", "_pytest_gpueval", "pip")) and path.suffix != ".pth" and not (place / path.name).exists():
                (place / path.name).symlink_to(path)
    return place


def wheel_of(folder, place):
    """A wheel that brings a folder along."""
    path = place / "everything-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("everything.pth", f"{folder}\n")
        wheel.writestr("everything-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: everything\nVersion: 1.0\n")
        wheel.writestr("everything-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("everything-1.0.dist-info/RECORD", "")
    return path


def bare(place, folder):
    """An interpreter that has these packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (next(place.glob("lib/python3*/site-packages")) / "all.pth").write_text(f"{folder}\n")
    return place / "bin" / "python"
