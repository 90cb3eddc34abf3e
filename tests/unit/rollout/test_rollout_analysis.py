"""The evidence itself: that each test is an e-process, that it is a mixture, and that JSON loses nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.rollout.analysis import (
    HARM_RATIOS,
    SAFE_SHARES,
    SAFE_WEIGHTS,
    Bounds,
    Counts,
    Evidence,
)
from services.rollout.analysis.ratio import rate_steps, ratio_steps

BOUNDS = Bounds(margin=2.0, tolerable=0.1)
# Exactly 0, or large enough for scipy's binomial, which overflows near the smallest number of all.
rates = st.just(0.0) | st.floats(min_value=1e-12, max_value=1.0)
totals = st.integers(min_value=1, max_value=40)


@st.composite
def looks(draw: st.DrawFn) -> tuple[Counts, Counts]:
    counts = []
    for _ in range(2):
        total = draw(st.integers(min_value=0, max_value=500))
        counts.append(Counts(bad=draw(st.integers(min_value=0, max_value=total)), total=total))
    return counts[0], counts[1]


def test_nothing_seen_is_no_evidence() -> None:
    assert Evidence().e_harm == pytest.approx(1.0)
    assert Evidence().e_safe == pytest.approx(1.0)
    assert math.fsum(SAFE_WEIGHTS) == pytest.approx(1.0)
    assert min(HARM_RATIOS) > 1
    assert min(SAFE_SHARES) > 0
    assert max(SAFE_SHARES) < 1


def test_the_ratio_test_is_the_binomial_likelihood_ratio_with_the_realised_share() -> None:
    stable, candidate, rho = Counts(bad=3, total=90), Counts(bad=4, total=30), 5.0
    w = 30 / 120
    q0, q1 = w, w * rho / (1 - w + w * rho)
    expected = stats.binom.logpmf(4, 7, q1) - stats.binom.logpmf(4, 7, q0)
    step = ratio_steps((stable.bad, stable.total), (candidate.bad, candidate.total), np.array([rho]), 1.0)
    assert step[0] == pytest.approx(expected)


def test_the_rate_test_is_the_binomial_likelihood_ratio() -> None:
    expected = stats.binom.logpmf(2, 50, 0.02) - stats.binom.logpmf(2, 50, 0.1)
    assert rate_steps((2, 50), np.array([0.02]), 0.1)[0] == pytest.approx(expected)


@given(sizes=st.tuples(totals, totals), base=rates, boundary=st.sampled_from([1.0, 1.5, 2.0, 4.0]),
       rho=st.floats(min_value=0.02, max_value=50), below=rates)
def test_a_ratio_factor_expects_at_most_one_under_its_null_at_any_rate(
    sizes: tuple[int, int], base: float, boundary: float, rho: float, below: float
) -> None:
    """The bound that makes the product an e-process, computed exactly: sum over both binomials of P times factor."""
    if rho > boundary:  # an alternative of harm; null: the candidate's rate is at most `boundary` times stable's
        candidate_rate = min(1.0, base * boundary) * below
    else:  # an alternative of safety; null: it is at least that
        if base * boundary > 1:
            return
        candidate_rate = base * boundary + (1 - base * boundary) * below
    stable_total, candidate_total = sizes
    x, y = np.arange(candidate_total + 1), np.arange(stable_total + 1)
    px = stats.binom.pmf(x, candidate_total, candidate_rate)
    py = stats.binom.pmf(y, stable_total, base)
    stable = np.stack(np.broadcast_arrays(y[None, :], stable_total), axis=-1)
    candidate = np.stack(np.broadcast_arrays(x[:, None], candidate_total), axis=-1)
    factors = np.exp(ratio_steps(stable, candidate, np.array([rho]), boundary)[..., 0])
    assert float((px[:, None] * py[None, :] * factors).sum()) <= 1 + 1e-9


@given(total=totals, null=st.floats(min_value=0.01, max_value=0.9), share=st.floats(min_value=0.02, max_value=0.95),
       above=st.floats(min_value=0, max_value=1))
def test_a_rate_factor_expects_at_most_one_at_or_above_the_tolerable_rate(
    total: int, null: float, share: float, above: float
) -> None:
    x = np.arange(total + 1)
    probability = stats.binom.pmf(x, total, null + (1 - null) * above)
    factors = np.exp(rate_steps(np.stack(np.broadcast_arrays(x, total), axis=-1), np.array([null * share]), null))[:, 0]
    assert float((probability * factors).sum()) <= 1 + 1e-9


@given(st.lists(looks(), max_size=8))
def test_the_e_values_are_averages_of_products_over_the_looks(history: list[tuple[Counts, Counts]]) -> None:
    evidence = Evidence()
    for stable, candidate in history:
        evidence = evidence.updated(stable, candidate, BOUNDS)
    products = np.zeros(len(HARM_RATIOS))
    for stable, candidate in history:
        products += ratio_steps((stable.bad, stable.total), (candidate.bad, candidate.total), np.array(HARM_RATIOS), 1)
    expected = min(float(np.logaddexp.reduce(products) - np.log(len(HARM_RATIOS))), 600.0)
    assert math.log(max(evidence.e_harm, 1e-300)) == pytest.approx(max(expected, math.log(1e-300)), abs=1e-6)
    assert evidence.candidate.total == sum(candidate.total for _, candidate in history)


@given(st.lists(looks(), max_size=8))
def test_json_loses_nothing(history: list[tuple[Counts, Counts]]) -> None:
    evidence = Evidence()
    for stable, candidate in history:
        evidence = evidence.updated(stable, candidate, BOUNDS)
    again = Evidence.model_validate_json(evidence.model_dump_json())
    assert again == evidence
    assert math.isfinite(again.e_harm)
    assert math.isfinite(again.e_safe)


@given(looks())
def test_without_traffic_on_one_side_nothing_is_compared(look: tuple[Counts, Counts]) -> None:
    stable, _ = look
    one_sided = Evidence().updated(stable, Counts(), BOUNDS)
    assert one_sided.e_harm == pytest.approx(1.0)
    assert one_sided.e_safe == pytest.approx(1.0)


def test_without_any_bad_event_only_the_tolerable_rate_moves() -> None:
    evidence = Evidence().updated(Counts(total=400), Counts(total=100), BOUNDS)
    assert evidence.ratio == (0.0,) * len(SAFE_SHARES)
    assert evidence.e_harm == pytest.approx(1.0)
    assert evidence.e_safe > 20
