"""The job's own trainers, for measured peaks: objectives beside answers, and weights that are held near their start."""

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
from shared.estimate import Setup
from shared.recipe import TrainingRecipe


def trainer_of(model: Any, tokenizer: Any, setup: Setup, scratch: Path, *, source: Path, peft: Any, steps: int) -> Any:
    """A trainer of so many steps on rows of one length, whose teacher, if it has one, is the base once more.

    Args:
        source: the base's folder.
        peft: PEFT's configuration of the adapter; None where it has no part in it.
    """
    recipe = TrainingRecipe.model_validate({
        "method": setup.method, "objective": setup.objective, "batchSize": setup.micro_batch, "precision": "float32",
        "gradientAccumulation": setup.gradient_accumulation, "gradientCheckpointing": setup.gradient_checkpointing,
        "lora": {"rank": setup.rank}, "packing": "off", "checkpointEverySteps": 1000, "validateEverySteps": 1000,
        "distillation": {"teacher": "teacher"} if setup.objective == "distill" else None,
    })
    rows = _rows(model.config.vocab_size, setup, steps)
    teacher = None
    if setup.objective == "distill":
        teacher = Teacher(_counted(AutoModelForCausalLM.from_pretrained(source).eval().requires_grad_(False)), {})
    trainer = make_trainer(
        recipe, model, Splits(rows, rows.select([0]), skipped=0, ends=None), tokenizer=tokenizer, output=scratch,
        peft_config=peft, callbacks=[], teacher=teacher,
    )
    if getattr(trainer, "ref_model", None) is not None:
        _counted(trainer.ref_model)
    if setup.held_by is not None:
        trained = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
        importance = {name: torch.ones_like(value) for name, value in trained.items()}
        trainer.anchor = Anchor(trainer.model, l2=0.1, importance=importance if setup.held_by == "ewc" else None)
    return trainer


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
        case _:
            rows = [{"input_ids": row, "labels": row} for row in ids]
    return Dataset.from_list(rows)
