"""From a recipe to the trainer's arguments."""

from pathlib import Path
from typing import Any

import torch

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
        # A CPU computes in float32, so that the same rows give the same adapter on every machine. bfloat16 was a fifth
        # faster where the CPU has it, and twenty times slower where it does not.
        # Said, and not left to be found out: else processes on CPUs would each train alone.
        "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        # Trades time for memory: worth it on a GPU that a model barely fits, not on a CPU.
        # Prefix tuning keeps keys and values, which checkpointing cannot.
        "gradient_checkpointing": torch.cuda.is_available() and recipe.method != "prefix",
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
