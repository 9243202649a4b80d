"""The commands that start workers."""

import shlex
import sys
from pathlib import Path

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.workers import SUPERVISOR, spec_python, supervised


def test_a_command_ends_in_the_workers_python():
    argv = supervised("/opt/py", leases=[Path("/a"), Path("/b c")], grace_s=1.5, markers={"SESSION": "x y"})
    options = ["--lease", "/a", "--lease", "/b c", "--grace", "1.5", "--marker", "SESSION=x y"]
    assert argv == [sys.executable, "-I", "-S", str(SUPERVISOR), *options, "--", "/opt/py"]
    assert supervised("py")[4:] == ["--grace", "8", "--", "py"]
    assert SUPERVISOR.is_file()


def test_a_spec_survives_execnets_split():
    argv = ["/usr//bin///env", "A=b c", "./x//y", "it's"]
    assert shlex.split(spec_python(argv)) == ["/usr/bin/env", "A=b c", "./x/y", "it's"]


@pytest.mark.parametrize(("argv", "named"), [(["python", "URL=http://x"], "'URL=http://x'"), (["a//b", "python"], "'a//b'"), (["/usr/bin/"], "'/usr/bin/'")])
def test_what_a_spec_cannot_hold_is_named(argv, named):
    with pytest.raises(UsageProblem, match=named):
        spec_python(argv)
