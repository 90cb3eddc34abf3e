"""Which methods learn which objectives, and what goes with both: asked of the checks that `tuneloop apply` makes.

The page and the tests that show it ask here, so that neither can say anything else than what is refused.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from shared.recipe import RL, Method, Objective, TrainingRecipe
from shared.recipe_checks import recipe_problems

METHODS: tuple[Method, ...] = get_args(Method)
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

Option = Literal[
    "lora.rsLora", "merge", "startFrom", "multiTask", "forgetting.replay", "forgetting.ewc", "forgetting.l2",
    "forgetting.gradualUnfreezing",
]
OPTIONS: tuple[Option, ...] = get_args(Option)

# What an objective cannot do without.
_NEEDS: dict[Objective, Mapping[str, Any]] = {
    "distill": {"distillation": {"teacher": "teacher"}},
    **{objective: {"reward": {"exactMatch": True}} for objective in RL},
}
_START = {"startFrom": "pipeline@1"}
_KEYS: dict[Option, Mapping[str, Any]] = {
    "lora.rsLora": {"lora": {"rsLora": True}},
    "merge": {"merge": True},
    "startFrom": _START,
    "multiTask": {"multiTask": {}},
    "forgetting.replay": {"forgetting": {"replay": {}}},
    "forgetting.ewc": {"forgetting": {"ewc": {}, "earlier": "s3://bucket/earlier/"}},
    "forgetting.l2": {"forgetting": {"l2": {}}},
    "forgetting.gradualUnfreezing": {"forgetting": {"gradualUnfreezing": {"stepsPerStage": 1}}},
}
# What holds an adapter near an earlier one needs that; a whole model is held near its base.
_HOLDING: frozenset[Option] = frozenset({"forgetting.ewc", "forgetting.l2"})


def recipe_of(method: Method, objective: Objective, option: Option | None = None) -> TrainingRecipe:
    """The least that a pipeline must say of a method, an objective and an option."""
    values: dict[str, Any] = {"method": method, "objective": objective, **_NEEDS.get(objective, {})}
    if option is not None:
        values |= _KEYS[option]
    if option in _HOLDING and method != "full":
        values |= _START
    return TrainingRecipe.model_validate(values)


def refusal(method: Method, objective: Objective, option: Option | None = None) -> tuple[str, str] | None:
    """What is refused about it when it is applied, by its key, with the remedy; None where it is supported."""
    return next(recipe_problems(recipe_of(method, objective, option)), None)


def methods_for(objective: Objective, option: Option | None = None) -> tuple[Method, ...]:
    """The methods that learn an objective, with an option."""
    return tuple(method for method in METHODS if refusal(method, objective, option) is None)

