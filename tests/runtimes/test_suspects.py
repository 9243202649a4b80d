"""Who ended the server: any number of rows, however many were in flight, and no innocent row blamed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpueval.runtimes.suspects import Suspects, most_ends


def search(batches, kills, draw=lambda _rows: (), ends_too=lambda: False):
    """Asks until nobody is suspected. `draw` chooses those of a group's other rows that are answered although the group ends the server.

    Returns the rows answered and blamed, each in order, how often the server ended, and how many groups were asked.
    """
    suspects = Suspects(batches)
    answered, blamed, ends, groups = [], [], 1, 0
    while suspects.group:
        groups += 1
        rows = [row for batch in suspects.group for row in batch]
        if kills & set(rows) or ends_too():
            done = set(draw([row for row in rows if row not in kills])) if len(rows) > 1 else set()
            answered += done
            ends += 1
            row = suspects.ended([left for batch in suspects.group if (left := [one for one in batch if one not in done])])
            blamed += [] if row is None else [row]
        else:
            answered += rows
            suspects.answered()
    return answered, blamed, ends, groups


@st.composite
def in_flight(draw):
    """Batches of rows, the last one perhaps smaller, and the rows that end the server."""
    size = draw(st.integers(1, 12))
    rows = range(draw(st.integers(1, 40 * size)))
    batches = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    return batches, draw(st.sets(st.integers(0, len(rows) - 1), max_size=20))


@given(in_flight(), st.data())
def test_each_row_that_ends_the_server_is_blamed_and_every_other_one_answered_once(flight, data):
    batches, kills = flight
    answered, blamed, ends, _ = search(batches, kills, lambda rows: rows[:: data.draw(st.integers(1, 4))])
    assert sorted(answered) == [row for batch in batches for row in batch if row not in kills]
    assert blamed == sorted(kills)
    assert ends <= 1 + len(kills) * (most_ends(len(batches), max(map(len, batches))) - 1)


@given(in_flight(), st.integers(1, 30))
def test_nobody_is_blamed_for_a_server_that_ends_for_reasons_of_its_own(flight, when):
    batches, kills = flight
    turns = iter(range(1, 10_000))
    _, blamed, ends, _ = search(batches, kills, ends_too=lambda: next(turns) == when)
    assert blamed == sorted(kills)
    assert ends <= 2 + len(kills) * (most_ends(len(batches), max(map(len, batches))) - 1)


@given(in_flight())
def test_a_server_that_always_ends_is_given_up_at_last(flight):
    batches, _ = flight
    _, blamed, ends, _ = search(batches, set(), ends_too=lambda: True)
    rows = [row for batch in batches for row in batch]
    assert blamed == rows
    assert ends <= 1 + 4 * len(rows)


@pytest.mark.parametrize(("many", "most"), [(1, 3), (2, 3), (16, 5), (32, 5), (128, 6), (256, 7)])
def test_one_row_is_found_in_so_many_ends(many, most):
    found = [search([[row] for row in range(many)], {row}) for row in range(many)]
    assert max(ends for _, _, ends, _ in found) == most_ends(many) == most
    assert most <= 2 + max(1, many.bit_length() - 1), "no more than by halves"
    assert max(groups for *_, groups in found) <= 2 * max(1, (many - 1).bit_length()) + 2, "nor much longer"


def test_rows_of_one_batch_are_told_apart():
    answered, blamed, ends, _ = search([list(range(32))], {17})
    assert (len(answered), blamed, ends) == (31, [17], most_ends(1, 32))
