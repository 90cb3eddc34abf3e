"""Method and hyperparameters from model, data and hardware. Pure; each value says why and where that comes from."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.advice import sources
from shared.advice.rates import SHORT_RUN, rate_of_answers
from shared.advice.sources import Source
from shared.estimate import EstimateRequest, Hardware, Method, ModelShape, Setup, estimate
from shared.estimate.adapters import trainable_parameters
from shared.recipe import TrainingRecipe
from shared.recipe_parts import LoraRecipe

_RANKS = (8, 16, 32, 64, 128, 256)
# Schulman et al.: an adapter holds about two bits a weight, and an answer has about one bit a token to be learned.
_BITS_PER_WEIGHT, _BITS_PER_TOKEN = 2.0, 1.0
_RANK_STABLE_FROM = 32
_WARMUP_SHARE = 0.03
_MICRO_BATCHES = (64, 32, 16, 8, 4, 2, 1)


class Data(BaseModel):
    """What is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=1, description="of the train split")
    tokens_per_row: float = Field(default=200.0, gt=0, description="the mean, prompt and answer")
    answer_tokens: float = Field(default=50.0, gt=0, description="the mean of the answers, which are what is learned")
    longest_row: int = Field(default=512, ge=8, description="tokens; longer rows are cut")


class Value(BaseModel):
    """One field of the recipe with its reason."""

    field: str
    value: Any
    why: str
    source: Source


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
    epochs, why_epochs = _epochs(data.rows)
    batch = rows_per_step(data.rows)
    length = min(data.longest_row, shape.context)
    rank, why_rank = _rank(shape, data)
    setup, fits, why_method = _setup(shape, length, rank, batch, hardware)
    steps = max(1, math.ceil(data.rows / batch) * max(1, round(epochs)))
    rate, why_rate, rate_source = rate_of_answers(shape, setup.method, steps)
    values = [
        Value(field="method", value=setup.method, why=why_method,
              source=sources.QLORA if setup.method == "qlora" else sources.SERVED),
        Value(field="lora.rank", value=rank, why=why_rank, source=sources.REGRET),
        _alpha(rank),
        Value(field="lora.targetModules", value="all-linear",
              why="all linear layers learned more than attention alone",
              source=sources.LEARNS_LESS),
        Value(field="learningRate", value=rate, why=why_rate, source=rate_source),
        Value(field="schedule", value="cosine", why="ends at 0, so that the last steps only settle",
              source=sources.PRACTICE),
        Value(field="warmupSteps", value=warmup_for(steps),
              why="3 % of the steps; none in a short run, whose first steps count", source=sources.PRACTICE),
        Value(field="batchSize", value=setup.micro_batch, why="the largest that fits, at most the rows of a step",
              source=sources.ESTIMATED),
        Value(field="gradientAccumulation", value=setup.gradient_accumulation,
              why=f"{batch} rows per step: adapters bear large batches worse than full training does",
              source=sources.REGRET),
        Value(field="epochs", value=epochs, why=why_epochs, source=sources.REPEATED),
        Value(field="maxLength", value=length, why="the longest row, within the model's context",
              source=sources.ARITHMETIC),
        Value(field="earlyStopping", value={"patience": 3}, why="rows that are seen again are learned by heart",
              source=sources.REPEATED),
    ]
    if rank > _RANK_STABLE_FROM:
        values.append(Value(field="lora.rsLora", value=True, source=sources.RSLORA,
                            why="with alpha / rank large ranks learn no more than small ones"))
    if setup.method == "qlora":
        values.append(Value(field="optimizer", value=setup.optimizer, source=sources.QLORA,
                            why="its state in 8 bits, which moves to the host's memory in peaks"))
    return Recipe(values=values, training=_training(values), setup=setup, steps=steps, epochs=epochs, fits=fits)


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


def _alpha(rank: int) -> Value:
    if rank > _RANK_STABLE_FROM:
        return Value(field="lora.alpha", value=16, why="divided by the root of the rank, it is the same for all ranks",
                     source=sources.RSLORA)
    return Value(field="lora.alpha", value=2 * rank, why="twice the rank", source=sources.LEARNS_LESS)


def _epochs(rows: int) -> tuple[float, str]:
    epochs = 3.0 if rows < 5_000 else 2.0 if rows < 50_000 else 1.0
    return epochs, f"{rows} rows; up to four passes are worth almost as much as new rows, more are not"


def warmup_for(steps: int) -> int:
    """Steps of warm-up of a run of so many steps."""
    return math.ceil(_WARMUP_SHARE * steps) if steps >= SHORT_RUN else 0


def rows_per_step(rows: int) -> int:
    """Rows per step of the optimizer: enough steps for little data, less noise for much."""
    return 16 if rows < 5_000 else 32 if rows < 50_000 else 64


def _rank(shape: ModelShape, data: Data) -> tuple[int, str]:
    bits = data.rows * data.answer_tokens * _BITS_PER_TOKEN
    for rank in _RANKS:
        capacity = trainable_parameters(shape, Setup(method="lora", rank=rank)) * _BITS_PER_WEIGHT
        if capacity >= bits:
            return rank, f"the answers hold about {bits:.2g} bits, an adapter of this rank {capacity:.2g}"
    return _RANKS[-1], f"the answers hold about {bits:.2g} bits, more than any adapter: full training would learn more"


def _setup(
    shape: ModelShape, length: int, rank: int, batch: int, hardware: Hardware
) -> tuple[Setup, bool | None, str]:
    """LoRA on the plain base where it fits, else QLoRA; with the largest batch that fits."""
    known = hardware.gpu is not None or hardware.memory_gb is not None
    candidates: tuple[tuple[Method, str], ...] = (
        ("lora", "served as it is, and a small adapter forgets less than full training"),
        ("qlora", "the base fits in 4 bits and not as it is; slower, with the quality of 16 bits"),
    )
    setup = Setup(method="lora", rank=rank, sequence_length=length, micro_batch=1, gradient_accumulation=batch)
    for method, why in candidates:
        for micro in (size for size in _MICRO_BATCHES if size <= batch):
            setup = Setup(
                method=method, rank=rank, sequence_length=length, micro_batch=micro,
                gradient_accumulation=batch // micro,
                optimizer="paged_adamw_8bit" if method == "qlora" else "adamw",
            )
            if not known:
                return setup, None, why + "; nobody said what it runs on"
            if estimate(shape, EstimateRequest(setup=setup, hardware=hardware)).fits:
                return setup, True, why
    return setup, False, "even QLoRA with one row at a time does not fit: see what the estimate advises"
