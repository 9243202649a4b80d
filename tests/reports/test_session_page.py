"""What the page says of samples, curves and lanes, before any browser sees it."""

from __future__ import annotations

import gzip
import json
import random
import re
from base64 import b64decode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from pytest_gpueval.reports.session_page import Bin, Budget, CasePage, Given, page
from pytest_gpueval.reports.session_page import samples as samples_module
from pytest_gpueval.reports.session_page.curves import Scores, matched, thinned
from pytest_gpueval.reports.session_page.drawing import HEIGHT, WIDTH, bar, curve, histogram, matrix
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
    whole = pages.spans(200)
    monkeypatch.setattr(samples_module, "MOST_SAMPLES", 60)
    monkeypatch.setattr(samples_module, "MOST_RIGHT", 30)
    found = pages.spans(200)
    assert (found.curves, found.label_curves) == (whole.curves, whole.label_curves), "curves are of those that are left out too"
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


def scored(*groups, gold=0):
    """Of groups (score, whether they are hits, how many)."""
    found = Scores()
    found.gold = gold
    for score, hits, count in groups:
        found.add([score] * count, hits=hits)
    return found


def test_precision_and_recall_over_the_threshold():
    lines = scored((0.5, False, 10), (0.7, True, 10), (0.9, True, 20), gold=40).detection("t", "n").lines
    assert lines["precision"] == [(0.5, 0.75), (0.7, 1.0), (0.9, 1.0)]
    assert lines["recall"] == [(0.5, 0.75), (0.7, 0.75), (0.9, 0.5)]
    assert lines["F1"][0] == (0.5, 2 * 30 / 80)
    sure = scored((0.5, False, 10), (0.9, True, 30)).confidence("t", "n")
    assert sure.lines == {"accuracy": [(0.5, 0.75), (0.9, 1.0)], "coverage": [(0.5, 1.0), (0.9, 0.75)]}


def test_one_score_is_no_curve_and_many_are_thinned():
    assert Scores().detection("t", "n") is None
    assert scored((1.0, True, 50), gold=5).detection("t", "n") is None
    many = Scores()
    many.add([number / 5000 for number in range(5000)], hits=True)
    for points, most in ((many.confidence("t", "n").lines["accuracy"], 120), (thinned(many.steps(), 60), 60)):
        assert most / 2 < len(points) <= most
        assert points[0][0] == 0.0


# Curves of labels, beside those of scikit-learn.


def lines_of(found):
    """Label -> name of a line -> y by threshold, read off what is drawn: exact to a pixel's tenth."""
    data = unpacked(found.label_curves)
    read = {}
    for label, drawn in zip(data["labels"], data["drawn"], strict=True):
        low, high = float(drawn["ticks"][0]), float(drawn["ticks"][-1])
        points = [[tuple(map(float, point.split(","))) for point in line.split()] for line in drawn["lines"]]
        (left, right), (top, bottom) = (44.0, WIDTH - 12.0), (10.0, HEIGHT - 30.0)
        lines = [{round(low + (x - left) / (right - left) * (high - low), 2): (bottom - y) / (bottom - top) for x, y in line} for line in points]
        read[label] = dict(zip(data["names"], lines, strict=True))
    return read


def assert_like_sklearn(lines, truth, scores, missed=0):
    """`missed`: gold that nothing was predicted for. A threshold that leaves fewer than ten predictions is not drawn."""
    precision, recall, thresholds = precision_recall_curve([*truth, *[True] * missed], [*scores, *[-1.0] * missed])
    drawn = {round(at, 2): (p, r) for p, r, at in zip(precision, recall, thresholds, strict=False) if at >= 0 and sum(score >= at for score in scores) >= 10}
    assert len(drawn) > 10
    assert lines["precision"] == pytest.approx({at: p for at, (p, _) in drawn.items()}, abs=1e-3)
    assert lines["recall"] == pytest.approx({at: r for at, (_, r) in drawn.items()}, abs=1e-3)
    assert lines["F1"] == pytest.approx({at: 2 * p * r / (p + r) if p + r else 0.0 for at, (p, r) in drawn.items()}, abs=1e-3)


@pytest.fixture
def chance():
    return random.Random(11)


def test_curves_of_each_of_several_labels(chance):
    collector, labels = pages.collector("multilabel", labels=["a", "b", "c"]), ["a", "b", "c"]
    rows = [({label: round(0.5 + chance.randrange(50) / 100, 2) for label in labels}, [label for label in labels if chance.random() < 0.4]) for _ in range(300)]
    for number, (scores, gold) in enumerate(rows):
        parts = {"gold": gold, "predicted": [label for label in labels if scores[label] >= 0.75], "scores": scores}
        collector.add({"id": str(number), "prediction": scores, "score": parts}, Given("t", gold))
    found = collector.done()
    lines = lines_of(found)
    assert list(lines) == labels
    for label in labels:
        assert_like_sklearn(lines[label], [label in gold for _, gold in rows], [scores[label] for scores, _ in rows])
    (whole,) = found.curves
    assert dict(whole.lines["recall"])[0.5] == 1.0 and "all labels together" in whole.note


def test_curves_of_spans_count_gold_that_is_missed(chance):
    collector = pages.collector("span_detection", labels=["A", "B", "unused"])
    seen = {label: ([], [], [0]) for label in "AB"}
    for number in range(400):
        label = "AB"[number % 2]
        truth, scores, missed = seen[label]
        gold, predicted = [(0, 4, label)], []
        if chance.random() < 0.8:
            hit = chance.random() < 0.7
            predicted = [(0, 4 if hit else 3, label, round(0.3 + chance.randrange(50) / 100, 2))]
            truth.append(hit)
            scores.append(predicted[0][3])
        missed[0] += not (predicted and truth[-1])
        collector.add(pages.span_record(str(number), gold, predicted), Given("some text", gold))
    found = collector.done()
    lines = lines_of(found)
    assert list(lines) == ["A", "B"]
    for label, (truth, scores, missed) in seen.items():
        assert_like_sklearn(lines[label], truth, scores, missed[0])


def test_curves_of_classes_are_of_the_answers_that_name_them(chance):
    collector, rows = pages.collector("classification", labels=["good", "bad"]), []
    for number in range(400):
        gold, predicted, sure = (chance.choice(["good", "bad"]), chance.choice(["good", "good", "bad"]), round(0.5 + chance.randrange(50) / 100, 2))
        rows.append((gold, predicted, sure))
        collector.add({"id": str(number), "prediction": predicted, "score": {"gold": gold, "predicted": predicted, "confidence": sure}}, Given("t", gold))
    found = collector.done()
    for label, lines in lines_of(found).items():
        answers = [(gold == label, sure) for gold, predicted, sure in rows if predicted == label]
        missed = sum(gold == label != predicted for gold, predicted, _ in rows)
        assert_like_sklearn(lines, [hit for hit, _ in answers], [sure for _, sure in answers], missed)
    assert list(found.curves[0].lines) == ["accuracy", "coverage"]


def many_labels(count, budget=None, **options):
    """Label n is in 12 + n samples."""
    labels = [f"label-{number}" for number in range(count)]
    collector = pages.collector("span_detection", labels=labels, budget=budget, **options)
    for number, label in enumerate(labels):
        for at in range(12 + number):
            gold = [(0, 4, label)]
            collector.add(pages.span_record(f"{label}-{at}", gold, [(0, 4, label, 0.3 + at % 12 / 20)]), Given("text", gold))
    return collector.done()


def test_the_most_frequent_labels_have_curves():
    found = unpacked(many_labels(103).label_curves)
    assert found["labels"] == [f"label-{number}" for number in range(3, 103)]
    assert found["note"].endswith("\nOf 103 labels, the 100 that are most frequent can be chosen.")
    assert "can be chosen" not in unpacked(many_labels(3).label_curves)["note"]


def test_a_page_that_has_enough_of_them_says_so():
    budget = Budget(curves=len(many_labels(3).label_curves) + 1)
    first, second = many_labels(3, budget), many_labels(3, budget)
    assert first.label_curves and not second.label_curves
    assert second.curves[0].note.endswith("\nThose of each label are left out: the page has enough of them.")
    assert second.curves[0].lines == first.curves[0].lines


def test_labels_of_curves_are_redacted():
    collector = pages.collector("span_detection", labels=[f"of {pages.SECRET}"])
    for number in range(40):
        gold = [(0, 4, f"of {pages.SECRET}")]
        collector.add(pages.span_record(str(number), gold, [(*gold[0], number / 40)]), Given("text", gold))
    assert unpacked(collector.done().label_curves)["labels"] == ["of <redacted>"]


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
