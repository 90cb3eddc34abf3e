"""How surprising an answer's tokens were to the model, where the client asked for log-probabilities. Pure."""

import math
from collections.abc import Iterable
from typing import Any

# Servers write some lowest number for "impossible", and not all the same.
_LARGEST_NATS = 100.0


def token_nats(choice: dict[str, Any]) -> list[float]:
    """Negative log-probability of each token of a choice, or of a piece of one, in nats; empty where it has none."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return []
    content, plain = logprobs.get("content"), logprobs.get("token_logprobs")
    if isinstance(content, list):
        values: Iterable[Any] = (item.get("logprob") for item in content if isinstance(item, dict))
    else:
        values = plain if isinstance(plain, list) else []
    return [
        min(_LARGEST_NATS, max(0.0, -float(value))) for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def mean_nats(nats: list[float]) -> float | None:
    """The mean; None where there is no token."""
    return math.fsum(nats) / len(nats) if nats else None
