# ruff: noqa: ARG002 - the signatures are the trainer's
"""Ends a training that diverges, with its last good checkpoint kept: as failed, or with that checkpoint's weights."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

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
        self.good: Path | None = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        verdict = judge(state.log_history, uneven=self._recipe.objective in RL)
        if verdict.state != "fine":
            control.should_save = False
        if verdict.state == "diverged":
            self._end(Path(str(args.output_dir)), state.global_step, control, verdict)

    def _end(self, output: Path, step: int, control: TrainerControl, verdict: Verdict) -> None:
        newest = get_last_checkpoint(str(output)) if output.is_dir() else None
        if self._recipe.on_divergence == "keep" and newest is not None:
            log.warning("diverged; the last good checkpoint is kept", step=step, reason=verdict.reason,
                        checkpoint=Path(newest).name)
            self.diverged_at, self.good = step, Path(newest)
            control.should_evaluate, control.should_training_stop = False, True
            return
        kept = "no checkpoint had been saved" if newest is None else (
            f"the checkpoint of step {newest.rpartition('-')[2]} is kept, and training.onDivergence: keep would have "
            "ended the run with it"
        )
        raise PermanentError(
            f"diverged at step {step}: {verdict.reason}. Lower training.learningRate "
            f"({self._recipe.learning_rate:g}), or add training.warmupSteps; {kept}"
        )

    def restore(self, trainer: Any) -> dict[str, float]:
        """Give the model the last good weights back, where that is how the run ended; what to tell of it."""
        if self.diverged_at is None or self.good is None:
            return {}
        trainer._load_from_checkpoint(str(self.good))
        return {"diverged_at_step": float(self.diverged_at), "kept_step": float(self.good.name.rpartition("-")[2])}
