"""Method and hyperparameters from model, data and hardware. Pure; each value says why and where that comes from."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.advice import sources
from shared.advice.rates import rate_of_answers
from shared.advice.rules import (
    Value,
    batch_for,
    bits_of,
    epochs_for,
    longest_for,
    rank_for,
    rows_per_step,
    scale_for,
    spacing_for,
    warmup_for,
)
from shared.estimate import EstimateRequest, Hardware, Method, ModelShape, Setup, estimate
from shared.recipe import TrainingRecipe
from shared.recipe_parts import LoraRecipe


class Data(BaseModel):
    """What is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=1, description="of the train split")
    tokens_per_row: float = Field(default=200.0, gt=0, description="the mean, prompt and answer")
    answer_tokens: float = Field(default=50.0, gt=0, description="the mean of the answers, which are what is learned")
    longest_row: int = Field(default=512, ge=8, description="tokens; longer rows are cut")


class Recipe(BaseModel):
    """The advised recipe, and the setup that it means for the estimator.

    Attributes:
        training: the `training` of a pipeline with these values, and None where the trainer lacks the method; what it
            has no field for is left out.
        fits: whether it fits on the hardware; None where none was told.
    """

    values: list[Value]
    training: dict[str, Any] | None
    setup: Setup
    steps: int
    epochs: float
    fits: bool | None

    def value(self, field: str) -> Any:
        """The advised value of a field."""
        return next(item.value for item in self.values if item.field == field)


def recipe_for(shape: ModelShape, data: Data, hardware: Hardware) -> Recipe:
    """What to train with.

    Raises:
        NotFoundError: there is no such GPU.
    """
    epochs, batch = epochs_for(data.rows), rows_per_step(data.rows)
    length = longest_for(data.longest_row, shape.context)
    rank = rank_for(shape, Setup(), bits_of("sft", data.rows, data.answer_tokens))
    setup, fits, why_method = _setup(shape, length.value, rank.value, batch, hardware)
    steps = max(1, math.ceil(data.rows / batch) * max(1, round(epochs.value)))
    rate, why_rate, rate_source = rate_of_answers(shape, setup.method, steps)
    values = [
        Value(field="method", value=setup.method, why=why_method,
              source=sources.QLORA if setup.method == "qlora" else sources.SERVED),
        rank,
        *scale_for(rank.value),
        Value(field="lora.targetModules", value="all-linear",
              why="all linear layers learned more than attention alone",
              source=sources.LEARNS_LESS),
        Value(field="learningRate", value=rate, why=why_rate, source=rate_source),
        Value(field="schedule", value="cosine", why="ends at 0, so that the last steps only settle",
              source=sources.PRACTICE),
        warmup_for(steps),
        Value(field="batchSize", value=setup.micro_batch, why="the largest that fits, at most the rows of a step",
              source=sources.ESTIMATED),
        Value(field="gradientAccumulation", value=setup.gradient_accumulation,
              why=f"{batch} rows per step: adapters bear large batches worse than full training does",
              source=sources.REGRET),
        epochs, length,
        *(spacing_for(steps, field) for field in ("checkpointEverySteps", "validateEverySteps")),
        Value(field="earlyStopping", value={"patience": 3}, why="rows that are seen again are learned by heart",
              source=sources.REPEATED),
    ]
    if setup.method == "qlora":
        values.append(Value(field="optimizer", value=setup.optimizer, source=sources.QLORA,
                            why="its state in 8 bits, which moves to the host's memory in peaks"))
    return Recipe(values=values, training=_training(values), setup=setup, steps=steps, epochs=epochs.value, fits=fits)


def _training(values: list[Value]) -> dict[str, Any] | None:
    """The values as a pipeline writes them, checked by the recipe's own model."""
    spec: dict[str, Any] = {}
    for item in values:
        part, _, name = item.field.rpartition(".")
        known = LoraRecipe if part else TrainingRecipe
        if name in {field.alias for field in known.model_fields.values()}:
            (spec.setdefault(part, {}) if part else spec)[name] = item.value
    try:
        TrainingRecipe.model_validate(spec)
    except ValidationError:
        return None
    return spec


def _setup(
    shape: ModelShape, length: int, rank: int, batch: int, hardware: Hardware
) -> tuple[Setup, bool | None, str]:
    """LoRA on the plain base where it fits, else QLoRA; with the largest batch that fits."""
    known = hardware.gpu is not None or hardware.memory_gb is not None
    candidates: tuple[tuple[Method, str], ...] = (
        ("lora", "served as it is, and a small adapter forgets less than full training"),
        ("qlora", "the base fits in 4 bits and not as it is; slower, with the quality of 16 bits"),
    )
    def made(method: Method, size: int) -> Setup:
        return Setup(
            method=method, rank=rank, sequence_length=length, micro_batch=size, gradient_accumulation=batch // size,
            optimizer="paged_adamw_8bit" if method == "qlora" else "adamw",
        )

    for method, why in candidates:
        def fits(size: int, method: Method = method) -> bool:
            return not known or bool(estimate(shape, EstimateRequest(setup=made(method, size), hardware=hardware)).fits)

        found = batch_for(batch, fits)
        if found is not None:
            unknown = "" if known else "; nobody said what it runs on"
            return made(method, found.value), True if known else None, why + unknown
    return made("qlora", 1), False, "even QLoRA with one row at a time does not fit: see what the estimate advises"
