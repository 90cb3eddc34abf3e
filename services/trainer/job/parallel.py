"""How the processes of a team share a training on this machine. Pure."""

from shared.estimate import ModelShape, setup_of
from shared.estimate.fit import fits
from shared.estimate.sharing import Parallel, shared_by
from shared.recipe import TrainingRecipe


def parallel_for(
    recipe: TrainingRecipe, shape: ModelShape | None, *, gpu: bool, memory: int, processes: int
) -> Parallel:
    """What the recipe's `distributed` means for a team.

    Args:
        shape: of the base model; None where the estimator does not know its family.
        memory: bytes that one process's training may take.

    Raises:
        InvalidInputError: the recipe insists on FSDP, and cannot be sharded.
    """
    has_room = None if shape is None else lambda: _has_room(recipe, shape, gpu=gpu, memory=memory)
    return shared_by(recipe, processes, has_room=has_room, within=f" in {memory / 1e9:.3g} GB")


def _has_room(recipe: TrainingRecipe, shape: ModelShape, *, gpu: bool, memory: int) -> bool:
    """For a whole copy and the recipe's batch, or where that is left open one row."""
    size = 1 if "batchSize" in recipe.auto else recipe.batch_size
    setup = setup_of(recipe, on_gpu=gpu).model_copy(
        update={"micro_batch": size, "sequence_length": min(recipe.max_length, shape.context)}
    )
    return fits(shape, setup, memory)
