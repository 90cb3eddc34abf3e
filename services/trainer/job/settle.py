"""What a run's recipe leaves to the trainer: chosen when the run begins, and kept for its later attempts.

A run that is resumed on another machine goes on as it began.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.files import JobInput
from services.trainer.job.kernels import Choice, Hardware, liger_for
from services.trainer.job.room import PROCESS_BYTES, memory_here
from shared.advice.recipe import learning_rate_for, rows_per_step, warmup_for
from shared.errors import InvalidInputError
from shared.estimate import ModelShape, setup_of, shape_of
from shared.estimate.fit import fits
from shared.recipe import Method, Objective, TrainingRecipe

FILE = "settled.json"

_BATCHES = (64, 32, 16, 8, 4, 2, 1)
# How much more than LoRA a method bears: few weights, far from the logits (docs/training.md shows rates of that order).
_METHODS: dict[Method, float] = {"ia3": 5.0, "prefix": 10.0, "prompt": 30.0}
# Texts: a tenth, as little is to be learned from each token. Preferences move a model that answers already.
_OBJECTIVES: dict[Objective, float] = {"sft": 1.0, "distill": 1.0, "pretrain": 0.1}
_OTHER_OBJECTIVES = 0.05


@dataclass(frozen=True)
class Machine:
    """What the run has.

    Attributes:
        memory: bytes that one process's training may take. Not those that are free just now: all processes of a team
            must come to the same answer.
        processes: how many train together.
    """

    gpu: bool
    memory: int
    processes: int

    @classmethod
    def here(cls, processes: int) -> "Machine":
        """This one."""
        gpu, memory = memory_here()
        return cls(gpu, memory if gpu else memory // processes - PROCESS_BYTES, processes)


class Settled(BaseModel):
    """The recipe with nothing left open.

    Attributes:
        chosen: what was chosen by itself, by the recipe's key, with the reason.
    """

    model_config = ConfigDict(extra="forbid")

    recipe: TrainingRecipe
    chosen: dict[str, str] = Field(default_factory=dict)


def settle(recipe: TrainingRecipe, shape: ModelShape, rows: int, machine: Machine) -> Settled:
    """Choose what `recipe.auto` names.

    Args:
        shape: of the base model.
        rows: to train on.

    Raises:
        InvalidInputError: not even a batch of one row fits.
    """
    values: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    together = max(1, rows_per_step(rows) // machine.processes)
    if "batchSize" in recipe.auto:
        most = together if "gradientAccumulation" in recipe.auto else max(1, together // recipe.gradient_accumulation)
        values["batch_size"] = size = _batch(recipe, shape, most, machine)
        chosen["batchSize"] = f"{size}: the largest power of two that fits, of at most {most} rows"
    batch = values.get("batch_size", recipe.batch_size)
    if "gradientAccumulation" in recipe.auto:
        values["gradient_accumulation"] = count = max(1, round(together / batch))
        chosen["gradientAccumulation"] = f"{count}: {batch * count * machine.processes} rows a step, for {rows} rows"
    at_once = batch * values.get("gradient_accumulation", recipe.gradient_accumulation) * machine.processes
    steps = max(1, math.ceil(math.ceil(rows / at_once) * recipe.epochs))
    if "learningRate" in recipe.auto:
        values["learning_rate"] = rate = learning_rate(recipe, shape, steps)
        chosen["learningRate"] = f"{rate:g}: for {recipe.method}, {recipe.objective} and {steps} steps of a model of " \
                                 f"{shape.parameters / 1e6:.0f} million weights"
    if "warmupSteps" in recipe.auto:
        values["warmup_steps"] = warmup = warmup_for(steps)
        chosen["warmupSteps"] = f"{warmup}: of {steps} steps"
    return Settled(recipe=recipe.model_copy(update={**values, "auto": []}), chosen=chosen)


def learning_rate(recipe: TrainingRecipe, shape: ModelShape, steps: int) -> float:
    """The advised one for low-rank adapters and full training, times what the method and the objective bear."""
    factor = _METHODS.get(recipe.method, 1.0) * _OBJECTIVES.get(recipe.objective, _OTHER_OBJECTIVES)
    return float(f"{learning_rate_for(shape, recipe.method, steps) * factor:.2g}")


def _batch(recipe: TrainingRecipe, shape: ModelShape, most: int, machine: Machine) -> int:
    setup = setup_of(recipe, on_gpu=machine.gpu)
    length = min(recipe.max_length, shape.context)
    for size in _BATCHES:
        asked = setup.model_copy(update={"micro_batch": size, "sequence_length": length})
        if size <= most and fits(shape, asked, machine.memory):
            return size
    raise InvalidInputError("training.batchSize: not even one row at a time fits into the memory that there is "
                            f"({machine.memory / 1e9:.1f} GB); `tuneloop estimate` says what would make it fit")


def settled_job(
    job: JobInput, base: Path, dataset: Path, resumed: Path | None, processes: int
) -> tuple[JobInput, Settled]:
    """The job with its recipe as it is trained: as the run's earlier attempt had it, or chosen now.

    Args:
        base, dataset: folders.
        resumed: the checkpoint to go on from; None for a beginning.
    """
    # A recipe that leaves nothing open says itself how to go on.
    earlier = kept(resumed) if resumed and job.recipe.auto else None
    settled = earlier or _begun(job.recipe, base, dataset, processes)
    return job.model_copy(update={"recipe": settled.recipe}), settled


def _begun(recipe: TrainingRecipe, base: Path, dataset: Path, processes: int) -> Settled:
    if not recipe.auto:
        return Settled(recipe=recipe)
    rows = pq.read_metadata(dataset / "train.parquet").num_rows
    try:
        shape = shape_of(json.loads((base / "config.json").read_bytes()))
    except InvalidInputError as error:
        raise InvalidInputError(f"training.auto: {error}; give {', '.join(recipe.auto)} as numbers") from error
    return settle(recipe, shape, rows, Machine.here(processes))


def chosen_with(trainer: Any, recipe: TrainingRecipe, attention: Choice) -> dict[str, str]:
    """What a trainer chose where the recipe says auto, with the reason."""
    args, gpu = trainer.args, torch.cuda.is_available()
    where = "on a GPU" if gpu else "on a CPU"
    twice = str(args.gradient_checkpointing).lower()
    hardware = Hardware.here()
    found: dict[str, tuple[object, str]] = {
        "attention": (recipe.attention, f"{trainer.model.config._attn_implementation}: {attention.why}"),
        # No key of a recipe: there is nothing to weigh.
        "liger": ("auto", str(liger_for(recipe, hardware))),
        "precision": (recipe.precision, f"{'bfloat16' if args.bf16 else 'float32'}: {where}"),
        "gradientCheckpointing": (recipe.gradient_checkpointing, f"{twice}: {where}"),
        "optimizer": (recipe.optimizer, f"{recipe.optimizer_on(gpu=gpu)}: {where}"),
    }
    # What generates its own rows as it goes lays out none.
    if layout := getattr(trainer, "layout", None):
        found["packing"] = (recipe.packing, f"{layout.packing}: {layout.why}")
    return {key: chosen for key, (said, chosen) in found.items() if said == "auto"}


def kept(checkpoint: Path) -> Settled | None:
    """What the run's earlier attempt had chosen."""
    file = checkpoint / FILE
    return Settled.model_validate_json(file.read_bytes()) if file.exists() else None


class KeepsSettled(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Puts what was chosen into each checkpoint. Must come before who uploads them."""

    def __init__(self, settled: Settled) -> None:
        self.settled = settled

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any  # noqa: ARG002
    ) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(self.settled.model_dump_json(by_alias=True).encode())
