"""From rows to metrics. Pure."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class RowScore(BaseModel):
    """What one model did with one row.

    Attributes:
        expected: the right answer; nothing for a text.
        predicted: the greedy answer, decoded without the prompt, stripped of surrounding white space; None for a text,
            which asks nothing.
        nats: negative log-likelihood of the expected answer and its end token, or of a text, summed over `tokens`.
        bytes: of that answer or text, in UTF-8.
        surprisal: mean negative log-probability of the greedy answer's tokens, in nats.
        task: of the row, where rows have tasks.
        note: why the model was not asked; such a row is no match, and counts for no perplexity.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    id: str
    expected: str
    predicted: str | None
    nats: float
    tokens: int
    bytes: int = 0
    surprisal: float = 0.0
    task: str | None = None
    note: str = ""

    @property
    def matches(self) -> bool:
        """Whether the answer is exactly the expected one, but for surrounding white space."""
        return not self.note and self.predicted == self.expected.strip()


def metrics(rows: Sequence[RowScore]) -> dict[str, float]:
    """The metrics of all rows; and where rows have tasks those of each task, as ``METRIC/TASK``."""
    tasks = sorted({row.task for row in rows if row.task is not None})
    each = {
        f"{name}/{task}": value
        for task in tasks for name, value in _metrics([row for row in rows if row.task == task]).items()
    }
    return _metrics(rows) | each


def _metrics(rows: Sequence[RowScore]) -> dict[str, float]:
    """``exact_match``, the share of matching rows, ``perplexity`` and ``bits_per_byte``.

    Perplexity is exp of the mean negative log-likelihood per token, over all answer tokens of all rows: a long answer
    counts for more than a short one. Bits per byte is the same likelihood in bits, over the bytes of all answers: it
    can be compared across tokenizers, and perplexity cannot (Gao et al., arXiv 2101.00027, section 3.1). All are NaN
    where there is nothing to take the mean of. Of texts there is no exact match.
    """
    tokens, size = sum(row.tokens for row in rows), sum(row.bytes for row in rows)
    nats = math.fsum(row.nats for row in rows)
    likelihoods = {
        "perplexity": _exp(nats / tokens) if tokens else math.nan,
        "bits_per_byte": nats / math.log(2) / size if size else math.nan,
    }
    if rows and all(row.predicted is None for row in rows):
        return likelihoods
    return {"exact_match": sum(row.matches for row in rows) / len(rows) if rows else math.nan, **likelihoods}


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
