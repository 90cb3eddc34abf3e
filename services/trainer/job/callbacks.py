# ruff: noqa: ARG002 - the signatures are the trainer's
"""What happens beside the training steps: progress, checkpoints, early stopping, being asked to stop."""

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.files import JobInput, Progress
from services.trainer.job import checkpoints
from services.trainer.job.best import BestAdapter
from services.trainer.job.team import Team
from services.trainer.job.validations import is_exhausted, losses_of
from shared.clock import monotonic
from shared.errors import TemporaryError
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)

PROGRESS_SECONDS = 2.0


class JobCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Ties the trainer to the job's files in S3.

    Args:
        stop: set when a process was asked to end; all save a checkpoint at the next step, unvalidated, and stop.
        best: only used with early stopping.
        chosen: what the recipe left open, and why.

    Attributes:
        tokens_per_second: real ones, since this attempt's training began; None before its first step.
    """

    def __init__(
        self, job: JobInput, store: ArtifactStore, stop: threading.Event, best: BestAdapter, team: Team,
        *, chosen: Mapping[str, str],
    ) -> None:
        self._job, self._store, self._stop, self._best, self._team = job, store, stop, best, team
        self._chosen = chosen
        self._started = monotonic()
        self._first_step: int | None = None
        self._first_tokens = 0
        self._told = -math.inf
        self._loss: float | None = None
        self.tokens_per_second: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = monotonic()
        self._first_step, self._first_tokens = state.global_step, int(state.num_input_tokens_seen)
        control.should_training_stop = self._is_exhausted(state)
        self._tell(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None:
            self._loss = float(loss)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # One that stopped alone would leave the others waiting for its gradients.
        if self._team.asked(self._stop):
            control.should_save = True
            control.should_training_stop = True
            # The checkpoint owes it; there may be no time for it.
            control.should_evaluate = False
        if monotonic() - self._told >= PROGRESS_SECONDS:
            self._tell(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._job.recipe.early_stopping is not None:
            self._best.observe(kwargs["model"], losses_of(state.log_history))
            control.should_training_stop |= self._is_exhausted(state)
        self._tell(state)

    def _is_exhausted(self, state: TrainerState) -> bool:
        rule = self._job.recipe.early_stopping
        return rule is not None and is_exhausted(losses_of(state.log_history), rule)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self._team.leads:
            return
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self._best.save(folder)
        try:
            checkpoints.save(self._store, self._job.prefix, folder, state.global_step)
            checkpoints.prune(self._store, self._job.resume_from)
        except TemporaryError as error:
            # The training is worth more than a checkpoint; the next one comes.
            log.warning("a checkpoint could not be stored", step=state.global_step, error=str(error))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        """Write ``progress.json``, and a line for the log. That S3 does not take it now stops no training."""
        self._told = monotonic()
        if not self._team.leads:
            return
        steps = state.global_step - (self._first_step or 0)
        seconds = self._told - self._started
        losses = losses_of(state.log_history)
        self.tokens_per_second = (state.num_input_tokens_seen - self._first_tokens) / seconds if steps else None
        progress = Progress(
            step=state.global_step,
            total_steps=state.max_steps,
            loss=self._loss,
            validation_loss=losses[-1] if losses else None,
            tokens_per_second=self.tokens_per_second,
            eta_seconds=seconds / steps * (state.max_steps - state.global_step) if steps else None,
            chosen=dict(self._chosen),
        )
        log.info("progress", **{name: round(value, 4) for name, value in progress if isinstance(value, int | float)})
        try:
            self._store.put_bytes(f"{self._job.prefix}progress.json", progress.model_dump_json().encode(),
                                  content_type="application/json")
        except TemporaryError as error:
            log.warning("progress could not be stored", error=str(error))
