"""The training job's work, from ``job.json`` to ``result.json``."""

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PrinterCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging as transformers_logging

from services.trainer.files import JobInput, Result
from services.trainer.job import checkpoints
from services.trainer.job.base import fetch_base
from services.trainer.job.base_weights import base_weights_for
from services.trainer.job.best import BestAdapter
from services.trainer.job.callbacks import JobCallback
from services.trainer.job.data import load_splits
from services.trainer.job.distillation import Teacher, load_teacher, teacher_parameters
from services.trainer.job.guard import DivergenceGuard
from services.trainer.job.kernels import Hardware
from services.trainer.job.likeness import likeness_of
from services.trainer.job.memory import explained, longest_row, memory_here
from services.trainer.job.methods import KeepsTrainable, facts, save_result
from services.trainer.job.model import attention_here, load_model
from services.trainer.job.objectives import make_trainer
from services.trainer.job.outcome import measure
from services.trainer.job.past import Past
from services.trainer.job.personal import personal_rows
from services.trainer.job.precision import measure_magnitudes, train_in_float32
from services.trainer.job.proof import Proof
from services.trainer.job.range_test import find_rate
from services.trainer.job.rates import Sweep
from services.trainer.job.reward_model import find_judge, load_rewards
from services.trainer.job.rewards import Rewards
from services.trainer.job.room import check_room
from services.trainer.job.settled import chosen_with, keep, settled_job
from services.trainer.job.speed import speed_here
from services.trainer.job.team import Team
from services.trainer.job.trackers import Trackers, trackers_of
from services.trainer.job.validating import ValidationStopped, owed_by
from services.trainer.job.validations import losses_of, task_losses
from shared.clock import monotonic
from shared.errors import PermanentError
from shared.estimate import Others
from shared.prompts import template_sha256
from shared.recipe import RL
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
        False if `stop` was set before the end; no result is in S3 then, but a checkpoint where training had begun.

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
        training = _Training(_Inputs(job, store, cache_dir, scratch, team), team, stop, trackers)
        if not training.run():
            return False
        if team.leads or training.sharded:
            try:
                training.conclude(started)
            except ValidationStopped:
                return False  # the last checkpoint is there, and the next attempt comes here again
    return True


class _Inputs:
    """What a job is made of, fetched and checked, before a model is loaded.

    Attributes:
        job: with the recipe as it is trained: what was left open is chosen.
        parallel: how the processes share it.
        base: the base model's folder.
        resumed: the newest checkpoint's folder; None for a first attempt.
        judge: the reward model that answers are scored by; None without one.
    """

    def __init__(self, job: JobInput, store: ArtifactStore, cache_dir: Path, scratch: Path, team: Team) -> None:
        self.store, self.cache_dir, self.scratch = store, cache_dir, scratch
        dataset = scratch / "dataset"
        self.base_digest, self.base = fetch_base(store, job.base_model, cache_dir)
        store.get_dir(job.dataset.artifact, dataset)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.base, local_files_only=True, trust_remote_code=False)
        self.tokenizer.padding_side = "right"
        self.resumed = checkpoints.fetch_newest(store, job.resume_from, scratch / "output")
        self.judge = find_judge(job.recipe, job.judge, store, cache_dir)
        others = Others(
            teacher=teacher_parameters(store, job.recipe.distillation, cache_dir),
            judge=self.judge.parameters if self.judge else 0,
        )
        self.job, self.settled, self.parallel = settled_job(
            job, store, self.tokenizer, team, base=self.base, dataset=dataset, others=others
        )
        held = base_weights_for(job.recipe, Hardware.here(), self.resumed and self.resumed / KeepsTrainable.FILE)
        if held is not None:
            self.settled.hold_base(held.value, held.why)
            self.job = self.job.model_copy(update={"recipe": self.settled.recipe})
        self.past = Past(self.job, store, dataset, scratch)
        self.splits = load_splits(dataset, self.tokenizer, self.job.recipe, replayed=self.past.replayed)
        self.alike = likeness_of(dataset)
        if self.alike is not None and (self.alike.repeated or self.alike.contaminated):
            log.warning("rows repeat each other", run=job.run_id, **self.alike.metrics)
        self.personal = personal_rows(dataset / "train.parquet")
        if self.personal["personal_rows"]:
            log.warning("rows hold personal data or secrets", run=job.run_id, **self.personal)
        gpu, memory = memory_here()
        drawn = self.job.recipe.rl.max_new_tokens if self.job.recipe.objective in RL else None
        longest = longest_row(self.splits.train, drawn)
        check_room(self.base / "config.json", self.job.recipe, longest, gpu=gpu, memory=memory, others=others,
                   shards=self.parallel.shards)

    def take(self, sweep: Sweep) -> None:
        """Train with the learning rate that a range test found."""
        self.settled.take(sweep)
        self.job = self.job.model_copy(update={"recipe": self.settled.recipe})


class _Training:
    """A trainer with everything that watches over it: made ready, run, and told of."""

    def __init__(self, inputs: _Inputs, team: Team, stop: threading.Event, trackers: Trackers) -> None:
        self._inputs, self._stop, self._team, self._trackers = inputs, stop, team, trackers
        job, recipe, past = inputs.job, inputs.job.recipe, inputs.past
        self.sharded = inputs.parallel.shards > 1
        model = load_model(inputs.base, recipe, shards=inputs.parallel.shards)
        self._proof = Proof(model, recipe, inputs.splits.validation, leads=team.leads)
        model, peft_config = past.begin(model, inputs.base_digest)
        self._rewards = load_rewards(recipe, inputs.judge, inputs.store, inputs.scratch)
        self._teacher = None if recipe.distillation is None else load_teacher(
            inputs.store, recipe.distillation, inputs.tokenizer, cache=inputs.cache_dir, scratch=inputs.scratch
        )
        self._best, self._guard = BestAdapter(), DivergenceGuard(recipe)
        self._progress = JobCallback(job, inputs.store, stop, self._best, team, chosen=inputs.settled.chosen)
        self._trainer = make_trainer(
            recipe, model, inputs.splits, tokenizer=inputs.tokenizer, output=inputs.scratch / "output",
            peft_config=peft_config, rewards=self._rewards, teacher=self._teacher,
            callbacks=[self._progress, self._guard, trackers],
        )
        self._trainer.remove_callback(PrinterCallback)  # a line per step; ours come with the progress
        train_in_float32(self._trainer.model)
        measure_magnitudes(self._trainer.model)
        met = self._trainer.args.world_size
        if met != team.size:
            raise PermanentError(f"{team.size} processes were started to train together, and {met} have met")
        past.restrain(self._trainer, inputs.tokenizer, team)

    def run(self) -> bool:
        """Train; False if it was stopped before the end."""
        if (wanted := self._inputs.settled.open_range_test) is not None and not self._find_rate(wanted.steps):
            return False
        resumed, trainer = self._inputs.resumed, self._trainer
        if resumed is not None:
            log.info("resuming", run=self._inputs.job.run_id, checkpoint=resumed.name)
            self._best.load(resumed)
            trainer.args.eval_on_start = owed_by(
                TrainerState.load_from_json(str(resumed / TRAINER_STATE_NAME)), trainer.args.eval_steps
            )
        trainer.stop_when(lambda: self._team.asked(self._stop), trusted=lambda: not self._guard.doubts)
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        ended = trainer.state.global_step == trainer.state.max_steps and not trainer.owes_validation
        return ended or not self._stop.is_set()

    def _find_rate(self, steps: int) -> bool:
        """Choose the learning rate by a range test; False if that was stopped."""
        inputs, trainer = self._inputs, self._trainer
        sweep = find_rate(trainer, inputs.job.recipe.learning_rate, steps, self._stop, self._team)
        if sweep is None:
            return False
        inputs.take(sweep)
        if self._team.leads:
            keep(inputs.store, inputs.job.run_id, inputs.settled)
        trainer.args.learning_rate = sweep.rate
        self._trackers.show(sweep)
        return True

    def conclude(self, started: float) -> None:
        """Store the weights that the run ends with, and say what they are. Of a sharded model all processes come here
        to gather them, and the first one stores.

        Args:
            started: when the job did, on the monotonic clock.
        """
        inputs, trainer, recipe = self._inputs, self._trainer, self._inputs.job.recipe
        folder, name = inputs.scratch / "result", inputs.job.base_model
        kept = self._guard.restore(trainer)
        self._best.restore(trainer.model)
        measured = measure(recipe, trainer, inputs.tokenizer)
        save_result(trainer.model, recipe, folder, base=inputs.base, name=name, tokenizer=inputs.tokenizer)
        proved = self._proof.of(trainer.model, folder, name=name, learning_rate=recipe.learning_rate)
        if not self._team.leads:
            return
        meta = _meta(inputs.job, inputs.base_digest, inputs.tokenizer, self._teacher)
        adapter = inputs.store.put_dir(recipe.kind, folder, meta=meta | inputs.past.meta() | _judge(self._rewards))
        ends = {} if inputs.splits.ends is None else {"end_token_rows": inputs.splits.ends}
        result = Result(
            adapter=adapter, base_model_digest=inputs.base_digest, steps=trainer.state.global_step,
            chosen=inputs.settled.chosen | chosen_with(trainer, recipe, attention_here(inputs.base, recipe),
                                                       inputs.parallel),
            range_test=inputs.settled.sweep,
            metrics={**_losses(trainer.state.log_history), **measured, **proved, **kept, **ends,
                     **(inputs.alike.metrics if inputs.alike else {}), **inputs.personal,
                     **inputs.past.metrics(trainer),
                     **speed_here(recipe, inputs.base / "config.json", inputs.splits.train,
                                  self._progress.tokens_per_second, trainer.args),
                     "train_rows": len(inputs.splits.train), "skipped_rows": inputs.splits.skipped,
                     "seconds": monotonic() - started},
        )
        inputs.store.put_bytes(f"{inputs.job.prefix}result.json", result.model_dump_json().encode(),
                               content_type="application/json")


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
