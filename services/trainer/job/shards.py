"""Weights that are cut over several processes by FSDP: gathered where they are kept, cut again where they come back.

transformers cuts a model while it is loaded (`DistributedConfig`, PyTorch's `fully_shard`), so that no process ever
holds all of it. What is stored is always whole: a checkpoint does not know how many processes wrote it, and a run goes
on with another number of them, or with one.

All that gathers is called by all processes of a team, in the same order, or they wait for ever.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

States: TypeAlias = dict[str, Any]


def is_sharded(model: Any) -> bool:
    """Whether the model's weights are cut over several processes."""
    return bool(getattr(model, "is_distributed_loading_by_transformers", False))


def release(model: torch.nn.Module) -> None:
    """Let go of weights that the last pass left gathered: what is written into those is lost."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(value: torch.Tensor) -> torch.Tensor:
    """The tensor of which this process has a shard; one that is whole, as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """This process's shard of a whole tensor, cut as `pattern` is; each process has the whole one already."""
    if not isinstance(pattern, DTensor):
        return value
    mesh = pattern.device_mesh
    return distribute_tensor(value.to(pattern.device), mesh, pattern.placements, src_data_rank=None)


def storage_of(value: torch.Tensor) -> int:
    """Where its numbers are: tied weights are at one place."""
    return value.to_local().data_ptr() if isinstance(value, DTensor) else value.data_ptr()


def gathered(states: States, *, keep: bool) -> States:
    """An optimizer's ``state_dict()`` with whole tensors on the CPU.

    Args:
        keep: whether this process wants them; others have an empty tensor in the place of each, and the memory.
    """
    def gather(value: torch.Tensor, _: int) -> torch.Tensor:
        found = whole(value)
        return found.cpu() if keep else torch.empty(0)

    return _mapped(states, gather)


def cut(states: States, optimizer: torch.optim.Optimizer) -> States:
    """A whole ``state_dict()`` as the optimizer's own weights are cut; counters of steps, which have no shape, stay."""
    weights = dict(enumerate(weight for group in optimizer.param_groups for weight in group["params"]))
    return _mapped(
        states, lambda value, place: like(value, weights[place]) if value.shape == weights[place].shape else value
    )


def _mapped(states: States, change: Callable[[torch.Tensor, int], torch.Tensor]) -> States:
    per_weight: Mapping[int, Mapping[str, Any]] = states["state"]
    return {**states, "state": {
        place: {key: change(value, place) if isinstance(value, torch.Tensor) else value for key, value in state.items()}
        for place, state in per_weight.items()
    }}
