"""Learning rates from model, method, objective and length of a run. Pure; each says where it comes from."""

from shared.advice import sources
from shared.advice.rules import SHORT_RUN
from shared.advice.sources import Source
from shared.estimate import ModelShape
from shared.recipe import Method, Objective, TrainingRecipe

_BILLION = 10**9
_LARGE = 20 * _BILLION
# How much more than LoRA a method bears: few weights, far from the logits (docs/training.md shows rates of that order).
_METHODS: dict[Method, float] = {"ia3": 5.0, "prefix": 10.0, "prompt": 30.0}
# Texts: a tenth, as little is to be learned from each token. Preferences move a model that answers already.
_OBJECTIVES: dict[Objective, float] = {"sft": 1.0, "distill": 1.0, "pretrain": 0.1}
_OTHER_OBJECTIVES = 0.05


def learning_rate_for(recipe: TrainingRecipe, shape: ModelShape, steps: int) -> float:
    """The advised rate of a run of so many steps: that of answers by low-rank adapters or full training, times what
    the method and the objective bear.
    """
    factor = _METHODS.get(recipe.method, 1.0) * _OBJECTIVES.get(recipe.objective, _OTHER_OBJECTIVES)
    return float(f"{rate_of_answers(shape, recipe.method, steps)[0] * factor:.2g}")


def rate_of_answers(shape: ModelShape, method: str, steps: int) -> tuple[float, str, Source]:
    """By the model's size, for adapters; a tenth of it in full training. With the reason."""
    if shape.parameters >= _LARGE:
        rate, why, source = 1e-4, "1e-4 was best for 33B and 65B", sources.QLORA
    elif shape.parameters >= _BILLION:
        rate, why, source = 2e-4, "2e-4 was best for 7B and 13B", sources.QLORA
    else:
        rate, why, source = 1e-3, "small models bear more: at 2e-3 SmolLM2-135M learned in 23 steps", sources.MEASURED
    if method == "full":
        return rate / 10, f"{why}; full training wants about a tenth", sources.REGRET
    if steps < SHORT_RUN:
        return 1.5 * rate, f"{why}; half as much again in fewer than {SHORT_RUN} steps", sources.REGRET
    return rate, why, source
