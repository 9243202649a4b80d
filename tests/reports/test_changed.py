"""What a failed gate shows of labels and samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.reports.changed import ChangedLabel, ChangedSample, marked, message


def test_spans_are_marked_where_they_differ():
    text = "x" * 200 + " call Ann Lee now " + "y" * 200
    start = text.index("Ann")
    sample = ChangedSample("r-1", 1.0, 0.0, text, [(start, start + 7, "PERSON")], [[start, start + 3, "PERSON", 0.9]])
    lines = message([ChangedLabel("PERSON", "strict.f1", 0.9, 0.85)], [sample], "pytest x").splitlines()
    assert "  PERSON  strict.f1 0.9000 -> 0.8500 (-0.0500)" in lines
    assert "  r-1  1.000 -> 0.000" in lines
    (right,) = [line for line in lines if line.startswith("    right: ")]
    (now,) = [line for line in lines if line.startswith("    now:   ")]
    assert "... xxx" not in right and " call [PERSON Ann Lee] now y" in right and right.startswith("    right: ...x") and right.endswith("y...")
    assert " call [PERSON Ann] Lee now y" in now
    assert lines[-1] == "  pytest x"


def test_texts_stay_on_their_line_and_steer_nothing():
    sample = ChangedSample("a\nb", None, 0.5, "one\n\x1b[31mtwo\u202e", "yes\nno", "x" * 500)
    lines = message([], [sample], "c").splitlines()
    assert lines[1:5] == ["  a b  - -> 0.500", "    one two", "    right: yes no", f"    now:   {'x' * 137}..."]


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1], "L")), max_size=5)


@given(st.text("ab", min_size=60, max_size=80), SPANS, st.integers(0, 40), st.integers(1, 40))
def test_marks_take_nothing_away(text, spans, first, width):
    stop = min(len(text), first + width)
    found = marked(text, spans, first, stop)
    assert found.replace("[L ", "").replace("]", "").strip(".") == text[first:stop]
