"""Numbers as people and models write them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.scoring.numbers import Number, equal, last_number

NBSP, NARROW, MINUS = "\u00a0", "\u202f", "\u2212"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("The answer is 42.", 42),
        ("it is 42, so", 42),
        ("3 apples and 4 pears", 4),
        ("#### 72", 72),
        ("x=5", 5),
        ("(5)", 5),
        ("5kg", 5),
        ("-5", -5),
        ("is -5.", -5),
        (f"{MINUS}5", -5),
        ("3-5", 5),
        ("pages 3\u20135", 5),
        ("+7", 7),
        ("007", 7),
        ("1,234.5", 1234.5),
        ("1,234,567", 1234567),
        ("1.234,5", 1234.5),
        ("1.234.567", 1234567),
        ("1.234", 1.234),
        ("1,234", 1234),
        ("1 234 567 рублей", 1234567),
        (f"1{NBSP}234,5", 1234.5),
        (f"1{NARROW}234", 1234),
        ("1'234.50", 1234.5),
        ("1\u2019234", 1234),
        ("1_000_000", 1000000),
        ("3,14", 3.14),
        ("0,125", 0.125),
        ("-0,5", -0.5),
        ("1234,56", 1234.56),
        ("in 2020 100 people", 100),
        ("1,2,3", 3),
        ("1, 2", 2),
        ("-2020 17", 17),
        ("$1,234.50", 1234.5),
        ("-$5", -5),
        ("$-5", -5),
        ("5 €", 5),
        ("5.2₽", 5.2),
        ("1.5e-3", 0.0015),
        ("3E5", 300000),
        (".5", 0.5),
        ("3/4", 0.75),
        ("-3/4", -0.75),
        ("1 3/4 cups", 1.75),
        ("½", 0.5),
        ("2½", 2.5),
        (r"\frac{3}{4}", 0.75),
        (r"$\dfrac{1}{8}$", 0.125),
        (r"\boxed{42}", 42),
        (r"\boxed{1{,}234}", 1234),
        (r"\$5", 5),
        ("on 10/12/2024", 2024),
        ("10:30", 30),
        ("1/0 or 7", 7),
        ("\uff14\uff12", 42),
    ],
)
def test_the_last_number_of_a_text(text, value):
    assert last_number(text) == Number(pytest.approx(value), percent=False)


@pytest.mark.parametrize(("text", "value"), [("50%", 50), ("12,5 %", 12.5), (r"50\%", 50), ("1/2 %", 0.5)])
def test_percent(text, value):
    assert last_number(text) == Number(value, percent=True)


@pytest.mark.parametrize("text", ["", "none", "GPT4", "v1.2.3", "1.2.3", "3/0", "1e999", "9" * 400, "x2", "_5", "-", "%", "\u0664"])
def test_no_number(text):
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("found", "gold", "same"),
    [
        ("50%", "0.5", True),
        ("50%", "50", True),
        ("0.5", "50%", True),
        ("50", "50%", True),
        ("50%", "50%", True),
        ("0.5%", "50%", False),
        ("50%", "5", False),
        ("1000001", "1000000", True),
        ("1000002", "1000000", False),
        ("1e-7", "0", True),
        ("1e-5", "0", False),
        ("-3", "3", False),
        ("2/3", "0.666667", True),
    ],
)
def test_equal_within_a_relative_tolerance(found, gold, same):
    assert equal(last_number(found), last_number(gold), 1e-6) is same


@given(st.floats(-1e12, 1e12, allow_nan=False), st.sampled_from(["{:,.6f}", "{:.6f}", "{:_.6f}"]))
def test_what_python_writes_is_read(value, form):
    written = form.format(value)
    assert last_number(f"so {written}.").value == float(written.replace(",", "").replace("_", ""))


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    last_number(text)


@pytest.mark.parametrize("unit", ["1", "1,", "1 ", "1/", "1.1,", "-", "½", "{,}", r"\frac{", "1e", "1 1/", "("])
def test_the_time_is_proportional_to_the_text(unit):
    """100 times the text may not take 1,500 times as long."""

    def seconds(times):
        text = unit * times
        begin = time.process_time()
        last_number(text)
        return time.process_time() - begin

    short = min(seconds(2_000) for _ in range(5))
    assert seconds(200_000) <= 1_500 * max(short, 1e-5)
