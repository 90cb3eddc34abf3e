"""Penalties that hold trained weights near where they started: L2-SP, and EWC where importances are given."""

from collections.abc import Mapping

import torch


class Anchor:
    """The penalty ``1/2 * sum_i w_i (theta_i - theta*_i)^2`` with ``w_i = l2 + ewc * F_i``.

    Li et al., arXiv 1802.01483, equation 1 (with one half), and Kirkpatrick et al., arXiv 1612.00796, equation 3.

    Args:
        model: its trainable weights as they are now are the start, theta*; both they and F are kept beside it, in
            float32.
        l2: strength of the pull on all weights alike.
        ewc: strength of the pull on each weight by its importance.
        importance: F by the weight's name, of its shape; needed where `ewc` is not 0.
    """

    def __init__(
        self, model: torch.nn.Module, *, l2: float = 0.0, ewc: float = 0.0,
        importance: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._start: dict[str, torch.Tensor] = {}
        self._weights: dict[str, torch.Tensor | float] = {}
        for name, value in model.named_parameters():
            if value.requires_grad:
                self._start[name] = value.detach().clone()
                self._weights[name] = l2 + ewc * importance[name] if importance is not None else l2

    @torch.no_grad()
    def pull(self, model: torch.nn.Module) -> torch.Tensor:
        """Add the penalty's gradient, ``w_i (theta_i - theta*_i)``, to those that the weights have.

        By hand and not by a term of the loss: it is the same once for each step of the optimizer, however many
        batches the step has, and however the trainer averages them. A weight without a gradient takes no part.

        Returns:
            The penalty, a scalar.
        """
        total: torch.Tensor | None = None
        for name, value in model.named_parameters():
            if value.grad is None or name not in self._start:
                continue
            away = value - self._start[name]
            pull = self._weights[name] * away
            value.grad.add_(pull)
            part = (pull * away).sum()
            total = part if total is None else total + part
        return torch.zeros(()) if total is None else total / 2
