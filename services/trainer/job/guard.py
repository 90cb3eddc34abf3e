# ruff: noqa: ARG002 - the signatures are the trainer's
"""Ends a training that diverges, with its last good checkpoint kept: as failed, or with that checkpoint's weights."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.job.divergence import Verdict, judge, judge_end
from shared.errors import PermanentError
from shared.recipe import RL, TrainingRecipe
from shared.telemetry import get_logger

log = get_logger(__name__)


class DivergenceGuard(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Judges each step and each validation. While a loss is doubtful nothing is saved.

    A checkpoint is a good one once the step after it was fine: the loss of its own step is that of the weights before.

    Attributes:
        doubts: whether the newest loss is doubtful.
        diverged_at: the step at which the run diverged and was stopped to keep its last good weights; None otherwise.
    """

    def __init__(self, recipe: TrainingRecipe) -> None:
        self._recipe = recipe
        self._uneven = recipe.objective in RL
        self.diverged_at: int | None = None
        self.doubts = False
        self._newest: Path | None = None
        self._good: Path | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self._newest = _checkpoint(args, state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # All processes that train together hear of it, also those that have no files: they must decide the same.
        self._newest = _checkpoint(args, state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        verdict = judge(state.log_history, uneven=self._uneven)
        self.doubts = verdict.state != "fine"
        if not self.doubts:
            if "loss" in state.log_history[-1]:
                self._good = self._newest
            return
        control.should_save = False
        if verdict.state == "diverged":
            self._end(args, state, control, verdict)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # transformers validates the last weights of every run that is not stopped before its end.
        if state.global_step < state.max_steps or self.diverged_at is not None:
            return
        verdict = judge_end(state.log_history, uneven=self._uneven)
        if verdict.state == "diverged":
            self._end(args, state, control, verdict)
        elif verdict.state == "doubtful":
            log.warning("the run ends in doubt: nothing was validated before it; lower training.validateEverySteps",
                        step=state.global_step, reason=verdict.reason)

    def _end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, verdict: Verdict
    ) -> None:
        step = state.global_step
        if self._recipe.on_divergence == "keep" and self._good is not None:
            log.warning("diverged; the last good checkpoint is kept", step=step, reason=verdict.reason,
                        checkpoint=self._good.name)
            self.diverged_at = step
            control.should_evaluate, control.should_training_stop = False, True
            return
        raise PermanentError(
            f"diverged at step {step}: {verdict.reason}. Lower training.learningRate "
            f"({args.learning_rate:g}), or add training.warmupSteps; {self._what_is_left()}"
        )

    def _what_is_left(self) -> str:
        if self._good is not None:
            return (f"the checkpoint of step {_step(self._good)} is kept, and training.onDivergence: keep would have "
                    "ended the run with it")
        nothing = "no checkpoint from before it is there"
        if self._recipe.on_divergence == "fail":
            return nothing
        return (f"training.onDivergence: keep had nothing to keep, as {nothing}: one is saved every "
                f"{self._recipe.checkpoint_every_steps} steps (training.checkpointEverySteps), and is good once the "
                "step after it was fine")

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
