"""The same rows on every machine, even labels, and small selections inside larger ones."""

import hashlib
import math
import os
import random
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpueval.datasets.selection import RowLabels, Selection, Tally, hash_order, select, sorted_rows
from pytest_gpueval.errors import MissingExtra, UsageProblem

NAMES = "ABCDEFGH"
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.29, 1 / 3, 0.5, 1.0])
SINGLE = st.lists(st.sampled_from([[name] for name in NAMES[:5]]), min_size=1, max_size=120)
# Half of the labels are rare; a row may have them all.
ANY = st.lists(st.sets(st.sampled_from("AAABBCD" + NAMES)), min_size=1, max_size=80)


def keys_of(rows):
    return [b"row-%d" % number for number in range(len(rows))]


def chosen(labelled, **how):
    """The selection of rows given as (key, labels), as keys in output order."""
    selection = select(hash_order([key for key, _ in labelled]), RowLabels.of([labels for _, labels in labelled]), **how)
    return [labelled[row][0] for row in selection.rows]


def selected(of, /, **how):
    return select(hash_order(keys_of(of)), RowLabels.of(of), **how)


def counts(selection):
    return {name: tally.selected for name, tally in selection.labels.items()}


@given(rows=ANY, share=SHARES, data=st.data())
@settings(deadline=None)
def test_the_order_of_rows_does_not_matter(rows, share, data):
    labelled = list(zip(keys_of(rows), rows, strict=True))
    shuffled = data.draw(st.permutations(labelled))
    k = data.draw(st.integers(1, len(rows)))
    assert chosen(shuffled, rows=k, negatives=share) == chosen(labelled, rows=k, negatives=share)


@given(rows=ANY, share=SHARES)
@settings(deadline=None, max_examples=60)
def test_each_selection_is_within_the_next(rows, share):
    before = []
    for k in range(1, len(rows) + 1):
        now = selected(rows, rows=k, negatives=share).rows
        assert len(set(now)) == k
        assert [row for row in now if row in set(before)] == list(before)  # in the same order, too
        before = now
    assert sorted(before) == list(range(len(rows)))


@given(rows=ANY, share=SHARES, data=st.data())
@settings(deadline=None)
def test_what_the_table_says(rows, share, data):
    k = data.draw(st.integers(1, len(rows)))
    selection = selected(rows, rows=k, negatives=share)
    without = sum(not labels for labels in rows)
    taken = [rows[row] for row in selection.rows]
    assert selection.total == len(rows)
    assert selection.negatives == Tally(without, sum(not labels for labels in taken))
    assert selection.positives == Tally(len(rows) - without, sum(map(bool, taken)))
    assert selection.labels == {name: Tally(sum(name in labels for labels in rows), sum(name in labels for labels in taken)) for name in set().union(*rows)}
    wanted = math.floor(k * Fraction(str(share)))
    assert selection.negatives.selected == min(max(wanted, k - (len(rows) - without)), without)
    assert any("fill up" in note or "take their place" in note for note in selection.notes) == (selection.negatives.selected != wanted)


@given(rows=ANY, data=st.data())
@settings(deadline=None)
def test_no_label_is_starved_however_labels_occur_together(rows, data):
    selection = selected(rows, rows=data.draw(st.integers(1, len(rows))), negatives=0.0)
    positives, labels = selection.positives.selected, len(selection.labels)
    for tally in selection.labels.values():
        assert tally.selected >= min(tally.available, -(-positives // labels) - 1)
        assert tally.selected >= min(tally.available, selection.level)


@given(rows=SINGLE, data=st.data())
@settings(deadline=None)
def test_one_label_a_row_is_exactly_even_up_to_what_there_is(rows, data):
    selection = selected(rows, rows=data.draw(st.integers(1, len(rows))))
    for tally in selection.labels.values():
        assert tally.selected in (min(tally.available, selection.level), min(tally.available, selection.level + 1))


def zipf(rows, labels, together, seed, bare=0.25):
    """Rows with `together` draws on average from labels of which the first is far the most frequent."""
    rng = random.Random(seed)
    names, weights = [f"L{number:02}" for number in range(labels)], [1 / (number + 1) ** 1.2 for number in range(labels)]
    return [set() if rng.random() < bare else set(rng.choices(names, weights, k=1 + rng.randrange(2 * together - 1))) for _ in range(rows)]


@pytest.mark.parametrize(("labels", "together", "full", "k"), [(4, 1, 20_000, 1000), (12, 2, 20_000, 1000), (12, 3, 60_000, 2000)])
def test_counts_are_within_two_percent_where_there_are_enough(labels, together, full, k):
    rows = zipf(full, labels, together, seed=labels)
    tallies = selected(rows, rows=k).labels.values()
    most, least = (pick(tally.selected for tally in tallies) for pick in (max, min))
    assert most - least <= max(1, 0.02 * most)
    assert max(tally.available for tally in tallies) > 4 * min(tally.available for tally in tallies)


def test_rare_labels_are_taken_whole_and_the_others_share_the_rest():
    rows = [["RARE"]] * 7 + [["A"]] * 500 + [["B"]] * 500 + [[]] * 500
    selection = selected(rows, rows=300, negatives=0.2)
    assert {**counts(selection), "": selection.negatives.selected} == {"RARE": 7, "A": 117, "B": 116, "": 60}
    assert selection.level == 116
    assert selection.notes == ("label 'RARE': only 7 rows have it, and all are selected; the others have 116 and more",)


def test_a_label_that_is_everywhere_does_not_spoil_the_others():
    rows = [["ALL", name] for name in "AAAABBC" for _ in range(100)]
    found = counts(selected(rows, rows=90, negatives=0.0))
    assert found == {"ALL": 90, "A": 30, "B": 30, "C": 30}


def test_one_label_and_no_negatives():
    selection = selected([["A"]] * 50, rows=20)
    assert counts(selection) == {"A": 20}
    assert selection.notes == ("4 rows without a label are wanted, but there are 0: rows with labels take their place",)


def test_only_negatives():
    selection = selected([[]] * 50, rows=20)
    assert (selection.positives, selection.negatives, selection.labels, selection.level) == (Tally(0, 0), Tally(50, 20), {}, 0)
    assert selection.notes == ("only 0 rows have a label, and all are selected: 20 without one fill up, 4 were wanted",)


def test_negatives_left_out():
    selection = selected([["A"], [], ["B"]], rows=2, negatives=None)
    assert selection.rows in ((0, 2), (2, 0))
    assert selection.notes == ("1 row is without a label, and left out",)


def test_without_labels_rows_come_in_hash_order():
    order = hash_order(keys_of(range(100)))
    selection = select(order, None, rows=10)
    assert selection.rows == tuple(sorted_rows(order)[0][:10].tolist())
    assert selection.rows == tuple(sorted(range(100), key=lambda row: tuple(order[row]))[:10])


def test_a_label_that_no_row_has():
    labels = RowLabels.of([["B"], ["C"]], names=["A"])
    assert select(hash_order([b"1", b"2"]), labels, rows=2).labels["A"] == Tally(0, 0)
    with_it, without = (selected([["B"], ["C"]] * 20, rows=7), select(hash_order(keys_of(range(40))), RowLabels.of([["B"], ["C"]] * 20, ["A"]), rows=7))
    assert with_it.rows == without.rows


def test_copies_of_a_row_count_once():
    keys, rows = [b"x", b"y", b"x", b"z", b"x"], [["A"], ["B"], ["A"], [], ["A"]]
    selection = select(hash_order(keys), RowLabels.of(rows), rows=3)
    assert sorted(selection.rows) == [0, 1, 3]
    assert counts(selection) == {"A": 1, "B": 1}
    assert selection.notes[0] == "2 rows are the copy of another: such rows count once"
    with pytest.raises(UsageProblem, match="4 rows are asked for, but 3 can be selected"):
        select(hash_order(keys), RowLabels.of(rows), rows=4)


def test_rows_whose_hashes_agree_in_the_first_half_are_told_apart():
    order = np.array([[7, 3], [7, 1], [5, 9], [7, 3], [7, 2]], np.uint64)
    rows, repeats = sorted_rows(order)
    assert rows.tolist() == [2, 1, 4, 0, 3]
    assert repeats.tolist() == [False, False, False, False, True]
    assert select(order, None, rows=3).rows == (2, 1, 4)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"rows": 4}, r"^4 rows are asked for, but 3 can be selected: 2 with a label, 1 without\. Ask for fewer\.$"),
        ({"rows": 3, "negatives": None}, r"^3 rows are asked for, but 2 can be selected: with a label\. Ask for fewer\.$"),
        ({"rows": 0}, "^0 rows: at least 1 must be selected$"),
        ({"rows": 1, "negatives": 1.5}, r"^a share of negatives of 1\.5: it must lie between 0 and 1$"),
        ({"rows": 1, "negatives": float("nan")}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_selected(how, message):
    with pytest.raises(UsageProblem, match=message):
        selected([["A"], [], ["B"]], **how)
    with pytest.raises(UsageProblem, match=r"^5,000 rows are asked for, but there are 3\. Ask for fewer\.$"):
        select(hash_order(keys_of(range(3))), None, rows=5000)


def test_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="labels of 1 rows, but 2 keys"):
        select(hash_order([b"1", b"2"]), RowLabels.of([["A"]]), rows=1)
    with pytest.raises(ValueError, match="sorted"):
        RowLabels(("B", "A"), np.zeros(1, np.int64), np.zeros(0, np.uint16))
    with pytest.raises(ValueError, match="does not fit"):
        RowLabels(("A",), np.array([0, 2]), np.zeros(1, np.uint16))
    with pytest.raises(ValueError, match="a row has a label twice"):
        select(hash_order([b"1"]), RowLabels(("A",), np.array([0, 2]), np.zeros(2, np.uint16)), rows=1)


def test_another_seed_selects_others():
    rows = zipf(2000, 5, 2, seed=1)
    first, second = (set(select(hash_order(keys_of(rows), seed), RowLabels.of(rows), rows=100).rows) for seed in ("gpueval-1", "gpueval-2"))
    assert len(first & second) < 30


def test_few_rows_change_when_few_rows_go():
    rows = zipf(20_000, 8, 2, seed=3)
    labelled = list(zip(keys_of(rows), rows, strict=True))
    before = set(chosen(labelled, rows=500))
    after = set(chosen([row for number, row in enumerate(labelled) if number % 100], rows=500))
    assert len(before & after) > 0.8 * len(before)


# The hash of the keys is stated by its formula, so that anybody can compute it; that of the selection was taken on numpy 2.4 and on 1.26.
GOLDEN = "2e3974b2da4678f0870af58a924486483a7d8474beacee41c213957e013a5a28"


def golden() -> str:
    """The hash of a fixed selection of 600 of 5,000 rows."""
    rows = [[name for at, name in enumerate(NAMES) if (number * 2654435761 >> 7) % (at + 2) == at] for number in range(5000)]
    selection: Selection = select(hash_order(keys_of(rows)), RowLabels.of(rows), rows=600)
    return hashlib.sha256(repr((selection.rows, sorted(selection.labels.items()), selection.negatives)).encode()).hexdigest()


def test_the_hash_order_is_what_its_formula_says():
    salt = hashlib.blake2b(b"gpueval-1", digest_size=16).digest()
    digest = hashlib.blake2b("строка".encode(), digest_size=16, salt=salt).digest()
    expected = [int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")]
    assert hash_order(["строка".encode()]).tolist() == [expected] == [[14553991260658555309, 4137353064110106676]]


def test_the_selection_of_a_fixed_case_never_changes():
    assert golden() == GOLDEN


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_pythons_own_hashes_do_not_matter(seed):
    script = "from tests.datasets.test_selection import golden; print(golden())"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == GOLDEN


def test_without_numpy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtra, match=r"selecting rows needs the package 'numpy'(.|\n)*pip install"):
        hash_order([b"1"])
