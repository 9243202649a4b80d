"""The JUnit XML of joined sessions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from pytest_gpueval.errors import UsageProblem

if TYPE_CHECKING:
    import junitparser

# What is read is decoded already, so that whatever encoding the text claims is wrong.
_DECLARATION = re.compile(r"\A\ufeff?\s*<\?xml\s[^>]*\?>")
_RUN_DIR = "gpueval.run_dir"


def join(texts: Sequence[str], names: Sequence[str] | None = None, kept: Mapping[str, int] | None = None, directory: str | None = None) -> str:
    """All test cases of JUnit XML files in one <testsuite>, with its totals counted anew.

    A test case that several texts have is taken from the first. Where it belongs to a run, `kept` says from which text (run id -> number of the text),
    and it is in no other: the case and the run directory beside it must tell the same story. `directory` is where runs are now.
    Raises UsageProblem, with the text's name from `names`, for what is no JUnit XML, and for a document type, which can make a parser hang.
    """
    import junitparser  # noqa: PLC0415 - only when sessions are joined

    whole = junitparser.TestSuite("pytest")
    cases: list[junitparser.TestCase] = []
    owner: dict[tuple[str | None, str | None], int] = {}
    suites: list[junitparser.TestSuite] = []
    for number, text in enumerate(texts):
        name = names[number] if names else f"text {number + 1}"
        for suite in _suites(text, name):
            suites.append(suite)
            for case in suite:
                run_dir = _run_dir(case)
                run_id = None if run_dir is None else str(run_dir.value).rpartition("/")[2]
                expected = (kept or {}).get(run_id, number) if run_id is not None else number
                if expected == number and owner.setdefault((case.classname, case.name), number) == number:
                    cases.append(case)
                    if run_dir is not None and directory is not None:
                        run_dir.value = f"{directory}/{run_id}"
    _describe(whole, suites)
    try:
        whole.add_testcases(cases)
        return _written(whole)
    except (ValueError, TypeError, RecursionError) as error:  # times that are no numbers; elements nested without end
        raise UsageProblem(f"the JUnit XML of {', '.join(names or ['these texts'])} cannot be joined: {error}") from None


def _suites(text: str, name: str) -> list[junitparser.TestSuite]:
    """The suites of one text, those inside others excepted: their cases are seen through these."""
    import junitparser  # noqa: PLC0415 - as above

    problem: object
    if "<!DOCTYPE" in text:  # pytest writes none, and escapes what tests print
        problem = "it has a document type (<!DOCTYPE), which pytest does not write"
    else:
        try:
            suites = list(junitparser.JUnitXml.fromstring(_DECLARATION.sub("", text, count=1).encode("utf-8", "surrogatepass")))
            for suite in suites:
                len(suite)  # suites in suites: goes as deep as they do
            return suites
        except (ParseError, SyntaxError, ValueError, RecursionError, junitparser.JUnitXmlError) as error:
            problem = error if str(error) else type(error).__name__
    raise UsageProblem(f"{name}: is no JUnit XML that can be joined: {problem}.\nMove the file away to join the runs without it.")


def _run_dir(case: junitparser.TestCase) -> junitparser.Property | None:
    """The property of a test case that says where its run is."""
    import junitparser  # noqa: PLC0415 - as above

    properties = case.child(junitparser.Properties)
    return next((item for item in properties or () if item.name == _RUN_DIR and item.value), None)


def _describe(whole: junitparser.TestSuite, suites: Sequence[junitparser.TestSuite]) -> None:
    """What the joined suite says of itself: where and since when it ran, and the properties of all."""
    times = sorted(suite.timestamp for suite in suites if suite.timestamp)
    if times:
        whole.timestamp = times[0]
    hosts = list(dict.fromkeys(suite.hostname for suite in suites if suite.hostname))
    if hosts:
        whole.hostname = ", ".join(hosts)
    pairs = dict.fromkeys((item.name, item.value) for suite in suites for item in suite.properties())
    for name, value in pairs:
        whole.add_property(name, value)


def _written(whole: junitparser.TestSuite) -> str:
    import junitparser  # noqa: PLC0415 - as above

    document = junitparser.JUnitXml("pytest tests")
    document.append(whole)
    content: bytes = document.tostring()
    return '<?xml version="1.0" encoding="utf-8"?>' + content.decode()
