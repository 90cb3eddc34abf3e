"""Seeded Monte-Carlo of the test by requests: its bounds hold under continuous looking, and a peeking test breaks them.

Every scenario is 120 looks at about 60 requests each, so the numbers compare with those in the literature's tables.
"""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.calibration.rules import z_p_values
from services.rollout.analysis import Bounds
from services.rollout.analysis.evidence import harm_steps, log_harm, log_safe, safe_steps

Floats = npt.NDArray[np.float64]
Fired = npt.NDArray[np.bool_]

ALPHA = BETA = 0.05
RUNS, LOOKS, REQUESTS = 2000, 120, 60
BOUNDS = Bounds(margin=2.0, tolerable=0.1)


def simulate(
    seed: int, stable_rate: float | Floats, ratio: float, weight: float | Floats = 0.1, runs: int = RUNS
) -> tuple[Floats, Floats]:
    """Increments ``[runs, looks, (bad, total)]`` of stable and of a candidate whose rate is `ratio` times stable's."""
    random = np.random.default_rng(seed)
    total = random.poisson(REQUESTS, size=(runs, LOOKS))
    candidate = random.binomial(total, np.broadcast_to(weight, (runs, LOOKS)))
    rate = np.broadcast_to(stable_rate, (runs, LOOKS))
    arms = [(total - candidate, rate), (candidate, np.minimum(rate * ratio, 1.0))]
    stable, canary = (np.stack([random.binomial(n, p), n], axis=-1).astype(np.float64) for n, p in arms)
    return stable, canary


def e_process(stable: Floats, candidate: Floats) -> Fired:
    """At which looks the count e-process would roll back, ``[runs, looks]``."""
    fired: Fired = log_harm(np.cumsum(harm_steps(stable, candidate, _past(stable)), axis=1)) >= np.log(1 / ALPHA)
    return fired


def _past(stable: Floats) -> Floats:
    before: Floats = np.cumsum(stable, axis=1) - stable
    return before


def safe(stable: Floats, candidate: Floats) -> Fired:
    ratio, rate = safe_steps(stable, candidate, _past(stable), BOUNDS)
    passed: Fired = log_safe(np.cumsum(ratio, axis=1), np.cumsum(rate, axis=1)) >= np.log(1 / BETA)
    return passed


def assert_rarely(fired: Fired, bound: float) -> None:
    """The gate: the share of runs in which it ever fired is at most `bound` and three standard errors."""
    share = float(fired.any(axis=1).mean())
    limit = bound + 3 * np.sqrt(bound * (1 - bound) / len(fired))
    assert share <= limit, f"fired in {share:.3f} of the runs; the bound is {bound}, or {limit:.3f} by chance"


RAMP = np.repeat([0.05, 0.1, 0.25, 0.5, 0.75, 0.9], LOOKS // 6)
TRIPLING = np.linspace(0.02, 0.06, LOOKS)


class Scenario(TypedDict, total=False):
    """What `simulate` is called with."""

    stable_rate: float | Floats
    weight: float | Floats


HARMLESS: dict[str, Scenario] = {
    "1 % errors": {"stable_rate": 0.01},
    "5 % errors": {"stable_rate": 0.05},
    "40 % errors": {"stable_rate": 0.4},
    "weights ramp": {"stable_rate": 0.05, "weight": RAMP},
    "weights ramp while the base rate triples": {"stable_rate": TRIPLING, "weight": RAMP},
    "half of the traffic": {"stable_rate": 0.05, "weight": 0.5},
}


@pytest.mark.parametrize("scenario", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_harmless_candidate_is_rarely_rolled_back(scenario: Scenario) -> None:
    assert_rarely(e_process(*simulate(1, ratio=1.0, **scenario)), ALPHA)


def test_a_peeking_test_fails_the_same_gate() -> None:
    with pytest.raises(AssertionError, match=r"fired in 0\.\d+ of the runs"):
        assert_rarely(z_p_values(*simulate(1, 0.05, 1.0)) < ALPHA, ALPHA)


def test_a_candidate_at_the_margin_and_the_tolerable_rate_rarely_passes() -> None:
    assert_rarely(safe(*simulate(2, 0.05, 2.0, weight=0.2)), BETA)
    assert_rarely(safe(*simulate(3, 0.05, 2.0, weight=RAMP)), BETA)


def test_ten_times_the_errors_is_found_soon() -> None:
    fired = e_process(*simulate(4, 0.01, 10.0))
    assert fired.any(axis=1).mean() >= 0.99
    first = np.where(fired.any(axis=1), fired.argmax(axis=1) + 1, LOOKS)
    assert np.median(first) <= 10


def test_three_times_the_errors_is_found() -> None:
    assert e_process(*simulate(5, 0.01, 3.0)).any(axis=1).mean() >= 0.8


def test_a_faultless_candidate_passes_after_as_many_requests_as_reckoned() -> None:
    """1/beta = 20, two tests averaged, most of the prior on "nearly faultless": log(2 * 20 / 0.55) / -log(0.9) = 40."""
    needed = next(n for n in range(1, 200) if safe(*_faultless(n)).all())
    assert 36 <= needed <= 41


def _faultless(requests: int) -> tuple[Floats, Floats]:
    return np.array([[[0.0, 4.0 * requests]]]), np.array([[[0.0, float(requests)]]])


def test_a_good_candidate_with_the_errors_of_stable_mostly_passes() -> None:
    assert safe(*simulate(6, 0.01, 1.0)).any(axis=1).mean() >= 0.95
