"""How much each trained weight matters for rows that were learned before: the diagonal of the Fisher information."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from shared.errors import InvalidInputError
from shared.prompts import Example

Importance = dict[str, torch.Tensor]


def diagonal_fisher(
    model: Any, rows: Sequence[Example], *, share: slice = slice(None),
    total: Callable[[torch.Tensor], torch.Tensor] = lambda mine: mine,
) -> Importance:
    """``F_i = 1/N sum_n (d log p(answer_n | prompt_n) / d theta_i)^2``, for each trainable weight, in its shape.

    The empirical Fisher information (labels are the rows' own answers): gradients are squared row by row and then
    averaged. The square of a batch's mean gradient is another thing, up to N times smaller: gradients of rows that
    pull in different ways cancel in it. Kirkpatrick et al., arXiv 1612.00796; Kunstner et al., arXiv 1905.12558.

    Args:
        model: in whatever mode; it is computed without dropout, and modes and gradients are as before afterwards.
        rows: all of them, N.
        share: those that this process computes.
        total: sums a tensor over the processes that compute.
    """
    weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
    importance = {name: torch.zeros_like(value) for name, value in weights.items()}
    with _undisturbed(model):
        for row in rows[share]:
            for value in weights.values():
                value.grad = None
            torch.autograd.backward(_log_likelihood(model, row))
            for name, value in weights.items():
                if value.grad is not None:
                    importance[name] += value.grad.detach() ** 2
    return {name: total(value) / len(rows) for name, value in importance.items()}


def relative(importance: Importance) -> Importance:
    """Importances as multiples of their mean over all trained weights.

    Squared gradients are tiny where the model is sure of the rows, and differ by orders of magnitude between models, so
    that no strength would fit two of them. Of mean 1 they hold all weights together as L2 of the same strength does,
    and only say which are held more. Normalised importances are from Schwarz et al., arXiv 1805.06370, section 3.

    Raises:
        InvalidInputError: no weight matters for the rows, or a gradient is no number.
    """
    count = sum(value.numel() for value in importance.values())
    mean = sum(float(value.sum(dtype=torch.float64)) for value in importance.values()) / count
    if not 0 < mean < math.inf:
        raise InvalidInputError(f"training.forgetting.ewc: the mean importance of weights for the earlier rows is "
                                f"{mean:g}, so none can be told from the others; name other rows "
                                "(training.forgetting.earlier), or hold weights by l2")
    return {name: value / mean for name, value in importance.items()}


def _log_likelihood(model: Any, row: Example) -> torch.Tensor:
    """Of the row's answer and its end token, in nats, a scalar."""
    device = next(model.parameters()).device
    ids = torch.tensor([row.input_ids], device=device)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    # Virtual tokens stand before the row's own.
    answer = logits[-len(row.input_ids) :][row.prompt_length - 1 : -1]
    likelihood = torch.log_softmax(answer.float(), dim=-1).gather(1, ids[0, row.prompt_length :, None])
    return likelihood.sum()


@contextmanager
def _undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each module's own mode and each weight's own gradient return afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(value, value.grad) for value in model.parameters()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for value, gradient in gradients:
            value.grad = gradient
