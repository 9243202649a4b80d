"""Two shares of the same samples: published examples, scipy and statsmodels, and simulation."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats import contingency_tables

from pytest_gpueval.scoring.paired.proportions import Pairs, compared, detectable, mcnemar, mcnemar_power, newcombe, tango
from pytest_gpueval.scoring.paired.records import Level

TAIL = 0.05
counts = st.integers(0, 60)
pairs = st.builds(Pairs, counts, counts, counts, counts).filter(lambda found: found.n > 0)

# Where the published figures below stand (both, gained, lost, neither are the cells a, b, c, d there; a difference is (b - c) / n):
# - ratesci, an R package: tests/testthat/test3.R, "PAIRED contrasts", which says whose examples they are;
# - contingencytables, the R package of Fagerland, Lydersen and Laake, *Statistical analysis of contingency tables* (2017): tests/testthat/test-ch8.R;
# - StatsDirect's help on matched pairs; statsmodels: stats/tests/test_nonparametric.py, test_mcnemar_exact.
CHILDREN = Pairs(both=1, gained=1, lost=7, neither=12)  # Bentur et al. 2009, airway hyper-responsiveness before and after a transplantation
PATIENTS = Pairs(both=59, gained=6, lost=16, neither=80)  # Cavo et al. 2012, complete response before and after consolidation therapy
SPUTA = Pairs(both=20, gained=12, lost=2, neither=16)  # Armitage and Berry 1994, p. 127, two media for cultures; an example of Newcombe's too


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (PATIENTS.lost, PATIENTS.gained, 0.052479),  # contingencytables
        (SPUTA.gained, SPUTA.lost, 0.0129),  # StatsDirect
        *[(121, 59, 0.000004), (70, 59, 0.378688), (80, 59, 0.089452), (60, 30, 0.00206)],  # statsmodels, from VassarStats
    ],
)
def test_the_exact_test_on_published_examples(lost, gained, p):
    assert 2 * mcnemar(lost, gained) == pytest.approx(p, abs=5e-7 if p != 0.0129 else 5e-5)


NEWCOMBE = {
    PATIENTS: (-0.1186, -0.0046),  # contingencytables
    SPUTA: (0.0562, 0.3292),  # ratesci: an example from Newcombe, his method 10
    CHILDREN: (-0.507, -0.026),  # ratesci: Fagerland et al. 2014
    Pairs(both=8, gained=3, lost=1, neither=2): (-0.1574, 0.4136),  # ratesci: Tang et al. 2010
    Pairs(both=7, gained=25, lost=2, neither=68): (0.133, 0.318),  # ratesci: Chang 2024
}


@pytest.mark.parametrize("found", NEWCOMBE)
def test_newcombes_interval_on_published_examples(found):
    assert newcombe(found, 0.025) == pytest.approx(NEWCOMBE[found], abs=rounded(NEWCOMBE[found]))


TANGO = {
    PATIENTS: (-0.1240, -0.0054),  # contingencytables
    CHILDREN: (-0.517, -0.026),  # ratesci: Fagerland et al. 2014
    Pairs(both=4, gained=9, lost=3, neither=16): (-0.027, 0.390),  # ratesci: "Tango RD"
    Pairs(both=53, gained=16, lost=8, neither=9): (-0.020, 0.207),  # ratesci: Agresti and Min 2005
    Pairs(both=8, gained=3, lost=1, neither=2): (-0.1670, 0.4327),  # ratesci: Tang et al. 2010
    Pairs(both=7, gained=25, lost=2, neither=68): (0.139, 0.321),  # ratesci: Chang 2024
}
NINETY = {Pairs(both=43, gained=0, lost=1, neither=0): (-0.096, 0.037)}  # ratesci: "Tango RD", an interval of 90 %


@pytest.mark.parametrize("found", [*TANGO, *NINETY])
def test_tangos_test_inverts_to_his_interval_on_published_examples(found):
    """The margins at which the one-sided test says so much are the interval's ends."""
    ends, tail = (TANGO[found], 0.025) if found in TANGO else (NINETY[found], 0.05)
    swapped = Pairs(found.both, found.gained, found.lost, found.neither)

    def p(difference):  # of a true difference, gained - lost, of so much or less
        return tango(swapped, difference) if difference > 0 else 1 - tango(found, -difference)

    computed = tuple(optimize.brentq(lambda difference, wanted=wanted: p(difference) - wanted, -0.99999, 0.99999) for wanted in (tail, 1 - tail))
    assert computed == pytest.approx(ends, abs=rounded(ends))


def rounded(published):
    """Half a unit of the last digit, and what doubles add: three digits are published, or four."""
    return 5.1e-4 if all(end == round(end, 3) for end in published) else 5.1e-5


@given(counts, counts)
@settings(deadline=None)
def test_the_exact_test_is_scipys_and_statsmodels(lost, gained):
    expected = stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(expected)
    two_sided = min(1.0, 2 * min(mcnemar(lost, gained), mcnemar(gained, lost)))
    assert two_sided == pytest.approx(contingency_tables.mcnemar([[1, lost], [gained, 1]], exact=True).pvalue)


@given(pairs, st.floats(0.001, 0.9))
@settings(max_examples=60, deadline=None)
def test_tangos_nuisance_parameter_is_the_likelihoods_maximum(found, margin):
    def loss(q):
        cells = [(found.lost, q + margin), (found.gained, q), (found.both + found.neither, 1 - 2 * q - margin)]
        return -math.fsum(times * math.log(share) for times, share in cells if times and share > 0) + (1e9 if any(t and s <= 0 for t, s in cells) else 0)

    q = optimize.minimize_scalar(loss, bounds=(0, (1 - margin) / 2), method="bounded", options={"xatol": 1e-10}).x
    z = (found.lost - found.gained - found.n * margin) / math.sqrt(found.n * (2 * q + margin * (1 - margin)))
    assert tango(found, margin) == pytest.approx(stats.norm.sf(z), abs=2e-4)


@given(pairs)
@settings(deadline=None)
def test_tangos_test_without_a_margin_would_be_mcnemars_score_test(found):
    if found.lost + found.gained:
        z = (found.lost - found.gained) / math.sqrt(found.lost + found.gained)
        assert tango(found, 1e-12) == pytest.approx(stats.norm.sf(z), abs=1e-6)


@given(pairs, st.sampled_from([0.0, 0.02, 0.3]), st.sampled_from(["one", "two"]))
@settings(max_examples=60, deadline=None)
def test_swapped_runs_swap_what_is_said(found, margin, sides):
    level = Level(0.05, sides)
    swapped = Pairs(found.both, found.gained, found.lost, found.neither)
    forth, back = compared(found, margin, level), compared(swapped, margin, level)
    difference = (found.gained - found.lost) / found.n
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.low <= difference + 1e-12 and difference - 1e-12 <= forth.high
    assert all(0 <= p <= 1 for p in (forth.p, forth.p_improved, back.p))
    assert margin or forth.p == back.p_improved


@cache
def critical(changed):
    """The least losses among so many changed samples that scipy's exact test finds too many."""
    return int(stats.binom.isf(TAIL, changed, 0.5)) + 1 if changed else 1


@pytest.mark.parametrize(("n", "drop", "gain"), [(40, 0.2, 0.05), (300, 0.03, 0.01), (300, 0.0, 0.1), (25, 1.0, 0.0), (50, 0.0, 0.0)])
def test_power_is_the_sum_over_all_outcomes(n, drop, gain):
    share = 2 * gain + drop
    expected = sum(
        stats.binom.pmf(changed, n, share) * stats.binom.sf(critical(changed) - 1, changed, (gain + drop) / share if share else 0.0) for changed in range(n + 1)
    )
    assert mcnemar_power(n, drop, gain, TAIL) == pytest.approx(expected, abs=1e-6)
    assert drop or mcnemar_power(n, drop, gain, TAIL) <= TAIL


@pytest.mark.parametrize("found", [Pairs(900, 20, 10, 70), Pairs(100, 0, 0, 0), Pairs(30, 4, 6, 10), Pairs(9000, 300, 310, 390)])
def test_the_detectable_drop_is_found_with_80_percent_power(found):
    drop, gain = detectable(found, 0.0, TAIL), min(found.lost, found.gained) / found.n
    assert mcnemar_power(found.n, drop, gain, TAIL) == pytest.approx(0.8, abs=0.03)
    draws = np.random.default_rng(5).multinomial(found.n, [gain + drop, gain, 1 - 2 * gain - drop], size=4000)
    power = np.mean([lost >= critical(lost + gained) for lost, gained, _ in draws.tolist()])
    assert power == pytest.approx(0.8, abs=0.03 + 3 * math.sqrt(0.16 / 4000))


def test_few_samples_detect_nothing():
    """Four losses of four have p 0.0625."""
    assert detectable(Pairs(4, 0, 0, 0), 0.0, TAIL) is None
    assert compared(Pairs(1, 0, 0, 0), 0.0, Level()).p == 1.0


@pytest.mark.parametrize(("n", "margin", "gain"), [(100, 0.02, 0.03), (500, 0.01, 0.05), (500, 0.05, 0.01), (2000, 0.01, 0.002)])
def test_with_a_margin_false_alarms_and_power_are_as_promised(n, margin, gain):
    """At a true drop of just the margin; the score test is asymptotic, so that its level may be off by a fifth."""
    rng = np.random.default_rng(7)

    @cache
    def p(lost, gained):
        return tango(Pairs(n - lost - gained, lost, gained, 0), margin)

    def share_found(drop):
        draws = rng.multinomial(n, [gain + drop, gain, 1 - 2 * gain - drop], size=6000)
        return np.mean([p(lost, gained) <= TAIL for lost, gained, _ in draws.tolist()])

    assert share_found(margin) <= TAIL * 1.2 + 3 * math.sqrt(TAIL / 6000)
    gained = round(gain * n)
    least = compared(Pairs(n - 2 * gained - round(margin * n), gained + round(margin * n), gained, 0), margin, Level()).detectable
    assert share_found(least) == pytest.approx(0.8, abs=0.03 + 3 * math.sqrt(0.16 / 6000))


@pytest.mark.parametrize(("n", "p", "gain", "lose"), [(60, 0.8, 0.05, 0.05), (200, 0.9, 0.02, 0.06), (1000, 0.95, 0.01, 0.01)])
def test_newcombes_interval_covers(n, p, gain, lose):
    """Method 10 is conservative where few samples change: it covers what it says or more."""
    draws = np.random.default_rng(11).multinomial(n, [p - lose, lose, gain, 1 - p - gain], size=4000)
    covered = np.mean([low <= gain - lose <= high for low, high in (newcombe(Pairs(*map(int, draw)), TAIL) for draw in draws)])
    assert covered >= 0.9 - 3 * math.sqrt(0.09 / 4000)
