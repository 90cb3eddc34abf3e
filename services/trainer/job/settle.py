"""What a run's recipe leaves to the trainer, chosen from model, rows and machine. Pure; nothing here imports torch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from services.trainer.job.lengths import Lengths
from services.trainer.job.rates import Sweep
from services.trainer.job.rl_steps import steps_of
from shared.advice import sources
from shared.advice.rates import learning_rate_for
from shared.advice.rules import (
    LARGEST_RANK,
    SERVED_RANK,
    Value,
    batch_for,
    bits_of,
    epochs_for,
    length_for,
    rank_for,
    rows_per_step,
    scale_for,
    spacing_for,
    warmup_for,
)
from shared.errors import InvalidInputError
from shared.estimate import NO_OTHERS, ModelShape, Others, setup_of
from shared.estimate.fit import fits
from shared.range_test import RangeTest
from shared.recipe import RL, TrainingRecipe
from shared.recipe_auto import AutoField
from shared.recipe_parts import LoraRecipe

Open: TypeAlias = Sequence[AutoField]


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

    def hold_base(self, weights: str, why: str) -> None:
        """Keep the base's frozen weights so."""
        self.recipe = self.recipe.model_copy(update={"base_weights": weights})
        self.chosen["baseWeights"] = f"{weights}: {why}"

    def take(self, sweep: Sweep) -> None:
        """Train with the learning rate of a range test."""
        self.sweep = sweep
        self.recipe = self.recipe.model_copy(update={"learning_rate": sweep.rate})
        self.chosen["learningRate"] = f"{sweep.rate:g}: {sweep.why}"


@dataclass(frozen=True)
class Given:
    """What a run's numbers follow from.

    Attributes:
        shape: of the base model.
        rows: to train on.
        machine: None where nobody knows it: then everything fits, on one process.
        lengths: of the rows; needed where the recipe leaves its length or its rank open.
        start: the shape of the adapter to go on from.
        shards: processes over which the model is cut.
    """

    shape: ModelShape
    rows: int
    machine: Machine | None
    lengths: Lengths | None = None
    start: LoraRecipe | None = None
    shards: int = 1

    @property
    def processes(self) -> int:
        return self.machine.processes if self.machine else 1

    @property
    def together(self) -> int:
        """Rows of one process in a step of the optimizer."""
        return max(1, rows_per_step(self.rows) // self.processes)

    def fits(self, recipe: TrainingRecipe) -> bool:
        """Whether a batch of the recipe's rows does."""
        if self.machine is None:
            return True
        setup = setup_of(recipe, on_gpu=self.machine.gpu, others=self.machine.others, shards=self.shards)
        length = min(recipe.max_length, self.shape.context)
        return fits(self.shape, setup.model_copy(update={"sequence_length": length}), self.machine.memory)


def settle(recipe: TrainingRecipe, given: Given) -> Settled:
    """Choose what `recipe.auto` names.

    Raises:
        InvalidInputError: not even a batch of one row fits.
    """
    chosen: dict[str, str] = {}
    now = recipe
    for step in (_adapter, _length, _batches, _passes, _in_time):
        for value in step(recipe.auto, now, given):
            now = _taking(now, value)
            chosen[value.field] = str(value)
    return Settled(recipe=now.model_copy(update={"auto": []}), chosen=chosen)


def _adapter(auto: Open, recipe: TrainingRecipe, given: Given) -> Iterator[Value]:
    """Rank and scale of a low-rank update."""
    rank, start = recipe.lora.rank, given.start
    if "lora.rank" in auto and start is not None:
        rank = start.rank
        yield _of_start("lora.rank", rank)
    elif "lora.rank" in auto and given.lengths is not None:
        bits = bits_of(recipe.objective, given.rows, given.lengths.learned_in_each)
        found = rank_for(given.shape, setup_of(recipe), bits, most=SERVED_RANK if recipe.adapts else LARGEST_RANK)
        rank = found.value
        yield found
    if "lora.alpha" in auto and start is not None:
        yield from (_of_start("lora.alpha", start.alpha), _of_start("lora.rsLora", start.rs_lora))
    elif "lora.alpha" in auto:
        yield from scale_for(rank, rank_stable=recipe.lora.rs_lora)


def _length(auto: Open, recipe: TrainingRecipe, given: Given) -> Iterator[Value]:
    """As long as the longest row. A batch that is open is as small as it may be for that."""
    if "maxLength" not in auto or given.lengths is None:
        return
    least = recipe
    if "batchSize" in auto:
        batches = given.together if "gradientAccumulation" in auto else recipe.gradient_accumulation
        least = recipe.model_copy(update={"batch_size": 1, "gradient_accumulation": batches})
    found = length_for(given.lengths.longest, given.shape.context,
                       lambda length: given.fits(least.model_copy(update={"max_length": length})))
    if found is None:
        raise _too_large(given, "maxLength")
    cut = f"{given.lengths.beyond(found.value)} of {len(given.lengths.rows)} rows are longer, and lose what is beyond"
    yield found.model_copy(update={"why": f"{found.why}; {cut}"})


def _batches(auto: Open, recipe: TrainingRecipe, given: Given) -> Iterator[Value]:
    """Rows at once, and batches a step."""
    together, batch = given.together, recipe.batch_size
    if "batchSize" in auto:
        most = together if "gradientAccumulation" in auto else max(1, together // recipe.gradient_accumulation)

        def fit(size: int) -> bool:
            # What is open, too, follows from the batch; grpo and rloo draw a step's answers at once.
            count = max(1, round(most / size)) if "gradientAccumulation" in auto else recipe.gradient_accumulation
            return given.fits(recipe.model_copy(update={"batch_size": size, "gradient_accumulation": count}))

        found = batch_for(most, fit)
        if found is None:
            raise _too_large(given, "batchSize")
        batch = found.value
        yield found
    if "gradientAccumulation" in auto:
        count = max(1, round(together / batch))
        yield Value(field="gradientAccumulation", value=count, source=sources.REGRET,
                    why=f"{batch * count * given.processes} rows a step, for {given.rows} rows")


def _passes(auto: Open, _: TrainingRecipe, given: Given) -> Iterator[Value]:
    if "epochs" in auto:
        yield epochs_for(given.rows)


def _in_time(auto: Open, recipe: TrainingRecipe, given: Given) -> Iterator[Value]:
    """What follows from the number of steps."""
    at_once = recipe.batch_size * recipe.gradient_accumulation * given.processes
    steps = steps_of(given.rows, at_once, recipe) if recipe.objective in RL else \
        max(1, math.ceil(math.ceil(given.rows / at_once) * recipe.epochs))
    if "learningRate" in auto:
        yield Value(
            field="learningRate", value=learning_rate_for(recipe, given.shape, steps), source=sources.PRACTICE,
            why=f"for {recipe.method}, {recipe.objective} and {steps} steps of a model of "
            f"{given.shape.parameters / 1e6:.0f} million weights",
        )
    if "warmupSteps" in auto:
        yield warmup_for(steps)
    for field in ("checkpointEverySteps", "validateEverySteps"):
        if field in auto:
            yield spacing_for(steps, field)


def _taking(recipe: TrainingRecipe, value: Value) -> TrainingRecipe:
    """The recipe with a value in its field."""
    part, _, name = value.field.rpartition(".")
    holder = recipe.lora if part else recipe
    place = next(place for place, field in type(holder).model_fields.items() if field.alias == name)
    changed = holder.model_copy(update={place: value.value})
    return recipe.model_copy(update={part: changed}) if part else recipe.model_copy(update={place: value.value})


def _of_start(field: str, value: object) -> Value:
    return Value(field=field, value=value, why="that of the adapter to go on from", source=sources.ARITHMETIC)


def _too_large(given: Given, key: str) -> InvalidInputError:
    memory = given.machine.memory if given.machine else 0
    return InvalidInputError(f"training.{key}: not even one row at a time fits into the memory that there is "
                             f"({memory / 1e9:.1f} GB); `tuneloop estimate` says what would make it fit")
