"""Which prompts a run with rewards asks, and when it has left its base. Pure; nothing here imports torch."""

import random

from shared.errors import PermanentError
from shared.recipe import TrainingRecipe


def drawn(rows: int, prompts: int, recipe: TrainingRecipe) -> list[int]:
    """The rows whose prompts are asked, in their order: each epoch its own permutation, whole steps of `prompts`.

    Laid out beforehand: TRL's sampler would go on with other permutations after a restart.
    """
    order, shuffled = random.Random(recipe.seed), list(range(rows))  # noqa: S311 - no secret
    wanted = prompts * rounds_of(rows, prompts, recipe)
    found: list[int] = []
    while len(found) < wanted:
        order.shuffle(shuffled)
        found += shuffled
    return found[:wanted]


def rounds_of(rows: int, prompts: int, recipe: TrainingRecipe) -> int:
    """How often a run asks `prompts` of its rows."""
    return recipe.rl.steps or max(1, round(recipe.epochs * rows / prompts))


def steps_of(rows: int, answers: int, recipe: TrainingRecipe) -> int:
    """Steps of the optimizer of a run that draws so many answers at once."""
    if recipe.objective == "ppo":
        return recipe.rl.passes * rounds_of(rows, answers, recipe)
    return rounds_of(rows, max(1, answers // recipe.rl.group_size), recipe)


def check_departure(kl: float, most: float, step: int) -> None:
    """End a run whose model has left the base behind.

    Raises:
        PermanentError: `kl`, mean nats of an answer, is above `most` or no number.
    """
    if not kl <= most:
        raise PermanentError(
            f"at step {step} answers depart from the base by {kl:.4g} nats, and training.rl.maxKl is {most:g}: the "
            "model gives up its language for rewards. Raise training.rl.klCoefficient, or lower training.learningRate"
        )
