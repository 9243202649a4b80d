"""JUnit XML of several sessions becomes one suite, whatever it claims to be."""

import time
import xml.etree.ElementTree as ET

import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.errors import UsageProblem
from pytest_gpueval.reports import junit


def case(name, *, run=None, inner="", seconds="0.5", classname="suites.toy.suite.toml"):
    place = f'<properties><property name="gpueval.run_dir" value="{run}" /></properties>' if run else ""
    return f'<testcase classname="{classname}" name="{name}" time="{seconds}">{place}{inner}</testcase>'


def document(*cases, attributes='timestamp="2026-01-02T00:00:00" hostname="a"', before=""):
    return (
        '<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">'
        f'<testsuite name="pytest" tests="99" failures="99" {attributes}>{before}{"".join(cases)}</testsuite></testsuites>'
    )


FAILED = '<failure message="no">no</failure>'


def read(text):
    (suite,) = junitparser.JUnitXml.fromstring(text.encode())
    return suite


def test_totals_are_counted_anew():
    one = document(case("a"), case("b", inner=FAILED), before='<properties><property name="k" value="v" /></properties>')
    two = document(case("c", inner='<skipped message="s" />'), case("d", inner='<error message="e">e</error>'), attributes='timestamp="2026-01-01" hostname="b"')
    suite = read(junit.join([one, two]))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped, suite.time) == (4, 1, 1, 1, 2.0)
    assert [case.name for case in suite] == ["a", "b", "c", "d"]
    assert (suite.timestamp, suite.hostname) == ("2026-01-01", "a, b")
    assert [(item.name, item.value) for item in suite.properties()] == [("k", "v")]


def test_a_case_that_occurs_twice_is_that_of_the_run_that_is_kept():
    one = document(case("x", run="/m/one/toy-x", inner=FAILED), case("y", run="/m/one/toy-y"), case("plain"))
    two = document(case("x", run="/m/two/toy-x"), case("y", run="/m/two/toy-y", inner=FAILED), case("plain", inner=FAILED))
    suite = read(junit.join([one, two], ["one", "two"], {"toy-x": 1, "toy-y": 0}, "/joined"))
    assert (suite.tests, suite.failures) == (3, 0)
    places = [item.value for case in suite for item in case.child(junitparser.Properties) or ()]
    assert sorted(places) == ["/joined/toy-x", "/joined/toy-y"]
    gone = read(junit.join([one, two], ["one", "two"], {"toy-x": -1, "toy-y": 0}))
    assert "x" not in {case.name for case in gone}, "the kept run's session left no JUnit XML: another session's case is another run"


def test_a_failure_and_a_broken_teardown_are_two_cases_of_one_name():
    text = document(case("x", inner=FAILED), case("x", inner='<error message="e" />'))
    suite = read(junit.join([text, text]))
    assert (suite.tests, suite.failures, suite.errors) == (2, 1, 1)


def test_suites_in_suites_and_a_suite_as_root():
    nested = "<testsuites><testsuite><testsuite>" + case("a") + "</testsuite>" + case("b") + "</testsuite></testsuites>"
    root = "<testsuite>" + case("c") + "</testsuite>"
    assert {case.name for case in read(junit.join([nested, root]))} == {"a", "b", "c"}
    assert read(junit.join([document()])).tests == 0


def test_text_survives():
    hostile = "&lt;script&gt; &amp; &lt;!DOCTYPE html&gt; тест 🙂 &#10;"
    suite = read(junit.join([document(case("a", inner=f'<failure message="{hostile}">{hostile}</failure>'))]))
    (found,) = suite
    assert found.result[0].text == "<script> & <!DOCTYPE html> тест 🙂 \n"


BOMB = '<!DOCTYPE x [<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)) + "]><testsuites>&a11;</testsuites>"


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        '<?xml version="1.0"?>' + BOMB,
        "<!-- first -->" + BOMB,
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x"><testsuites/>',
        "",
        "no xml",
        "<a/>",
        "<testsuites>",
        "<testsuites>" + "<testsuite>" * 50_000 + "</testsuite>" * 50_000 + "</testsuites>",
        document("<a>" * 50_000 + "</a>" * 50_000, case("b", inner="<a>" * 50_000 + "</a>" * 50_000)),
        document(case("a", seconds="long")),
        '<?xml version="1.0" encoding="utf-16"?><a/>',
        "\x00",
    ],
    ids=range(13),
)
def test_what_cannot_be_joined_is_one_message(text):
    started = time.monotonic()
    with pytest.raises(UsageProblem, match=r"s/junit\.xml.*cannot be joined|s/junit\.xml: is no JUnit XML"):
        junit.join([document(), text], ["r/junit.xml", "s/junit.xml"])
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("declared", ["utf-16", "utf-7", "cp037", "klingon"])
def test_a_declared_encoding_that_is_wrong_by_now(declared):
    assert read(junit.join([document(case("ж")).replace("utf-8", declared)])).tests == 1


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), max_size=4))
def test_every_case_is_there_once(parts):
    suite = ET.fromstring(junit.join([document(*map(case, part)) for part in parts]))[0]
    names = [found.get("name") for found in suite]
    assert sorted(names) == sorted({name for part in parts for name in part})
    assert suite.get("tests") == str(len(names))
