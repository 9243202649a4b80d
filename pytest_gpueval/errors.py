"""One tree of errors. Each carries its exit code for `gpueval`; under pytest each is one message without a traceback.

GpuevalError                1   anything below
├── UsageProblem            2   an option, a name or a suite file is wrong; nothing was started
│   ├── SuiteError          2   suite.toml or a file it names
│   └── MissingExtra        2   the request needs a package that is not installed
├── DataError               1   a split is missing, damaged, or holds a row that breaks its schema
├── RuntimeFault            1   the model or its server broke its contract
│   └── ModelFault          1   the model's own code, or what it is asked, is wrong: another attempt would end the same
├── GateFailure             1   the gates said no
├── Unreachable             3   a driver or a host does not answer
│   └── Offline             3   what is needed is not here, and the user forbids to ask for it
├── AccessDenied            4   somebody answers, but not to this account
├── StorageError            1   the output directory cannot be written
└── Conflict                5   somebody else, or an earlier run, owns the directory or the GPU; sessions contradict each other
"""

from __future__ import annotations

from collections.abc import Iterable


class GpuevalError(Exception):
    """Base of all errors a user can meet. The text is the whole message: what, where, valid values, next step."""

    exit_code = 1
    # Whether it says something of the machines, not of what is evaluated: sessions with no other failure are told apart, and may try again.
    infrastructure = False


class UsageProblem(GpuevalError):
    """An option, a name or a file given by the user is wrong; nothing has been started."""

    exit_code = 2


class SuiteError(UsageProblem):
    """A suite file, or a file it names, is wrong."""


class MissingExtra(UsageProblem):
    """A package is needed that only an extra installs."""

    def __init__(self, package: str, *, needed_for: str, extra: str) -> None:
        super().__init__(f"{needed_for} needs the package {package!r}, which is not installed.\nInstall it with:  pip install 'pytest-gpueval[{extra}]'")


class DataError(GpuevalError):
    """A split is missing, damaged, or holds a row that breaks its schema."""


class RuntimeFault(GpuevalError):
    """The model, or the server that holds it, broke its contract."""

    infrastructure = True


class ModelFault(RuntimeFault):
    """The model's own code, or what it is asked, is wrong: another attempt would end the same."""

    infrastructure = False


class GateFailure(GpuevalError):
    """At least one gate of a case said no. The text is the table of its verdicts."""


class Unreachable(GpuevalError):
    """A driver, a server or a host does not answer."""

    exit_code = 3
    infrastructure = True


class Offline(Unreachable):
    """What is needed is not here, and the user forbids to ask for it: no machine has failed."""

    infrastructure = False


class AccessDenied(GpuevalError):
    """No token, a wrong one, or an account that may not do this."""

    exit_code = 4


class StorageError(GpuevalError):
    """The output directory cannot be written: read-only, full, or gone."""

    infrastructure = True


class Conflict(GpuevalError):
    """Another session, or an earlier run, owns the directory or the GPU; or sessions that are to be joined contradict each other."""

    exit_code = 5


def valid_values(wrong: str, valid: Iterable[str], *, what: str) -> str:
    """The tail of an error about a name: the nearest match, then every valid name.

    >>> valid_values("fats", ["fast", "full"], what="splits")
    "Did you mean 'fast'? Valid splits: fast, full."
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only when something is wrong

    names = sorted(valid)
    close = get_close_matches(wrong, names, n=1)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    listing = f"Valid {what}: {', '.join(names)}." if names else f"There are no {what}."
    return guess + listing
