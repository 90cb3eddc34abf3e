"""What in a recipe cannot be sharded over several devices by FSDP; part of `shared.recipe_checks`."""

from collections.abc import Iterator

from shared.recipe import SUPERVISED, Method, Optimizer, TrainingRecipe

SHARDED: frozenset[Method] = frozenset({"full"})
# The states of others are no tensors of a weight's shape that could be cut as the weight is.
SHARDED_OPTIMIZERS: frozenset[Optimizer] = frozenset({"auto", "adamw", "sgd"})


def fsdp_conflicts(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each with the path of its key in the recipe: what would have to be otherwise."""
    if recipe.method not in SHARDED:
        why = "weights in 4 bits cannot be cut" if recipe.method == "qlora" else "it is not known to train sharded"
        yield "method", f"{recipe.method}: {why}; train with {' or '.join(sorted(SHARDED))}"
    if recipe.objective not in SUPERVISED:
        yield "objective", (f"{recipe.objective} needs other models or answers beside the sharded one; train with "
                            f"{' or '.join(sorted(SUPERVISED))}")
    if recipe.optimizer not in SHARDED_OPTIMIZERS:
        yield "optimizer", f"the states of {recipe.optimizer} cannot be cut as weights are; write auto, adamw or sgd"
    if recipe.range_test is not None:
        yield "rangeTest", "is not known to leave a sharded model as it was; remove it, and give a learningRate"
    held = {"ewc": recipe.forgetting.ewc, "l2": recipe.forgetting.l2,
            "gradualUnfreezing": recipe.forgetting.gradual_unfreezing}
    for name in (name for name, part in held.items() if part is not None):
        yield f"forgetting.{name}", "works on whole weights, and not on shards; remove it, or keep rows by replay"


def parallel_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    if recipe.distributed == "auto":
        return
    if recipe.resources.gpu * recipe.resources.nodes < 2:
        yield "distributed", "is for several GPUs, and there is one process; write auto, or raise resources.gpu"
    if recipe.distributed == "fsdp":
        for key, why in fsdp_conflicts(recipe):
            yield key, f"distributed: fsdp: {why}, or write distributed: ddp"
