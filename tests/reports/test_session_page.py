"""What the page says of samples, curves and lanes, before any browser sees it."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.reports.session_page import Bin, Budget, CasePage, Given, page
from pytest_gpueval.reports.session_page import samples as samples_module
from pytest_gpueval.reports.session_page.curves import Confidences, Detections, matched
from pytest_gpueval.reports.session_page.drawing import bar, curve, histogram, matrix
from pytest_gpueval.reports.session_page.packing import clean_value, packed
from pytest_gpueval.reports.session_page.timeline import timeline
from pytest_gpueval.reports.table import Figure
from pytest_gpueval.scoring.alignment import compare
from tests.reports import pages


def unpacked(block):
    return json.loads(gzip.decompress(b64decode(block)))


# Samples.


def test_columns_say_of_each_sample_what_filters_ask():
    found = pages.spans(20)
    columns, chunk = map(unpacked, found.blocks)
    assert (found.seen, found.kept, found.wrong, found.texts) == (20, 20, 2, 19)
    assert columns["state"] == "10000230001000000000"
    assert sorted(columns["of"][0]) == [1, 4], "wrong in PERSON, right in DATE"
    assert columns["score"][:2] == [0.5, 1.0]
    assert columns["score"][5] is None
    assert columns["ms"][5:7] == [900.0, None]
    assert columns["number"] == []
    assert chunk["gold"][0] == [[0, 12, 0]], "missed"
    assert chunk["predicted"][0] == [[0, 3, 0, 0.55, 0], [23, 4, 2, 0.8, 1]], "false, found"
    assert (chunk["gold"][5], chunk["text"][6], chunk["message"]["6"]) == (None, None, "a bad row")
    assert found.support == {"PERSON": 17, "DATE": 17, pages.LABELS[1]: 1}


def test_a_secret_is_cut_out_before_anything_is_packed_and_takes_its_spans_along():
    found = pages.spans(20)
    assert all(pages.SECRET not in gzip.decompress(b64decode(block)).decode() for block in found.blocks)
    chunk = unpacked(found.blocks[1])
    assert chunk["text"][7] == "Ada Lovelace <redacted>"
    assert (chunk["gold"][7], chunk["predicted"][7]) == (None, [])
    assert "A secret was cut out" in chunk["message"]["7"]
    for task, record, of in (
        ("generation", {"prediction": [pages.SECRET], "score": {"n": 1, "right": 0}}, Given([("user", pages.SECRET)], [pages.SECRET], [pages.SECRET])),
        ("classification", {"prediction": pages.SECRET, "score": {"gold": "a", "predicted": pages.SECRET}}, Given(pages.SECRET, "a")),
        ("custom", {"prediction": {pages.SECRET: pages.SECRET}, "score": {}}, Given({"x": pages.SECRET}, object)),
        ("span_detection", {"error": f"no {pages.SECRET}"}, Given(pages.SECRET, [])),
    ):
        collector = pages.collector(task, labels=["a"])
        collector.add({"id": f"id {pages.SECRET}", **record}, of)
        assert all(pages.SECRET not in json.dumps(unpacked(block)) for block in collector.done().blocks), task


@pytest.mark.parametrize(("texts", "kept"), [("yes", 19), ("no", 0), ("errors", 3)])
def test_texts_are_those_that_were_asked_for(texts, kept):
    found = pages.spans(20, texts=texts)
    chunk = unpacked(found.blocks[1])
    assert found.texts == sum(text is not None for text in chunk["text"]) == kept
    assert chunk["gold"][0] == [[0, 12, 0]], "offsets are no texts"
    assert len(found.curves) == 1


@pytest.mark.parametrize(("texts", "shown"), [("yes", [True, True]), ("no", [False, False]), ("errors", [True, False])])
def test_generated_texts_and_gold_answers_are_texts_too(texts, shown):
    collector = pages.collector("generation", texts=texts)
    for number in range(2):
        collector.add({"id": str(number), "prediction": "said", "score": {"n": 1, "right": number}}, Given("asked", "known"))
    chunk = unpacked(collector.done().blocks[1])
    for name, value in (("text", "asked"), ("gold", "known"), ("predicted", "said")):
        assert [entry == value for entry in chunk[name]] == shown, name


def test_a_page_that_would_grow_too_large_leaves_texts_out_and_says_so():
    whole = pages.spans(3000)
    found = pages.spans(3000, budget=Budget(len(whole.blocks[1]) + 10))
    assert len(found.blocks) == len(whole.blocks)
    assert 0 < found.texts <= 1000
    assert "too large" in found.note
    assert found.kept == 3000


def test_more_samples_than_a_page_takes(monkeypatch):
    monkeypatch.setattr(samples_module, "MOST_SAMPLES", 60)
    monkeypatch.setattr(samples_module, "MOST_RIGHT", 30)
    found = pages.spans(200)
    columns = unpacked(found.blocks[0])
    assert (found.seen, found.kept) == (200, 30 + 20 + 2)
    assert columns["number"][-1] == 191, "what went wrong behind the last right one is there"
    assert columns["state"].count("0") == 30


def test_labels_of_several_are_wrong_each_for_itself():
    collector = pages.collector("multilabel", labels=["a", "b", "c"])
    collector.add({"id": "1", "prediction": {"a": 0.9, "b": 0.7}, "score": {"gold": ["a", "c"], "predicted": ["a", "b"], "scores": {"a": 0.9, "b": 0.7}}}, Given("t", ["a", "c"]))
    found = collector.done()
    assert unpacked(found.blocks[0])["of"] == [[0, 3, 5]]
    assert found.support == {"a": 1, "c": 1}


def test_a_task_of_the_users_own_is_shown_as_it_is():
    collector = pages.collector("mine")
    collector.add({"id": "1", "prediction": [1, None, "x"], "score": {"any": 1}, "latency_ms": 2}, Given({"image": "a.png"}, {"y": 2}))
    columns, chunk = map(unpacked, collector.done().blocks)
    assert (columns["state"], chunk["text"], chunk["gold"], chunk["predicted"]) == ("0", [{"image": "a.png"}], [{"y": 2}], [[1, None, "x"]])


json_values = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3))  # fmt: skip


@given(json_values)
def test_what_is_packed_comes_out_again(value):
    block = packed(clean_value(value, lambda text: text))
    assert unpacked(block) == value
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", block)


# Curves.

span = st.tuples(st.integers(0, 4), st.integers(5, 7), st.sampled_from("AB"))


@given(st.lists(span, max_size=6), st.lists(st.tuples(st.integers(0, 4), st.integers(5, 7), st.sampled_from("AB"), st.sampled_from([0.2, 0.5, 0.9])), max_size=6))
def test_hits_over_a_threshold_are_those_that_scoring_counts(gold, predicted):
    flags, missed = matched(gold, predicted)
    for threshold in (0.2, 0.5, 0.9):
        kept = [entry for entry in predicted if entry[3] >= threshold]
        identical = sum(entry[0] for entry in compare(sorted(gold), sorted(entry[:3] for entry in kept))[0].values())
        assert sum(flag for flag, entry in zip(flags, predicted, strict=True) if entry[3] >= threshold) == identical
    assert set(missed) == set(gold) - {entry[:3] for entry in predicted}


def test_precision_and_recall_over_the_threshold():
    found = Detections()
    found.gold = 40
    found.add([(0.5, False)] * 10 + [(0.7, True)] * 10 + [(0.9, True)] * 20)
    lines = found.curve("t", "n").lines
    assert lines["precision"] == [(0.5, 0.75), (0.7, 1.0), (0.9, 1.0)]
    assert lines["recall"] == [(0.5, 0.75), (0.7, 0.75), (0.9, 0.5)]
    assert lines["F1"][0] == (0.5, 2 * 30 / 80)
    sure = Confidences()
    sure.add([(0.5, False)] * 10 + [(0.9, True)] * 30)
    assert sure.curve("t", "n").lines == {"accuracy": [(0.5, 0.75), (0.9, 1.0)], "coverage": [(0.5, 1.0), (0.9, 0.75)]}


def test_one_score_is_no_curve_and_many_are_thinned():
    assert Detections().curve("t", "n") is None
    same = Detections()
    same.gold = 5
    same.add([(1.0, True)] * 50)
    assert same.curve("t", "n") is None
    many = Confidences()
    many.add([(number / 5000, True) for number in range(5000)])
    points = many.curve("t", "n").lines["accuracy"]
    assert len(points) <= 120
    assert points[0][0] == 0.0


# Drawings.


def test_bars_are_shares():
    assert bar(None) is bar(Figure(None, None, None)) is bar(Figure(3.2, 3.0, 3.4)) is None
    assert bar(Figure(0.5, -0.1, 1.2)).low == 0.0
    assert bar(Figure(0.5, -0.1, 1.2)).high == 100.0


def test_axes_hold_their_lines_and_boxes():
    drawn = curve(pages.spans(200).curves[0])
    for _, points in drawn.lines:
        for x, y in (map(float, point.split(",")) for point in points.split()):
            assert drawn.left - 0.1 <= x <= drawn.right + 0.1
            assert drawn.top - 0.1 <= y <= drawn.bottom + 0.1
    boxes = histogram([Bin(1.0, 2.0, 0), Bin(2.0, 1500.0, 7)]).boxes
    assert [box[4] for box in boxes] == ["1 ms to 2 ms: 0", "2 ms to 1.5 s: 7"]
    assert boxes[1][1] == drawn.top


def test_a_matrix_has_shades_where_rows_and_columns_are_alike():
    found = matrix({"a": {"a": 3, "c": 1}, "b": {"a": 2}}, 30)
    assert found.columns == ["a", "c"]
    assert [[(cell.count, cell.shade, cell.same) for cell in cells] for _, cells, _ in found.rows] == [[(3, 6, True), (1, 2, False)], [(2, 8, False), (0, 0, False)]]
    assert not matrix({"a": {"tp": 1, "fn": 2}}, 30).square
    assert matrix({str(n): {"x": 1} for n in range(31)}, 30) is None


def run(case, worker, begin_s, seconds, **changes):
    return {"suite": "s", "case": case, "worker": worker, "begin_s": begin_s, "seconds": seconds, "status": "passed", "rows": 5, "reused": False, **changes}


def test_lanes_are_busy_where_their_runs_are():
    record = {"lanes": [{"name": "gpu0", "gpus": []}, {"name": "gpu1", "gpus": []}], "runs": [run("a", "gpu0", 0, 2), run("b", "gpu0", 6, 4), run("c", "gpu1", 0, 5)]}
    found = timeline(record)
    assert [(lane.name, lane.busy, lane.gap_s) for lane in found.lanes] == [("gpu0", 60.0, 4.0), ("gpu1", 50.0, 5.0)]
    assert [(block.left, block.width) for block in found.lanes[0].blocks] == [(0.0, 20.0), (60.0, 40.0)]
    assert found.ticks[-1] == (100.0, "0:10")


def test_shards_are_in_the_timeline_and_what_joins_them_is_not():
    found = timeline({"runs": [run("a-fast-1of2", "gpu0", 0, 2), run("a-fast-2of2", "gpu1", 0, 2), run("a-fast", "gpu0", 2, 4)]})
    assert [[block.name for block in lane.blocks] for lane in found.lanes] == [["a-fast-1of2"], ["a-fast-2of2"]]
    assert found.seconds == 2


def test_nothing_that_ran_is_no_timeline():
    assert timeline({}) is None
    assert timeline({"runs": [run("a", "gpu0", 0, 2, reused=True), run("b", "gpu0", None, None)]}) is None


# The page.


def test_the_same_session_is_the_same_page_and_needs_no_samples():
    cases = pages.cases()
    assert page(pages.record(), cases) == page(pages.record(), cases)
    bare = page(pages.record(), [replace(case, samples=None) for case in cases])
    assert 'type="text/plain"' not in bare
    assert 'class="samples"' not in bare


def test_what_is_shown_is_redacted_and_the_program_is_not():
    source = page(pages.record(), [CasePage(pages.row("one", reason=pages.SECRET))], redact=lambda text: text.replace(pages.SECRET, "<redacted>").replace("document", "<redacted>"))
    assert pages.SECRET not in source
    assert "document.getElementById" in source
