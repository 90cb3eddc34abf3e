"""The numbers of a recipe, each from what it follows from. Pure; advice and the trainer's `auto` both ask here."""

import math
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from shared.advice import sources
from shared.advice.sources import Source
from shared.estimate import ModelShape, Setup
from shared.estimate.adapters import trainable_parameters
from shared.recipe import RL, Objective

SHORT_RUN = 100
"""Steps; a shorter run bears half as much again of a learning rate, and no warm-up."""
LARGEST_RANK = 256
SERVED_RANK = 64
"""Model servers load no larger one unless they are told to (`TUNELOOP_MAX_LORA_RANK`)."""

_RANKS = (8, 16, 32, 64, 128, LARGEST_RANK)
# Schulman et al.: an adapter holds about two bits a weight; an answer has about one bit a token to be learned, and a
# reward one bit an answer.
_BITS_PER_WEIGHT, _BITS_PER_TOKEN, _BITS_PER_REWARD = 2.0, 1.0, 1.0
_RANK_STABLE_FROM = 32
_WARMUP_SHARE = 0.03
_BATCHES = (64, 32, 16, 8, 4, 2, 1)
# Lengths in eights: what matrix units take at once.
_LENGTHS = 8
_LEAST_BETWEEN, _TIMES_IN_A_RUN = 10, 20


class Value(BaseModel):
    """One field of the recipe with its reason."""

    field: str
    value: Any
    why: str
    source: Source

    def __str__(self) -> str:
        shown = f"{self.value:g}" if isinstance(self.value, float) else str(self.value).lower()
        return f"{shown}: {self.why}"


def bits_of(objective: Objective, rows: int, learned_tokens: float) -> float:
    """What rows have to teach, in bits.

    Args:
        learned_tokens: the mean of a row.
    """
    return rows * (_BITS_PER_REWARD if objective in RL else learned_tokens * _BITS_PER_TOKEN)


def rank_for(shape: ModelShape, setup: Setup, bits: float, *, most: int = LARGEST_RANK) -> Value:
    """The smallest rank whose update holds so many bits, of the setup's method and layers; at most `most`."""
    ranks = [rank for rank in _RANKS if rank <= most]
    for rank in ranks:
        capacity = trainable_parameters(shape, setup.model_copy(update={"rank": rank})) * _BITS_PER_WEIGHT
        if capacity >= bits:
            why = f"the rows have about {bits:.2g} bits to teach, and an adapter of this rank holds {capacity:.2g}"
            return Value(field="lora.rank", value=rank, why=why, source=sources.REGRET)
    more = "full training would learn more" if most == LARGEST_RANK else "and servers load no larger one by themselves"
    return Value(field="lora.rank", value=ranks[-1], source=sources.REGRET,
                 why=f"the rows have about {bits:.2g} bits to teach, more than an adapter of this rank holds; {more}")


def scale_for(rank: int, *, rank_stable: bool = False) -> list[Value]:
    """The update's scale: alpha, and whether it is divided by the root of the rank, as it is above 32.

    Args:
        rank_stable: that is said already.
    """
    if rank_stable or rank > _RANK_STABLE_FROM:
        return [
            Value(field="lora.alpha", value=16, why="divided by the root of the rank, it is the same for all ranks",
                  source=sources.RSLORA),
            Value(field="lora.rsLora", value=True, why="with alpha / rank large ranks learn no more than small ones",
                  source=sources.RSLORA),
        ]
    return [Value(field="lora.alpha", value=2 * rank, why="twice the rank", source=sources.LEARNS_LESS)]


def longest_for(longest: int, context: int) -> Value:
    """The longest row, of so many tokens, in whole eights and within the model's context."""
    why = f"the longest row has {longest} tokens" + (", more than the model's context" if longest > context else "")
    return Value(field="maxLength", value=min(math.ceil(max(1, longest) / _LENGTHS) * _LENGTHS, context), why=why,
                 source=sources.ARITHMETIC)


def length_for(longest: int, context: int, fits: Callable[[int], bool]) -> Value | None:
    """`longest_for`, or what of it fits into memory; None where not even eight tokens do.

    Args:
        fits: whether rows of so many tokens do; if some do, so do shorter ones.
    """
    wanted = longest_for(longest, context)
    if fits(wanted.value):
        return wanted
    fitting, beyond = 0, math.ceil(wanted.value / _LENGTHS)
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        fitting, beyond = (middle, beyond) if fits(middle * _LENGTHS) else (fitting, middle)
    return None if fitting == 0 else Value(
        field="maxLength", value=fitting * _LENGTHS, source=sources.ESTIMATED,
        why=f"{wanted.why}, and rows longer than this do not fit into memory",
    )


def rows_per_step(rows: int) -> int:
    """Rows per step of the optimizer: enough steps for little data, less noise for much."""
    return 16 if rows < 5_000 else 32 if rows < 50_000 else 64


def batch_for(most: int, fits: Callable[[int], bool]) -> Value | None:
    """The largest power of two of rows that fits, at most `most`; None where not even one row does."""
    size = next((size for size in _BATCHES if size <= most and fits(size)), None)
    return None if size is None else Value(
        field="batchSize", value=size, why=f"the largest power of two that fits, of at most {most} rows",
        source=sources.ESTIMATED,
    )


def epochs_for(rows: int) -> Value:
    """Passes over so many rows."""
    epochs = 3.0 if rows < 5_000 else 2.0 if rows < 50_000 else 1.0
    return Value(field="epochs", value=epochs, source=sources.REPEATED,
                 why=f"{rows} rows; up to four passes are worth almost as much as new rows, more are not")


def warmup_for(steps: int) -> Value:
    """Steps of warm-up of a run of so many steps."""
    return Value(field="warmupSteps", value=math.ceil(_WARMUP_SHARE * steps) if steps >= SHORT_RUN else 0,
                 why=f"3 % of {steps} steps; none in a short run, whose first steps count", source=sources.PRACTICE)


def spacing_for(steps: int, field: str) -> Value:
    """Steps between two checkpoints, or two validations, of a run of so many steps.

    Args:
        field: which of them, as the recipe calls it.
    """
    every = max(_LEAST_BETWEEN, math.ceil(steps / _TIMES_IN_A_RUN))
    return Value(field=field, value=every, source=sources.PRACTICE,
                 why=f"a twentieth of {steps} steps, and no fewer than {_LEAST_BETWEEN}")
