"""A trainer's log, made up."""

import math
import random
from typing import Any


def history(losses: list[float]) -> list[dict[str, Any]]:
    """A trainer's log, with validations between the steps."""
    entries: list[dict[str, Any]] = []
    for step, loss in enumerate(losses, 1):
        entries += [{"eval_loss": loss, "step": step}, {"loss": loss, "grad_norm": 1.0, "step": step}]
    return entries


def learned(steps: int = 60, seed: int = 1) -> list[float]:
    """A loss that falls from 3 to 0.5, with the noise of small batches."""
    stream = random.Random(seed)
    return [0.5 + 2.5 * math.exp(-step / 10) + stream.gauss(0, 0.1) for step in range(steps)]
