"""A plugin that is installed but not used costs nothing, and all it offers is documented."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pyarrow", "datasets", "torch", "paramiko", "tritonclient", "pydantic", "rich", "typer", "jinja2", "orjson", "pynvml", "filelock"}


def imported(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_the_plugin_imports_nothing_heavy():
    assert imported("import pytest_gpueval.plugin") & HEAVY == set()


def test_a_session_that_does_not_use_the_plugin_imports_nothing_heavy(pytester):
    pytester.makepyfile(
        f"""
        import sys
        import pytest
        @pytest.mark.parametrize("case", [1])
        def test_light(case):
            loaded = {{name.split(".")[0] for name in sys.modules}}
            assert loaded & {HEAVY} == set()
            assert not [name for name in sys.modules if name.startswith("pytest_gpueval.session.") and not name.endswith("settings")]
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:cov").assert_outcomes(passed=1)


def test_options_and_ini_keys_are_in_the_help(pytester):
    from pytest_gpueval.session.settings import OPTIONS

    text = pytester.runpytest_subprocess("--help").stdout.str()
    for option in OPTIONS:
        assert option.flag in text
        assert f"{option.name} (" in text


def test_ini_keys_set_options(pytester):
    pytester.makeini("[pytest]\ngpueval_suite = nowhere\n")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no suite 'nowhere'*"])


def test_fixtures_are_documented(pytester):
    result = pytester.runpytest_subprocess("--fixtures", "-p", "no:cov")
    result.stdout.fnmatch_lines(["*predictions -- *", "*An iterable of (sample, prediction) pairs*"])
