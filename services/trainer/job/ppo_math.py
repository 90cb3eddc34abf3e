"""The formulas of PPO (Schulman et al., arXiv 1707.06347) for answers of a language model. Pure.

All tensors are (rows, tokens) of answers, padded on the right; `mask` is true for an answer's tokens, its end included.
"""

import torch
from torch import Tensor

CONTROL = 0.1
"""By how much of its error the coefficient moves; with `BOUND` as in Ziegler et al., arXiv 1909.08593, section 2.2."""
BOUND = 0.2


def answer_mask(tokens: Tensor, end: int) -> Tensor:
    """True up to and with the first `end` of each row; what generation wrote after it is padding, whatever it is."""
    before = (tokens == end).cumsum(dim=1) - (tokens == end).int()
    return before == 0


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over all tokens of all answers; a long answer counts for more than a short one."""
    return (values * mask).sum() / mask.sum()


def token_rewards(scores: Tensor, log_probs: Tensor, reference: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Each token's reward: what it costs to depart from the reference, and at the last token the answer's score.

    Args:
        scores: (rows,), of whole answers.
        log_probs: of the tokens under the policy that drew them, and `reference` under the base.
        coefficient: what a nat costs.
    """
    rewards = -coefficient * (log_probs - reference) * mask
    last = mask.long().sum(dim=1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores.to(rewards)[:, None])


def advantages_of(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns by generalised advantage estimation (Schulman et al., arXiv 1506.02438, equation 16).

    With ``d_t = r_t + gamma V_{t+1} - V_t``, ``A_t = d_t + gamma lambda A_{t+1}``, and the return is ``A_t + V_t``.
    After an answer's last token nothing more comes: its value is 0.

    Args:
        values: of the text before each token.
    """
    values = values * mask
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    surprises = (rewards + gamma * following - values) * mask
    advantages, ahead = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    for token in reversed(range(values.shape[1])):
        ahead = surprises[:, token] + gamma * gae_lambda * ahead
        advantages[:, token] = ahead
    return advantages * mask, (advantages + values) * mask


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Shifted and scaled to mean 0 and variance 1 over all tokens of all answers; 0 elsewhere."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def policy_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """The clipped objective (arXiv 1707.06347, equation 7), negated, and the share of tokens that were clipped.

    Args:
        old: log-probabilities under the policy that drew the tokens.
    """
    ratio = torch.exp(log_probs - old)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.maximum(plain, clipped), mask), masked_mean((clipped > plain).float(), mask)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error, of the worse of the value and of one that moved by at most `clip` from `old`."""
    near = torch.clamp(values, old - clip, old + clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (near - returns) ** 2), mask)


def next_coefficient(coefficient: float, kl: float, target: float) -> float:
    """What a nat costs from now on: more where answers departed by more than the target, less where by less.

    Args:
        kl: mean departure of an answer, in nats, as `target`.
    """
    error = min(max(kl / target - 1, -BOUND), BOUND)
    return coefficient * (1 + CONTROL * error)
