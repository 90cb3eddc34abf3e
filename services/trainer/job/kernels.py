"""Which kernels a run computes with, by its hardware and what is installed: attention, Liger's layers, bfloat16."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from shared.errors import InvalidInputError
from shared.kernel_checks import flash_conflicts
from shared.recipe import Objective, TrainingRecipe

FLASH = "flash_attention_2"
# The packages in which kernels come, by the name that they are imported by.
FLASH_PACKAGE, LIGER_PACKAGE = "flash_attn", "liger_kernel"
_AMPERE = (8, 0)
# Their trainers put Liger's layers into the model.
_LIGER: frozenset[Objective] = frozenset({"sft", "pretrain", "distill"})


@dataclass(frozen=True)
class Hardware:
    """What a process computes on.

    Attributes:
        gpu: what its driver calls it; None on a CPU.
        capability: of a CUDA GPU, such as (9, 0); None elsewhere, AMD's included.
        bfloat16: whether it is a GPU that computes in it.
        packages: the kernels' packages that are installed.
    """

    gpu: str | None = None
    capability: tuple[int, int] | None = None
    bfloat16: bool = False
    packages: frozenset[str] = frozenset()

    @classmethod
    def here(cls) -> "Hardware":
        """This process's."""
        packages = frozenset(name for name in (FLASH_PACKAGE, LIGER_PACKAGE) if importlib.util.find_spec(name))
        if not torch.cuda.is_available():
            return cls(packages=packages)
        capability = None if torch.version.hip else torch.cuda.get_device_capability()
        return cls(torch.cuda.get_device_name(), capability, torch.cuda.is_bf16_supported(), packages)


@dataclass(frozen=True)
class Choice:
    """A decision, and why: for the log, and for those who look at the run."""

    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.value}: {self.why}"


def attention_for(recipe: TrainingRecipe, hardware: Hardware, *, able: bool) -> Choice:
    """The implementation of attention, as transformers names it. Pure.

    Args:
        able: whether the base model's code can use flash attention.

    Raises:
        InvalidInputError: the recipe insists on flash attention, and it cannot run here.
    """
    obstacle = _flash_obstacle(recipe, hardware, able=able)
    if recipe.attention == "auto":
        return Choice("sdpa", obstacle) if obstacle else Choice(
            FLASH, "rows of any length end to end, on a GPU and with a package that can"
        )
    if recipe.attention == FLASH and obstacle:
        raise InvalidInputError(f"training.attention: {FLASH} cannot be used: {obstacle}; write auto or sdpa")
    return Choice(recipe.attention, "the recipe says so")


def _flash_obstacle(recipe: TrainingRecipe, hardware: Hardware, *, able: bool) -> str:
    """Why not; empty where nothing speaks against it."""
    if hardware.gpu is None:
        return "there is no GPU"
    if hardware.capability is None or hardware.capability < _AMPERE:
        return f"{hardware.gpu} is no CUDA GPU of compute capability 8.0 or more"
    if FLASH_PACKAGE not in hardware.packages:
        return "the package flash-attn is not installed"
    if not able:
        return "the base model's code cannot use it"
    return next((why for _, why in flash_conflicts(recipe)), "")


def liger_for(recipe: TrainingRecipe, hardware: Hardware) -> Choice:
    """Whether layers are replaced by those of Liger kernels, ``on`` or ``off``. Pure."""
    if hardware.gpu is None:
        return Choice("off", "there is no GPU")
    if LIGER_PACKAGE not in hardware.packages:
        return Choice("off", "the package liger-kernel is not installed")
    if recipe.objective not in _LIGER:
        return Choice("off", f"the trainer of {recipe.objective} does without")
    return Choice("on", "fused norms, rotary positions and gates")


def computes_in_bfloat16(recipe: TrainingRecipe, hardware: Hardware) -> bool:
    """Whether matrix products are in bfloat16. On CPUs that was a fifth faster where they have it, and twenty times
    slower where they do not. Pure.

    Raises:
        InvalidInputError: the recipe insists on it, and the GPU does not have it.
    """
    narrow = recipe.precision_on(bfloat16_gpu=hardware.bfloat16) == "bfloat16"
    if narrow and hardware.gpu is not None and not hardware.bfloat16:
        key = "precision" if recipe.precision == "bfloat16" else "baseWeights"
        raise InvalidInputError(f"training.{key}: {hardware.gpu} does not compute in bfloat16; write auto or float32")
    return narrow


@contextmanager
def without_flash(model: Any) -> Iterator[None]:
    """Attention in the precision of the weights: flash attention has none in float32, and is replaced for so long."""
    used = str(model.config._attn_implementation)
    if "flash" not in used:
        yield
        return
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(used)
