# ruff: noqa: ARG002 - the signatures are the trainer's
"""A range test: a few steps of the run itself at rising learning rates, before the run, which then begins as if new."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import DefaultFlowCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from services.trainer.job.methods import put_back, trainable
from services.trainer.job.random_numbers import same_random_numbers
from services.trainer.job.rates import Sweep, blown_up, choose, rates_around
from services.trainer.job.team import Team
from shared.telemetry import get_logger

log = get_logger(__name__)


def find_rate(trainer: Any, advised: float, steps: int, stop: threading.Event, team: Team) -> Sweep | None:
    """Try rates around the advised one on the trainer's own rows, and leave the trainer as it was.

    Weights, random numbers and arguments are restored exactly, and the optimizer is made anew by the run.

    Args:
        trainer: ready to train, and not yet trained.
        stop: set when the process was asked to end.

    Returns:
        The sweep; None if it was stopped.
    """
    rising = _Rising(rates_around(advised, steps), stop, team)
    with _undisturbed(trainer, rising, steps + 1):
        trainer.train()
    if rising.stopped:
        return None
    sweep = choose(rising.rates, rising.losses, advised)
    tell = log.info if sweep.found else log.warning
    tell("range test", learning_rate=sweep.rate, why=sweep.why)
    return sweep


class _Rising(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Gives each step its rate, and keeps its loss, which is that of the weights before it."""

    def __init__(self, rates: Sequence[float], stop: threading.Event, team: Team) -> None:
        self.rates, self.losses, self.stopped = rates, list[float](), False
        self._stop, self._team = stop, team

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The last step is taken for its loss alone.
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = self.rates[min(state.global_step, len(self.rates) - 1)]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.stopped = self._team.asked(self._stop)
        control.should_training_stop |= self.stopped

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None:
            self.losses.append(float(loss))
            control.should_training_stop |= blown_up(self.losses)


@contextmanager
def _undisturbed(trainer: Any, callback: TrainerCallback, steps: int) -> Iterator[None]:
    """A trainer that takes so many steps and tells the callback alone; afterwards it is as before."""
    args, handler = trainer.args, trainer.callback_handler
    ours = {"max_steps": steps, "eval_strategy": IntervalStrategy.NO, "save_strategy": SaveStrategy.NO}
    theirs = {name: getattr(args, name) for name in ours}
    weights, callbacks = trainable(trainer.model), handler.callbacks
    _set(args, ours)
    handler.callbacks = [DefaultFlowCallback(), callback]
    try:
        with same_random_numbers():
            yield
    finally:
        handler.callbacks = callbacks
        _set(args, theirs)
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.model.zero_grad()
        put_back(trainer.model, weights)


def _set(args: TrainingArguments, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(args, name, value)
