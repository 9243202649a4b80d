"""The tree in the docstring is the tree of the classes."""

import re

import pytest

from pytest_gpueval import errors
from pytest_gpueval.cli.main import EXIT_CODES
from pytest_gpueval.errors import GpuevalError, MissingExtra, valid_values


def classes():
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GpuevalError)]


def documented():
    """Name -> (depth, exit code), in the order of the docstring."""
    found = re.findall(r"^([│├└─ ]*)([A-Z]\w+) +(\d+)   \S", errors.__doc__, re.MULTILINE)
    return {name: (len(lead) // 4, int(code)) for lead, name, code in found}


def test_every_error_is_in_the_tree_with_its_exit_code():
    assert {name: code for name, (_, code) in documented().items()} == {error.__name__: error.exit_code for error in classes()}


def test_the_tree_is_the_tree_of_the_classes():
    path = []
    for name, (depth, _) in documented().items():
        path[depth:] = [name]
        assert [base.__name__ for base in reversed(getattr(errors, name).__mro__) if issubclass(base, GpuevalError)] == path


@pytest.mark.parametrize("error", classes(), ids=lambda error: error.__name__)
def test_every_exit_code_is_in_the_help_of_the_command(error):
    assert re.search(rf"\b{error.exit_code} \w", EXIT_CODES)
    assert error.__doc__


def test_a_missing_extra_says_what_to_type():
    text = str(MissingExtra("pyyaml", needed_for="the policy file p.yaml", extra="policy"))
    assert text == "the policy file p.yaml needs the package 'pyyaml', which is not installed.\nInstall it with:  pip install 'pytest-gpueval[policy]'"


@pytest.mark.parametrize(
    ("wrong", "valid", "text"),
    [
        ("fats", ["full", "fast"], "Did you mean 'fast'? Valid splits: fast, full."),
        ("x", iter(["full", "fast"]), "Valid splits: fast, full."),
        ("x", [], "There are no splits."),
        ("", {"fast": 1}, "Valid splits: fast."),
    ],
)
def test_valid_values(wrong, valid, text):
    assert valid_values(wrong, valid, what="splits") == text
