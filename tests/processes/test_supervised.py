"""The command around a supervised program."""

import sys
from pathlib import Path

from pytest_gpueval.processes.command import SUPERVISOR, supervised


def test_the_program_comes_last():
    argv = supervised(["/opt/py", "-u"], leases=[Path("/a"), Path("/b c")], grace_s=1.5, at_once=True, markers={"SESSION": "x y"})
    options = ["--lease", "/a", "--lease", "/b c", "--grace", "1.5", "--at-once", "--marker", "SESSION=x y"]
    assert argv == [sys.executable, "-I", "-S", str(SUPERVISOR), *options, "--", "/opt/py", "-u"]
    assert supervised(["py"])[4:] == ["--grace", "8", "--", "py"]
    assert SUPERVISOR.is_file()
