# ruff: noqa: ARG002 - the signatures are TRL's
"""From a recipe's objective to TRL's trainer. Rows come tokenized, so that training and serving share one rendering."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftConfig
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from services.trainer.job.data import Splits
from services.trainer.job.distillation import Distils, Teacher
from services.trainer.job.kernels import Hardware, liger_for
from services.trainer.job.methods import KeepsTrainable
from services.trainer.job.per_task import ValidatesTasks
from services.trainer.job.recipe import arguments
from services.trainer.job.rewards import Rewards
from services.trainer.job.supervised import AnswerLoss, LaidOut
from shared.recipe import TrainingRecipe


class Supervised(LaidOut, ValidatesTasks, AnswerLoss, KeepsTrainable, SFTTrainer):  # type: ignore[misc]  # no types
    """Learns answers, or whole texts: whatever has a label."""


class Distilled(Distils, Supervised):
    """Learns what a teacher would answer, beside the answers (Hinton et al., arXiv 1503.02531)."""


class Preferred(LaidOut, KeepsTrainable, DPOTrainer):  # type: ignore[misc]
    """Learns which of two answers is better (Rafailov et al., arXiv 2305.18290)."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class Judged(LaidOut, KeepsTrainable, KTOTrainer):  # type: ignore[misc]
    """Learns from answers that were found good or bad (Ethayarajh et al., arXiv 2402.01306)."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


class Compared(LaidOut, KeepsTrainable, RewardTrainer):  # type: ignore[misc]
    """Learns to score answers, from pairs of which one is better (Ouyang et al., arXiv 2203.02155, section 3.5)."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Each answer after its prompt."""
        return Dataset.from_list([
            {name: [*row["prompt_ids"], *row[name]] for name in ("chosen_ids", "rejected_ids")} for row in dataset
        ])


def make_trainer(
    recipe: TrainingRecipe, model: Any, splits: Splits, *, tokenizer: Any, output: Path,
    peft_config: PeftConfig | None, callbacks: Sequence[TrainerCallback], rewards: Rewards | None = None,
    teacher: Teacher | None = None,
) -> Any:
    """The trainer of a recipe. The reference of DPO and KTO is the model with its adapter switched off; for methods
    that are not PEFT's, the base once more.
    """
    if rewards is not None:
        return _rewarded_maker(recipe)(
            recipe, model, splits, rewards, tokenizer=tokenizer, output=output, peft_config=peft_config,
            callbacks=callbacks,
        )
    given = arguments(recipe, output)
    match recipe.objective:
        case "sft" | "pretrain" | "distill":
            kind = Distilled if recipe.objective == "distill" else Supervised
            config = SFTConfig(
                **given, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None,
                use_liger_kernel=liger_for(recipe, Hardware.here()).value == "on",
            )
        case "dpo":
            kind, config = Preferred, DPOConfig(**given, beta=recipe.beta, max_length=None)
        case "kto":
            kind, config = Judged, KTOConfig(**given, beta=recipe.beta, max_length=None)
        case "reward":
            kind, config = Compared, RewardConfig(**given, max_length=None)
    trainer = kind(
        model=model, args=config, train_dataset=splits.train, eval_dataset=splits.validation,
        processing_class=tokenizer, peft_config=peft_config, callbacks=list(callbacks),
    )
    trainer.lay_out(recipe)
    if teacher is not None and recipe.distillation is not None:
        trainer.learn_from(teacher, recipe.distillation)
    if splits.tasks:
        trainer.validate_by(splits.tasks)
    return trainer


def _rewarded_maker(recipe: TrainingRecipe) -> Callable[..., Any]:
    """TRL's trainers that draw answers import every tracker that is installed, for which others need not wait."""
    if recipe.objective == "ppo":
        from services.trainer.job.ppo import make_ppo_trainer

        return make_ppo_trainer
    from services.trainer.job.rl import make_rl_trainer

    return make_rl_trainer
