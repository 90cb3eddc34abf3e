"""From a recipe to the trainer's arguments: TRL's SFT on a PEFT LoRA model."""

from pathlib import Path

import torch
from peft import LoraConfig
from trl import SFTConfig

from shared.errors import InvalidInputError
from shared.pipeline import TrainingRecipe

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit",
}


def lora_config(recipe: TrainingRecipe) -> LoraConfig:
    """PEFT's configuration of the recipe's adapter."""
    lora = recipe.lora
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", task_type="CAUSAL_LM",
        target_modules=lora.target_modules, use_rslora=lora.rs_lora,
    )


def check_target_modules(recipe: TrainingRecipe, model: torch.nn.Module) -> None:
    """Refuse names that fit no linear layer. PEFT itself only minds when none of the names fits.

    Raises:
        InvalidInputError: naming them, and those that exist.
    """
    wanted = recipe.lora.target_modules
    if wanted == "all-linear":
        return
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    unknown = [name for name in wanted if not any(f".{path}".endswith(f".{name}") for path in linear)]
    if unknown or not wanted:
        names = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
        raise InvalidInputError(
            f"training.lora.targetModules: the model has no linear layer {', '.join(unknown) or '(an empty list)'}; "
            f"it has {names}. Or write all-linear"
        )


def sft_config(recipe: TrainingRecipe, output: Path) -> SFTConfig:
    """TRL's arguments. Rows come tokenized and masked, so that training and serving share one rendering."""
    return SFTConfig(
        output_dir=str(output),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.max_grad_norm,
        optim=_OPTIMIZERS[recipe.optimizer],
        seed=recipe.seed,
        data_seed=recipe.seed,
        # A CPU computes in float32, so that the same rows give the same adapter on every machine. bfloat16 was a fifth
        # faster where the CPU has it, and twenty times slower where it does not.
        # Said, and not left to be found out: else processes on CPUs would each train alone.
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        # Trades time for memory: worth it on a GPU that a model barely fits, not on a CPU.
        gradient_checkpointing=torch.cuda.is_available(),
        # Every adapted weight takes part in every step.
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        eval_steps=recipe.validate_every_steps,
        save_strategy="steps",
        save_steps=recipe.checkpoint_every_steps,
        save_total_limit=2,
        logging_steps=1,
        # The default replaces a NaN by the mean of the past, which is how divergence goes unnoticed.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )
