"""A range test's choice: where the loss falls fastest, and the advised rate where nothing can be read from it."""

import math
import random

import pytest

from services.trainer.job.rates import Sweep, blown_up, choose, rates_around, smoothed

ADVISED = 1e-3


def swept(noise: float, *, seed: int = 1, best: float = 1e-2, cliff: float = 0.05, start: float = 3.0) -> list[float]:
    """Losses of a model that a step brings nearer to its end by rate / best, and off above the cliff."""
    stream, level, losses = random.Random(seed), start, [start]
    for rate in rates_around(ADVISED, 50):
        level += 2 * rate / cliff if rate > cliff else -level * min(1, rate / best)
        losses.append(level + stream.gauss(0, noise))
        if blown_up(losses):
            break
    return losses


def choice(losses: list[float]) -> Sweep:
    return choose(rates_around(ADVISED, 50), losses, ADVISED)


def test_rates_rise_by_a_constant_factor_around_the_advised_one_and_never_above_1() -> None:
    rates = rates_around(ADVISED, 5)
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert rates_around(0.5, 20)[-1] == pytest.approx(1.0)


def test_a_smoothed_loss_has_no_lag() -> None:
    assert smoothed([0.0] * 5 + [7.0] + [0.0] * 5) == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert smoothed([1.0, 2.0, 3.0, 4.0, 5.0]) == [1, 2, 3, 4, 5]
    assert smoothed([]) == []


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_the_rate_is_where_the_loss_falls_fastest(noise: float) -> None:
    for seed in range(10):
        found = choice(swept(noise, seed=seed))
        assert found.found
        assert 5e-4 <= found.rate <= 3e-3
        assert found.why.startswith("in a range test of ")
        assert len(found.rates) == len(found.losses) == len(found.smoothed)


def test_what_is_chosen_follows_the_model() -> None:
    """By as much, where a tenth or ten times of each rate does the same."""
    slow, fast = (choice(swept(0.0, best=best, cliff=5 * best)).rate for best in (3e-2, 3e-3))
    assert slow / fast == pytest.approx(10, rel=0.25)


def test_a_flat_sweep_falls_back_on_the_advised_rate() -> None:
    stream = random.Random(5)
    for losses in ([3.0] * 51, [3 + stream.gauss(0, 0.3) for _ in range(51)], [3 + step / 50 for step in range(51)]):
        found = choice(losses)
        assert (found.rate, found.found) == (ADVISED, False)
        assert "from 1e-05 to 0.1 the loss of " in found.why
        assert "did not fall by more than its noise" in found.why


@pytest.mark.parametrize("losses", [[3.0, 2.0, math.nan], [3.0] + [2.0] * 12 + [math.inf], [3.0, math.nan]])
def test_a_sweep_that_blows_up_at_once_falls_back_on_the_advised_rate(losses: list[float]) -> None:
    assert blown_up(losses)
    found = choice(losses)
    assert (found.rate, found.found) == (ADVISED, False)
    assert f"blew up after {len(losses) - 2} steps, at " in found.why


def test_a_sweep_ends_where_the_loss_is_four_times_the_lowest_and_above_where_it_began() -> None:
    assert not blown_up([])
    assert not blown_up([3.0] * 20 + [1.0] * 10 + [2.9] * 20)
    assert not blown_up([0.1] * 20 + [0.01] * 10 + [0.09] * 20), "still below where it began"
    assert blown_up([3.0] * 20 + [1.0] * 10 + [4.1] * 7)
    assert len(swept(0.0, cliff=1e-2)) < 51
