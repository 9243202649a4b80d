"""One alignment of a document's gold and predicted spans, and what it counts.

Spans are paired one to one, the best pairs first: identical, same bounds with another label, overlapping with the same label, overlapping with
another label. Among pairs of one kind the prediction that ends first takes the gold span that ends first, which pairs as many as
can be (the exchange argument for intervals: Glover 1967, "Maximum matching in a convex bipartite graph"). Order of input has no say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

Span = tuple[int, int, str]
Pair = tuple[Span, Span]
# Per label: identical pairs, overlapping pairs of this label, gold spans, predicted spans, characters in both, only predicted, only gold.
Entries = dict[str, list[int]]
# Pairs with the same bounds but another label, overlapping pairs with another label.
Cross = list[int]

# After all spans of a text.
_LAST: Span = (1 << 62, 1 << 62, "")


def compare(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[Entries, Cross]:
    """Pair the spans of one document and count its characters. Both sides are lists sorted by (start, end, label)."""
    shared, left, right = (gold, (), ()) if gold == predicted else _split(gold, predicted)
    entries = _count(shared, left, right)
    if not _disjoint(gold) or (right and not _disjoint(predicted)):
        _recount_characters(gold, predicted, entries)
        return entries, _count_pairs(_one_to_one(left, right, _all_touching(left, right)), entries)
    if left and right:
        pairs = _touching(left, right)
        _share_characters(pairs, entries)
        return entries, _count_pairs(_one_to_one(left, right, pairs), entries)
    return entries, [0, 0]


def _split(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[list[Span], list[Span], list[Span]]:
    """Identical spans, what is left of gold, what is left of the predicted: one walk over both, repeated spans one to one."""
    shared: list[Span] = []
    left: list[Span] = []
    right: list[Span] = []
    following = iter(predicted)
    p = next(following, _LAST)
    for g in gold:
        while p < g:
            right.append(p)
            p = next(following, _LAST)
        if p == g:
            shared.append(g)
            p = next(following, _LAST)
        else:
            left.append(g)
    if p is not _LAST:
        right.append(p)
        right.extend(following)
    return shared, left, right


def _count(shared: Iterable[Span], left: Iterable[Span], right: Iterable[Span]) -> Entries:
    """Count identical spans, and those that one side lacks with all their characters as errors."""
    entries: Entries = {}
    for start, end, label in shared:
        if label in entries:
            entry = entries[label]
            entry[0] += 1
            entry[2] += 1
            entry[3] += 1
            entry[4] += end - start
        else:
            entries[label] = [1, 0, 1, 1, end - start, 0, 0]
    for start, end, label in left:
        if label in entries:
            entry = entries[label]
            entry[2] += 1
            entry[6] += end - start
        else:
            entries[label] = [0, 0, 1, 0, 0, 0, end - start]
    for start, end, label in right:
        if label in entries:
            entry = entries[label]
            entry[3] += 1
            entry[5] += end - start
        else:
            entries[label] = [0, 0, 0, 1, 0, end - start, 0]
    return entries


def _disjoint(spans: Sequence[Span]) -> bool:
    """Whether no two of the sorted spans overlap."""
    reach = 0
    for start, end, _ in spans:
        if start < reach:
            return False
        reach = end
    return True


def _touching(left: Sequence[Span], right: Sequence[Span]) -> list[Pair]:
    """Overlapping pairs, where neither side overlaps itself: one walk over both."""
    pairs: list[Pair] = []
    following = iter(right)
    p = next(following)
    for g in left:
        start, end, _ = g
        while p[1] <= end:
            if p[1] > start:
                pairs.append((g, p))
            p = next(following, _LAST)
        if p[0] < end:
            pairs.append((g, p))
    return pairs


def _all_touching(left: Sequence[Span], right: Sequence[Span]) -> list[Pair]:
    """Overlapping pairs of any spans. Both sides are sorted by start."""
    pairs: list[Pair] = []
    first, last = 0, len(right)
    for g in left:
        start, end, _ = g
        while first < last and right[first][1] <= start:
            first += 1
        for at in range(first, last):
            p = right[at]
            if p[0] >= end:
                break
            if p[1] > start:
                pairs.append((g, p))
    return pairs


def _one_to_one(left: Iterable[Span], right: Iterable[Span], touching: list[Pair]) -> list[Pair]:
    """Resolve several candidates for one span, the best pairs first. Both sides may repeat a span."""
    if len(touching) < 2 or len({g for g, _ in touching}) == len(touching) == len({p for _, p in touching}):
        return touching
    free_gold, free_predicted = Counter(left), Counter(right)
    pairs: list[Pair] = []
    for pair in sorted(touching, key=_preference):
        g, p = pair
        if free_gold[g] and free_predicted[p]:
            free_gold[g] -= 1
            free_predicted[p] -= 1
            pairs.append(pair)
    return pairs


def _preference(pair: Pair) -> tuple[bool, bool, int, int, Pair]:
    """Sorts the best pairs first; the spans themselves only make the order total."""
    g, p = pair
    return g[:2] != p[:2], g[2] != p[2], p[1], g[1], pair


def _count_pairs(pairs: Iterable[Pair], entries: Entries) -> Cross:
    """Count pairs with the same label in their entry, the others in the result."""
    cross = [0, 0]
    for (start, end, label), (other_start, other_end, other_label) in pairs:
        if label == other_label:
            entries[label][1] += 1
        else:
            cross[start != other_start or end != other_end] += 1
    return cross


def _share_characters(touching: Iterable[Pair], entries: Entries) -> None:
    """Count the characters that overlapping spans of a label have in common as right, where neither side overlaps itself."""
    for (start, end, label), (other_start, other_end, other_label) in touching:
        if label == other_label:
            common = min(end, other_end) - max(start, other_start)
            entry = entries[label]
            entry[4] += common
            entry[5] -= common
            entry[6] -= common


def _recount_characters(gold: Iterable[Span], predicted: Iterable[Span], entries: Entries) -> None:
    """Count characters where spans of one side overlap: each character of a label counts once."""
    of_gold, of_predicted = _covered(gold), _covered(predicted)
    for label, entry in entries.items():
        g, p = of_gold.get(label, 0), of_predicted.get(label, 0)
        entry[4:] = (g & p).bit_count(), (p & ~g).bit_count(), (g & ~p).bit_count()


def _covered(spans: Iterable[Span]) -> dict[str, int]:
    """Per label, the set of characters that its spans cover: character i is bit i of an integer."""
    covered: dict[str, int] = {}
    for start, end, label in spans:
        covered[label] = covered.get(label, 0) | (1 << end) - (1 << start)
    return covered
