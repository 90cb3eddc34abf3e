"""The comparison of counts: against formulas by hand, against scipy, and under the null."""

import math

import numpy as np
import pytest
from scipy import stats

from services.drift.statistics import REFERENCE_RISK, compare

TENTHS = np.full(10, 0.1)
ZIPF = 1 / np.arange(1, 65) / (1 / np.arange(1, 65)).sum()
ONE_LANGUAGE = np.array([0.97, 0.02, 0.005, 0.005, *[0.0] * 8])


def labels(buckets: int) -> list[str]:
    return [str(number) for number in range(buckets)]


def test_psi_and_its_threshold_by_hand() -> None:
    found = compare(["a", "b"], [600, 400], [50, 50])
    assert found is not None
    q, p = (600.5 / 1001, 400.5 / 1001), (0.5, 0.5)
    assert found.statistic == pytest.approx(sum((p[i] - q[i]) * math.log(p[i] / q[i]) for i in (0, 1)))
    assert found.threshold == pytest.approx(stats.chi2.ppf(0.99, 1) * (1 / 100 + 1 / 1000))
    assert (found.window, found.reference) == (100, 1000)
    assert [(share.bucket, share.reference, share.window) for share in found.largest] == [
        ("a", 0.6, 0.5), ("b", 0.4, 0.5),
    ]


def test_the_p_value_is_that_of_noncentral_chi_squared() -> None:
    reference, window = [700, 300, 500, 500], [90, 20, 45, 45]
    found = compare(labels(4), reference, window)
    assert found is not None
    shift = 200 / 2000 * stats.chi2.ppf(1 - REFERENCE_RISK, 3)
    assert found.p_value == pytest.approx(stats.ncx2.sf(200 * found.statistic, 3, shift), rel=1e-6)


def test_what_the_reference_hardly_has_is_tested_exactly() -> None:
    found = compare(["en", "de"], [500, 0], [190, 10])
    assert found is not None
    # Clopper and Pearson's upper bound of a share of which 0 of 500 were seen.
    bound = 1 - REFERENCE_RISK ** (1 / 500)
    assert found.p_value == pytest.approx(stats.binom.sf(9, 200, bound), rel=1e-6)
    assert found.p_value < 0.001


def test_alike_is_no_surprise_and_too_little_says_nothing() -> None:
    found = compare(labels(3), [100, 200, 300], [10, 20, 30])
    assert found is not None
    assert found.statistic == pytest.approx(0, abs=1e-3)
    assert found.p_value > 0.9
    assert compare(labels(2), [20, 20], [50, 50]) is None
    assert compare(labels(2), [200, 20], [0, 0]) is None
    alone = compare(["only"], [500], [200])
    assert alone is not None
    assert alone.p_value == 1.0


@pytest.mark.parametrize("shares", [TENTHS, ZIPF, ONE_LANGUAGE], ids=["tenths", "zipf", "one language"])
@pytest.mark.parametrize("reference_rows", [100, 1000])
def test_small_p_values_are_as_rare_as_they_promise_also_with_one_reference(
    shares: np.ndarray, reference_rows: int
) -> None:
    """Many windows against one reference: for nearly every reference, not only on average over references."""
    rng = np.random.default_rng(11)
    names, worst = labels(len(shares)), []
    for _ in range(25):
        reference = rng.multinomial(reference_rows, shares).tolist()
        found = [compare(names, reference, rng.multinomial(200, shares).tolist()) for _ in range(80)]
        worst.append(np.mean([item.p_value <= 0.05 for item in found if item is not None]))
    assert np.mean(worst) <= 0.05
    # Of 80, a share of 0.05 is exceeded by three standard errors once in a thousand references.
    assert np.mean(np.array(worst) > 0.05 + 3 * math.sqrt(0.05 * 0.95 / 80)) <= 0.04


def test_the_usual_cut_off_alarms_where_nothing_changed() -> None:
    """Why PSI is scaled: at 100 samples and ten bins, `PSI > 0.1` is almost always true."""
    rng = np.random.default_rng(12)
    found = [
        compare(labels(10), rng.multinomial(100, TENTHS).tolist(), rng.multinomial(100, TENTHS).tolist())
        for _ in range(300)
    ]
    assert np.mean([item.statistic > 0.1 for item in found if item is not None]) > 0.7
    assert np.mean([item.statistic > item.threshold for item in found if item is not None]) < 0.03
