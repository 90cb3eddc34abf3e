"""What a run's recipe leaves to the trainer, chosen from model, rows and machine. Pure; nothing here imports torch."""

import math
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.trainer.job.rates import Sweep
from shared.advice.rates import learning_rate_for
from shared.advice.recipe import rows_per_step, warmup_for
from shared.errors import InvalidInputError
from shared.estimate import NO_OTHERS, ModelShape, Others, setup_of
from shared.estimate.fit import fits
from shared.range_test import RangeTest
from shared.recipe import TrainingRecipe

_BATCHES = (64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Machine:
    """What the run has.

    Attributes:
        memory: bytes that one process's training may take. Not those that are free just now: all processes of a team
            must come to the same answer.
        processes: how many train together.
        others: models that are there, too: distillation's teacher, a reward model.
    """

    gpu: bool
    memory: int
    processes: int
    others: Others = NO_OTHERS


class Settled(BaseModel):
    """The recipe with nothing left open.

    Attributes:
        chosen: what was chosen by itself, by the recipe's key, with the reason.
        sweep: the range test, once it was made.
    """

    model_config = ConfigDict(extra="forbid")

    recipe: TrainingRecipe
    chosen: dict[str, str] = Field(default_factory=dict)
    sweep: Sweep | None = None

    @property
    def open_range_test(self) -> RangeTest | None:
        """The one by which the learning rate is still to be found."""
        return self.recipe.range_test if self.sweep is None else None

    def take(self, sweep: Sweep) -> None:
        """Train with the learning rate of a range test."""
        self.sweep = sweep
        self.recipe = self.recipe.model_copy(update={"learning_rate": sweep.rate})
        self.chosen["learningRate"] = f"{sweep.rate:g}: {sweep.why}"


def settle(recipe: TrainingRecipe, shape: ModelShape, rows: int, machine: Machine, *, shards: int = 1) -> Settled:
    """Choose what `recipe.auto` names.

    Args:
        shape: of the base model.
        rows: to train on.
        shards: processes over which the model is cut.

    Raises:
        InvalidInputError: not even a batch of one row fits.
    """
    values: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    together = max(1, rows_per_step(rows) // machine.processes)
    if "batchSize" in recipe.auto:
        most = together if "gradientAccumulation" in recipe.auto else max(1, together // recipe.gradient_accumulation)
        values["batch_size"] = size = _batch(recipe, shape, most, machine, shards)
        chosen["batchSize"] = f"{size}: the largest power of two that fits, of at most {most} rows"
    batch = values.get("batch_size", recipe.batch_size)
    if "gradientAccumulation" in recipe.auto:
        values["gradient_accumulation"] = count = max(1, round(together / batch))
        chosen["gradientAccumulation"] = f"{count}: {batch * count * machine.processes} rows a step, for {rows} rows"
    at_once = batch * values.get("gradient_accumulation", recipe.gradient_accumulation) * machine.processes
    steps = max(1, math.ceil(math.ceil(rows / at_once) * recipe.epochs))
    if "learningRate" in recipe.auto:
        values["learning_rate"] = rate = learning_rate_for(recipe, shape, steps)
        chosen["learningRate"] = f"{rate:g}: for {recipe.method}, {recipe.objective} and {steps} steps of a model of " \
                                 f"{shape.parameters / 1e6:.0f} million weights"
    if "warmupSteps" in recipe.auto:
        values["warmup_steps"] = warmup = warmup_for(steps)
        chosen["warmupSteps"] = f"{warmup}: of {steps} steps"
    return Settled(recipe=recipe.model_copy(update={**values, "auto": []}), chosen=chosen)


def _batch(recipe: TrainingRecipe, shape: ModelShape, most: int, machine: Machine, shards: int) -> int:
    setup = setup_of(recipe, on_gpu=machine.gpu, others=machine.others, shards=shards)
    length = min(recipe.max_length, shape.context)
    for size in _BATCHES:
        # What is open, too, follows from the batch; grpo and rloo draw the answers of all batches of a step at once.
        count = max(1, round(most / size)) if "gradientAccumulation" in recipe.auto else recipe.gradient_accumulation
        asked = setup.model_copy(
            update={"micro_batch": size, "sequence_length": length, "gradient_accumulation": count}
        )
        if size <= most and fits(shape, asked, machine.memory):
            return size
    raise InvalidInputError("training.batchSize: not even one row at a time fits into the memory that there is "
                            f"({machine.memory / 1e9:.1f} GB); `tuneloop estimate` says what would make it fit")
