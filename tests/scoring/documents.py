"""Documents for the tests of span scoring: random, seeded or drawn by Hypothesis."""

import random

from hypothesis import strategies as st

from pytest_gpueval.scoring.spans import SpanDetection

LABELS = ("NAME", "DATE", "PHONE", "ID")
TEXT = "x" * 60
TASK = SpanDetection(LABELS)

span = st.tuples(st.integers(0, 40), st.integers(1, 20), st.sampled_from(LABELS)).map(lambda s: (s[0], s[0] + s[1], s[2]))
side = st.lists(span, max_size=7)
document = st.tuples(side, side)
corpus = st.lists(document, max_size=12)


def sample_of(gold):
    return TASK.sample({"id": "a", "text": TEXT, "spans": [{"start": s, "end": e, "label": label} for s, e, label in gold]})


def parts_of(gold, predicted):
    sample = sample_of(gold)
    return TASK.score(sample, TASK.prediction(list(predicted), sample))


def counts_of(documents):
    counts = TASK.counts()
    for gold, predicted in documents:
        counts.add(parts_of(gold, predicted))
    return counts


def metrics_of(*documents):
    return counts_of(documents).metrics()


def disjoint(rng: random.Random, most: int = 6):
    """Spans of one side that do not overlap."""
    cuts = sorted(rng.sample(range(len(TEXT) + 1), 2 * rng.randint(0, most)))
    return [(start, end, rng.choice(LABELS)) for start, end in zip(cuts[::2], cuts[1::2], strict=True)]


def noisy(rng: random.Random, gold):
    """A prediction that touches each gold span with at most one span and each of whose spans touches at most one gold span."""
    found = []
    for place, (start, end, label) in enumerate(gold):
        luck = rng.random()
        if luck < 0.15:
            continue
        floor = gold[place - 1][1] if place else 0
        ceiling = gold[place + 1][0] if place + 1 < len(gold) else len(TEXT)
        if found:
            floor = max(floor, found[-1][1])
        if luck < 0.45:
            moved = rng.randint(floor, end - 1), rng.randint(start + 1, ceiling)
            if moved[0] >= moved[1]:
                continue
        else:
            moved = start, end
        found.append((*moved, rng.choice(LABELS) if rng.random() < 0.3 else label))
    return found


def one_to_one(gold, predicted) -> bool:
    """Whether nothing is ambiguous: each span overlaps at most one other, and none of its own side."""

    def touches(a, b):
        return a[0] < b[1] and b[0] < a[1]

    return all(
        sum(touches(one, other) for other in others) <= most
        for side, others, most in ((gold, predicted, 1), (predicted, gold, 1), (gold, gold, 1), (predicted, predicted, 1))
        for one in side
    )
