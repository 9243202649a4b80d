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


def test_holm_on_published_examples():
    # statsmodels: stats/tests/test_multi.py, pval0 and the column "Holm" of res_multtest1, made with the R package multtest.
    small = {5.23656777208e-5: 5.23656777208e-4, 0.0202732688798: 0.1419128821586, 0.00028140506198: 2.53264555782e-3, 0.0149877310796: 0.1199018486368}
    large = dict.fromkeys([0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238, 0.177096952723], 1.0)
    assert holm([*large, *small]) == pytest.approx([*large.values(), *small.values()])
    # The same file, res_multtest3.
    p = [0.001, 0.002, 0.003, 0.004, 0.005, 0.05, 0.06, 0.07, 0.08, 0.09]
    assert holm(p) == pytest.approx([0.01, 0.018, 0.024, 0.028, 0.03, 0.25, 0.25, 0.25, 0.25, 0.25])
    assert holm([]) == []


@pytest.mark.parametrize("bad", [[float("nan")], [0.5, 1.1], [-0.1]])
def test_what_is_no_p_value_is_refused(bad):
    with pytest.raises(ValueError, match="not all of these are p values"):
        holm(bad)


def test_any_false_alarm_among_forty_is_as_rare_as_one():
    p = np.random.default_rng(3).random((4000, 40))
    assert np.mean([min(holm(row)) <= 0.05 for row in p.tolist()]) == pytest.approx(0.05, abs=0.011)
