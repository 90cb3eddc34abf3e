"""From a recipe to the trainer's arguments."""

from pathlib import Path
from typing import Any

import torch

from services.trainer.job.kernels import Hardware, computes_in_bfloat16
from shared.recipe import TrainingRecipe

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit", "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit", "adafactor": "adafactor", "sgd": "sgd",
}


def _schedule(recipe: TrainingRecipe) -> str:
    """What transformers calls it; its `constant` has no warm-up."""
    return "constant_with_warmup" if recipe.schedule == "constant" and recipe.warmup_steps else recipe.schedule


def arguments(recipe: TrainingRecipe, output: Path) -> dict[str, Any]:
    """What transformers' trainer is told, whatever the objective."""
    return {
        "output_dir": str(output),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": _schedule(recipe),
        "optim": _OPTIMIZERS[recipe.optimizer_on(gpu=torch.cuda.is_available())],
        "warmup_steps": recipe.warmup_steps,
        "max_grad_norm": recipe.max_grad_norm,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        # Said, and not left to be found out: else processes on CPUs would each train alone.
        "use_cpu": not torch.cuda.is_available(),
        "bf16": computes_in_bfloat16(recipe, Hardware.here()),
        "gradient_checkpointing": recipe.checkpoints_activations(gpu=torch.cuda.is_available()),
        # Every adapted weight takes part in every step.
        "ddp_find_unused_parameters": False,
        "eval_strategy": "steps",
        "eval_steps": recipe.validate_every_steps,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_every_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        # The default replaces a NaN by the mean of the past, which is how divergence goes unnoticed.
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "dataloader_pin_memory": torch.cuda.is_available(),
        "report_to": [],
        "disable_tqdm": True,
    }
