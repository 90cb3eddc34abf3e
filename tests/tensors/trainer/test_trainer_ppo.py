"""PPO's formulas against cases that were computed by hand."""

import math

import pytest
import torch

from services.trainer.job.ppo_math import (
    advantages_of,
    answer_mask,
    next_coefficient,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)

BOTH = torch.tensor([[True, True]])


def test_an_answer_ends_with_its_first_end_token() -> None:
    tokens = torch.tensor([[5, 2, 2, 2], [5, 6, 7, 8], [2, 5, 2, 5]])
    assert answer_mask(tokens, end=2).tolist() == [
        [True, True, False, False], [True, True, True, True], [True, False, False, False],
    ]


def test_departures_cost_at_each_token_and_the_score_comes_with_the_last() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = token_rewards(
        torch.tensor([1.0, -2.0]), torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -1.0, -1.0]]),
        torch.tensor([[-2.0, -1.0, -3.0], [-1.0, -1.0, -3.0]]), mask, coefficient=0.5,
    )
    # -0.5 * (-1 + 2), then -0.5 * (-2 + 1) + 1; nothing after the end; and -0.5 * (-1 + 3) - 2.
    assert rewards.tolist() == [[-0.5, 1.5, 0.0], [0.0, 0.0, -3.0]]


def test_advantages_of_three_tokens_by_hand() -> None:
    # d = (.9*.4 - .5, .9*.2 - .4, 1 - .2) = (-.14, -.22, .8); A_2 = .8, A_1 = -.22 + .72*.8, A_0 = -.14 + .72*A_1.
    advantages, returns = advantages_of(
        torch.tensor([[0.0, 0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.4, 0.2, 7.0]]),
        torch.tensor([[True, True, True, False]]), gamma=0.9, gae_lambda=0.8,
    )
    assert advantages[0].tolist() == pytest.approx([-0.14 + 0.72 * 0.356, 0.356, 0.8, 0.0])
    assert returns[0].tolist() == pytest.approx([-0.14 + 0.72 * 0.356 + 0.5, 0.756, 1.0, 0.0])


@pytest.mark.parametrize(("gae_lambda", "expected"), [(1.0, [1.0 - 0.5, 1.0 - 0.25]), (0.0, [0.25 - 0.5, 1.0 - 0.25])])
def test_lambda_is_between_what_came_and_the_next_value(gae_lambda: float, expected: list[float]) -> None:
    advantages, _ = advantages_of(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]]), BOTH, gamma=1.0, gae_lambda=gae_lambda
    )
    assert advantages[0].tolist() == pytest.approx(expected)


def test_whitened_values_have_mean_zero_and_variance_one_over_answers_alone() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    # 1, 2 and 6: mean 3, variance (4 + 1 + 9) / 3.
    white = whiten(torch.tensor([[1.0, 2.0], [6.0, 100.0]]), mask)
    scale = math.sqrt(14 / 3)
    assert white.flatten().tolist() == pytest.approx([-2 / scale, -1 / scale, 3 / scale, 0.0])


@pytest.mark.parametrize(("ratio", "advantage", "loss", "clipped"), [
    (1.0, 2.0, -2.0, 0.0), (1.5, 2.0, -2.4, 1.0), (0.5, 2.0, -1.0, 0.0), (1.5, -2.0, 3.0, 0.0), (0.5, -2.0, 1.6, 1.0),
])
def test_a_step_gains_nothing_beyond_the_clip(ratio: float, advantage: float, loss: float, clipped: float) -> None:
    found, share = policy_loss(
        torch.tensor([[math.log(ratio), 5.0]]), torch.zeros(1, 2), torch.tensor([[advantage, 9.0]]),
        torch.tensor([[True, False]]), clip=0.2,
    )
    assert float(found) == pytest.approx(loss)
    assert float(share) == clipped


def test_beyond_the_clip_there_is_no_gradient() -> None:
    log_probs = torch.tensor([[math.log(1.5), math.log(1.1)]], requires_grad=True)
    loss, _ = policy_loss(log_probs, torch.zeros(1, 2), torch.ones(1, 2), BOTH, clip=0.2)
    (slope,) = torch.autograd.grad(loss, log_probs)
    assert slope[0].tolist() == pytest.approx([0.0, -1.1 / 2])


def test_a_value_that_moved_too_far_is_judged_by_the_worse_of_two_errors() -> None:
    # Towards a return of 1 from 0: 0.9 counts as 0.2, whose error is larger; away from it, -0.5 counts as it is.
    found = value_loss(torch.tensor([[0.9, -0.5]]), torch.zeros(1, 2), torch.ones(1, 2), BOTH, clip=0.2)
    assert float(found) == pytest.approx(0.5 * (0.8**2 + 1.5**2) / 2)


def test_the_price_of_a_nat_follows_the_target_by_at_most_two_percent() -> None:
    assert next_coefficient(0.5, kl=6.6, target=6.0) == pytest.approx(0.5 * 1.01)
    assert next_coefficient(0.5, kl=60.0, target=6.0) == pytest.approx(0.5 * 1.02)
    assert next_coefficient(0.5, kl=0.0, target=6.0) == pytest.approx(0.5 * 0.98)
    assert next_coefficient(0.5, kl=6.0, target=6.0) == 0.5
