"""How fast a run was: real tokens a second, and on a GPU of the estimator's table the share of its peak."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from shared.errors import InvalidInputError
from shared.estimate import (
    ModelShape,
    gpu_of_device,
    mean_context,
    model_flops_utilization,
    setup_of,
    shape_of,
)
from shared.recipe import SUPERVISED, TrainingRecipe


def speed(
    recipe: TrainingRecipe, shape: ModelShape | None, lengths: Sequence[int], tokens_per_second: float, *,
    device: str | None, bfloat16: bool, devices: int = 1,
) -> dict[str, float]:
    """``tokens_per_second`` of all devices, and ``mfu`` where it means anything. Pure.

    The table's peaks are of bfloat16, and rewards and teachers have work of their own that no formula counts.

    Args:
        shape: of the base; None where the estimator does not know its family.
        lengths: tokens of the training rows.
        device: what the driver calls the GPU; None on a CPU.
        bfloat16: whether matrix products were.
    """
    told = {"tokens_per_second": tokens_per_second}
    gpu = None if device is None or not bfloat16 else gpu_of_device(device)
    if gpu is not None and shape is not None and recipe.objective in SUPERVISED:
        told["mfu"] = model_flops_utilization(
            shape, setup_of(recipe, on_gpu=True), tokens_per_second=tokens_per_second, context=mean_context(lengths),
            tflops=gpu.tflops, devices=devices,
        )
    return told


def speed_here(
    recipe: TrainingRecipe, config: Path, rows: Dataset, tokens_per_second: float | None, args: Any
) -> dict[str, float]:
    """The speed of the run that has ended here; nothing where no step was taken.

    Args:
        config: the base model's ``config.json``.
        args: the trainer's.
    """
    if tokens_per_second is None:
        return {}
    try:
        shape = shape_of(json.loads(config.read_text()))
    except InvalidInputError:
        shape = None
    lengths = [len(row) for row in rows["input_ids"]] if "input_ids" in rows.column_names else []
    return speed(
        recipe, shape, lengths, tokens_per_second, bfloat16=args.bf16, devices=args.world_size,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )
