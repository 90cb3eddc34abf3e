"""The training job's work, from ``job.json`` to ``result.json``."""

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PrinterCallback
from transformers.utils import logging as transformers_logging

from services.trainer.files import JobInput, Result
from services.trainer.job import checkpoints
from services.trainer.job.base import fetch_base
from services.trainer.job.best import BestAdapter, losses_of
from services.trainer.job.callbacks import JobCallback
from services.trainer.job.data import load_splits
from services.trainer.job.distillation import Teacher, load_teacher
from services.trainer.job.guard import DivergenceGuard
from services.trainer.job.likeness import likeness_of
from services.trainer.job.methods import facts, save_result
from services.trainer.job.model import load_model, train_in_float32
from services.trainer.job.objectives import make_trainer
from services.trainer.job.outcome import measure
from services.trainer.job.past import Past
from services.trainer.job.per_task import task_losses
from services.trainer.job.proof import Proof
from services.trainer.job.rewards import Rewards, load_rewards
from services.trainer.job.room import check_room, explained, longest_row, memory_here
from services.trainer.job.settle import KeepsSettled, chosen_with, settled_job
from services.trainer.job.team import Team
from services.trainer.job.trackers import trackers_of
from shared.clock import monotonic
from shared.errors import PermanentError
from shared.prompts import template_sha256
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)


def run_job(
    job: JobInput, store: ArtifactStore, cache_dir: Path, stop: threading.Event, team: Team | None = None
) -> bool:
    """Train the adapter of `job` and write its result.

    Args:
        team: the processes that do so together, each of which calls this.

    Returns:
        False if `stop` was set before the end; a checkpoint is in S3 then, and no result.

    Raises:
        PermanentError: the same job would fail the same way again.
    """
    team = team or Team()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    started = monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuneloop-training-")))
        stack.enter_context(explained(job.recipe))
        trackers = stack.enter_context(trackers_of(job, store, scratch, stop, leads=team.leads))
        base_digest, base = fetch_base(store, job.base_model, cache_dir)
        store.get_dir(job.dataset.artifact, scratch / "dataset")
        tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        tokenizer.padding_side = "right"
        resumed = checkpoints.fetch_newest(store, job.resume_from, scratch / "output")
        job, settled = settled_job(job, base, scratch / "dataset", resumed, team.size)
        past = Past(job, store, scratch / "dataset", scratch)
        splits = load_splits(scratch / "dataset", tokenizer, job.recipe, replayed=past.replayed)
        alike = likeness_of(scratch / "dataset")
        if alike is not None and (alike.repeated or alike.contaminated):
            log.warning("rows repeat each other", run=job.run_id, **alike.metrics)
        gpu, memory = memory_here()
        check_room(base / "config.json", job.recipe, longest_row(splits.train), gpu=gpu, memory=memory)
        model = load_model(base, job.recipe)
        proof = Proof(model, job.recipe, splits.validation)
        model, peft_config = past.begin(model, base_digest)
        rewards = load_rewards(job.recipe, store, cache_dir, scratch)
        best, guard = BestAdapter(), DivergenceGuard(job.recipe)
        teacher = None
        if job.recipe.distillation is not None:
            teacher = load_teacher(store, job.recipe.distillation, tokenizer, cache=cache_dir, scratch=scratch)
        trainer = make_trainer(
            job.recipe, model, splits, tokenizer=tokenizer, output=scratch / "output",
            peft_config=peft_config, rewards=rewards, teacher=teacher,
            callbacks=[KeepsSettled(settled), JobCallback(job, store, stop, best, team), guard, trackers],
        )
        train_in_float32(trainer.model)
        if trainer.args.world_size != team.size:
            raise PermanentError(
                f"{team.size} processes were started to train together, and {trainer.args.world_size} have met"
            )
        past.restrain(trainer, tokenizer, team)
        trainer.remove_callback(PrinterCallback)  # a line per step; ours come with the progress
        if resumed is not None:
            log.info("resuming", run=job.run_id, checkpoint=resumed.name)
            best.load(resumed)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        if stop.is_set() and trainer.state.global_step < trainer.state.max_steps:
            return False
        if not team.leads:
            return True
        kept = guard.restore(trainer)
        best.restore(trainer.model)
        measured = measure(job.recipe, trainer, tokenizer)
        save_result(
            trainer.model, job.recipe, scratch / "result", base=base, name=job.base_model, tokenizer=tokenizer
        )
        proved = proof.of(trainer.model, scratch / "result", name=job.base_model)
        adapter = store.put_dir(
            job.recipe.kind, scratch / "result",
            meta=_meta(job, base_digest, tokenizer, teacher) | past.meta() | _judge(rewards),
        )
    result = Result(adapter=adapter, base_model_digest=base_digest, steps=trainer.state.global_step,
                    chosen=settled.chosen | chosen_with(trainer, job.recipe),
                    metrics={**_losses(trainer.state.log_history), **measured, **proved, **kept,
                             **(alike.metrics if alike else {}), **past.metrics(trainer),
                             "seconds": monotonic() - started,
                             "train_rows": len(splits.train), "skipped_rows": splits.skipped,
                             **({} if splits.ends is None else {"end_token_rows": splits.ends})})
    store.put_bytes(f"{job.prefix}result.json", result.model_dump_json().encode(), content_type="application/json")
    return True


def _judge(rewards: Rewards | None) -> dict[str, str]:
    """The reward model that answers were scored by."""
    return {} if rewards is None or rewards.digest is None else {"reward_model_digest": rewards.digest}


def _meta(job: JobInput, base_digest: str, tokenizer: Any, teacher: Teacher | None) -> dict[str, Any]:
    """What must be known of an adapter before it may be served."""
    return {
        "base_model": job.base_model,
        "base_model_digest": base_digest,
        **facts(job.recipe),
        **(teacher.lineage if teacher else {}),
        "run_id": job.run_id,
        "dataset_digest": job.dataset.artifact.digest,
        # A model that only learned texts may have none.
        "chat_template_sha256": template_sha256(tokenizer) if tokenizer.chat_template else None,
    }


def _losses(history: list[dict[str, Any]]) -> dict[str, float]:
    """The last training loss and the best validation loss, of all and of each task, in nats per trained token."""
    training = [float(entry["loss"]) for entry in history if "loss" in entry]
    validation = losses_of(history)
    best = {"validation_loss": min(validation), **task_losses(history)} if validation else {}
    return ({"loss": training[-1]} if training else {}) | best
