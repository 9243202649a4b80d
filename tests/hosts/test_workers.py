"""The commands that start workers."""

import shlex

import pytest

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.hosts.workers import spec_python


def test_a_spec_survives_execnets_split():
    argv = ["/usr//bin///env", "A=b c", "./x//y", "it's"]
    assert shlex.split(spec_python(argv)) == ["/usr/bin/env", "A=b c", "./x/y", "it's"]


@pytest.mark.parametrize(("argv", "named"), [(["python", "URL=http://x"], "'URL=http://x'"), (["a//b", "python"], "'a//b'"), (["/usr/bin/"], "'/usr/bin/'")])
def test_what_a_spec_cannot_hold_is_named(argv, named):
    with pytest.raises(UsageProblem, match=named):
        spec_python(argv)
