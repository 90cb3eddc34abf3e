"""The job's own trainers, for measured peaks: objectives beside answers, and weights that are held near their start.

Prompts are as many words, of which the tokenizer of `tests.support.training_peaks` makes a token each.
"""

import itertools
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from services.trainer.job.anchor import Anchor
from services.trainer.job.data import Splits
from services.trainer.job.distillation import Teacher
from services.trainer.job.objectives import make_trainer
from services.trainer.job.rewards import Rewards
from shared.estimate import Setup
from shared.recipe import FROZEN_BASE, TrainingRecipe
from shared.reward_models import RewardModel, load_with_head

DRAWING = "tuneloop drawing"
"""What the profiler sees the drawing of answers by."""


def trainer_of(model: Any, tokenizer: Any, setup: Setup, scratch: Path, *, source: Path, peft: Any, steps: int) -> Any:
    """A trainer of so many steps on rows of one length, whose teacher or reward model, if it has one, is the base once
    more.

    Args:
        source: the base's folder.
        peft: PEFT's configuration of the adapter; None where it has no part in it.
    """
    recipe = TrainingRecipe.model_validate({
        "method": setup.method, "objective": setup.objective, "batchSize": setup.micro_batch,
        "precision": "float32" if setup.precision == "float32" else "bfloat16",
        "baseWeights": "bfloat16" if setup.precision == "bfloat16" and setup.method in FROZEN_BASE else "auto",
        "gradientAccumulation": setup.gradient_accumulation, "gradientCheckpointing": setup.gradient_checkpointing,
        "lora": {"rank": setup.rank}, "packing": "off", "checkpointEverySteps": 1000, "validateEverySteps": 1000,
        "distillation": {"teacher": "teacher"} if setup.objective == "distill" else None,
        **(_rl(setup, steps) if setup.draws else {}),
    })
    rows = _rows(model.config.vocab_size, setup, steps)
    teacher = None
    if setup.objective == "distill":
        teacher = Teacher(_counted(AutoModelForCausalLM.from_pretrained(source).eval().requires_grad_(False)), {})
    rewards = _rewards(recipe, tokenizer, source) if setup.draws else None
    trainer = make_trainer(
        recipe, model, Splits(rows, rows.select([0]), skipped=0, ends=None), tokenizer=tokenizer, output=scratch,
        peft_config=peft, callbacks=[], teacher=teacher, rewards=rewards,
    )
    if setup.draws:
        _mark_drawing(trainer.model)
    for name in ("ref_model", "_reference"):
        if getattr(trainer, name, None) is not None:
            _counted(getattr(trainer, name))
    if setup.held_by is not None:
        trained = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
        importance = {name: torch.ones_like(value) for name, value in trained.items()}
        trainer.anchor = Anchor(trainer.model, l2=0.1, importance=importance if setup.held_by == "ewc" else None)
    return trainer


def _rl(setup: Setup, steps: int) -> dict[str, Any]:
    given = {"groupSize": 2, "maxNewTokens": setup.answer, "steps": steps, "passes": 1}
    reward = {"model": "judge"} if setup.reward_parameters else {"minCharacters": 1}
    return {"reward": reward, "rl": given, "maxLength": setup.sequence_length}


def _rewards(recipe: TrainingRecipe, tokenizer: Any, source: Path) -> Rewards:
    if not recipe.reward or recipe.reward.model is None:
        return Rewards(recipe)
    judge = _counted(load_with_head(source).eval().requires_grad_(False))
    return Rewards(recipe, RewardModel(judge, tokenizer))


def _mark_drawing(model: Any) -> None:
    generate = model.generate

    def marked(*args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(DRAWING):
            return generate(*args, **kwargs)

    model.generate = marked


def _counted(model: Any) -> Any:
    """With weights of its own, and not pages of a mapped file, which the profiler does not see."""
    for value in itertools.chain(model.parameters(), model.buffers()):
        value.data = value.data.clone()
    return model


def _rows(vocabulary: int, setup: Setup, steps: int) -> Dataset:
    count = setup.micro_batch * setup.gradient_accumulation * steps
    ids = [[3 + (7 * row + 13 * place) % (vocabulary - 3) for place in range(setup.sequence_length)]
           for row in range(count)]
    rows: list[dict[str, Any]]
    match setup.objective:
        case "dpo" | "reward":
            rows = [{"prompt_ids": row[:1], "chosen_ids": row[1:], "rejected_ids": row[:0:-1]} for row in ids]
        case "kto":
            rows = [{"prompt_ids": row[:1], "completion_ids": row[1:], "KL_completion_ids": row[:0:-1],
                     "label": number % 2 == 0} for number, row in enumerate(ids)]
        case "grpo" | "rloo" | "ppo":
            words = "a " * (setup.sequence_length - setup.answer)
            prompt = [{"role": "user", "content": words.strip()}]
            rows = [{"prompt_ids": row[: -setup.answer], "completion_ids": row[-setup.answer :], "prompt": prompt,
                     "reference": "a"} for row in ids]
        case _:
            rows = [{"input_ids": row, "labels": row} for row in ids]
    return Dataset.from_list(rows)
