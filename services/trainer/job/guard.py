# ruff: noqa: ARG002 - the signatures are the trainer's
"""Ends a training that diverges, with its last good checkpoint kept: as failed, or with that checkpoint's weights."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.job.divergence import Verdict, judge
from shared.errors import PermanentError
from shared.recipe import RL, TrainingRecipe
from shared.telemetry import get_logger

log = get_logger(__name__)


class DivergenceGuard(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Judges each step. While a loss is doubtful nothing is saved, so that the newest checkpoint is a good one.

    Attributes:
        diverged_at: the step at which the run diverged and was stopped to keep its last good weights; None otherwise.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        self._recipe = recipe
        self.diverged_at: int | None = None
        self._good: Path | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self._good = _checkpoint(args, state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # All processes that train together hear of it, also those that have no files: they must decide the same.
        self._good = _checkpoint(args, state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        verdict = judge(state.log_history, uneven=self._recipe.objective in RL)
        if verdict.state != "fine":
            control.should_save = False
        if verdict.state == "diverged":
            self._end(state.global_step, control, verdict)

    def _end(self, step: int, control: TrainerControl, verdict: Verdict) -> None:
        if self._recipe.on_divergence == "keep" and self._good is not None:
            log.warning("diverged; the last good checkpoint is kept", step=step, reason=verdict.reason,
                        checkpoint=self._good.name)
            self.diverged_at = step
            control.should_evaluate, control.should_training_stop = False, True
            return
        kept = "no checkpoint had been saved" if self._good is None else (
            f"the checkpoint of step {_step(self._good)} is kept, and training.onDivergence: keep would have "
            "ended the run with it"
        )
        raise PermanentError(
            f"diverged at step {step}: {verdict.reason}. Lower training.learningRate "
            f"({self._recipe.learning_rate:g}), or add training.warmupSteps; {kept}"
        )

    def restore(self, trainer: Any) -> dict[str, float]:
        """Give the model the last good weights back, where that is how the run ended; what to tell of it."""
        if self.diverged_at is None or self._good is None:
            return {}
        trainer._load_from_checkpoint(str(self._good))
        return {"diverged_at_step": float(self.diverged_at), "kept_step": float(_step(self._good))}


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
