"""What a recipe can get wrong about continuing and forgetting; part of `shared.recipe_checks`."""

from collections.abc import Iterator

from shared.forgetting import PRODUCTION
from shared.recipe import RL, VIRTUAL_TOKENS, Objective, TrainingRecipe

# Those whose trainers' steps can be held back, those whose rows can be mixed, those that learn how likely an answer is.
_OF_STEPS: tuple[Objective, ...] = ("sft", "distill", "dpo", "kto", "reward", "pretrain")
_OF_ROWS: tuple[Objective, ...] = ("sft", "distill", "dpo", "kto", "reward")
_OF_ANSWERS: tuple[Objective, ...] = ("sft", "distill", "dpo", "kto")
# Those that measure how far a model departs from where it started.
_DEPARTING: frozenset[Objective] = RL | {"dpo", "kto"}


def forgetting_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    yield from _start(recipe)
    chosen = recipe.forgetting
    held = {"l2": chosen.l2, "gradualUnfreezing": chosen.gradual_unfreezing}
    for name in (name for name, part in held.items() if part and recipe.objective not in _OF_STEPS):
        yield f"forgetting.{name}", (f"has no effect with objective: {recipe.objective}; remove it, or train with "
                                     f"{', '.join(_OF_STEPS)}")
    if chosen.replay and recipe.objective not in _OF_ROWS:
        yield "forgetting.replay", (f"cannot mix what {recipe.objective} learns from; remove it, hold weights by l2 "
                                    f"instead, or train with {', '.join(_OF_ROWS)}")
    if chosen.replay and recipe.multi_task:
        yield "forgetting.replay", ("multiTask decides the shares of all rows by its temperature; publish the earlier "
                                    "rows as a task beside the others, or remove one of both")
    if chosen.ewc and recipe.objective not in _OF_ANSWERS:
        yield "forgetting.ewc", (f"weighs by how likely answers are, which {recipe.objective} does not learn; hold "
                                 f"weights by l2 instead, or train with {', '.join(_OF_ANSWERS)}")
    if chosen.earlier != PRODUCTION and not chosen.needs_earlier:
        yield "forgetting.earlier", "has no effect without replay and ewc, which read its rows; add one, or remove it"
    if chosen.gradual_unfreezing and recipe.method in VIRTUAL_TOKENS:
        yield "forgetting.gradualUnfreezing", (f"{recipe.method} has its virtual tokens before all layers, and so "
                                               "nothing that could join by layer; remove it, or train with lora")
    yield from _penalties(recipe)


def _penalties(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    chosen = recipe.forgetting
    if chosen.penalises and recipe.method != "full" and recipe.start_from is None:
        name = "ewc" if chosen.ewc else "l2"
        yield f"forgetting.{name}", ("holds weights near their start, and a new adapter knows nothing worth keeping; "
                                     "add startFrom: production, or train with method: full")
    if chosen.ewc and recipe.method == "full" and chosen.earlier == PRODUCTION:
        yield "forgetting.earlier", ("a full training starts from the base model, which learned nothing from the rows "
                                     "of production; name a dataset of what the base does well, by its digest or "
                                     "folder in S3, or remove ewc")


def _start(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    if recipe.start_from is None:
        return
    if recipe.method == "full":
        yield "startFrom", ("full trains the base model itself, not an adapter; to go on from a whole model put it "
                            "in S3 under base-models/NAME/ and name that as spec.baseModel")
    elif recipe.objective == "reward" and recipe.start_from == PRODUCTION:
        yield "startFrom", ("a reward model is never in production; name one by its model version, such as "
                            "answers-reward@1, or by its artifact's digest, or remove it")
    elif recipe.method == "adapter" and recipe.objective in _DEPARTING:
        yield "startFrom", (f"{recipe.objective} would compare with the base model and not with the start, which "
                            "method: adapter cannot keep beside itself; train with lora")
