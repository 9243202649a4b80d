"""GPUs for machines without any: stand-ins for NVIDIA's libraries, compiled here, beneath the real nvidia-ml-py.

    libraries = build(tmp_path)
    environment = environment(libraries, count=8, utilization=[0, 97], mig={2: 3})
    subprocess.run([sys.executable, "-m", "pytest", "--gpus", "0-7"], env=environment)
    change(environment, memory_used_mib={1: 40000}, fail={"nvmlDeviceGetUtilizationRates": 15})

What can be set is listed at the head of `tests/gpus/fake_nvml.c` and `fake_cuda.c`. A value is one for all GPUs; a list, one for each; a
mapping, one for each key.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).parent / "gpus"
STATE = "FAKE_GPUS_STATE"


def build(directory: Path) -> Path:
    """Compile both libraries below `directory`, each in a folder of its own. Raises RuntimeError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("these tests need a C compiler (Debian: apt-get install gcc libc6-dev)")
    for source, folder, name in (("fake_nvml.c", "nvml", "libnvidia-ml.so.1"), ("fake_cuda.c", "cuda", "libcuda.so.1")):
        (directory / folder).mkdir(parents=True, exist_ok=True)
        flags = ["-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
        done = subprocess.run([compiler, *flags, "-o", directory / folder / name, SOURCES / source], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{source} does not compile:\n{done.stderr}")
    return directory


def environment(library_dir: Path, count: int = 1, *, cuda: bool = False, base: Mapping[str, str] = os.environ, **values: object) -> dict[str, str]:
    """`base` with `count` GPUs in it, for a subprocess; with a CUDA driver too where `cuda`. CUDA_VISIBLE_DEVICES and leases do not leak in."""
    handle, state = tempfile.mkstemp(prefix="state-", dir=library_dir)
    os.close(handle)
    leases = tempfile.mkdtemp(prefix="leases-", dir=library_dir)
    folders = [str(library_dir / "nvml"), *([str(library_dir / "cuda")] if cuda else []), *filter(None, [base.get("LD_LIBRARY_PATH")])]
    inherited = {key: value for key, value in base.items() if key != "CUDA_VISIBLE_DEVICES"}
    made = {**inherited, "LD_LIBRARY_PATH": ":".join(folders), STATE: state, "GPUEVAL_LEASE_DIR": leases}
    change(made, count=count, **values)
    return made


def change(environment: Mapping[str, str], **values: object) -> None:
    """Set values, also while a process runs on them; None takes one back."""
    state = Path(environment[STATE])
    lines = dict(line.split("=", 1) for line in state.read_text().splitlines())
    for key, value in values.items():
        per = dict(enumerate(value)) if isinstance(value, list) else value if isinstance(value, Mapping) else None
        for name, one in [(key, value)] if per is None else [(f"{key}.{number}", one) for number, one in per.items()]:
            if one is None:
                lines.pop(name, None)
            else:
                lines[name] = str(one)
    draft = state.with_suffix(".draft")
    draft.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    draft.replace(state)  # a reader meets the old values or the new ones, never half
