"""Validations that end at once when the job is asked to stop, and are made by the attempt that goes on.

A checkpoint is saved after its step's validation: one whose history lacks that validation owes it, and nothing else
needs to be kept. A validation leaves random numbers as they were, so a resumed run makes it before it takes its own.
"""

from collections.abc import Callable
from typing import Any

from transformers import TrainerState

from services.trainer.job.random_numbers import same_random_numbers
from services.trainer.job.validations import is_owed
from shared.telemetry import get_logger

log = get_logger(__name__)


class ValidationStopped(Exception):  # noqa: N818 - nothing is wrong
    """The job was asked to stop while it validated."""


class Validating:
    """For trainers. `stop_when` says how they hear of it; without it nothing stops a validation."""

    args: Any
    state: Any
    control: Any
    _asked: Callable[[], bool] | None = None
    _trusted: Callable[[], bool]

    def stop_when(self, asked: Callable[[], bool], *, trusted: Callable[[], bool]) -> None:
        """Leave validations once `asked`, with a checkpoint where the weights are `trusted`."""
        self._asked, self._trusted = asked, trusted

    def check_stop(self) -> None:
        """To be called before each batch of a validation.

        Raises:
            ValidationStopped: the job was asked to stop.
        """
        if self._asked is not None and self._asked():
            raise ValidationStopped

    @property
    def owes_validation(self) -> bool:
        """Whether the present step's validation is due, and was not made."""
        return owed_by(self.state, self.args.eval_steps)

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        self.check_stop()
        return super().prediction_step(*args, **kwargs)  # type: ignore[misc]

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with same_random_numbers():
                return super()._evaluate(*args, **kwargs)  # type: ignore[misc]
        except ValidationStopped:
            log.info("the validation was left; the next attempt makes it", step=self.state.global_step)
            self.control.should_evaluate, self.control.should_training_stop = False, True
            self.control.should_save = self._trusted()
            return {}

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # transformers would take a step first: after a validation that was owed and has ended the run, and after the
        # last step of a run whose last epoch is no whole one.
        if not self.control.should_training_stop and self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)  # type: ignore[misc]


def owed_by(state: TrainerState, every: int) -> bool:
    """Whether the validation of a state's step is due, and was not made."""
    return is_owed(state.log_history, state.global_step, every=every, last=state.max_steps)
