"""Workflow commands and step summaries: what they say stays in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.reports import github, markdown
from pytest_gpueval.reports.table import Figure, Row


def test_what_github_reads():
    line = github.annotation("error", "50 % lost\r\n::warning::x", title="a,b: c\nd", file="suites/a,b:c/suite.toml", line=3)
    assert line == "::error file=suites/a%2Cb%3Ac/suite.toml,line=3,title=a%2Cb%3A c d::50 %25 lost%0A::warning::x"
    assert github.annotation("error", "x", title="t", line=3) == "::error title=t::x", "a line is one of a file"


@given(st.text(), st.text(min_size=1), st.text())
def test_nothing_ends_a_command_or_begins_another(text, title, file):
    line = github.annotation("error", text, title=title, file=file)
    assert not {"\r", "\n", "\x1b", "\u202e"} & set(line)
    properties, _, data = line.removeprefix("::error ").partition("::")
    assert "::" not in properties
    assert [part.partition("=")[0] for part in properties.split(",") if part] == [key for key in ("file", "title") if f"{key}=" in line]
    assert len(data) <= 3 * 4000


@given(st.lists(st.text("ab`~#|*é\n", max_size=30), max_size=30).map("\n".join), st.integers(0, 200))
def test_a_shortened_summary_fits_and_closes_what_it_opened(text, room):
    found = github.shortened(text, room, "rest")
    assert len(found.encode()) <= room
    if len(text.encode()) <= room:
        assert found == text
    elif found:
        assert found.endswith("\nrest\n")


def test_a_shortened_summary_closes_its_fence():
    text = "# a\n```text\n" + "line\n" * 100 + "```\nafter\n"
    found = github.shortened(text, 100, "rest")
    assert found.count("```") == 2 and found.endswith("line\n```\n\nrest\n")


def test_a_session_in_a_step_summary_shows_data_as_text():
    """The step summary is the session's Markdown; GitHub renders its HTML."""
    evil = "<img src=x onerror=alert(1)>|`x`\x1b[2J"
    figure = Figure(0.5, 0.4, 0.6)
    row = Row(
        suite="s", case=evil, run_id="r", worker="w", reused=False, ok=False, status="failed", reason=f"```\n</code>{evil}", headline=evil, metrics={evil: figure},
        labels={evil: {"f1": figure}}, scored=1, errors=0, skipped=0, samples_per_s=None, seconds=1.0, tables={evil: {evil: {evil: 1}}},
    )  # fmt: skip
    record = {"session": evil, "suites": [evil], "data": evil, "code": {"commit": evil, "dirty": False}, "host": evil, "started_at": evil}
    text = markdown.session(record, [row])
    assert "\x1b" not in text
    fence = False
    for line in text.splitlines():
        fence ^= line.startswith("```")
        assert fence or "<img" not in line.replace("\\<", "")
