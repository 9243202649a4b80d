"""Many tests at once, against statsmodels and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from pytest_gpueval.scoring.paired import holm


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_of_an_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@pytest.mark.parametrize("bad", [[float("nan")], [0.5, 1.1], [-0.1]])
def test_what_is_no_p_value_is_refused(bad):
    with pytest.raises(ValueError, match="not all of these are p values"):
        holm(bad)


def test_any_false_alarm_among_forty_is_as_rare_as_one():
    p = np.random.default_rng(3).random((4000, 40))
    assert np.mean([min(holm(row)) <= 0.05 for row in p.tolist()]) == pytest.approx(0.05, abs=0.011)
