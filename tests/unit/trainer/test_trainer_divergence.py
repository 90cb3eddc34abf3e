"""Divergence: judged by the run's own past, and at its end by rows that are not trained on."""

import math
from typing import Any

import pytest

from services.trainer.job.divergence import bound_of, judge, judge_end
from tests.support.losses import history, learned


@pytest.mark.parametrize(("entry", "what"), [
    ({"loss": math.nan}, "the loss became nan"), ({"loss": math.inf}, "the loss became inf"),
    ({"loss": 1.0, "grad_norm": math.nan}, "the gradient norm became nan"),
    ({"eval_loss": math.nan}, "the validation loss became nan"),
])
def test_what_is_no_number_is_divergence_at_once(entry: dict[str, Any], what: str) -> None:
    for uneven in (False, True):
        verdict = judge([{"loss": 1.0}, entry], uneven=uneven)
        assert (verdict.state, verdict.reason) == ("diverged", what)


@pytest.mark.parametrize("seed", range(10))
def test_noise_spikes_and_a_slow_rise_are_fine(seed: int) -> None:
    losses = learned(300, seed)
    losses[100] += 9
    losses[200:202] = [9.0, 9.0]
    for step in range(250, 300):
        losses[step] += (step - 250) / 500
    states = [judge(history(losses[:step])).state for step in range(1, 301, 1 if seed == 0 else 7)]
    assert "diverged" not in states
    if seed == 0:
        assert states.count("doubtful") == 3, "only the spikes themselves"


def test_a_loss_that_stays_up_is_divergence_and_doubtful_before() -> None:
    losses = learned()
    states = [judge(history(losses + [4.0] * extra)).state for extra in range(7)]
    assert states[:1] + states[5:6] == ["fine", "diverged"]
    assert set(states[1:5]) == {"doubtful"}
    assert judge(history(losses + [4.0] * 6), uneven=True).state == "fine"
    assert judge(history([1.0] * 5 + [50.0] * 5)).state == "fine", "too short a past to judge by"


def test_the_bound_is_the_largest_of_noise_lost_progress_and_the_floor() -> None:
    assert bound_of([0.5] * 9, [0.5]) == pytest.approx(0.6)
    assert bound_of([0.5] * 9, [2.5]) == pytest.approx(1.5)
    assert bound_of([0.0, 1.0] * 5, [0.5]) == pytest.approx(0.5 + 6 * 1.4826 * 0.5)


@pytest.mark.parametrize(("steps", "end", "state"), [
    (4, 0.6, "fine"), (4, 4.0, "diverged"), (1, 2.5, "diverged"), (0, 4.0, "fine"), (5, 0.6, "diverged"),
])
def test_rows_that_are_not_trained_on_decide_an_end_in_doubt(steps: int, end: float, state: str) -> None:
    log = [*history(learned() + [4.0] * steps), {"eval_loss": end}]
    assert judge_end(log).state == state
    unvalidated = [entry for entry in log[:-1] if "eval_loss" not in entry]
    doubt = {0: "fine", 5: "diverged"}.get(steps, "doubtful")
    assert judge_end([*unvalidated, log[-1]]).state == doubt, "there is nothing to compare with"


def test_a_validation_after_the_doubt_began_is_nothing_to_compare_with() -> None:
    plain = [entry for entry in history(learned() + [4.0] * 4) if "eval_loss" not in entry]
    assert judge_end([*plain[:-4], {"eval_loss": 4.0}, *plain[-4:], {"eval_loss": 4.0}]).state == "doubtful"
    assert judge_end([*plain[:-5], {"eval_loss": 0.5}, *plain[-5:], {"eval_loss": 4.0}]).state == "diverged"
