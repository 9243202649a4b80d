"""What holds for any documents: sharding, order, bounds, characters as sets, flat memory."""

import json
import math
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.scoring import spans
from pytest_gpueval.scoring.alignment import compare

from .documents import LABELS, TASK, corpus, counts_of, document, metrics_of, parts_of, side


def merged(*shards):
    counts = TASK.counts()
    for shard in shards:
        counts.merge(shard)
    return counts


@given(corpus, st.lists(st.integers(0, 3), min_size=12, max_size=12), st.permutations(range(4)))
def test_any_split_into_shards_in_any_order_gives_the_same_metrics(documents, owners, order):
    shards = [counts_of([d for d, owner in zip(documents, owners, strict=False) if owner == shard]) for shard in range(4)]
    assert merged(*(shards[shard] for shard in order)).metrics() == counts_of(documents).metrics()


@given(corpus, corpus, corpus)
def test_merging_is_associative(one, two, three):
    a, b, c = (counts_of(documents) for documents in (one, two, three))
    assert merged(merged(a, b), c).metrics() == merged(a, merged(b, c)).metrics() == counts_of(one + two + three).metrics()


@given(corpus, corpus)
def test_asking_for_metrics_on_the_way_changes_nothing(one, two):
    counts = counts_of(one)
    counts.metrics()
    for documents in two:
        counts.add(parts_of(*documents))
    assert counts.metrics() == counts.metrics() == counts_of(one + two).metrics()


@given(document)
def test_parts_survive_json(drawn):
    parts = parts_of(*drawn)
    again = json.loads(json.dumps(parts))
    assert again == parts
    counts = TASK.counts()
    counts.add(again)
    assert counts.metrics() == counts_of([drawn]).metrics()


@given(document, st.randoms())
def test_order_of_spans_has_no_say(drawn, rng):
    gold, predicted = drawn
    assert parts_of(rng.sample(gold, len(gold)), rng.sample(predicted, len(predicted))) == parts_of(gold, predicted)


@given(side)
def test_the_gold_itself_is_a_perfect_answer(gold):
    metrics = metrics_of((gold, gold))
    for scheme in (*spans.LEVELS, "document"):
        assert metrics.overall[f"{scheme}.f1"].value == (1 if gold else None)


@given(document)
def test_swapping_sides_swaps_precision_and_recall(drawn):
    gold, predicted = drawn
    there, back = metrics_of((gold, predicted)).overall, metrics_of((predicted, gold)).overall
    for scheme in ("strict", "exact", "char", "document"):
        assert there[f"{scheme}.precision"] == back[f"{scheme}.recall"]
        assert there[f"{scheme}.f1"] == back[f"{scheme}.f1"]


@given(corpus)
def test_bounds(documents):
    metrics = metrics_of(*documents)
    for figures in (metrics.overall, *metrics.labels.values()):
        for name, estimate in figures.items():
            if estimate.value is None:
                assert estimate == spans.Estimate(None, None, None, 0)
            else:
                assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, name
                assert estimate.n > 0
        for figure in ("precision", "recall", "f1"):
            strict, exact, partial, kind = (figures[f"{scheme}.{figure}"].value for scheme in ("strict", "exact", "partial", "type"))
            if strict is not None:
                assert strict <= exact <= partial
                assert strict <= kind


@given(document)
def test_per_label_partial_lies_midway_between_strict_and_type(drawn):
    # Pairs of one label are identical or overlap: in full or by half, in full or not at all.
    for figures in metrics_of(drawn).labels.values():
        if (recall := figures["strict.recall"].value) is not None:
            assert figures["partial.recall"].value == pytest.approx((recall + figures["type.recall"].value) / 2)
            assert figures["exact.recall"] == figures["strict.recall"]


@given(document)
def test_characters_are_sets(drawn):
    gold, predicted = drawn
    entries = parts_of(gold, predicted)["labels"]
    assert set(entries) == {label for *_, label in gold + predicted}
    for label, (_, _, possible, actual, both, only_predicted, only_gold) in entries.items():
        g, p = ({at for start, end, name in spans if name == label for at in range(start, end)} for spans in (gold, predicted))
        assert (both, only_predicted, only_gold) == (len(g & p), len(p - g), len(g - p))
        assert (possible, actual) == tuple(sum(name == label for *_, name in spans) for spans in (gold, predicted))


@settings(max_examples=300)
@given(document)
def test_pairs_are_one_to_one_and_none_is_left_out(drawn):
    """Identical ones are as many as the sides share, and no two spans that overlap are both left without a pair."""
    gold, predicted = map(sorted, drawn)
    entries, cross = compare(gold, predicted)
    shared = sum(min(gold.count(span), predicted.count(span)) for span in set(gold))
    assert sum(entry[0] for entry in entries.values()) == shared
    paired = shared + sum(entry[1] for entry in entries.values()) + sum(cross)
    most = largest_matching(gold, predicted)
    # Any maximal matching has at least half the pairs of the largest.
    assert most / 2 <= paired <= most
    for label, entry in entries.items():
        of_label = [[span for span in side if span[2] == label] for side in (gold, predicted)]
        assert entry[0] + entry[1] <= largest_matching(*of_label)


def largest_matching(gold, predicted):
    """By augmenting paths (Kuhn's algorithm)."""
    owner = {}

    def augment(p, seen):
        for g, span in enumerate(gold):
            if g not in seen and span[0] < predicted[p][1] and predicted[p][0] < span[1]:
                seen.add(g)
                if g not in owner or augment(owner[g], seen):
                    owner[g] = p
                    return True
        return False

    return sum(augment(p, set()) for p in range(len(predicted)))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6))
def test_with_one_label_and_no_span_shared_the_matching_is_the_largest(one, other):
    gold = sorted({(start, start + size, "NAME") for start, size in one})
    predicted = sorted({(start, start + size, "NAME") for start, size in other} - set(gold))
    gold = [span for span in gold if span not in predicted]
    entries, cross = compare(gold, predicted)
    assert cross == [0, 0]
    assert sum(entry[1] for entry in entries.values()) == largest_matching(gold, predicted)


def test_memory_of_counts_is_flat(monkeypatch):
    """Long documents whose counts never repeat leave no more behind than the histograms hold."""
    monkeypatch.setattr(spans._Tally, "_FULL", 64)
    rng = random.Random(5)
    counts = TASK.counts()
    plain = TASK.counts()
    everything = []
    for _ in range(3000):
        entry = [rng.randint(0, 9), rng.randint(0, 9), rng.randint(20, 999), rng.randint(20, 999), *(rng.randint(0, 10**6) for _ in range(3))]
        parts = {"labels": {rng.choice(LABELS): entry}, "cross": [rng.randint(0, 9), rng.randint(0, 9)]}
        everything.append(parts)
        counts.add(parts)
        tallies = (counts._all, *counts._labels.values())
        assert all(len(tally._waiting) < 64 and len(tally._spans) < 128 for tally in tallies)
    monkeypatch.setattr(spans._Tally, "_FULL", sys.maxsize)
    for parts in everything:
        plain.add(parts)
    assert plain.metrics() == counts.metrics()


def test_sums_stay_exact_beyond_floats():
    """A mean of huge character counts must not depend on the order of shards."""
    huge = {"labels": {"NAME": [0, 0, 1, 1, 10**12 + 1, 3, 5]}, "cross": [0, 0]}
    small = {"labels": {"NAME": [0, 0, 1, 1, 1, 0, 1]}, "cross": [0, 0]}
    forth, back = TASK.counts(), TASK.counts()
    for parts in (huge, *[small] * 7):
        forth.add(parts)
    for parts in (*[small] * 7, huge):
        other = TASK.counts()
        other.add(parts)
        back.merge(other)
    assert forth.metrics() == back.metrics()
    assert math.isclose(forth.metrics().overall["char.precision"].value, 1)
