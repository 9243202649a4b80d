"""Reports show what hostile names and messages say, and do nothing of it."""

import re
from html.parser import HTMLParser

import pytest

from pytest_gpueval.reports import markdown
from pytest_gpueval.reports.session_page import CasePage
from pytest_gpueval.reports.session_page import page as session_page
from pytest_gpueval.reports.table import BESIDE, HEADERS, Beside, Figure, Row, columns, plain, value_with_interval

HOSTILE = (
    "<script>alert('x')</script> a|b `c` ``` *d* [e](https://evil.example) &lt; "
    "\x1b[31mred\x1b[0m \x1b]8;;https://evil.example\x07 \u202eback {{ 7*7 }} \x00"
)


def row(**changes):
    fields = {
        "suite": "mine", "case": "reviews-fast", "run_id": "mine-reviews-fast", "worker": "gpu0", "reused": False, "ok": True, "status": "passed",
        "reason": None, "headline": "f1", "metrics": {"f1": Figure(0.9123, 0.9, 0.92), "recall": Figure(None, None, None)}, "labels": {}, "scored": 1200,
        "errors": 0, "skipped": 0, "samples_per_s": 56.4, "seconds": 3.21,
    }  # fmt: skip
    return Row(**{**fields, **changes})


def record(**changes):
    code = {"commit": "0123456789abcdef", "dirty": True}
    return {"session": "nightly", "suites": ["mine"], "data": "embedded", "code": code, "host": "h", "started_at": "2026-01-02T03:04:05+00:00", **changes}


def html(record, rows, sections=()):
    """The page without its style and its script, which are constants."""
    page = session_page(record, [CasePage(row) for row in rows], sections)
    page = re.sub(r"<style>.*?</style>", "", page, count=1, flags=re.DOTALL)
    return page[: page.rindex("<script>")] + page[page.rindex("</script>") + len("</script>") :]


class Page(HTMLParser):
    """What a browser makes of it: tags that are open, attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = [], [], [], ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data):
        self.text += data


def test_cells():
    assert row().cells() == ("reviews-fast", "1,200", "f1", "0.912 [0.900, 0.920]", "56", "passed, no gates")
    cells = row(errors=2, skipped=1, reused=True, samples_per_s=None, headline=None).cells()
    assert cells == ("reviews-fast", "1,200 (2 errors, 1 skipped)", "-", "-", "-", "passed, no gates, reused")


@pytest.mark.parametrize(
    ("figure", "text"),
    [(None, "-"), (Figure(None, None, None), "-"), (Figure(0.5, None, None), "0.500"), (Figure(1.0, 0.99, 1.0), "1.000 [0.990, 1.000]")],
)
def test_values(figure, text):
    assert value_with_interval(figure) == text


def test_markdown():
    text = markdown.session(record(), [row(), row(case="other-fast", ok=False, status="failed", reason="gates failed\n  f1 0.1", reused=True)])
    assert text == (
        "# nightly\n"
        "\n"
        "Suites mine · data embedded · commit 0123456789ab (with uncommitted changes) · host h · 2026-01-02T03:04:05+00:00\n"
        "\n"
        "| dataset | rows | metric | value [95 % CI] | samples/s | verdict |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| reviews-fast | 1,200 | f1 | 0.912 \\[0.900, 0.920\\] | 56 | passed, no gates |\n"
        "| other-fast | 1,200 | f1 | 0.912 \\[0.900, 0.920\\] | 56 | failed, no gates, reused |\n"
        "\n"
        "## other-fast: failed\n"
        "\n"
        "```text\n"
        "gates failed\n"
        "  f1 0.1\n"
        "```\n"
    )


def test_markdown_of_hostile_text():
    hostile = row(case=HOSTILE, status="failed", reason=f"first\n{HOSTILE}\n```\n# not a heading", labels={HOSTILE: {"f1": Figure(None, None, None)}})
    text = markdown.session(record(session=HOSTILE, suites=[HOSTILE], host=HOSTILE, data=HOSTILE), [hostile])
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    fenced = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(fenced) == 1
    assert fenced[0].endswith("'''\n# not a heading\n")
    outside = text.replace(fenced[0], "")
    assert not re.search(r"(?<!\\)<", outside)
    assert not re.search(r"(?<!\\)&", outside)
    assert outside.count("\n# ") == 0
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("| ")]
    assert columns == [len(HEADERS) + 1] * 3 + [3] * 3


def test_markdown_outside_git():
    assert "commit unknown · host" in markdown.session(record(code={"commit": None, "dirty": None}), [])
    assert "commit unknown · host" in markdown.session(record(code={}), [])


def test_html():
    labels = {"A": {"f1": Figure(0.5, None, None)}, "B": {"recall": Figure(0.25, 0.2, 0.3)}}
    page = Page(html(record(), [row(labels=labels), row(case="other-fast", ok=False, status="failed", reason="why it failed", reused=True)]))
    assert page.open == []
    words = " ".join(page.text.split())
    assert "commit 0123456789ab (with uncommitted changes)" in words
    assert "failed, no gates, reused" in words
    assert "why it failed" in words
    assert "label recall F1 A - 0.500 B 0.250 [0.200, 0.300] -" in words
    assert "commit unknown" in " ".join(Page(html(record(code={}), [])).text.split())


def test_html_of_hostile_text():
    figures = {HOSTILE: Figure(1, None, None)}
    hostile = row(case=HOSTILE, run_id=HOSTILE, worker=HOSTILE, reason=HOSTILE, labels={HOSTILE: figures}, metrics=figures)
    source = html(record(session=HOSTILE, suites=[HOSTILE], host=HOSTILE, data=HOSTILE), [hostile])
    page = Page(source)
    assert "script" not in page.tags
    assert page.text.count("<script>alert('x')</script> a|b `c`") >= 10
    assert "{{ 7*7 }}" in page.text
    assert not set("\x1b\x00\u202e") & set(source)


SERIES = {"t_s": [0.0, 1.0, 2.0], "utilization": [0, 100, None], "memory_mib": [1024, 2048, None], "power_w": [100.0, 300.0, None]}


def test_html_draws_what_each_gpu_did():
    lanes = [{"name": "gpu0", "gpus": ["GPU-a"], "gpu_name": "H100"}]
    page = Page(html(record(lanes=lanes, gpus={"GPU-a": SERIES, "GPU-b": {key: [] for key in SERIES}}), [row()]))
    assert ("points", "0.0,100.0 50.0,0.0") in page.attributes
    words = " ".join(page.text.split())
    assert "H100 GPU-a utilisation 50 % · peak memory 2 GiB · mean power 200 W" in words
    assert "GPU-b utilisation - · peak memory - · mean power -" in words


def test_html_needs_no_network():
    source = session_page(record(gpus={"GPU-a": SERIES}), [CasePage(row(labels={"A": {"f1": Figure(1, None, None)}}))])
    page = Page(html(record(gpus={"GPU-a": SERIES}), [row(labels={"A": {"f1": Figure(1, None, None)}})]))
    assert [value for name, value in page.attributes if name in ("src", "action", "style") or name.startswith("on")] == []
    assert {value[0] for name, value in page.attributes if name == "href"} == {"#"}
    assert "url(" not in source
    assert "@import" not in source
    assert not {"link", "img", "iframe", "object", "base"} & set(page.tags)
    assert re.search(r"default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'\"", source)


def test_plain_text_keeps_lines_and_tabs():
    assert plain("a\r\nb\tc\x1b[1;31mred\x1b[0m\x07 \x9bd\n") == "a\nb\tcred d\n"
    assert plain("\x1b]0;title\x1b\\shown") == "shown"


def test_tables_of_counts_are_shown_unless_they_are_too_large_for_a_page():
    counts = {"<b>": {"<b>": 1200, "b|c": 1}, "b|c": {"b|c": 3}}
    shown = row(tables={"confusion": counts, "other": {"x": {"tp": 1, "fn": 2}}, "large": {str(n): {"x": 1} for n in range(31)}})
    assert shown.counts() == [
        ("confusion", [["", "<b>", "b|c"], ["<b>", "1,200", "1"], ["b|c", "0", "3"]]),
        ("other", [["", "tp", "fn"], ["x", "1", "2"]]),
    ]
    text = markdown.session(record(), [shown])
    assert "reviews-fast: confusion\n\n|  | \\<b\\> | b\\|c |\n| --- | --- | --- |\n| \\<b\\> | 1,200 | 1 |" in text
    assert "large" not in text
    page = Page(html(record(), [shown]))
    assert not page.open and "b" not in page.tags and "<b>" in page.text and "1,200" in page.text


@pytest.mark.parametrize(("width", "most"), [(200, 3), (117, 3), (116, 2), (110, 2), (109, 1), (10, 1)])
def test_what_stands_beside_a_baseline_has_columns_as_far_as_they_fit(width, most):
    """Those on the right go first; the difference itself stays."""
    rows = [row(gates=3, beside=Beside("-0.011", "0.21", "0.014", "inconclusive")), row(case="other-fast")]
    names, (first, second) = columns(rows, width)
    place = HEADERS.index("value [95 % CI]") + 1
    assert names == [*HEADERS[:place], *BESIDE[:most], *HEADERS[place:]]
    assert first[place : place + most] == ["-0.011", "0.21", "0.014"][:most] and second[place : place + most] == [""] * most
    assert first[-1] == "passed, 3 gates, inconclusive" and second[-1] == "passed, no gates"
    assert rows[0].cells()[-1] == "passed, 3 gates, inconclusive: -0.011 vs baseline (p 0.21, finds 0.014)"
    assert columns([row()], width) == (list(HEADERS), [list(row().cells())])
