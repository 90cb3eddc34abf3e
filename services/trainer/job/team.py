"""The processes that train one adapter together: one for each GPU, started by torchrun; mostly one alone.

All of them compute; the first one alone writes to S3.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Team:
    """This process's place among them, from 0, and how many they are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Team":
        """As torchrun says it; alone where it says nothing."""
        return cls(rank=int(environ.get("RANK", "0")), size=int(environ.get("WORLD_SIZE", "1")))

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def any(self, mine: bool) -> bool:
        """Whether it is so for any of them. All must ask at the same point of their work, or they wait for ever."""
        if self.size == 1:
            return mine
        import torch
        import torch.distributed as dist

        flag = torch.tensor(int(mine), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def asked(self, stop: threading.Event) -> bool:
        """Whether any of them was asked to stop, which all are then. All must ask, as for `any`."""
        if self.any(stop.is_set()):
            stop.set()
        return stop.is_set()

    def total(self, mine: "torch.Tensor") -> "torch.Tensor":
        """The sum of all their tensors, for each of them; `mine` is it then. All must ask, in the same order."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(mine)
        return mine

    def disband(self) -> None:
        """Leave in order, where they had met."""
        if self.size > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()
