"""From logits to the next token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the most likely token, whatever the other fields say.
        top_p: only the smallest set of tokens with at least this probability together is drawn from.
        seed: equal seeds give equal answers; None draws a fresh one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


class Sampler:
    """Draws one request's tokens with a random generator of its own, so that neighbours in the batch change nothing."""

    def __init__(self, sampling: Sampling) -> None:
        import torch

        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, logits: "torch.Tensor") -> int:
        """The next token from `logits` of shape (vocabulary,)."""
        import torch

        if self._sampling.temperature == 0:
            return int(logits.argmax())
        scaled = logits.float().cpu() / self._sampling.temperature
        probabilities = torch.softmax(scaled, dim=-1)
        if self._sampling.top_p < 1:
            probabilities = _nucleus(probabilities, self._sampling.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _nucleus(probabilities: "torch.Tensor", top_p: float) -> "torch.Tensor":
    ordered, indices = probabilities.sort(descending=True)
    # A token stays if those before it do not reach top_p yet; so the first always stays.
    ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
    return probabilities.new_zeros(probabilities.shape).scatter_(0, indices, ordered)
