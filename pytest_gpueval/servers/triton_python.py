"""The interpreter that runs a Triton server's models: looked at before anything starts, so that what is wrong there has a name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pytest_gpueval.errors import UsageProblem

_PROBE_S = 60.0
# The dynamic loader's exit code.
_NOT_LOADED = 127
_OLDEST = "3.11"
# Set for this process's own interpreter, and wrong for another one.
_OF_THIS_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
# In the other interpreter. It imports neither pytriton nor numpy, nor what reads packages' metadata: that takes long, and may fail.
_PROBE = """
import ctypes, glob, importlib.util, json, os, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
places = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
libdir = next((place for place in places if os.path.exists(os.path.join(place, name))), None)
if libdir is None:
    try:
        ctypes.CDLL(name)
        libdir = ""
    except OSError:
        pass
def folder(package):
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations)[0] if spec and spec.submodule_search_locations else None
numpy = folder("numpy")
about = numpy and glob.glob(os.path.join(glob.escape(os.path.dirname(numpy)), "numpy-*.*-info"))
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "libpython": name, "libdir": libdir, "bin": os.path.dirname(sys.executable),
    "pytriton": folder("pytriton"), "numpy": os.path.basename(about[0]).split("-")[1] if about else None}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter in which Triton's models can run. `libdir` holds its libpython; empty where the system finds it anyway."""

    python: str
    version: str
    libdir: str
    bin: Path
    pytriton: Path

    @property
    def tritonserver(self) -> Path:
        """The server's binary."""
        return self.pytriton / "tritonserver" / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """What the python backend runs for each instance of a model."""
        return self.pytriton / "tritonserver" / "python_backend_stubs" / self.version / "triton_python_backend_stub"

    @property
    def backend(self) -> Path:
        """The python backend's folder."""
        return self.pytriton / "tritonserver" / "backends" / "python"

    @property
    def libraries(self) -> str:
        """Where the dynamic loader looks for what the server and its stubs need."""
        return ":".join(filter(None, [self.libdir, str(self.pytriton.parent / "nvidia_pytriton.libs")]))

    def environment(self, given: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """The environment of the server and its stubs: that of this process, what is `given`, and the way to this interpreter."""
        found = {name: value for name, value in os.environ.items() if name not in _OF_THIS_PYTHON} | dict(given)
        found["LD_LIBRARY_PATH"] = ":".join(filter(None, [self.libraries, found.get("LD_LIBRARY_PATH", "")]))
        # The stub finds the interpreter whose packages it uses by its name on PATH.
        found["PATH"] = f"{self.bin}{os.pathsep}{found.get('PATH', os.defpath)}"
        return found


@cache  # for the next server of this process; what raised is looked at again
def look(python: str) -> Interpreter:
    """What there is in the interpreter `python`. Raises UsageProblem for what is missing, or does not fit."""
    executable = shutil.which(python)
    if executable is None:
        raise UsageProblem(f"Triton's interpreter {python}: no such program.\n{_advice('python3.11')}")
    try:
        said = subprocess.run([executable, "-c", _PROBE], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S, check=True)
        facts = json.loads(said.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        raise UsageProblem(f"Triton's interpreter {python} does not run: {_last_line(error.stderr)}\n{_advice('python3.11')}") from None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise UsageProblem(f"Triton's interpreter {python} does not answer: {error}") from None
    if facts["pytriton"] is None:
        raise UsageProblem(f"Triton's interpreter {python} has no nvidia-pytriton, whose wheel holds the server.\n{_advice(python)}")
    found = Interpreter(executable, facts["version"], facts["libdir"] or "", Path(facts["bin"]), Path(facts["pytriton"]))
    _check(found, numpy=facts["numpy"], libpython=facts["libpython"] if facts["libdir"] is None else None)
    return found


def _check(found: Interpreter, *, numpy: str | None, libpython: str | None) -> None:
    """Raises UsageProblem. `libpython` is the name of the library where it is missing."""
    name = f"Triton's interpreter {found.python}"
    if not found.tritonserver.is_file():
        raise UsageProblem(f"{name}: nvidia-pytriton is there, but {found.tritonserver} is not: another platform's package?\n{_advice(found.python)}")
    stubs = _versions(found)
    if found.version not in stubs:
        raise UsageProblem(
            f"{name} is Python {found.version}, for which there is no stub of the server. Valid versions: {', '.join(stubs)}.\n{_advice('python3.11')}"
        )
    if numpy is None or int(re.match(r"\d+", numpy)[0]) >= 2:  # type: ignore[index] # versions begin with a number
        have = f"numpy {numpy}" if numpy else "no numpy"
        raise UsageProblem(
            f"{name} has {have}; the server's stubs are built for numpy 1 and abort with another.\nInstall it:  {found.python} -m pip install 'numpy<2'"
        )
    if libpython is not None:
        raise UsageProblem(
            f"{name}: its {libpython} was not found, which the server's stubs load. It was built without --enable-shared, or the package is not installed.\n"
            f"Install it (Debian: apt-get install {libpython.partition('.so')[0]}), or take another interpreter."
        )
    # Without an argument it says so and ends; one that cannot even be loaded would leave the server waiting for it.
    said = subprocess.run([found.stub], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S, check=False, env=found.environment())
    if said.returncode == _NOT_LOADED:
        raise UsageProblem(f"{name}: the server's stub cannot be loaded: {_last_line(said.stderr)}")


def _versions(found: Interpreter) -> list[str]:
    """The versions of Python that the wheel has a stub for, and this package's file for models is written for."""
    return [path.name for path in sorted(found.stub.parent.parent.glob("3.??")) if path.name >= _OLDEST]


def _advice(python: str) -> str:
    return f"Make one:  make triton-server, or  {python} -m pip install 'pytest-gpueval[triton-server]'"


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300] or "it says nothing"
