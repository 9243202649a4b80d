"""The report of a sweep: figures against scipy and numpy, hostile rows shown and not obeyed, pages that need no network."""

import base64
import csv
import hashlib
import io
import json
import math
import random
import re
import statistics
import sys

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_gpueval.errors import MissingExtra
from pytest_gpueval.reports import markdown as session_markdown
from pytest_gpueval.reports import sweep
from pytest_gpueval.reports.sweep.figures import POINTS, figures, parallel, thinned
from pytest_gpueval.reports.sweep.records import identity
from tests.reports.test_reports import HOSTILE, Page, html, record

EVIL = f"{HOSTILE} </script><script>alert(1)</script> $(id) `id` %{{x}} <!-- ]]>"


def row(run_id="a", loss=1.0, **changes):
    fields = {
        "run_id": run_id, "parameters": {"lr": 0.1, "seed": 1}, "ok": True, "status": "passed", "reason": None, "attempts": 1, "seconds": 2.5,
        "metrics": {"loss": loss}, "series": {"loss": [(1.0, 3.0), (2.0, 2.0)]},
    }  # fmt: skip
    return sweep.SweepRow(**{**fields, **changes})


def of(rows, **changes):
    return sweep.Sweep(**{"name": "nano", "metric": "loss", "goal": "min", "rows": rows, **changes})


def study(count, seed=0):
    """Rows of which we know what matters: log lr (0.85 of the variance), act (0.1), nothing else."""
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        lr, act, idle, batch = 10 ** dice.uniform(-5, -1), dice.choice(["relu", "gelu"]), dice.random(), dice.choice([16, 32])
        loss = (math.log10(lr) + 3) ** 2 + (0.8 if act == "relu" else 0) + dice.gauss(0, 0.3)
        parameters = {"lr": lr, "act": act, "idle": idle, "batch": batch, "tokens": batch * 1024, "name": f"row {number}", "model": "nano"}
        rows.append(row(f"r{number}", loss, parameters=parameters, series={"loss": [(step, loss + 3 / step) for step in range(1, 20)]}))
    return rows


# Ranking.


@pytest.mark.parametrize(("goal", "order"), [("min", "bdacef"), ("max", "adbcef")])
def test_ranking_puts_the_best_first_and_rows_without_the_metric_last(goal, order):
    rows = [row("a", 3.0), row("b", 1.0), row("c", None), row("d", 2.0), row("e", math.nan), row("f", metrics={})]
    assert "".join(one.run_id for one in sweep.ranking(of(rows, goal=goal))) == order
    assert sweep.ranking(of(rows, metric=None)) == rows


@given(st.lists(st.sampled_from([None, math.nan, -math.inf, 1.0, 2.0]), max_size=12), st.sampled_from(["min", "max"]))
def test_ties_keep_their_order(values, goal):
    rows = [row(str(number), value) for number, value in enumerate(values)]
    ranked = sweep.ranking(of(rows, goal=goal))
    for value in (1.0, 2.0):
        places = [int(one.run_id) for one in ranked if one.metrics["loss"] == value]
        assert places == sorted(places)
    known = [one.metric("loss") is not None for one in ranked]
    assert known == sorted(known, reverse=True)


# Means over seeds.


def test_means_over_seeds_agree_with_scipy():
    losses = {0.1: [2.0, 2.2, 2.7], 0.2: [1.5, 1.4]}
    rows = [row(f"{lr}-{seed}", loss, parameters={"lr": lr, "seed": seed}) for lr, values in losses.items() for seed, loss in enumerate(values)]
    found = sweep.groups(of(rows))
    assert found.note is None
    assert [group.parameters for group in found.groups] == [{"lr": 0.2}, {"lr": 0.1}]
    for group in found.groups:
        values = losses[group.parameters["lr"]]
        assert (group.n, group.rows, group.mean) == (len(values), len(values), pytest.approx(statistics.fmean(values)))
        assert group.deviation == pytest.approx(np.std(values, ddof=1))
        expected = scipy.stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
        assert (group.low, group.high) == pytest.approx(expected)
    assert [group.parameters["lr"] for group in sweep.groups(of(rows, goal="max")).groups] == [0.1, 0.2]


def test_intervals_hold_what_they_promise():
    dice = random.Random(7)
    held = 0
    for _ in range(1000):
        rows = [row(str(seed), dice.gauss(5, 2), parameters={"seed": seed}) for seed in range(4)]
        (group,) = sweep.groups(of(rows)).groups
        held += group.low <= 5 <= group.high
    assert 930 <= held <= 970


def test_rows_that_did_not_pass_are_no_part_of_a_mean():
    rows = [row("a", 1.0, parameters={"seed": 1}), row("b", 99.0, parameters={"seed": 2}, ok=False, status="oom"), row("c", None, parameters={"seed": 3})]
    (group,) = sweep.groups(of(rows)).groups
    assert (group.n, group.rows, group.mean, group.deviation, group.low) == (1, 3, 1.0, None, None)
    (group,) = sweep.groups(of([row("a", None, parameters={"seed": 1}), row("b", None, parameters={"seed": 2})])).groups
    assert (group.n, group.mean) == (0, None)


@pytest.mark.parametrize(
    ("rows", "metric", "note"),
    [
        ([], "loss", "No two rows differ in their seed only."),
        ([row(), row(parameters={"lr": 0.2, "seed": 2})], "loss", "No two rows differ in their seed only."),
        ([row(), row()], "loss", "No two rows differ in their seed only."),
        ([row()], None, "The sweep names no metric."),
    ],
)
def test_without_seeds_there_are_no_groups(rows, metric, note):
    assert sweep.groups(of(rows, metric=metric)) == sweep.Groups((), note)


def test_another_parameter_can_be_the_seed():
    rows = [row(str(fold), fold, parameters={"fold": fold, "seed": 1}) for fold in range(3)]
    assert len(sweep.groups(of(rows), seed="fold").groups) == 1


def test_values_that_only_look_alike_are_different():
    assert identity(1) == identity(1.0)
    assert len({identity(value) for value in (1, True, "1", None, "None", math.nan, float("nan"))}) == 6


def test_without_scipy_there_is_a_mean_and_a_word_about_it(monkeypatch):
    for name in ("scipy", "scipy.special"):
        monkeypatch.setitem(sys.modules, name, None)
    rows = [row(str(seed), float(seed), parameters={"seed": seed}) for seed in range(3)]
    found = sweep.groups(of(rows))
    assert (found.groups[0].mean, found.groups[0].deviation, found.groups[0].low) == (1.0, 1.0, None)
    assert "pip install 'pytest-gpueval[sweeps]'" in found.note
    assert "pytest-gpueval\\[sweeps\\]" in sweep.markdown(of(rows))


# Importance.


def test_importance_finds_what_matters():
    told = sweep.importance(of(study(120)))
    assert told.reliable
    assert told.rows == 120
    assert list(told.shares)[:2] == ["lr", "act"]
    assert set(told.shares) == {"lr", "act", "idle", "batch = tokens"}, "what names the row, or never changes, is no parameter"
    assert told.shares["lr"] == pytest.approx(0.85, abs=0.12)
    assert told.shares["act"] == pytest.approx(0.10, abs=0.05)
    assert max(told.shares["idle"], told.shares["batch = tokens"]) < 0.02
    assert told == sweep.importance(of(study(120))), "the same rows, the same answer"


def test_importance_of_noise_is_not_reliable_and_says_so():
    dice = random.Random(3)
    rows = [row(str(number), dice.random(), parameters={"lr": dice.random(), "act": dice.choice("ab")}) for number in range(40)]
    told = sweep.importance(of(rows))
    assert not told.reliable
    assert max(told.shares.values()) < 0.15
    text = sweep.markdown(of(rows))
    assert "Not reliable: a random forest over 40 rows, out-of-bag R2" in text


@pytest.mark.parametrize(
    ("rows", "metric", "reason"),
    [
        (study(9), "loss", "9 rows passed and have loss; fewer than 10"),
        ([row(str(number), float(number)) for number in range(20)], "loss", "No parameter varies"),
        ([row(one.run_id, 1.0, parameters=one.parameters) for one in study(20)], "loss", "loss is the same in all rows"),
        (study(20), None, "names no metric"),
        ([row(one.run_id, one.metrics["loss"], parameters=one.parameters, ok=False) for one in study(20)], "loss", "0 rows passed"),
    ],
)
def test_importance_refuses_to_speak(rows, metric, reason):
    told = sweep.importance(of(rows, metric=metric))
    assert told.shares is None
    assert not told.reliable
    assert reason in told.reason
    assert reason in re.sub(r"\\(.)", r"\1", sweep.markdown(of(rows, metric=metric)))


def test_importance_takes_any_value():
    odd = [None, math.nan, math.inf, True, 1, "one", -1e300, 10**400, "", 2.5]
    values = [1e300, -1e300, 3.0, 4.0, 5.0]
    rows = [row(str(number), values[number % 5], parameters={"odd": odd[number % 10], "lr": number % 4}) for number in range(40)]
    told = sweep.importance(of(rows))
    assert all(0 <= share <= 1 for share in told.shares.values())


def test_importance_needs_scikit_learn_and_a_report_lives_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtra, match=r"scikit-learn.*\n.*pytest-gpueval\[sweeps\]"):
        sweep.importance(of(study(12)))
    assert "scikit-learn" in sweep.markdown(of(study(12)))
    assert "scikit-learn" in sweep.section(of(study(12)))


# The flat table.


def test_the_table_has_a_column_for_everything_and_one_type_in_each():
    rows = [
        row("a", 1.5, parameters={"lr": 1, "compile": True, "act": "relu", "mix": 1}),
        row("b", None, parameters={"lr": 0.5, "compile": None, "act": "gelu", "mix": True, "big": 1 << 70}, ok=False, status="oom", attempts=3),
        row("c", 2.0, parameters={"lr": None}, metrics={"loss": 2.0, "mfu": math.nan}),
    ]
    table = sweep.export(of(rows))
    assert list(table.columns) == [
        "run_id", "status", "ok", "attempts", "seconds", "param.lr", "param.compile", "param.act", "param.mix", "param.big", "metric.loss", "metric.mfu",
    ]  # fmt: skip
    assert table.columns["param.lr"] == [1.0, 0.5, None]
    assert table.columns["param.mix"] == ["1", "true", None]
    assert table.columns["param.big"] == [None, str(1 << 70), None]
    lines = list(csv.DictReader(io.StringIO(table.csv())))
    assert [line["param.compile"] for line in lines] == ["true", "", ""]
    assert [line["metric.mfu"] for line in lines] == ["", "", "nan"]
    assert [line["attempts"] for line in lines] == ["1", "3", "1"]
    assert list(csv.reader(io.StringIO(sweep.export(of([])).csv()))) == [["run_id", "status", "ok", "attempts", "seconds"]]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\x1b[31m=1", "-", "--lr"])
def test_a_spreadsheet_computes_nothing_from_our_cells(text):
    table = sweep.export(of([row(text, parameters={"p": text}, status=text)]))
    line = list(csv.reader(io.StringIO(table.csv())))[1]
    assert all(not re.match(r"[=+\-@\t\r]", cell) for cell in line)
    assert table.columns["run_id"] == [text], "parquet has it as it is"


@pytest.mark.parametrize("text", ["-1", "+2.5e-3", "-inf", "-.5", "1e5"])
def test_numbers_stay_numbers(text):
    assert f",{text}," in sweep.export(of([row(parameters={"p": text, "q": 1})])).csv()
    assert ",-0.5," in sweep.export(of([row(parameters={"p": -0.5, "q": 1})])).csv()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_a_table_has_as_many_lines_and_cells_as_there_are_rows_and_columns(texts):
    table = sweep.export(of([row(text, parameters={text: text}) for text in texts]))
    lines = list(csv.reader(io.StringIO(table.csv(), newline=""), strict=True))
    assert [len(line) for line in lines] == [len(table.columns)] * (1 + len(texts))


# Curves.


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1500), st.integers(4, 60))
def test_thinned_curves_keep_their_ends_and_extremes(values, most):
    points = list(enumerate(values))
    kept = thinned(points, most)
    assert len(kept) <= most
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(values), max(values)} <= {value for _, value in kept}
    assert kept == sorted(set(kept) & set(points))
    assert len(points) > most or kept == points


def test_the_figures_are_valid_plotly():
    import plotly.graph_objects as go

    drawn = figures(of(study(15)))
    assert [title for title, _ in drawn] == ["loss over steps", "Parallel coordinates"]
    for _, figure in drawn:
        json.loads(json.dumps(figure, allow_nan=False))
        go.Figure(figure)  # raises for a property that plotly does not have


def test_a_value_that_is_no_number_is_no_point():
    ((_, figure),) = figures(of([row(series={"loss": [(1.0, 2.0), (2.0, math.nan), (3.0, math.inf), (4.0, 1.0)]})]))
    assert figure["data"][0]["x"] == [1, 4]


def test_the_best_rows_are_named_and_lie_on_top():
    curves = dict(figures(of(study(15))))["loss over steps"]["data"]
    best = [one.run_id for one in sweep.ranking(of(study(15)))]
    assert [trace["name"] for trace in reversed(curves)] == best
    assert [trace["showlegend"] for trace in reversed(curves)] == [True] * 10 + [False] * 5


def test_only_what_is_positive_has_a_logarithmic_scale():
    for value, scales in ((0.5, True), (0.0, False), (-1.0, False)):
        ((_, figure),) = figures(of([row(series={"loss": [(1.0, 1.0), (2.0, value)]})]))
        assert ("updatemenus" in figure["layout"]) is scales


def test_parallel_coordinates():
    rows = [
        row("a", 2.0, parameters={"lr": 1e-5, "act": "relu", "warmup": None, "bias": True, "x": 1}),
        row("b", 1.0, parameters={"lr": 1e-1, "act": "gelu", "warmup": 100, "bias": False, "x": 1}),
        row("c", None, parameters={"lr": 1e-1, "act": "gelu", "warmup": 300, "bias": False, "x": 2}),
    ]
    axes = {axis["label"]: axis for axis in parallel(of(rows))["data"][0]["dimensions"]}
    assert list(axes) == ["lr", "act", "warmup", "bias", "loss"], "x does not vary among rows that have the metric"
    assert axes["lr"]["values"] == [-5, -1]
    assert axes["lr"]["ticktext"] == ["1e-05", "0.1"]
    assert (axes["act"]["values"], axes["act"]["ticktext"]) == ([1, 0], ["gelu", "relu"])
    assert axes["warmup"]["ticktext"] == ["none", "100"]
    assert axes["warmup"]["values"][0] < axes["warmup"]["values"][1]
    assert axes["bias"]["ticktext"] == ["false", "true"]
    line = parallel(of(rows))["data"][0]["line"]
    assert (line["color"], line["cmin"], line["cmax"]) == ([-2, -1], -2, -1), "the best is on top"
    assert (line["colorbar"]["ticktext"][0], line["colorbar"]["ticktext"][-1]) == ("2", "1")
    assert parallel(of(rows, goal="max"))["data"][0]["line"]["color"] == [2, 1]
    assert parallel(of(rows[1:])) is None
    assert parallel(of(rows, metric=None)) is None
    assert parallel(of([row(), row()])) is None


@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=9), min_size=2, max_size=8),
    st.floats(allow_nan=False),
)
@example([None, -1.7e308, 1.7e308], 1.7e308)
@example([None, *map(float, range(30))], -1.7e308)
@example([None, 1e-308, 1.7e308], 0.0)
@example([1, 2], 5e-324)
def test_any_parameter_has_an_axis(values, loss):
    rows = [row(str(number), loss, parameters={"p": value}) for number, value in enumerate(values)]
    figure = parallel(of(rows))
    json.dumps(figure, allow_nan=False)
    for axis in figure["data"][0]["dimensions"] if figure else ():
        assert len(axis["values"]) == len(values)
        assert len(axis.get("tickvals", ())) == len(axis.get("ticktext", ()))


# Markdown and HTML.


def hostile():
    rows = [
        row(f"{number}{EVIL}", float(number), parameters={EVIL: number % 2, "act": f"{EVIL}{number % 3}", "seed": number}, status=EVIL) for number in range(12)
    ]
    series = {EVIL: [(0.0, 1.0), (1.0, 0.5)]}
    rows.append(row(EVIL, None, parameters={EVIL: EVIL}, ok=False, status=EVIL, reason=f"one\n{EVIL}\n```\n# two", series=series, metrics={EVIL: 1.0}))
    return of(rows, name=EVIL)


def test_markdown():
    rows = [row("a", 2.0), row("b", 1.5, parameters={"lr": 0.1, "seed": 2}), row("c", None, ok=False, status="oom", reason="CUDA out of memory", attempts=2)]
    text = sweep.markdown(of(rows))
    assert text.startswith("# Sweep nano\n\n3 rows: 2 passed, 1 oom · loss, lower is better · best 1.5 (b)\n\nThe same in all rows: lr = 0.1\n")
    assert (
        "| place | run | status | loss | seed | seconds | attempts |\n| --- | --- | --- | --- | --- | --- | --- |\n| 1 | b | passed | 1.5 | 2 | 2.5 | 1 |"
        in text
    )
    assert "| - | c | oom | - | 1 | 2.5 | 2 |" in text
    assert "| mean loss \\[95 % interval\\] | standard deviation | rows |\n| --- | --- | --- |\n| 1.75 \\[-1.42655, 4.92655\\] | 0.353553 | 2 of 3 |" in text
    assert "## c: oom\n\nseed = 1\n\n```text\nCUDA out of memory\n```\n" in text
    assert "### c: oom" in sweep.markdown(of(rows), level=2)
    assert "... and 70 more" in sweep.markdown(of([row(str(number)) for number in range(100)]))
    assert "no rows" in sweep.markdown(of([]))


def test_markdown_of_hostile_rows():
    text = sweep.markdown(hostile())
    assert not set("\x1b\x00\u202e") & set(text)
    (fenced,) = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    outside = text.replace(fenced, "")
    assert not re.search(r"(?<!\\)[<&]", outside)
    assert all(len(block) == 1 for block in (set(widths) for widths in _widths(outside)))


def _widths(text):
    """The number of cells in each line of each table."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        yield [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]


def test_a_page_says_everything_without_javascript():
    rows = [*study(14), row("broken", None, ok=False, status="timeout", reason="no step for 600 s", attempts=3)]
    page = Page(without_scripts(sweep.html(of(rows))))
    assert [tag for tag in page.open if tag != "html"] == []
    words = " ".join(page.text.split())
    for said in (
        "15 rows: 14 passed, 1 timeout",
        "place run status loss lr act",
        "out-of-bag R2",
        "No two rows differ",
        "broken timeout after 3 attempts",
        "no step for 600 s",
    ):
        assert said in words
    assert "The figures need JavaScript; the tables do not." in words


def without_scripts(source):
    return re.sub(r"<script[^>]*>.*?</script>", "", source, flags=re.DOTALL)


def test_a_page_of_hostile_rows_runs_two_scripts_and_neither_is_theirs():
    source = sweep.html(hostile())
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", source, re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="figures"', "", ""]
    policy = re.search(r'content="(default-src[^"]*)"', source)[1]
    allowed = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for _, script in scripts[1:]}
    assert set(re.findall(r"sha256-([^']*)", policy)) == allowed
    assert policy.startswith("default-src 'none'; ")
    assert "evil.example" not in scripts[1][1] + scripts[2][1]
    page = Page(without_scripts(source))
    assert page.tags.count("a") == page.tags.count("b") == 0
    assert page.text.count("<script>alert(1)</script>") >= 20
    assert not set("\x1b\x00\u202e") & set(source.replace(scripts[1][1], ""))
    assert "<!--" not in source.replace(scripts[1][1], "").replace("&lt;!--", "")


def test_labels_of_hostile_rows_are_no_markup_to_plotly():
    data = json.loads(re.search(r'id="figures">(.*?)</script>', sweep.html(hostile()), re.DOTALL)[1])

    def texts(value):
        if isinstance(value, dict):
            for key, item in value.items():
                if key not in ("hovertemplate", "ticktext"):  # ours; shown as they are
                    yield from texts(item)
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    assert any("&lt;script" in text for text in texts(data))
    assert not any("<" in text for text in texts(data))


def test_a_page_needs_no_network():
    page = Page(without_scripts(sweep.html(of(study(12)))))
    assert not [name for name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert not [value for _, value in page.attributes if "//" in (value or "")]


def test_without_plotly_there_are_the_tables_and_a_word_about_it(monkeypatch):
    for name in ("plotly", "plotly.offline"):
        monkeypatch.setitem(sys.modules, name, None)
    source = sweep.html(of(study(12)))
    assert "<script" not in source
    assert "script-src 'none'" in source
    assert "pip install &#39;pytest-gpueval[sweeps]&#39;" in source
    assert "r11" in source


def test_a_sweep_without_anything_to_draw_or_to_say():
    for empty in (of([]), of([], metric=None), of([row(series={}, parameters={}, metrics={})], metric=None)):
        source = sweep.html(empty)
        assert "<script" not in source
        assert [tag for tag in Page(source).open if tag != "html"] == []
        assert sweep.markdown(empty)
        assert sweep.section(empty)


def test_the_page_of_300_rows_of_2000_steps_is_no_larger_than_a_browser_likes():
    dice = random.Random(1)
    rows = []
    for one in study(300):
        noise = [dice.gauss(0, 0.05) for _ in range(2000)]
        rows.append(row(one.run_id, one.metrics["loss"], parameters=one.parameters, series={"loss": [(step, 3 + noise[step]) for step in range(2000)]}))
    source = sweep.html(of(rows))
    (title, figure), _ = figures(of(rows))
    assert title == "loss over steps"
    assert all(len(trace["x"]) <= POINTS for trace in figure["data"])
    assert 4e6 < len(source) < 9e6


# In the report of the session.


def test_a_sweep_is_a_section_of_its_sessions_report():
    seen = of([row("a", 2.0), row("b", 1.0, ok=False, status="oom", reason="no memory")])
    source = html(record(), [], sections=[sweep.section(seen, page="sweep nano.html")])
    page = Page(source)
    assert [tag for tag in page.open if tag != "html"] == []
    assert ("href", "./sweep%20nano.html") in page.attributes
    assert "Sweep nano 2 rows: 1 passed, 1 oom" in " ".join(page.text.split())
    text = session_markdown.session(record(), [], sections=[sweep.markdown(seen, level=2)])
    assert "\n\n## Sweep nano\n\n2 rows" in text
    assert text.endswith("```\n")


def test_a_section_of_hostile_rows():
    source = html(record(), [], sections=[sweep.section(hostile(), page=f"../{EVIL}")])
    page = Page(source)
    assert "script" not in page.tags
    assert not set("\x1b\x00\u202e") & set(source)
    assert next(value for name, value in page.attributes if name == "href" and not value.startswith("#")).startswith("./")
