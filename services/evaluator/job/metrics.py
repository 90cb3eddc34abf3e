"""From rows to metrics. Pure."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class RowScore(BaseModel):
    """What one model did with one row.

    Attributes:
        predicted: the greedy answer, decoded without the prompt, stripped of surrounding white space.
        nats: negative log-likelihood of the expected answer and its end token, summed over `tokens`.
        surprisal: mean negative log-probability of the greedy answer's tokens, in nats.
        note: why the model was not asked; such a row is no match, and counts for no perplexity.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    id: str
    expected: str
    predicted: str
    nats: float
    tokens: int
    surprisal: float = 0.0
    note: str = ""

    @property
    def matches(self) -> bool:
        """Whether the answer is exactly the expected one, but for surrounding white space."""
        return not self.note and self.predicted == self.expected.strip()


def metrics(rows: Sequence[RowScore]) -> dict[str, float]:
    """``exact_match``, the share of matching rows, and ``perplexity``.

    Perplexity is exp of the mean negative log-likelihood per token, over all answer tokens of all rows: a long answer
    counts for more than a short one. Both are NaN where there is nothing to take the mean of.
    """
    tokens = sum(row.tokens for row in rows)
    nats = math.fsum(row.nats for row in rows)
    return {
        "exact_match": sum(row.matches for row in rows) / len(rows) if rows else math.nan,
        "perplexity": _exp(nats / tokens) if tokens else math.nan,
    }


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
