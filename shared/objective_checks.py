"""What a recipe can get wrong about texts and tasks; part of `shared.recipe_checks`."""

from collections.abc import Iterator

from shared.recipe import VIRTUAL_TOKENS, Objective, TrainingRecipe

# Those whose rows are answers that are learned as they are.
_ANSWERS: frozenset[Objective] = frozenset({"sft"})


def objective_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    if recipe.objective == "pretrain" and recipe.method in VIRTUAL_TOKENS:
        yield "objective", ("virtual tokens steer what a model knows and hold no texts; pretrain with lora, adapter or "
                            "full")
    if recipe.multi_task is None:
        return
    if recipe.objective not in _ANSWERS:
        yield "multiTask", f"balances tasks of answers, and none of {recipe.objective}; remove it, or train with sft"
    if recipe.forgetting.replay is not None:
        yield "forgetting.replay", ("draws rows that have no task; publish earlier rows with a task of their own, or "
                                    "remove multiTask")
