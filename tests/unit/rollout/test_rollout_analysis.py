"""The evidence itself: that each test is an e-process, that it is a mixture, and that JSON loses nothing."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.rollout.analysis import HARM_RATIOS, SAFE_SHARES, SAFE_WEIGHTS, Bounds, Counts, Evidence, UnitLook
from services.rollout.analysis.clumps import clumping
from services.rollout.analysis.evidence import HARM_WEIGHTS, TABLE_EVENTS, UNIT_SHARES, compared
from services.rollout.analysis.ratio import interval_steps, rate_steps, ratio_steps, split_steps
from services.rollout.analysis.sample_ratio import SampleRatio, split_step
from services.rollout.analysis.tables import table_steps
from shared.gateway_metrics import UNIT_TIMES

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
    for shares in (SAFE_WEIGHTS, HARM_WEIGHTS, UNIT_SHARES):
        assert math.fsum(shares) == pytest.approx(1.0)
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


@st.composite
def nulls(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """A boundary, an alternative beyond it, and rates of stable and of a candidate under the null hypothesis."""
    boundary = draw(st.sampled_from([1.0, 1.5, 2.0, 4.0]))
    rho, below = draw(st.floats(min_value=0.02, max_value=50)), draw(rates)
    if rho > boundary:  # an alternative of harm; null: the candidate's rate is at most `boundary` times stable's
        base = draw(rates)
        return boundary, rho, base, min(1.0, base * boundary) * below
    base = draw(rates) / boundary  # an alternative of safety; null: it is at least that
    return boundary, rho, base, base * boundary + (1 - base * boundary) * below


@given(sizes=st.tuples(totals, totals), null=nulls())
def test_a_ratio_factor_expects_at_most_one_under_its_null_at_any_rate(
    sizes: tuple[int, int], null: tuple[float, float, float, float]
) -> None:
    """The bound that makes the product an e-process, computed exactly: sum over both binomials of P times factor."""
    boundary, rho, base, rate = null
    probability, stable, candidate = _tables(sizes, base, rate)
    factors = np.exp(ratio_steps(stable, candidate, np.array([rho]), boundary)[..., 0])
    assert float((probability * factors).sum()) <= 1 + 1e-9


@given(sizes=st.tuples(totals, totals), null=nulls(), expected=st.floats(min_value=0.01, max_value=0.99))
def test_so_does_a_table_whatever_rate_was_expected(
    sizes: tuple[int, int], null: tuple[float, float, float, float], expected: float
) -> None:
    boundary, rho, base, rate = null
    alternative = expected * rho / (1 - expected + expected * rho)
    if (alternative > boundary * expected) != (rho > boundary):
        return  # a ratio of odds above the boundary may be a ratio of rates below it, which is no alternative
    probability, stable, candidate = _tables(sizes, base, rate)
    factors = np.exp(table_steps(stable, candidate, expected, np.array([rho]), boundary)[..., 0])
    assert float((probability * factors).sum()) <= 1 + 1e-9


def _tables(sizes: tuple[int, int], base: float, rate: float) -> tuple[npt.NDArray[np.float64], ...]:
    """Every outcome of a look at two rates: its probability, stable's counts and the candidate's."""
    stable_total, candidate_total = sizes
    x, y = np.arange(candidate_total + 1), np.arange(stable_total + 1)
    probability = stats.binom.pmf(x, candidate_total, rate)[:, None] * stats.binom.pmf(y, stable_total, base)[None, :]
    stable = np.stack(np.broadcast_arrays(y[None, :], stable_total), axis=-1)
    candidate = np.stack(np.broadcast_arrays(x[:, None], candidate_total), axis=-1)
    return probability, stable, candidate


@given(events=st.integers(1, 30), weight=st.floats(0.01, 0.99), rho=st.floats(1.01, 50), less=st.floats(0, 1),
       clump=st.integers(1, 30))
def test_events_that_fall_by_the_split_expect_at_most_one(
    events: int, weight: float, rho: float, less: float, clump: int
) -> None:
    """By unit; and by interval even where the events come in clumps that all fall on one side."""
    ratios, odds, share = np.array([rho]), weight / (1 - weight), weight * less
    x = np.arange(events + 1)
    probability = stats.binom.pmf(x, events, share)
    by_unit = np.exp(split_steps(events - x, x, odds, ratios, 1.0)[:, 0])
    by_interval = np.exp(interval_steps(clump * (events - x), clump * x, odds, ratios, 1.0)[:, 0])
    assert float((probability * by_unit).sum()) <= 1 + 1e-9
    assert float((probability * by_interval).sum()) <= 1 + 1e-9


def test_tables_are_used_where_bad_events_were_common_before_the_look() -> None:
    stable, candidate, ratios = (20, 54), (5, 6), np.array([3.0])
    rare, common = (5, TABLE_EVENTS), (40, TABLE_EVENTS)
    assert compared(stable, candidate, rare, ratios, 1.0) == ratio_steps(stable, candidate, ratios, 1.0)
    table = table_steps(stable, candidate, (40 + 1) / (TABLE_EVENTS + 2), ratios, 1.0)
    assert compared(stable, candidate, common, ratios, 1.0) == table
    assert table > ratio_steps(stable, candidate, ratios, 1.0)


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
    products, past = np.zeros(len(HARM_RATIOS)), Counts()
    for stable, candidate in history:
        s, c = (stable.bad, stable.total), (candidate.bad, candidate.total)
        products += compared(s, c, (past.bad, past.total), np.array(HARM_RATIOS), 1)
        past += stable
    expected = min(float(np.logaddexp.reduce(products + np.log(HARM_WEIGHTS))), 600.0)
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


# --- Units ------------------------------------------------------------------------------------------------------------

NONE = (0,) * len(UNIT_TIMES)


def by_units(stable: tuple[int, ...], candidate: tuple[int, ...]) -> Evidence:
    look = UnitLook(stable=stable, candidate=candidate, stable_seen=900, candidate_seen=100)
    return Evidence(counted_by="unit").updated(Counts(total=900), Counts(total=100), BOUNDS, odds=1 / 9, units=look)


def test_harm_by_unit_is_the_greatest_of_the_countings_each_with_its_share() -> None:
    ratios, prior = np.array(HARM_RATIOS), np.log(HARM_WEIGHTS)
    for index, share in enumerate(UNIT_SHARES):
        met = tuple(4 if i == index else 0 for i in range(len(UNIT_TIMES)))
        expected = share * np.exp(np.logaddexp.reduce(split_steps(0, 4, 1 / 9, ratios, 1.0) + prior))
        assert by_units(NONE, met).e_harm == pytest.approx(expected)


def test_what_was_not_counted_by_unit_is_not_judged_by_it() -> None:
    look = UnitLook(stable=NONE, candidate=(9, 0, 0), stable_seen=900, candidate_seen=100)
    unknown_split = Evidence(counted_by="unit").updated(Counts(), Counts(), BOUNDS, units=look)
    assert unknown_split.e_harm < 1
    by_request = Evidence().updated(Counts(), Counts(), BOUNDS, odds=1 / 9, units=look)
    assert by_request.e_harm == pytest.approx(1.0)


def test_clumps_discount_what_requests_say() -> None:
    """200 bad requests: of 190 units they are independent, of 20 they come in tens."""
    alone = float(clumping((180, 9000), (20, 1000), (171, 19), (8000, 900)))
    clumped = float(clumping((180, 9000), (20, 1000), (18, 2), (8000, 900)))
    assert alone == pytest.approx(1.1, abs=0.1)
    assert 14 < clumped < 20
    assert float(clumping((0, 900), (0, 100), (0, 0), (900, 100))) == 1.0
    assert float(clumping((0, 0), (0, 0), (0, 0), (0, 0))) == 1.0


# --- The split --------------------------------------------------------------------------------------------------------


@given(weight=st.floats(0.01, 0.99), seen=st.tuples(st.integers(0, 500), st.integers(0, 500)), units=st.integers(0, 40))
def test_the_bet_on_a_wrong_split_expects_one(weight: float, seen: tuple[int, int], units: int) -> None:
    x = np.arange(units + 1)
    weights = np.array([1 - weight, weight])
    step = split_step(np.stack([units - x, x], axis=-1), weights, np.array(seen), weights * sum(seen))
    assert float((stats.binom.pmf(x, units, weight) * np.exp(step)).sum()) == pytest.approx(1.0)


def test_a_wrong_split_is_found_and_said() -> None:
    split = SampleRatio()
    for _ in range(40):
        split = split.updated({"m@1": 57, "m@2": 3}, {"m@1": 0.9, "m@2": 0.1})
    assert split.mismatched
    assert split.words == "m@1 had 2280 units where 2160 were meant, m@2 had 120 units where 240 were meant"
    assert SampleRatio.model_validate_json(split.model_dump_json()) == split


def test_a_right_split_is_not_whatever_its_weights_do() -> None:
    split = SampleRatio()
    for weight in (0.0, 0.1, 0.5, 0.9):
        split = split.updated({"m@1": round(1000 * (1 - weight)), "m@2": round(1000 * weight)},
                              {"m@1": 1 - weight, "m@2": weight})
    assert not split.mismatched
    assert split.e_mismatch < 2
