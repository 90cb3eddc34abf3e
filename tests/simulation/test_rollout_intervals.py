"""Confidence sequences: that they cover at all times at once, where a repeated interval does not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rollout.analysis import Counts
from services.rollout.analysis.bounded import BettingMean, mean_difference
from services.rollout.analysis.proportions import bucket_quantile, difference_interval, rank_interval, share_interval

ALPHA = 0.05


def rarely(missed: list[bool], bound: float) -> bool:
    return float(np.mean(missed)) <= bound + 3 * math.sqrt(bound * (1 - bound) / len(missed))


# --- Shares -----------------------------------------------------------------------------------------------------------


def _misses(seed: int, share: float, wald: bool) -> bool:
    """Whether an interval that is looked at after every tenth event ever misses the share."""
    seen = np.cumsum(np.random.default_rng(seed).random(1000) < share)
    for n in range(20, 1001, 10):
        k = int(seen[n - 1])
        if wald:
            half = 1.96 * math.sqrt(k / n * (1 - k / n) / n)
            low, high = k / n - half, k / n + half
        else:
            interval = share_interval(Counts(bad=k, total=n), ALPHA)
            low, high = interval.low, interval.high
        if not low <= share <= high:
            return True
    return False


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_share_is_covered_at_all_times(share: float) -> None:
    assert rarely([_misses(seed, share, wald=False) for seed in range(150)], ALPHA)


def test_an_ordinary_interval_that_is_looked_at_often_does_not_cover() -> None:
    assert not rarely([_misses(seed, 0.3, wald=True) for seed in range(150)], ALPHA)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10_000), st.floats(1e-6, 0.5))
def test_a_shares_interval_holds_its_estimate(bad: int, more: int, alpha: float) -> None:
    interval = share_interval(Counts(bad=bad, total=bad + more), alpha)
    assert interval.estimate is not None
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high > interval.low


def test_nothing_seen_excludes_nothing() -> None:
    assert (share_interval(Counts(), ALPHA).low, share_interval(Counts(), ALPHA).high) == (0.0, 1.0)
    assert difference_interval(Counts(), Counts(bad=1, total=9), ALPHA).estimate is None
    assert bucket_quantile([0.1, math.inf], [0, 0], 0.5, ALPHA).high == math.inf


def test_a_difference_is_found_with_its_sign() -> None:
    interval = difference_interval(Counts(bad=50, total=5000), Counts(bad=250, total=5000), ALPHA)
    assert 0.02 < interval.low < 0.04 < interval.high < 0.06


# --- Quantiles --------------------------------------------------------------------------------------------------------


def test_a_median_is_covered_at_all_times() -> None:
    def misses(seed: int) -> bool:
        below = np.cumsum(np.random.default_rng(seed).random(1000) < 0.5)
        return any(not low <= below[n - 1] <= high
                   for n in range(20, 1001, 20) for low, high in [rank_interval(n, 0.5, ALPHA)])

    assert rarely([misses(seed) for seed in range(200)], ALPHA)


@given(n=st.integers(1, 5000), level=st.sampled_from([0.05, 0.5, 0.95, 0.99]))
def test_ranks_lie_around_the_level(n: int, level: float) -> None:
    low, high = rank_interval(n, level, ALPHA)
    assert 0 <= low <= round(level * n) <= high <= n


def test_a_histogram_knows_a_quantile_as_well_as_its_bounds() -> None:
    bounds, cumulative = [0.1, 0.5, 1.0, math.inf], [100.0, 9000.0, 9990.0, 10_000.0]
    assert bucket_quantile(bounds, cumulative, 0.5, ALPHA).model_dump() == {"low": 0.1, "high": 0.5, "estimate": 0.5}
    assert bucket_quantile(bounds, [10.0, 10.0, 10.0, 10.0], 0.5, ALPHA).low == 0.0
    assert bucket_quantile(bounds, [0.0, 0.0, 0.0, 50.0], 0.95, ALPHA).high == math.inf


# --- Means ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8.0, 2.0), (0.2, 0.8)], ids=["smooth", "nearly all or nothing"])
def test_a_mean_is_covered_at_all_times(shape: tuple[float, float]) -> None:
    mean = shape[0] / sum(shape)

    def misses(seed: int) -> bool:
        bets, random = BettingMean(alpha=ALPHA), np.random.default_rng(seed)
        for _ in range(15):
            bets = bets.updated(random.beta(*shape, size=20).tolist())
            if not bets.interval.low <= mean <= bets.interval.high:
                return True
        return False

    assert rarely([misses(seed) for seed in range(100)], ALPHA)


def test_a_low_spread_is_used() -> None:
    random = np.random.default_rng(1)
    narrow = BettingMean().updated((0.7 + 0.02 * random.standard_normal(300)).tolist()).interval
    wide = BettingMean().updated((random.random(300) < 0.7).astype(float).tolist()).interval
    assert narrow.high - narrow.low < 0.4 * (wide.high - wide.low)


def test_means_on_another_range_and_their_difference() -> None:
    random = np.random.default_rng(2)
    stable = BettingMean(low=1, high=10).updated(random.uniform(4, 6, 400).tolist())
    candidate = BettingMean(low=1, high=10).updated(random.uniform(6, 8, 400).tolist())
    assert 4.5 < stable.interval.low < 5 < stable.interval.high < 5.5
    difference = mean_difference(stable, candidate)
    assert 1 < difference.low < 2 < difference.high < 3
    assert BettingMean.model_validate_json(stable.model_dump_json()) == stable


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="outside of"):
        BettingMean().updated([value])
