"""How a run keeps its base's frozen weights: chosen when it begins, and told by its checkpoints to its later attempts.

A run that is resumed goes on over the base as it began, on whatever machine: over another rounding of it, a trained
adapter would be another one.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from services.trainer.job.kernels import Choice, Hardware
from shared.recipe import FROZEN_BASE, Precision, TrainingRecipe

_KEY = "base_weights"
_KEPT: dict[torch.dtype, Precision] = {torch.bfloat16: "bfloat16"}


def metadata_of(model: Any) -> dict[str, str]:
    """What a checkpoint's file of weights says of the base that they were trained on."""
    return {_KEY: _KEPT.get(model.dtype, "float32")}


def base_weights_for(recipe: TrainingRecipe, hardware: Hardware, checkpoint: Path | None) -> Choice | None:
    """What `auto` means for a run; None where the recipe says it, or the method leaves no choice.

    Args:
        checkpoint: the file of weights that the run goes on from; None for a beginning. One that says nothing is of a
            trainer that kept all in float32.
    """
    if recipe.base_weights != "auto" or recipe.method not in FROZEN_BASE:
        return None
    value = recipe.base_weights_on(bfloat16_gpu=hardware.bfloat16)
    if checkpoint is not None:
        with safe_open(checkpoint, framework="pt") as content:
            begun = str((content.metadata() or {}).get(_KEY, "float32"))
        if begun != value:
            return Choice(begun, "as the run began")
    return Choice(value, _reason(recipe, hardware, value))


def _reason(recipe: TrainingRecipe, hardware: Hardware, value: Precision) -> str:
    if value == "bfloat16":
        return "products round it so anyway, and it takes half the memory"
    if hardware.gpu is None:
        return "there is no GPU"
    if not hardware.bfloat16:
        return f"{hardware.gpu} does not compute in bfloat16"
    return "importances are computed in it" if recipe.forgetting.ewc else "products are in it"
