"""What a run's recipe left open, chosen before its first attempt trains and kept in S3 for the later ones.

A run that is resumed on another machine goes on as it began.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from services.trainer.files import JobInput, settled_of
from services.trainer.job.base import shape_for
from services.trainer.job.kernels import Choice, Hardware, liger_for
from services.trainer.job.lengths import Lengths, lengths_in
from services.trainer.job.memory import memory_here
from services.trainer.job.parallel import parallel_for
from services.trainer.job.room import PROCESS_BYTES
from services.trainer.job.settle import Given, Machine, Settled, settle
from services.trainer.job.team import Team
from shared.advice.rules import longest_for
from shared.errors import NotFoundError
from shared.estimate import NO_OTHERS, ModelShape, Others
from shared.estimate.sharing import Parallel
from shared.events import ArtifactRef
from shared.prompts import Tokenizer
from shared.recipe import TrainingRecipe
from shared.recipe_auto import AutoField
from shared.recipe_parts import LoraRecipe
from shared.s3 import ArtifactStore

# What of a recipe is the start's, where it is left open.
_SHAPE: frozenset[AutoField] = frozenset({"lora.rank", "lora.alpha"})


def settled_job(
    job: JobInput, store: ArtifactStore, tokenizer: Tokenizer, team: Team, *, base: Path, dataset: Path,
    others: Others = NO_OTHERS,
) -> tuple[JobInput, Settled, Parallel]:
    """The job with its recipe as it is trained: as the run's earlier attempt had it, or chosen now; and how its
    processes share it, which each attempt decides anew.

    Args:
        base, dataset: folders.
    """
    # A recipe that leaves nothing open says itself how to go on.
    earlier = kept(store, job.run_id) if job.recipe.auto else None
    recipe, machine = earlier.recipe if earlier else job.recipe, machine_here(team.size, others)
    shape, lengths = shape_for(base, recipe), lengths_in(dataset / "train.parquet", tokenizer, recipe)
    parallel = parallel_for(
        _as_long_as_rows(recipe, shape, lengths), shape, gpu=machine.gpu, memory=machine.memory, processes=team.size
    )
    settled = earlier or Settled(recipe=recipe)
    if recipe.auto and shape is not None:
        rows = pq.read_metadata(dataset / "train.parquet").num_rows
        start = start_shape(store, job.start) if _SHAPE & set(recipe.auto) else None
        settled = settle(recipe, Given(shape, rows, machine, lengths, start, parallel.shards))
        if team.leads:
            keep(store, job.run_id, settled)
    return job.model_copy(update={"recipe": settled.recipe}), settled, parallel


def _as_long_as_rows(recipe: TrainingRecipe, shape: ModelShape | None, lengths: Lengths | None) -> TrainingRecipe:
    """With the length that a recipe which leaves it open would like to have."""
    if "maxLength" not in recipe.auto or shape is None or lengths is None:
        return recipe
    return recipe.model_copy(update={"max_length": longest_for(lengths.longest, shape.context).value})


def start_shape(store: ArtifactStore, start: ArtifactRef | None) -> LoraRecipe | None:
    """Of the low-rank adapter to go on from; None without one, and for an adapter of another kind, which is refused
    later, with all in which it differs.
    """
    if start is None:
        return None
    try:
        config = json.loads(store.get_bytes(f"{start.uri}adapter_config.json"))
    except NotFoundError:
        return None
    if "r" not in config:
        return None
    return LoraRecipe(rank=config["r"], alpha=config["lora_alpha"], rs_lora=config["use_rslora"])


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


def kept(store: ArtifactStore, run_id: str) -> Settled | None:
    """What the run's earlier attempt had chosen."""
    try:
        return Settled.model_validate_json(store.get_bytes(f"s3://{store.bucket}/{settled_of(run_id)}"))
    except NotFoundError:
        return None


def keep(store: ArtifactStore, run_id: str, settled: Settled) -> None:
    """Remember it for the run's later attempts."""
    store.put_bytes(settled_of(run_id), settled.model_dump_json(by_alias=True).encode(),
                    content_type="application/json")
