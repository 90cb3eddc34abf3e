"""What a run's recipe left open, chosen when the run begins and kept for its later attempts.

A run that is resumed on another machine goes on as it began.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.files import JobInput
from services.trainer.job.kernels import Choice, Hardware, liger_for
from services.trainer.job.memory import memory_here
from services.trainer.job.parallel import Parallel, parallel_for
from services.trainer.job.room import PROCESS_BYTES
from services.trainer.job.settle import Machine, Settled, settle
from shared.errors import InvalidInputError
from shared.estimate import NO_OTHERS, ModelShape, Others, shape_of
from shared.recipe import TrainingRecipe

FILE = "settled.json"


def settled_job(
    job: JobInput, base: Path, dataset: Path, resumed: Path | None, processes: int, *, others: Others = NO_OTHERS
) -> tuple[JobInput, Settled, Parallel]:
    """The job with its recipe as it is trained: as the run's earlier attempt had it, or chosen now; and how its
    processes share it, which each attempt decides anew.

    Args:
        base, dataset: folders.
        resumed: the checkpoint to go on from; None for a beginning.
    """
    # A recipe that leaves nothing open says itself how to go on.
    earlier = kept(resumed) if resumed and job.recipe.auto else None
    recipe, machine = earlier.recipe if earlier else job.recipe, machine_here(processes, others)
    shape = _shape(base, recipe)
    parallel = parallel_for(recipe, shape, gpu=machine.gpu, memory=machine.memory, processes=processes)
    settled = earlier or Settled(recipe=recipe)
    if recipe.auto and shape is not None:
        rows = pq.read_metadata(dataset / "train.parquet").num_rows
        settled = settle(recipe, shape, rows, machine, shards=parallel.shards)
    return job.model_copy(update={"recipe": settled.recipe}), settled, parallel


def _shape(base: Path, recipe: TrainingRecipe) -> ModelShape | None:
    """Of the base model; None where the estimator does not know its family, and nothing needs it."""
    try:
        return shape_of(json.loads((base / "config.json").read_bytes()))
    except InvalidInputError as error:
        if recipe.auto:
            raise InvalidInputError(f"training.auto: {error}; give {', '.join(recipe.auto)} as numbers") from error
        return None


def machine_here(processes: int, others: Others = NO_OTHERS) -> Machine:
    """This one, for each of so many processes, with other models beside the trained one."""
    gpu, memory = memory_here()
    return Machine(gpu, memory if gpu else memory // processes - PROCESS_BYTES, processes, others)


def chosen_with(trainer: Any, recipe: TrainingRecipe, attention: Choice, parallel: Parallel) -> dict[str, str]:
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
    if parallel.how != "one":
        found["distributed"] = (recipe.distributed, str(parallel))
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
