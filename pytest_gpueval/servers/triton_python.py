"""The interpreter that runs a Triton server's models: looked at before anything starts, so that what is wrong there has a name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_gpueval.errors import UsageProblem

_PROBE_S = 60.0
# In the other interpreter. It imports neither pytriton nor numpy: that takes a second, and may fail.
_PROBE = """
import ctypes, importlib.metadata as metadata, importlib.util as util, json, os, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
directories = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
found = next((place for place in directories if os.path.exists(os.path.join(place, name))), None)
if found is None:
    try:
        ctypes.CDLL(name)
        found = ""
    except OSError:
        pass
def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
spec = util.find_spec("pytriton")
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "libpython": name, "libdir": found, "bin": os.path.dirname(sys.executable),
    "pytriton": list(spec.submodule_search_locations)[0] if spec else None, "numpy": version("numpy")}))
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


def look(python: str) -> Interpreter:
    """What there is in the interpreter `python`. Raises UsageProblem for what is missing, or does not fit."""
    executable = shutil.which(python)
    if executable is None:
        raise UsageProblem(f"Triton's interpreter {python}: no such program.\n{_advice('python3.11')}")
    try:
        said = subprocess.run([executable, "-c", _PROBE], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S, check=True)  # noqa: S603 - an argv list
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
    if not found.stub.is_file():
        stubs = sorted((path.name for path in found.stub.parent.parent.glob("3.*")), key=lambda version: int(version.partition(".")[2]))
        raise UsageProblem(f"{name} is Python {found.version}, for which the server has no stub. Valid versions: {', '.join(stubs)}.\n{_advice('python3.11')}")
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


def _advice(python: str) -> str:
    return f"Make one:  make triton-server, or  {python} -m pip install 'pytest-gpueval[triton-server]'"


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300] or "it says nothing"
