"""How several processes share a training: each has a copy of the model (DDP), or a shard of it (FSDP). Pure.

DDP exchanges gradients alone and is faster; FSDP (Zhao et al., arXiv 2304.11277) exchanges weights, too, and is for
models of which a device cannot hold a copy with its gradients and the optimizer's states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared.errors import InvalidInputError
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


def shared_by(
    recipe: TrainingRecipe, processes: int, *, has_room: Callable[[], bool] | None, within: str = ""
) -> Parallel:
    """What the recipe's `distributed` means for so many processes.

    Args:
        has_room: whether a device has, for a whole copy and the recipe's batch; None where nobody can say.
        within: what room that is, for people.

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
    if has_room is None:
        return Parallel("ddp", "the memory of this base model cannot be estimated")
    if has_room():
        return Parallel("ddp", "each device has room for a copy")
    if conflict:
        return Parallel("ddp", f"no device has room for a copy, but it cannot be sharded: {conflict}")
    return Parallel("fsdp", f"no device has room for a copy{within}", processes)
