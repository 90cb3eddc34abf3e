"""What a recipe can get wrong about texts, teachers, tasks and range tests; part of `shared.recipe_checks`."""

from collections.abc import Iterator

from shared.recipe import VIRTUAL_TOKENS, Objective, TrainingRecipe

# Those whose rows are answers that are learned as they are.
_ANSWERS: frozenset[Objective] = frozenset({"sft", "distill"})
# Those whose loss says how well the model does, and not how far it departed from a reference, or how it was rewarded.
_RANGE_TESTED: tuple[Objective, ...] = ("sft", "distill", "pretrain", "reward")


def objective_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    if recipe.objective == "pretrain" and recipe.method in VIRTUAL_TOKENS:
        yield "objective", ("virtual tokens steer what a model knows and hold no texts; pretrain with lora, adapter or "
                            "full")
    if recipe.range_test is not None:
        yield from _range_test(recipe)
    yield from _distillation(recipe)
    yield from _tasks(recipe)


def _range_test(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    if recipe.objective not in _RANGE_TESTED:
        yield "rangeTest", (f"takes the rate at which the loss falls fastest, and that of {recipe.objective} falls "
                            "fastest where the model leaves what it was; remove it, or train with "
                            f"{', '.join(_RANGE_TESTED)}")
    if "learningRate" not in recipe.auto:
        yield "rangeTest", "chooses the learning rate, which is said: write learningRate: auto, or remove one of both"


def _distillation(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    if recipe.objective != "distill":
        if recipe.distillation is not None:
            yield "distillation", (f"has no effect with objective: {recipe.objective}; remove it, or write objective: "
                                   "distill")
        return
    if recipe.distillation is None:
        yield "distillation", "objective: distill needs a teacher; write distillation: {teacher: NAME}"
    if recipe.method in VIRTUAL_TOKENS:
        yield "objective", ("distill compares two models token by token, which virtual tokens shift; train with "
                            "another method than prefix and prompt")


def _tasks(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    if recipe.multi_task is None:
        return
    if recipe.objective not in _ANSWERS:
        yield "multiTask", (f"balances tasks of answers, and none of {recipe.objective}; remove it, or train with sft "
                            "or distill")
