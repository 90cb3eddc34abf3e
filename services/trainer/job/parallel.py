"""How the processes of a team share a training: each has a copy of the model (DDP), or a shard of it (FSDP). Pure.

DDP exchanges gradients alone and is faster; FSDP (Zhao et al., arXiv 2304.11277) exchanges weights, too, and is for
models of which a device cannot hold a copy with its gradients and the optimizer's states.
"""

from dataclasses import dataclass
from typing import Literal

from shared.errors import InvalidInputError
from shared.estimate import ModelShape, setup_of
from shared.estimate.fit import fits
from shared.parallel_checks import fsdp_conflicts
from shared.recipe import TrainingRecipe


@dataclass(frozen=True)
class Parallel:
    """How, why, and into how many shards weights are cut."""

    how: Literal["one", "ddp", "fsdp"]
    why: str
    shards: int = 1

    def __str__(self) -> str:
        return f"{self.how}: {self.why}"


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
    if processes == 1:
        return Parallel("one", "there is one process")
    conflict = next((f"training.{key}: {why}" for key, why in fsdp_conflicts(recipe)), None)
    if recipe.distributed != "auto":
        if recipe.distributed == "fsdp" and conflict:
            raise InvalidInputError(f"{conflict}, or write training.distributed: ddp")
        shards = processes if recipe.distributed == "fsdp" else 1
        return Parallel(recipe.distributed, "the recipe says so", shards)
    if shape is None:
        return Parallel("ddp", "the memory of this base model cannot be estimated")
    if _has_room(recipe, shape, gpu=gpu, memory=memory):
        return Parallel("ddp", "each device has room for a copy")
    if conflict:
        return Parallel("ddp", f"no device has room for a copy, but it cannot be sharded: {conflict}")
    return Parallel("fsdp", f"no device has room for a copy in {memory / 1e9:.3g} GB", processes)


def _has_room(recipe: TrainingRecipe, shape: ModelShape, *, gpu: bool, memory: int) -> bool:
    """For a whole copy and the recipe's batch, or where that is left open one row."""
    size = 1 if "batchSize" in recipe.auto else recipe.batch_size
    setup = setup_of(recipe, on_gpu=gpu).model_copy(
        update={"micro_batch": size, "sequence_length": min(recipe.max_length, shape.context)}
    )
    return fits(shape, setup, memory)
