"""What a pipeline that trains a reward model can get wrong: found when it is applied, with the remedy."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from shared.recipe import Method, TrainingRecipe

SCORING_METHODS: frozenset[Method] = frozenset({"lora", "dora", "qlora", "ia3", "full"})
"""Those that PEFT saves together with a trained score head; virtual tokens and bottlenecks have no place for one."""


class GateLike(Protocol):
    """What is asked of a gate here."""

    @property
    def metric(self) -> str: ...
    @property
    def on(self) -> str: ...
    @property
    def versus(self) -> str | None: ...


def reward_model_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem of a recipe with objective: reward, with the path of its key."""
    if recipe.objective != "reward":
        return
    if recipe.method not in SCORING_METHODS:
        yield "method", (f"{recipe.method} has no place for the head that gives the score; train with "
                         f"{', '.join(sorted(SCORING_METHODS))}")
    if recipe.merge:
        yield "merge", "has no effect with objective: reward, whose result is read by training runs alone; remove it"


def pair_gate_problems(recipe: TrainingRecipe, gates: Sequence[GateLike]) -> Iterator[tuple[str, str]]:
    """Gates that ask for pairs where there are none, or for answers of a reward model, with the path of each."""
    for index, gate in enumerate(gates):
        path = f"gates.{index}"
        if recipe.objective != "reward":
            if gate.metric == "pairwise_accuracy":
                yield path, "pairwise_accuracy is measured of reward models alone; take exact_match or perplexity"
            elif gate.metric == "reward" and not (recipe.reward and recipe.reward.model):
                yield path, ("reward is the mean score of the reward model that training.reward.model names, and it "
                             "names none; take exact_match, or name one")
        elif gate.metric != "pairwise_accuracy":
            yield path, (f"{gate.metric} needs answers, and a reward model writes none; write gates: "
                         "[{metric: pairwise_accuracy, min: 0.6}]")
        elif gate.versus == "production" or gate.on == "production_heldout":
            yield path, "a reward model is never in production; compare with min, or with versus: base on heldout"
